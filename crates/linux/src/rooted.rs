//! Paths inside a root directory: a link in there cannot lead out (openat2, RESOLVE_IN_ROOT).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

const RESOLVE_IN_ROOT: u64 = 0x10;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` below `root` (a directory that is open), links resolved as if `root` were `/`.
pub fn open(root: &OwnedFd, path: &Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    let flags = u64::try_from(flags | libc::O_CLOEXEC).map_err(io::Error::other)?;
    let how = OpenHow { flags, mode: mode.into(), resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
    // SAFETY: the path is NUL-terminated, `how` has the size that is passed.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), text.as_ptr(), &raw const how, size_of::<OpenHow>())
    };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The root itself.
pub fn open_root(root: &Path) -> io::Result<OwnedFd> {
    let file = std::fs::File::open(root)?;
    Ok(file.into())
}

/// Opens a mount point below `root`, making what is missing of it: directories, and at the end a directory or an empty file.
pub fn mount_point(root: &OwnedFd, path: &Path, directory: bool) -> io::Result<OwnedFd> {
    if let Ok(found) = open(root, path, libc::O_PATH, 0) {
        return Ok(found);
    }
    let parts: Vec<_> = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    let mut so_far = std::path::PathBuf::from("/");
    for (index, part) in parts.iter().enumerate() {
        let parent = open(root, &so_far, libc::O_PATH | libc::O_DIRECTORY, 0)?;
        so_far.push(part);
        let last = index + 1 == parts.len();
        let name = CString::new(part.as_os_str().as_bytes())?;
        // SAFETY: a NUL-terminated name and an open directory; the name is a single component.
        let made = unsafe {
            if last && !directory {
                let fd = libc::openat(
                    parent.as_raw_fd(),
                    name.as_ptr(),
                    libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC,
                    0o644,
                );
                if fd >= 0 { libc::close(fd) } else { fd }
            } else {
                libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o755)
            }
        };
        if made < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
        }
    }
    open(root, path, libc::O_PATH, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root_path = dir.path().join("root");
        fs::create_dir(&root_path).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../../secret", root_path.join("up")).unwrap();
        std::os::unix::fs::symlink("/etc", root_path.join("abs")).unwrap();
        let root = open_root(&root_path).unwrap();
        assert!(open(&root, Path::new("/up"), libc::O_RDONLY, 0).is_err());
        fs::create_dir(root_path.join("etc")).unwrap();
        mount_point(&root, Path::new("/abs/new/file"), false).unwrap();
        assert!(root_path.join("etc/new/file").is_file(), "the link led to the root's own /etc");
        mount_point(&root, Path::new("/a/b/c"), true).unwrap();
        assert!(root_path.join("a/b/c").is_dir());
    }
}
