//! A directory tree that is written by descriptors: no path of an untrusted archive ever leaves it.
//!
//! Parents are resolved by `openat2(RESOLVE_IN_ROOT)`, the kernel's own scoped lookup: absolute links and `..` stay
//! inside, as they would for a process whose root this is. Last components are never followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

/// The root of the tree.
pub(crate) struct Tree {
    root: OwnedFd,
}

/// Owner, mode, times and extended attributes of one entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
}

/// A directory and a name in it.
pub(crate) struct Place {
    pub(crate) parent: OwnedFd,
    pub(crate) name: OsString,
}

impl Tree {
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { root: openat(AT_FDCWD, root, flags, Mode::empty())? })
    }

    /// Opens a directory below the root; links on the way are resolved inside the root.
    pub(crate) fn dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, ResolveFlag::RESOLVE_IN_ROOT)
    }

    /// As [`Tree::dir`], refusing links.
    pub(crate) fn dir_without_links(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, how: ResolveFlag) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(how | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(openat2(&self.root, path, how)?)
    }

    /// The place of `path`, whose parents exist. `None` for the root itself.
    pub(crate) fn place(&self, path: &Path) -> io::Result<Option<Place>> {
        let Some(name) = path.file_name() else { return Ok(None) };
        let parent = self.dir(path.parent().unwrap_or(Path::new("")))?;
        Ok(Some(Place { parent, name: name.to_owned() }))
    }
}

impl Place {
    /// What is there, links not followed.
    pub(crate) fn stat(&self) -> io::Result<Option<FileStat>> {
        match fstatat(&self.parent, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes what is there, directories with all they contain.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove_at(&self.parent, &self.name)
    }

    /// Makes a directory.
    pub(crate) fn make_dir(&self) -> io::Result<()> {
        Ok(mkdirat(&self.parent, self.name.as_os_str(), Mode::from_bits_truncate(0o755))?)
    }

    /// Makes a new regular file.
    pub(crate) fn create(&self) -> io::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(openat(&self.parent, self.name.as_os_str(), flags, Mode::from_bits_truncate(0o600))?.into())
    }

    /// Makes a device, pipe or socket.
    pub(crate) fn make_node(&self, kind: SFlag, major: u64, minor: u64) -> io::Result<()> {
        let device = nix::sys::stat::makedev(major, minor);
        Ok(nix::sys::stat::mknodat(&self.parent, self.name.as_os_str(), kind, Mode::from_bits_truncate(0o600), device)?)
    }

    /// Makes a symbolic link.
    pub(crate) fn make_link(&self, target: &OsStr) -> io::Result<()> {
        Ok(nix::unistd::symlinkat(target, &self.parent, self.name.as_os_str())?)
    }

    /// Makes another name for what is at `target`.
    pub(crate) fn make_hard_link(&self, target: &Self) -> io::Result<()> {
        let flags = AtFlags::empty();
        Ok(nix::unistd::linkat(&target.parent, target.name.as_os_str(), &self.parent, self.name.as_os_str(), flags)?)
    }

    /// Sets everything but the time: owner first, because a change of owner clears setuid bits and capabilities.
    pub(crate) fn set(&self, attributes: &Attributes, is_link: bool) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        let name = self.name.as_os_str();
        fchownat(&self.parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if !is_link {
            // Not a link (made or checked by us, and nobody else writes here), so following does not matter.
            let mode = Mode::from_bits_truncate(attributes.mode & 0o7777);
            fchmodat(&self.parent, name, mode, FchmodatFlags::FollowSymlink)?;
        }
        let path = self.proc_path();
        for (key, value) in &attributes.xattrs {
            match xattr::set(&path, key, value) {
                Err(e) if tolerates(key, &e, is_link) => {
                    tracing::debug!(key = %key.display(), error = %e, "an extended attribute is not supported here");
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Sets the time of change.
    pub(crate) fn set_time(&self, (seconds, nanos): (i64, i64)) -> io::Result<()> {
        let time = TimeSpec::new(seconds, nanos);
        Ok(utimensat(&self.parent, self.name.as_os_str(), &time, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// A path that the kernel resolves from the open parent; the last component is not followed by `l*xattr` calls.
    pub(crate) fn proc_path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.parent.as_raw_fd().to_string()).join(&self.name)
    }

    /// The attributes of what is there, overlayfs's own left out.
    pub(crate) fn attributes(&self, stat: &FileStat) -> Attributes {
        let path = self.proc_path();
        let keys = xattr::list(&path).into_iter().flatten().filter(|key| !is_overlay_key(key));
        let xattrs = keys.filter_map(|key| xattr::get(&path, &key).ok().flatten().map(|value| (key, value))).collect();
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        Attributes { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777, modified, xattrs }
    }
}

/// Attributes by which overlayfs steers itself: an image must not set them.
pub(crate) fn is_overlay_key(key: &OsStr) -> bool {
    [&b"trusted.overlay."[..], b"user.overlay."].iter().any(|own| key.as_bytes().starts_with(own))
}

fn tolerates(key: &OsStr, error: &io::Error, is_link: bool) -> bool {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOTSUP) => true,
        // `user.*` is for files and directories only.
        Some(Errno::EPERM) => is_link || key.as_bytes().starts_with(b"user."),
        _ => false,
    }
}

fn remove_at(parent: impl AsFd + Copy, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => {}
        done => return Ok(done?),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut dir = Dir::openat(parent, name, flags, Mode::empty())?;
    let names: Vec<OsString> = dir
        .iter()
        .map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()))
        .collect::<Result<_, Errno>>()?;
    for child in names.iter().filter(|n| *n != "." && *n != "..") {
        remove_at(&dir, child)?;
    }
    drop(dir);
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}
