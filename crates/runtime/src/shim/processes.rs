//! A container's first process and what it reads and writes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Our ends of a process's streams.
pub(super) enum Io {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal { master: OwnedFd },
}

/// A running process.
pub(super) struct Process {
    pub(super) pid: i32,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: bool,
}

impl Process {
    pub(super) fn new(pid: i32, io: Io) -> Self {
        match io {
            Io::Pipes { stdin, stdout, stderr } => {
                Self { pid, stdin, stdout: Some(stdout), stderr: Some(stderr), terminal: false }
            }
            Io::Terminal { master } => Self { pid, stdin: None, stdout: Some(master), stderr: None, terminal: true },
        }
    }

    /// What can be read from: (is it stderr, descriptor).
    pub(super) fn outputs(&self) -> Vec<(bool, BorrowedFd<'_>)> {
        let out = self.stdout.iter().map(|fd| (false, fd.as_fd()));
        out.chain(self.stderr.iter().map(|fd| (true, fd.as_fd()))).collect()
    }

    /// Reads a piece; `Some(0)` at the end, after which the stream is closed. `None` when there is nothing to say.
    pub(super) fn read(&mut self, is_error: bool, buffer: &mut [u8]) -> Option<usize> {
        let slot = if is_error { &mut self.stderr } else { &mut self.stdout };
        match nix::unistd::read(slot.as_ref()?, buffer) {
            // A terminal without a process on its other side says EIO.
            Ok(0) | Err(nix::errno::Errno::EIO) => {
                *slot = None;
                Some(0)
            }
            Ok(count) => Some(count),
            Err(_) => None,
        }
    }

    /// True while something can be read without waiting.
    pub(super) fn has_output(&self, is_error: bool) -> bool {
        let slot = if is_error { &self.stderr } else { &self.stdout };
        let Some(fd) = slot else { return false };
        let mut watched = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::ZERO).is_ok_and(|n| n > 0)
            && watched[0].revents().is_some_and(|r| r.contains(PollFlags::POLLIN))
    }

    /// A descriptor to write to the process: its stdin, or its terminal.
    pub(super) fn stdin(&self) -> std::io::Result<Option<OwnedFd>> {
        let source = if self.terminal { &self.stdout } else { &self.stdin };
        source.as_ref().map(OwnedFd::try_clone).transpose()
    }

    /// `stdinOnce`: the client that is attached holds the only end; when it goes, stdin is over.
    pub(super) fn give_up_stdin(&mut self) {
        self.stdin = None;
    }

    /// Lets go of all streams.
    pub(super) fn close(&mut self) {
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
    }
}
