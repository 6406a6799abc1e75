//! Terminals: the machine's, and those of a container's own `/dev/pts`, where programs look for the name of theirs (`tty`, `tmux`,
//! `gpg`). No descriptor of theirs leaks into what is executed.

use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::{SFlag, fstat, makedev};

/// What `/dev/ptmx` is.
const MULTIPLEXER: (u64, u64) = (5, 2);

/// Both ends of a new terminal of the machine.
pub(super) fn of_machine() -> Result<(OwnedFd, OwnedFd)> {
    let pair = nix::pty::openpty(None, None)?;
    for fd in [&pair.master, &pair.slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((pair.master, pair.slave))
}

/// Both ends of a new terminal of the container that the process is in.
pub(super) fn of_container(process: i32) -> Result<(OwnedFd, OwnedFd)> {
    of_root(Path::new(&format!("/proc/{process}/root")))
}

/// Both ends of a new terminal of the container whose root this is.
pub(super) fn of_root(root: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let root = linux::rooted::open_root(root)?;
    let found = linux::rooted::open(&root, Path::new("dev/pts/ptmx"), libc::O_PATH, 0)?;
    // The container may have put something else there: nothing is opened for what it does when it is opened.
    let stat = fstat(&found)?;
    let is_device = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    if !is_device || stat.st_rdev != makedev(MULTIPLEXER.0, MULTIPLEXER.1) {
        return Err(Error::other("the container has no terminals"));
    }
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let master: OwnedFd = File::options().read(true).write(true).open(path)?.into();
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one integer.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the request takes flags and returns a descriptor.
    let slave =
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) };
    if slave < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor; nobody else has it.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave) }))
}
