//! Root file systems over real overlay mounts.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::mount;
use crate::testing::{TestStore, content, sample};
use crate::{Builder, Entry, Error, Layer};

#[test]
fn layers_are_stacked_and_writes_are_the_containers_own() {
    let store = TestStore::new();
    let image = sample(&store, "a:1", "s");
    let one = store.prepare("one", "a:1").unwrap();
    let two = store.prepare("two", image.id.as_str()).unwrap();
    assert_eq!((one.image_id.as_str(), one.config.user.as_str()), (image.id.as_str(), "7:8"));
    assert_eq!(one.config.env, ["SALT=s"]);
    for rootfs in [&one.rootfs, &two.rootfs] {
        assert_eq!(fs::read_to_string(rootfs.join("etc/name")).unwrap(), "base s\n");
        assert_eq!(fs::read_to_string(rootfs.join("etc/salt")).unwrap(), "s");
        assert!(!rootfs.join("gone").exists());
        assert_eq!(fs::metadata(rootfs.join("tmp")).unwrap().mode() & 0o7777, 0o1777);
    }
    fs::write(one.rootfs.join("etc/name"), "changed").unwrap();
    fs::write(one.rootfs.join("new"), vec![1; 100_000]).unwrap();
    assert_eq!(fs::read_to_string(two.rootfs.join("etc/name")).unwrap(), "base s\n");
    assert!(store.usage("one").unwrap().bytes >= 100_000);
    assert!(store.usage("one").unwrap().inodes > store.usage("two").unwrap().inodes);
    store.remove("one").unwrap();
    store.remove("one").unwrap();
    assert!(!one.rootfs.exists());
    assert!(matches!(store.usage("one"), Err(Error::NotFound { .. })));
    assert_eq!(store.containers().unwrap(), ["two"]);
}

#[test]
fn opaque_directories_hide_what_is_below() {
    let store = TestStore::new();
    let below = Layer::new().file("/d/old", 0o644, "o").file("/e/old", 0o644, "o").file("/f", 0o644, "f");
    let above = Layer::new().opaque("/d").file("/d/new", 0o644, "n").whiteout("/e").whiteout("/f");
    let top = Layer::new().dir("/f", 0o755).file("/f/in", 0o644, "i").entry("/", Entry::dir(0o711).owner(9, 9));
    Builder::new().layer(below).layer(above).layer(top).build(&store, "o:1").unwrap();
    let rootfs = store.prepare("c", "o:1").unwrap().rootfs;
    let names = |dir: &str| -> Vec<String> {
        let mut all: Vec<_> =
            fs::read_dir(rootfs.join(dir)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    };
    assert_eq!(names("."), ["d", "f"]);
    assert_eq!(names("d"), ["new"]);
    assert_eq!(names("f"), ["in"]);
    let root = fs::metadata(&rootfs).unwrap();
    assert_eq!((root.mode() & 0o7777, root.uid(), root.gid()), (0o711, 9, 9));
}

#[test]
fn images_as_volumes() {
    let store = TestStore::new();
    Builder::new().layer(Layer::new().file("/bin/x", 0o755, "x")).build(&store, "app:1").unwrap();
    let data =
        Layer::new().dir("/d", 0o755).file("/d/file", 0o644, "data").symlink("/l", "/d").symlink("/out", "../../etc");
    Builder::new().layer(data).build(&store, "data:1").unwrap();
    store.prepare("c", "app:1").unwrap();
    let whole = store.mount_image("c", "data:1", "").unwrap();
    assert_eq!(fs::read_to_string(whole.join("d/file")).unwrap(), "data");
    let error = fs::write(whole.join("new"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    for (sub, place) in [("d", Some("d")), ("l", Some("d")), ("d/file", Some("d/file")), ("out", None), ("none", None)]
    {
        let found = store.mount_image("c", "data:1", sub).ok();
        assert_eq!(found, place.map(|p| whole.join(p)), "{sub}");
    }
    // What is mounted stays, though its image has gone.
    store.remove_image("data:1").unwrap();
    store.prune().unwrap();
    assert_eq!(fs::read_to_string(whole.join("d/file")).unwrap(), "data");
    store.remove("c").unwrap();
    assert!(!whole.exists());
    assert_eq!(store.prune().unwrap().snapshots, 1);
}

#[test]
fn a_lost_mount_comes_back_with_its_content() {
    let store = TestStore::new();
    sample(&store, "a:1", "s");
    let rootfs = store.prepare("c", "a:1").unwrap().rootfs;
    fs::write(rootfs.join("kept"), "k").unwrap();
    store.unmount("c").unwrap();
    assert!(!mount::is_mounted(&rootfs) && !rootfs.join("kept").exists());
    // As after a reboot: another process, the image's name gone.
    let again = store.reopen();
    again.remove_image("a:1").unwrap();
    assert_eq!(content(&again), (0, 2), "a container keeps its layers");
    for prepared in [again.mount("c").unwrap(), again.prepare("c", "a:1").unwrap()] {
        assert_eq!(fs::read_to_string(prepared.rootfs.join("kept")).unwrap(), "k");
        assert_eq!(fs::read_to_string(prepared.rootfs.join("etc/salt")).unwrap(), "s");
    }
    again.purge().unwrap();
    again.prune().unwrap();
    assert_eq!(content(&again), (0, 0));
    assert!(!mount::is_mounted(&rootfs));
}

#[test]
fn as_many_layers_as_docker_allows() {
    let store = TestStore::new();
    let mut builder = Builder::new().compression(crate::Compression::None);
    for n in 0..127 {
        builder = builder.layer(Layer::new().file(format!("/f{n}"), 0o644, n.to_string()));
    }
    builder.build(&store, "many:1").unwrap();
    let id = "c".repeat(64);
    let rootfs = store.prepare(&id, "many:1").unwrap().rootfs;
    assert_eq!(fs::read_dir(&rootfs).unwrap().count(), 127);
    store.remove(&id).unwrap();
}

#[test]
fn no_layers_at_all() {
    let store = TestStore::new();
    Builder::new().cmd(["x"]).build(&store, "scratch:1").unwrap();
    let prepared = store.prepare("c", "scratch:1").unwrap();
    assert_eq!(fs::read_dir(&prepared.rootfs).unwrap().count(), 0);
    fs::write(prepared.rootfs.join("x"), "x").unwrap();
}

#[test]
fn a_lost_snapshot_is_unpacked_again() {
    let store = TestStore::new();
    sample(&store, "a:1", "s");
    fs::remove_dir_all(store.root().join("snapshots")).unwrap();
    fs::create_dir(store.root().join("snapshots")).unwrap();
    let rootfs = store.prepare("c", "a:1").unwrap().rootfs;
    assert_eq!(fs::read_to_string(rootfs.join("etc/salt")).unwrap(), "s");
}

#[test]
fn ids_are_checked() {
    let store = TestStore::new();
    sample(&store, "a:1", "s");
    for id in ["", "..", ".hidden", "a/b", "../../etc", "a:b", "a,b"] {
        assert!(matches!(store.prepare(id, "a:1"), Err(Error::InvalidContainer { .. })), "{id}");
        assert!(matches!(store.remove(id), Err(Error::InvalidContainer { .. })), "{id}");
    }
    assert!(matches!(store.prepare("c", "no:image"), Err(Error::NotFound { .. })));
    assert!(matches!(store.mount("c"), Err(Error::NotFound { .. })));
    assert!(store.containers().unwrap().is_empty());
}
