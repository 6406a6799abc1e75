//! Whether the kernel speaks nf_tables: it is asked for its generation.

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

/// `NFNL_SUBSYS_NFTABLES << 8`.
const SUBSYSTEM: u16 = 10 << 8;
const GET_GENERATION: u16 = SUBSYSTEM | 16;
const NEW_GENERATION: u16 = SUBSYSTEM | 15;

/// Asks; the kernel loads the module when it has one.
pub(super) fn present() -> bool {
    ask().is_ok_and(|kind| kind == NEW_GENERATION)
}

fn ask() -> nix::Result<u16> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
    let mut message = Vec::with_capacity(20);
    message.extend_from_slice(&20u32.to_ne_bytes());
    message.extend_from_slice(&GET_GENERATION.to_ne_bytes());
    // NLM_F_REQUEST; sequence number and port: the kernel fills in its own.
    message.extend_from_slice(&1u16.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // No family, version 0.
    message.extend_from_slice(&[0; 4]);
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0u8; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let kind = answer.get(4..6).filter(|_| length >= 16).and_then(|b| b.try_into().ok());
    kind.map(u16::from_ne_bytes).ok_or(nix::errno::Errno::EBADMSG)
}
