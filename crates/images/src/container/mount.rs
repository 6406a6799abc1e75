//! The overlay mount itself.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::IoContext as _;
use crate::store::Store;
use crate::{Digest, Error};

/// Mounts `<dir>/merged`, with what is written in `<dir>/upper`.
pub(crate) fn mount_overlay(store: &Store, layers: &[Digest], dir: &Path) -> Result<(), Error> {
    let mut lower = lower(store, layers)?;
    if lower.is_empty() {
        lower.push(EMPTY.to_owned());
    }
    let id = dir.file_name().unwrap_or_default().to_string_lossy();
    let options =
        format!("lowerdir={},upperdir=../containers/{id}/upper,workdir=../containers/{id}/work", lower.join(":"));
    overlay(store, options, MsFlags::empty(), dir.join("merged"))
}

/// Mounts the layers alone, read-only.
pub(crate) fn mount_layers(store: &Store, layers: &[Digest], target: &Path) -> Result<(), Error> {
    let mut lower = lower(store, layers)?;
    // Without an upper directory overlayfs wants two layers at least.
    while lower.len() < 2 {
        lower.push(EMPTY.to_owned());
    }
    overlay(store, format!("lowerdir={}", lower.join(":")), MsFlags::MS_RDONLY, target.to_owned())
}

/// A layer without anything, as seen from the directory of the links.
const EMPTY: &str = "../empty";

/// Short names of the layers, the topmost first.
fn lower(store: &Store, layers: &[Digest]) -> Result<Vec<String>, Error> {
    let links = store.root().join("l");
    layers.iter().rev().map(|chain| short_link(&links, chain)).collect()
}

/// mount(2) takes one page of options, so layers are named by short links, relative to the directory of the links; the working
/// directory is changed in a thread of its own.
fn overlay(store: &Store, mut options: String, flags: MsFlags, target: PathBuf) -> Result<(), Error> {
    // Layers are shared by many mounts; the index would refuse that.
    if Path::new("/sys/module/overlay/parameters/index").exists() {
        options.push_str(",index=off");
    }
    fs::create_dir_all(&target).at("create", &target)?;
    let links = store.root().join("l");
    let at = target.clone();
    let mount = move || -> Result<(), Errno> {
        unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chdir(&links)?;
        nix::mount::mount(Some("overlay"), &at, Some("overlay"), flags, Some(options.as_str()))
    };
    let thread =
        std::thread::Builder::new().name("overlay-mount".into()).spawn(mount).at("start a thread for", &target)?;
    thread.join().map_err(|_| Error::Cut)?.map_err(explain).at("mount an overlay at", &target)
}

/// The causes that users meet, in words that tell what to do.
fn explain(errno: Errno) -> io::Error {
    let hint = match errno {
        Errno::ENODEV => "the kernel has no overlayfs (hint: modprobe overlay)",
        Errno::EPERM | Errno::EACCES => "not permitted (hint: run as root with CAP_SYS_ADMIN)",
        Errno::EINVAL => {
            "overlayfs refuses the directories (hint: the data directory must not itself be on overlayfs, NFS or another \
             file system without d_type and trusted extended attributes; see dmesg)"
        }
        other => return other.into(),
    };
    io::Error::new(io::Error::from(errno).kind(), hint)
}

/// `l/<16 hex digits>` -> `../snapshots/<chain id>/fs`.
fn short_link(links: &Path, chain: &Digest) -> Result<String, Error> {
    let target = format!("../snapshots/{}/fs", chain.hex());
    for length in [16, 24, 64] {
        let name = &chain.hex()[..length];
        let path = links.join(name);
        match symlink(&target, &path) {
            Ok(()) => return Ok(name.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read_link(&path).at("read the link", &path)? == Path::new(&target) {
                    return Ok(name.to_owned());
                }
            }
            Err(e) => return Err(e).at("create the link", &path),
        }
    }
    Err(Error::malformed(links.display().to_string(), "links of other layers have the names of these"))
}

/// The root of the overlay looks like its upper directory: owner and mode of the image's topmost root.
pub(crate) fn copy_root_attributes(store: &Store, layers: &[Digest], upper: &Path) -> Result<(), Error> {
    let Some(top) = layers.last() else {
        return fs::set_permissions(upper, fs::Permissions::from_mode(0o755)).at("change the mode of", upper);
    };
    let from = store.snapshot_fs(top);
    let meta = fs::metadata(&from).at("look at", &from)?;
    chown(upper, Some(meta.uid()), Some(meta.gid())).at("change the owner of", upper)?;
    fs::set_permissions(upper, fs::Permissions::from_mode(meta.mode() & 0o7777)).at("change the mode of", upper)
}

/// Whether something is mounted at `path`: another device than its parent's.
pub(crate) fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|m| m.dev()).ok();
    let own = device(path);
    own.is_some() && own != path.parent().and_then(device)
}

/// Unmounts all that is mounted there.
pub(crate) fn unmount(path: &Path) -> Result<(), Error> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(e).at("unmount", path),
        }
    }
}
