//! The pods' way out of a node that has no network but the pair to its host: what they send to addresses beyond the cluster is
//! accepted here in their place, and goes on from a socket in the host's network. So nothing on the host has to forward or translate.
//!
//! TCP only; names are resolved by the cluster's DNS, which asks the host's name servers the same way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netfilter::expr::{self, Cmp, Meta};
use netfilter::{Batch, Hook};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::outside::Outside;
use crate::preflight::Network;

/// The nftables table, in the node's namespace.
const TABLE: &str = "navarch-egress";
/// After the service proxy, which has the first word on destinations.
const PRIORITY: i32 = -90;
const TCP: u8 = 6;
const RTN_LOCAL: u32 = 2;
/// Connections at one time; more wait in the listener's queue.
const MOST: usize = 2048;
const CONNECT: Duration = Duration::from_secs(10);

/// What is to be let out.
#[derive(Clone, Debug)]
pub struct Config {
    /// The link that pods' packets come from.
    pub link: String,
    /// Networks of the cluster: what is addressed to them stays.
    pub inside: Vec<String>,
    /// Where to accept: an address of the node that pods reach.
    pub listen: Ipv4Addr,
}

/// Serves until `token` is cancelled.
pub async fn run(outside: Outside, config: Config, token: CancellationToken) -> io::Result<()> {
    let listener = TcpListener::bind((config.listen, 0)).await?;
    let own = listener.local_addr()?;
    tokio::task::spawn_blocking(move || redirect(&config, own.port())).await??;
    let places = Arc::new(Semaphore::new(MOST));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            () = token.cancelled() => return Ok(()),
            Some(_) = connections.join_next() => continue,
            place = places.clone().acquire_owned() => place.map_err(io::Error::other)?,
        };
        let accepted = tokio::select! {
            () = token.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            // Out of descriptors, mostly: a pause is the cure.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let outside = outside.clone();
        connections.spawn(async move {
            if let Err(error) = carry(stream, own, outside).await {
                tracing::debug!(%from, %error, "a connection out of the cluster ended");
            }
            drop(place);
        });
    }
}

/// One connection: to where the pod wanted to, and the bytes both ways.
async fn carry(mut stream: TcpStream, own: SocketAddr, outside: Outside) -> io::Result<()> {
    let wanted = getsockopt(&stream, sockopt::OriginalDst)?;
    let (ip, port) = (Ipv4Addr::from(u32::from_be(wanted.sin_addr.s_addr)), u16::from_be(wanted.sin_port));
    if SocketAddr::from((ip, port)) == own {
        return Err(io::Error::other("somebody connects to the egress itself"));
    }
    let connecting = tokio::task::spawn_blocking(move || outside.connect(&ip.to_string(), port, CONNECT));
    let target = connecting.await??;
    target.set_nonblocking(true)?;
    let mut target = TcpStream::from_std(target)?;
    tokio::io::copy_bidirectional(&mut stream, &mut target).await.map(drop)
}

/// TCP from pods to neither the node nor the cluster goes to the listener.
fn redirect(config: &Config, port: u16) -> io::Result<()> {
    let mut link = config.link.clone().into_bytes();
    link.push(0);
    let mut rule = vec![
        expr::meta(Meta::Iifname, 1),
        expr::cmp(Cmp::Eq, 1, &link),
        expr::protocol(1),
        expr::cmp(Cmp::Eq, 1, &[TCP]),
        expr::fib_destination_type(1),
        expr::cmp(Cmp::Neq, 1, &RTN_LOCAL.to_ne_bytes()),
    ];
    for network in config.inside.iter().filter_map(|text| Network::parse(text)) {
        let (address, mask) = network.bytes();
        rule.push(expr::destination(1));
        rule.push(expr::bitwise(1, &mask, &[0; 4]));
        rule.push(expr::cmp(Cmp::Neq, 1, &address));
    }
    rule.push(expr::load(&config.listen.octets(), 1));
    rule.push(expr::load(&port.to_be_bytes(), 9));
    rule.push(expr::dnat(1, 9));
    let mut batch = Batch::new(TABLE);
    // Made anew: adding first makes the removal one of something that is there.
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    batch.add_base_chain("prerouting", "nat", Hook::Prerouting, PRIORITY);
    batch.add_rule("prerouting", &rule);
    batch.commit().map_err(|e| io::Error::other(base::Chain(&e).to_string()))
}
