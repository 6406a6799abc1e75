//! Questions about other domains go to the upstream servers as they came, and the answers come back as they are.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one upstream server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes sockets towards name servers somewhere else than in this process's network. Blocks.
pub trait Sockets: Send + Sync {
    /// A datagram socket that talks to the server.
    fn udp(&self, server: SocketAddr) -> io::Result<std::net::UdpSocket>;
    /// A connection to the server.
    fn tcp(&self, server: SocketAddr, limit: Duration) -> io::Result<std::net::TcpStream>;
}

/// The way to the name servers; `None`: this process's own network.
pub(crate) type Way = Option<Arc<dyn Sockets>>;

/// The name servers of a resolv.conf, without those that are `own` addresses (no loops).
pub(crate) fn upstreams(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    servers.filter(|ip| !own.contains(ip)).map(|ip| SocketAddr::new(ip, 53)).collect()
}

/// The first upstream's answer; `None` when none answered.
pub(crate) async fn forward(query: &[u8], upstreams: &[SocketAddr], way: &Way, tcp: bool) -> Option<Vec<u8>> {
    for server in upstreams {
        let asked = async { if tcp { ask_tcp(query, *server, way).await } else { ask_udp(query, *server, way).await } };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "an upstream name server failed"),
            Err(_) => tracing::debug!(%server, "an upstream name server does not answer"),
        }
    }
    None
}

async fn udp(server: SocketAddr, way: &Way) -> io::Result<UdpSocket> {
    if let Some(way) = way.clone() {
        let socket = tokio::task::spawn_blocking(move || way.udp(server)).await??;
        socket.set_nonblocking(true)?;
        return UdpSocket::from_std(socket);
    }
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn tcp(server: SocketAddr, way: &Way) -> io::Result<TcpStream> {
    let Some(way) = way.clone() else { return TcpStream::connect(server).await };
    let stream = tokio::task::spawn_blocking(move || way.tcp(server, PATIENCE)).await??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

async fn ask_udp(query: &[u8], server: SocketAddr, way: &Way) -> io::Result<Vec<u8>> {
    let socket = udp(server, way).await?;
    socket.send(query).await?;
    let mut answer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut answer).await?;
        // Another id is not the answer to this question.
        if length >= 12 && answer[..2] == query[..2] {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn ask_tcp(query: &[u8], server: SocketAddr, way: &Way) -> io::Result<Vec<u8>> {
    let mut stream = tcp(server, way).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name servers that only these sockets reach: whatever address is asked for, this one answers.
    struct Elsewhere(SocketAddr);

    impl Sockets for Elsewhere {
        fn udp(&self, _: SocketAddr) -> io::Result<std::net::UdpSocket> {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(self.0)?;
            Ok(socket)
        }
        fn tcp(&self, _: SocketAddr, limit: Duration) -> io::Result<std::net::TcpStream> {
            std::net::TcpStream::connect_timeout(&self.0, limit)
        }
    }

    #[tokio::test]
    async fn sockets_from_elsewhere_are_used() {
        let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = tokio::net::TcpListener::bind(address).await.unwrap();
        let serving = async {
            let mut packet = [0; 512];
            let (length, peer) = udp.recv_from(&mut packet).await.unwrap();
            udp.send_to(&packet[..length], peer).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut question = [0; 16];
            stream.read_exact(&mut question).await.unwrap();
            stream.write_all(&question).await.unwrap();
        };
        let way: Way = Some(Arc::new(Elsewhere(address)));
        let query = *b"ab012345678901";
        let asking = async {
            let nowhere = ["192.0.2.53:53".parse().unwrap()];
            assert_eq!(forward(&query, &nowhere, &way, false).await.as_deref(), Some(&query[..]));
            assert_eq!(forward(&query, &nowhere, &way, true).await.as_deref(), Some(&query[..]));
        };
        tokio::join!(serving, asking);
    }

    #[test]
    fn own_addresses_are_no_upstreams() {
        let found = super::upstreams(
            "# x\nnameserver 10.43.0.10\nsearch a\nnameserver 192.0.2.1\n",
            &["10.43.0.10".parse().unwrap()],
        );
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap()]);
    }
}
