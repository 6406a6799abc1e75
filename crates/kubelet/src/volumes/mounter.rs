//! Mounting, behind a trait so that volumes are tested without privileges.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// What volumes need of the kernel.
pub(crate) trait Mounter: Send + Sync {
    /// Mounts a tmpfs of at most `size` bytes.
    fn tmpfs(&self, dir: &Path, size: Option<u64>, mode: u32) -> io::Result<()>;
    /// Binds what `from` is open on to `to`, which exists.
    fn bind(&self, from: BorrowedFd<'_>, to: &Path) -> io::Result<()>;
    /// Unmounts everything at and below `dir`, the innermost first.
    fn unmount_below(&self, dir: &Path) -> io::Result<()>;
    /// True when something is mounted exactly there.
    fn is_mount_point(&self, dir: &Path) -> bool;
}

/// The kernel's mounts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KernelMounter;

impl Mounter for KernelMounter {
    fn tmpfs(&self, dir: &Path, size: Option<u64>, mode: u32) -> io::Result<()> {
        let mut options = format!("mode={mode:o}");
        if let Some(size) = size {
            options.push_str(&format!(",size={size}"));
        }
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(())
    }

    fn bind(&self, from: BorrowedFd<'_>, to: &Path) -> io::Result<()> {
        let source = format!("/proc/self/fd/{}", from.as_raw_fd());
        mount(Some(source.as_str()), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        Ok(())
    }

    fn unmount_below(&self, dir: &Path) -> io::Result<()> {
        let dir = match dir.canonicalize() {
            Ok(dir) => dir,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut result = Ok(());
        let mut below: Vec<PathBuf> = mount_points()?.into_iter().filter(|p| p.starts_with(&dir)).collect();
        below.reverse();
        for point in below {
            match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
                Err(error) => result = result.and(Err(error.into())),
            }
        }
        // Whoever removes the directory next must not reach through a mount into somebody's data.
        if result.is_ok() && mount_points()?.iter().any(|p| p.starts_with(&dir)) {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "something is still mounted there"));
        }
        result
    }

    fn is_mount_point(&self, dir: &Path) -> bool {
        mount_points().is_ok_and(|points| points.iter().any(|p| p == dir))
    }
}

/// All mount points of this thread's mount namespace, in the order they were mounted.
fn mount_points() -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(|p| PathBuf::from(unescape(p))).collect())
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let code = (bytes[i] == b'\\').then(|| text.get(i + 1..i + 4)).flatten();
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Mounts nothing and remembers what it was asked.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct FakeMounter {
    pub(crate) mounted: parking_lot::Mutex<Vec<PathBuf>>,
}

#[cfg(test)]
impl Mounter for FakeMounter {
    fn tmpfs(&self, dir: &Path, _: Option<u64>, _: u32) -> io::Result<()> {
        self.mounted.lock().push(dir.to_owned());
        Ok(())
    }
    fn bind(&self, _: BorrowedFd<'_>, to: &Path) -> io::Result<()> {
        self.mounted.lock().push(to.to_owned());
        Ok(())
    }
    fn unmount_below(&self, dir: &Path) -> io::Result<()> {
        self.mounted.lock().retain(|p| !p.starts_with(dir));
        Ok(())
    }
    fn is_mount_point(&self, dir: &Path) -> bool {
        self.mounted.lock().iter().any(|p| p == dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Runs `test` in a mount namespace of its own; without the right to make one there is nothing to test.
    fn in_own_namespace(test: impl FnOnce(&Path) + Send + 'static) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let run = move || {
            use nix::sched::{CloneFlags, unshare};
            if unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).is_err() {
                return;
            }
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            test(&path);
        };
        std::thread::spawn(run).join().unwrap();
    }

    #[test]
    fn mounts_come_and_go() {
        in_own_namespace(|dir| {
            let (inner, outside, target) = (dir.join("pod/a b"), dir.join("outside"), dir.join("pod/bound"));
            for path in [&inner, &outside, &target] {
                std::fs::create_dir_all(path).unwrap();
            }
            std::fs::write(outside.join("precious"), "x").unwrap();
            KernelMounter.tmpfs(&inner, Some(1 << 20), 0o777).unwrap();
            let opened = std::fs::File::open(&outside).unwrap();
            KernelMounter.bind(opened.as_fd(), &target).unwrap();
            assert!(KernelMounter.is_mount_point(&inner) && KernelMounter.is_mount_point(&target));
            assert!(target.join("precious").exists());
            KernelMounter.unmount_below(&dir.join("pod")).unwrap();
            assert!(!KernelMounter.is_mount_point(&inner) && !KernelMounter.is_mount_point(&target));
            std::fs::remove_dir_all(dir.join("pod")).unwrap();
            assert!(outside.join("precious").exists());
        });
    }

    #[test]
    fn octal_escapes() {
        assert_eq!(unescape("/a\\040b\\134c\\"), "/a b\\c\\");
    }
}
