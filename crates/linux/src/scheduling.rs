//! How the kernel shares processors out to a thread.

use std::io;
use std::mem::{size_of, zeroed};
use std::time::Duration;

/// Asks for turns of this length for the calling thread: as much of the processor as before, in smaller portions and sooner, which
/// suits threads that answer many. What the thread starts does not inherit it. From Linux 6.12 on; before, nothing changes.
///
/// # Errors
/// What `sched_setattr(2)` says.
pub fn take_short_turns(length: Duration) -> io::Result<()> {
    // SAFETY: a plain structure of numbers, all of which may be 0.
    let mut attributes: libc::sched_attr = unsafe { zeroed() };
    let size = size_of::<libc::sched_attr>();
    let (this, no_flags) = (0, 0);
    // SAFETY: the kernel writes at most `size` bytes.
    done(unsafe { libc::syscall(libc::SYS_sched_getattr, this, &raw mut attributes, size, no_flags) })?;
    attributes.sched_flags |= libc::SCHED_FLAG_RESET_ON_FORK as u64;
    attributes.sched_runtime = length.as_nanos().try_into().unwrap_or(u64::MAX);
    // SAFETY: the kernel reads the structure, whose size it finds in it.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, this, &raw const attributes, no_flags) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_asked_for() {
        std::thread::spawn(|| take_short_turns(Duration::from_micros(200)).unwrap()).join().unwrap();
    }
}
