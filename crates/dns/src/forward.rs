//! Questions about other domains go to the upstream servers as they came, and the answers come back as they are.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long one upstream server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The name servers of a resolv.conf, without those that are `own` addresses (no loops).
pub(crate) fn upstreams(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    servers.filter(|ip| !own.contains(ip)).map(|ip| SocketAddr::new(ip, 53)).collect()
}

/// The first upstream's answer; `None` when none answered.
pub(crate) async fn forward(query: &[u8], upstreams: &[SocketAddr], tcp: bool) -> Option<Vec<u8>> {
    for server in upstreams {
        let asked = async { if tcp { ask_tcp(query, *server).await } else { ask_udp(query, *server).await } };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%server, %error, "an upstream name server failed"),
            Err(_) => tracing::debug!(%server, "an upstream name server does not answer"),
        }
    }
    None
}

async fn ask_udp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
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

async fn ask_tcp(query: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #[test]
    fn own_addresses_are_no_upstreams() {
        let found = super::upstreams(
            "# x\nnameserver 10.43.0.10\nsearch a\nnameserver 192.0.2.1\n",
            &["10.43.0.10".parse().unwrap()],
        );
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap()]);
    }
}
