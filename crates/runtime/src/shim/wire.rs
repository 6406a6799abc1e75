//! One JSON line with descriptors beside it, each way.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A message is at most this long: an exec's command line.
const MOST_BYTES: usize = 1 << 20;

/// Sends a message.
pub(crate) fn send<T: Serialize>(stream: &mut UnixStream, message: &T, fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let mut sent = sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&line)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    while sent < line.len() {
        sent += sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&line[sent..])], &[], MsgFlags::MSG_NOSIGNAL, None)?;
    }
    Ok(())
}

/// Receives a message.
pub(crate) fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> std::io::Result<(T, Vec<OwnedFd>)> {
    let mut line = Vec::new();
    let mut fds = Vec::new();
    let mut buffer = vec![0u8; 16 * 1024];
    let mut control = nix::cmsg_space!([RawFd; 4]);
    loop {
        // A message's line only: the next one may be there already.
        let seen = recv(stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_PEEK)?;
        let take = buffer[..seen].iter().position(|b| *b == b'\n').map_or(seen, |at| at + 1);
        let received = {
            let mut slices = [IoSliceMut::new(&mut buffer[..take.max(1)])];
            let message =
                recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
            for part in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(raw) = part {
                    // SAFETY: the kernel has just made these descriptors for us.
                    fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            message.bytes
        };
        if received == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&buffer[..received]);
        if line.last() == Some(&b'\n') {
            return Ok((serde_json::from_slice(&line)?, fds));
        }
        if line.len() > MOST_BYTES {
            return Err(std::io::Error::other("the message is too long"));
        }
    }
}
