//! The host's network, for a process that lives in the node's: image pulls go this way, so that nothing on the host has to
//! route or translate for the node.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// A handle on a network namespace that this process has left. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outside(Arc<File>);

impl Outside {
    /// The namespace that the calling thread is in now.
    pub fn here() -> io::Result<Self> {
        Ok(Self(Arc::new(File::open("/proc/thread-self/ns/net")?)))
    }

    /// Looks the host up and connects, all in that namespace. Blocks; a socket stays in the namespace that it was made in.
    pub fn connect(&self, host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
        let host = host.to_owned();
        self.run(move || {
            let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
            for address in (host.as_str(), port).to_socket_addrs()? {
                match TcpStream::connect_timeout(&address, limit) {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    /// A datagram socket in that namespace that talks to `peer` only.
    pub fn datagrams(&self, peer: SocketAddr) -> io::Result<UdpSocket> {
        self.run(move || {
            let any: SocketAddr = if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.connect(peer)?;
            Ok(socket)
        })
    }

    /// A thread for each: it changes its namespace and ends.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let namespace = self.0.clone();
        let inside = move || {
            setns(namespace.as_ref(), CloneFlags::CLONE_NEWNET)?;
            work()
        };
        let thread = std::thread::Builder::new().name("outside".into()).spawn(inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the host's network died")))
    }
}
