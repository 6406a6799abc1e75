//! Layers of every kind of entry, of hostile ones, and of what overlayfs makes of them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::compression::decoder;
use super::{chain_ids, unpack::unpack};
use crate::{Digest, Error};

/// A raw tar: the `tar` crate refuses to write what we want to refuse to read.
#[derive(Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn entry(mut self, kind: u8, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::new(kind));
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    fn file(self, name: &str, content: &str) -> Self {
        self.entry(b'0', name, "", content.as_bytes())
    }
    fn dir(self, name: &str) -> Self {
        self.entry(b'5', name, "", b"")
    }
    fn symlink(self, name: &str, to: &str) -> Self {
        self.entry(b'2', name, to, b"")
    }
    fn hard_link(self, name: &str, to: &str) -> Self {
        self.entry(b'1', name, to, b"")
    }
    fn unpack_on(mut self, dir: &TempDir, below: &[PathBuf]) -> Result<PathBuf, Error> {
        self.0.resize(self.0.len() + 1024, 0);
        let into = dir.path().join(format!("layer-{}", below.len()));
        fs::create_dir(&into).unwrap();
        unpack(&mut self.0.as_slice(), &into, below).map(|()| into)
    }
    fn unpack(self) -> (TempDir, Result<PathBuf, Error>) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        let done = self.unpack_on(&dir, &[]);
        assert_eq!(fs::read_to_string(dir.path().join("outside")).unwrap(), "untouched");
        (dir, done)
    }
}

fn xattr_of(path: &Path, key: &str) -> Option<Vec<u8>> {
    xattr::get(path, key).unwrap()
}

#[test]
fn chain_ids_are_those_of_the_specification() {
    let ids = [Digest::of(b"a"), Digest::of(b"b")];
    let chain = chain_ids(&ids);
    assert_eq!(chain[0], ids[0]);
    assert_eq!(chain[1], Digest::of(format!("{} {}", ids[0], ids[1]).as_bytes()));
}

#[test]
fn every_compression_is_read() {
    let plain = b"some text that is long enough to be worth it".repeat(50);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    let twice = [gzip.clone(), gzip.clone()].concat();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let read = |bytes: &[u8]| {
        let mut out = Vec::new();
        std::io::copy(&mut decoder(bytes).unwrap(), &mut out).map(|_| out)
    };
    assert_eq!(read(&plain).unwrap(), plain);
    assert_eq!(read(&gzip).unwrap(), plain);
    assert_eq!(read(&twice).unwrap(), [plain.clone(), plain.clone()].concat());
    assert_eq!(read(&zstd).unwrap(), plain);
    assert_eq!(read(b"").unwrap(), b"");
    assert!(read(&gzip[..gzip.len() - 9]).is_err());
}

#[test]
fn attributes_survive() {
    use crate::{Builder, Entry, Layer};
    let store = crate::testing::TestStore::new();
    let layer = Layer::new()
        .entry("/d", Entry::dir(0o2750).owner(5, 6).modified(1_111))
        .entry("/d/su", Entry::file(0o4755, "x").owner(1000, 1001).modified(2_222))
        .entry("/d/same", Entry::hard_link("/d/su"))
        .entry("/link", Entry::symlink("/nowhere/at/all"))
        .entry("/null", Entry::device(false, 1, 3, 0o666))
        .entry("/disk", Entry::device(true, 7, 300, 0o660).owner(0, 6))
        .entry("/pipe", Entry::fifo(0o600))
        .entry("/cap", Entry::file(0o755, "x").xattr("user.note", b"hi").xattr("trusted.overlay.opaque", b"y"))
        .entry(format!("/{}", "long/".repeat(60)), Entry::file(0o644, "deep"));
    let image = Builder::new().layer(layer).build(&store, "x:1").unwrap();
    let root = store.snapshot_fs(&chain_ids(&image.diff_ids)[0]);
    let at = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    let d = at("d");
    assert_eq!((d.mode() & 0o7777, d.uid(), d.gid(), d.mtime()), (0o2750, 5, 6, 1_111));
    let su = at("d/su");
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid(), su.mtime(), su.nlink()), (0o4755, 1000, 1001, 2_222, 2));
    assert_eq!(su.ino(), at("d/same").ino());
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("/nowhere/at/all"));
    assert!(at("null").file_type().is_char_device());
    assert_eq!(at("null").rdev(), nix::sys::stat::makedev(1, 3));
    assert!(at("disk").file_type().is_block_device());
    assert_eq!((at("disk").rdev(), at("disk").gid()), (nix::sys::stat::makedev(7, 300), 6));
    assert!(at("pipe").file_type().is_fifo());
    assert_eq!(xattr_of(&root.join("cap"), "user.note").as_deref(), Some(&b"hi"[..]));
    assert_eq!(xattr_of(&root.join("cap"), "trusted.overlay.opaque"), None, "an image does not steer overlayfs");
    assert_eq!(fs::read_to_string(root.join("long/".repeat(60).trim_end_matches('/'))).unwrap(), "deep");
}

#[test]
fn whiteouts_become_what_overlayfs_knows() {
    let tar = Raw::default()
        .dir("a/")
        .file("a/.wh.gone", "")
        .file("b/.wh..wh..opq", "")
        .file("b/new", "n")
        .file(".wh.c", "")
        .dir("c/")
        .file("c/new", "n")
        .dir("d/")
        .file("d/new", "n")
        .file(".wh.d", "")
        .file(".wh..wh.plnk", "");
    let (_dir, root) = tar.unpack();
    let root = root.unwrap();
    let gone = fs::symlink_metadata(root.join("a/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for opaque in ["b", "c", "d"] {
        assert_eq!(xattr_of(&root.join(opaque), "trusted.overlay.opaque").as_deref(), Some(&b"y"[..]), "{opaque}");
        assert!(root.join(opaque).join("new").is_file());
    }
    assert_eq!(xattr_of(&root.join("a"), "trusted.overlay.opaque"), None);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 4);
}

#[test]
fn directories_left_out_look_like_those_below() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("below");
    fs::create_dir_all(below.join("tmp/x")).unwrap();
    std::os::unix::fs::chown(below.join("tmp"), Some(3), Some(4)).unwrap();
    fs::set_permissions(below.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let root = Raw::default().file("tmp/x/new", "n").file("tmp2/new", "n").unpack_on(&dir, &[below]).unwrap();
    let tmp = fs::metadata(root.join("tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.uid(), tmp.gid()), (0o1777, 3, 4));
    assert_eq!(fs::metadata(root.join("tmp2")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn the_last_entry_of_a_name_counts() {
    let tar = Raw::default()
        .file("x", "file")
        .dir("x/")
        .file("x/in", "i")
        .file("x", "file again")
        .symlink("y", "x")
        .file("y", "not through the link")
        .dir("z/")
        .file("z/1", "1")
        .dir("z/");
    let (_dir, root) = tar.unpack();
    let root = root.unwrap();
    assert_eq!(fs::read_to_string(root.join("x")).unwrap(), "file again");
    assert_eq!(fs::read_to_string(root.join("y")).unwrap(), "not through the link");
    assert!(root.join("z/1").is_file(), "a directory that comes again keeps its content");
}

#[test]
fn links_stay_inside_the_image() {
    // `lib -> usr/lib` and absolute links are honest, and are resolved within the image.
    let tar = Raw::default()
        .dir("usr/")
        .dir("usr/lib/")
        .symlink("lib", "usr/lib")
        .file("lib/a", "a")
        .symlink("abs", "/usr")
        .file("abs/b", "b")
        .symlink("up", "../../../../usr")
        .file("up/c", "c")
        .hard_link("hard", "lib/a");
    let (_dir, root) = tar.unpack();
    let root = root.unwrap();
    for (path, content) in [("usr/lib/a", "a"), ("usr/b", "b"), ("usr/c", "c"), ("hard", "a")] {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), content, "{path}");
    }
}

#[test]
fn hostile_entries_are_refused_or_harmless() {
    let refused = |tar: Raw, what: &str| {
        let (dir, done) = tar.unpack();
        assert!(done.is_err(), "{what}");
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{what} wrote outside: {names:?}");
    };
    refused(Raw::default().file("../outside", "evil"), "a path that climbs");
    refused(Raw::default().file("a/../../outside", "evil"), "a path that climbs in the middle");
    refused(Raw::default().hard_link("x", "../outside"), "a hard link that climbs");
    refused(Raw::default().hard_link("x", "/etc/passwd"), "a hard link to a file of the host");
    refused(Raw::default().symlink("e", "/proc/self/cwd").file("e/x", "evil"), "a link to a directory of the host");
    refused(Raw::default().file("f", "x").file("f/x", "evil"), "a file as a directory");
    refused(Raw::default().file("a/.wh...", ""), "a whiteout of the parent");
    refused(Raw::default().file("a/.wh.", ""), "a whiteout of nothing");
    refused(Raw::default().file("./", "x"), "a root that is a file");
    refused(Raw::default().entry(b'Z', "z", "", b""), "an entry of an unknown kind");
    // Through a link that leads out, one arrives inside.
    let (dir, root) = Raw::default().dir("outside-dir/").symlink("e", "/outside-dir").file("e/x", "x").unpack();
    assert!(root.unwrap().join("outside-dir/x").is_file());
    assert!(!dir.path().join("outside-dir").exists());
    let (_dir, root) = Raw::default().file("/etc/absolute", "x").unpack();
    assert!(root.unwrap().join("etc/absolute").is_file());
    // A link in the place of a whiteout's directory is resolved inside, too.
    let (_dir, root) = Raw::default().symlink("e", "..").file("e/.wh.outside", "").unpack();
    assert!(root.unwrap().join("outside").symlink_metadata().unwrap().file_type().is_char_device());
}

#[test]
fn a_layer_that_is_not_what_it_should_be_leaves_nothing() {
    let store = crate::testing::TestStore::new();
    let tar = Raw::default().file("a", "a").0;
    let digest = store.put_blob(&tar).unwrap();
    let descriptor = crate::Descriptor::new(crate::media::OCI_LAYER, digest, tar.len() as u64);
    let wrong = Digest::of(b"something else");
    let error = store.unpack(std::slice::from_ref(&descriptor), std::slice::from_ref(&wrong)).unwrap_err();
    let text = base::Chain(&error).to_string();
    assert!(
        text.starts_with(&format!("failed to extract layer {wrong}: unpacked layer: content has digest")),
        "{text}"
    );
    assert_eq!(crate::testing::content(&store).1, 0);
    store.unpack(&[descriptor], &[Digest::of(&tar)]).unwrap();
    assert_eq!(crate::testing::content(&store).1, 1);
}
