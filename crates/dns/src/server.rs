//! UDP and TCP on port 53.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use client::{Client, Informer, ListOptions, Resource};
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use object::Gvr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::forward::{Sockets, Way, forward, upstreams};
use crate::zone::{Answer, Zone};

/// What the server needs to know.
#[derive(Clone)]
pub struct Config {
    /// Where to listen, by UDP and TCP: the cluster DNS address, port 53.
    pub listen: SocketAddr,
    /// `cluster.local`.
    pub domain: String,
    /// The text of the node's resolv.conf: its name servers are asked about other domains.
    pub resolv_conf: String,
    /// The way to those, if this process's own network has none.
    pub sockets: Option<Arc<dyn Sockets>>,
}

/// Why DNS cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for DNS")]
pub struct DnsError {
    /// The address.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: std::io::Error,
}

/// Seconds that answers may be cached: CoreDNS's default for cluster names.
const TTL: u32 = 5;
/// Questions that wait for an upstream at one time, and TCP connections.
const MOST_WAITING: usize = 1000;
/// A TCP client that says nothing for this long is let go.
const IDLE: Duration = Duration::from_secs(10);
/// Aliases are followed this far.
const MOST_ALIASES: usize = 8;

struct Server {
    zone: Zone,
    upstreams: Vec<SocketAddr>,
    way: Way,
}

/// Serves until `token` is cancelled.
pub async fn run(client: Client, config: Config, token: CancellationToken) -> Result<(), DnsError> {
    let failed = |source| DnsError { address: config.listen, source };
    let udp = Arc::new(UdpSocket::bind(config.listen).await.map_err(failed)?);
    let address = udp.local_addr().map_err(failed)?;
    let tcp = TcpListener::bind(address).await.map_err(failed)?;
    let informer = |group, resource| {
        let gvr = Gvr::new(group, "v1", resource);
        Informer::new(client.clone(), Resource::collection(&gvr, None), ListOptions::default())
    };
    let (services, slices) = (informer("", "services"), informer("discovery.k8s.io", "endpointslices"));
    let own: Vec<IpAddr> = vec![config.listen.ip()];
    let server = Arc::new(Server {
        zone: Zone::new(&config.domain, services.lister(), slices.lister()),
        upstreams: upstreams(&config.resolv_conf, &own),
        way: config.sockets,
    });
    let mut tasks = Tasks::new(&token);
    let child = tasks.token().clone();
    tasks.spawn("services informer", services.run(child.clone()));
    tasks.spawn("endpointslices informer", slices.run(child.clone()));
    tasks.spawn("dns udp", serve_udp(server.clone(), udp, child.clone()));
    tasks.spawn("dns tcp", serve_tcp(server, tcp, child));
    token.cancelled().await;
    tasks.shutdown().await;
    Ok(())
}

async fn serve_udp(server: Arc<Server>, socket: Arc<UdpSocket>, token: CancellationToken) {
    let mut waiting = JoinSet::new();
    let places = Arc::new(Semaphore::new(MOST_WAITING));
    let mut packet = vec![0; 65_535];
    loop {
        let received = tokio::select! {
            () = token.cancelled() => break,
            Some(_) = waiting.join_next() => continue,
            received = socket.recv_from(&mut packet) => received,
        };
        let Ok((length, peer)) = received else { continue };
        let query = packet[..length].to_vec();
        match server.reply(&query) {
            Reply::Done(message) => {
                // A peer that is gone is no fault of ours.
                let _ = socket.send_to(&encode(&message, room(&query)), peer).await;
            }
            Reply::Ignore => {}
            Reply::Upstream(started) => {
                // Past the limit a question is dropped; resolvers ask again.
                let Ok(place) = places.clone().try_acquire_owned() else { continue };
                let (server, socket) = (server.clone(), socket.clone());
                waiting.spawn(async move {
                    if let Some(answer) = server.ask_upstream(&query, started, false).await {
                        let _ = socket.send_to(&answer, peer).await;
                    }
                    drop(place);
                });
            }
        }
    }
}

async fn serve_tcp(server: Arc<Server>, listener: TcpListener, token: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MOST_WAITING => {
                if let Ok((stream, _)) = accepted {
                    let server = server.clone();
                    connections.spawn(async move {
                        if let Err(error) = serve_connection(&server, stream).await {
                            tracing::trace!(%error, "a DNS connection ended");
                        }
                    });
                }
            }
        }
    }
}

async fn serve_connection(server: &Server, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let Ok(length) = tokio::time::timeout(IDLE, stream.read_u16()).await else { return Ok(()) };
        let mut query = vec![0; length?.into()];
        let Ok(read) = tokio::time::timeout(IDLE, stream.read_exact(&mut query)).await else { return Ok(()) };
        read?;
        let answer = match server.reply(&query) {
            Reply::Done(message) => encode(&message, usize::from(u16::MAX)),
            Reply::Ignore => return Ok(()),
            Reply::Upstream(started) => server.ask_upstream(&query, started, true).await.unwrap_or_default(),
        };
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
    }
}

/// How long an answer by UDP may be.
fn room(query: &[u8]) -> usize {
    Message::from_vec(query).map_or(512, |m| usize::from(m.max_payload().max(512)))
}

/// Encodes an answer; one that is larger than `most` bytes is cut and marked so.
fn encode(message: &Message, most: usize) -> Vec<u8> {
    let bytes = message.to_vec().unwrap_or_default();
    if bytes.len() <= most { bytes } else { message.truncate().to_vec().unwrap_or_default() }
}

/// What becomes of a packet.
enum Reply {
    Done(Message),
    /// Not a query that deserves an answer.
    Ignore,
    /// The upstream servers know: the message to complete, and the name to ask for when it is not the packet's own.
    Upstream(Option<(Message, Name, RecordType)>),
}

impl Server {
    fn reply(&self, packet: &[u8]) -> Reply {
        let Ok(query) = Message::from_vec(packet) else { return Reply::Ignore };
        if query.metadata.message_type != MessageType::Query {
            return Reply::Ignore;
        }
        let mut message = Message::response(query.metadata.id, query.metadata.op_code);
        message.metadata.recursion_desired = query.metadata.recursion_desired;
        message.metadata.recursion_available = true;
        let [question] = query.queries.as_slice() else {
            // None of them is repeated: many would make an answer that no packet holds.
            message.metadata.response_code = ResponseCode::FormErr;
            return Reply::Done(message);
        };
        message.add_query(question.clone());
        if query.metadata.op_code != OpCode::Query {
            message.metadata.response_code = ResponseCode::NotImp;
            return Reply::Done(message);
        }
        message.metadata.authoritative = true;
        self.resolve(message, question.name().clone(), question.query_type())
    }

    fn resolve(&self, mut message: Message, asked: Name, kind: RecordType) -> Reply {
        let mut name = asked;
        for step in 0..MOST_ALIASES {
            match self.zone.answer(&name.to_ascii(), kind) {
                Answer::Records(records) => {
                    message.add_answers(records.into_iter().map(|r| Record::from_rdata(name.clone(), TTL, r)));
                    return Reply::Done(message);
                }
                Answer::Alias(target) => {
                    let alias = RData::CNAME(hickory_proto::rr::rdata::CNAME(target.clone()));
                    message.add_answer(Record::from_rdata(name, TTL, alias));
                    name = target;
                }
                Answer::NotOurs if step == 0 => return Reply::Upstream(None),
                Answer::NotOurs => return Reply::Upstream(Some((message, name, kind))),
                negative => {
                    if negative == Answer::NoName {
                        message.metadata.response_code = ResponseCode::NXDomain;
                    }
                    let soa = RData::SOA(self.zone.soa());
                    message.add_authority(Record::from_rdata(self.zone.origin(), TTL, soa));
                    return Reply::Done(message);
                }
            }
        }
        message.metadata.response_code = ResponseCode::ServFail;
        Reply::Done(message)
    }

    /// The encoded answer of the upstreams; SERVFAIL when they have none.
    async fn ask_upstream(
        &self,
        query: &[u8],
        started: Option<(Message, Name, RecordType)>,
        tcp: bool,
    ) -> Option<Vec<u8>> {
        let Some((mut message, name, kind)) = started else {
            if let Some(answer) = forward(query, &self.upstreams, &self.way, tcp).await {
                return Some(answer);
            }
            let query = Message::from_vec(query).ok()?;
            let mut failed = Message::error_msg(query.metadata.id, query.metadata.op_code, ResponseCode::ServFail);
            failed.add_queries(query.queries);
            return failed.to_vec().ok();
        };
        let mut further = Message::query();
        further.metadata.recursion_desired = true;
        further.add_query(hickory_proto::op::Query::query(name, kind));
        let answer = forward(&further.to_vec().ok()?, &self.upstreams, &self.way, tcp).await;
        if let Some(answer) = answer.and_then(|a| Message::from_vec(&a).ok()) {
            message.add_answers(answer.answers);
        }
        // An alias whose target does not resolve is still an answer.
        Some(encode(&message, if tcp { usize::from(u16::MAX) } else { room(query) }))
    }
}

/// The zone's answer to a packet: for tests, and the door for the fuzz target.
#[cfg(any(test, fuzzing))]
pub fn answer(zone: Zone, packet: &[u8]) -> Option<Vec<u8>> {
    let server = Server { zone, upstreams: Vec::new(), way: None };
    match server.reply(packet) {
        Reply::Done(message) => Some(encode(&message, 512)),
        Reply::Ignore | Reply::Upstream(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_questions_get_a_small_answer() {
        let mut query = Message::query();
        for n in 0..40 {
            let name = Name::from_ascii(format!("a-name-that-is-long-enough-{n}.dev.svc.cluster.local.")).unwrap();
            query.add_query(hickory_proto::op::Query::query(name, RecordType::A));
        }
        let zone = Zone::new("cluster.local", client::Lister::default(), client::Lister::default());
        let answer = answer(zone, &query.to_vec().unwrap()).unwrap();
        let read = Message::from_vec(&answer).unwrap();
        assert!(answer.len() <= 512 && read.queries.is_empty(), "{read:?}");
        assert_eq!(read.metadata.response_code, ResponseCode::FormErr);
    }
}
