//! Deltas as nftables batches.
//!
//! ```text
//! prerouting, output (nat)    (daddr . proto . dport) vmap @fronts ;  local daddr: (proto . dport) vmap @node-ports
//! chain vip-3                 dnat to (daddr . proto . dport . random mod 3) map @vip-backends
//! chain vip-client-3          the same with a hash of the client's address
//! chain vip-masq-3            mark, goto vip-3          (node-3, node-client-3 ... likewise without daddr)
//! guard                       nobody but this host itself reaches its loopback addresses, although they can be routed to pods
//! postrouting (nat)           marked, or a pod to itself, or a pod to outside: masquerade
//! forward, output (filter)    what is still addressed to the service network has no backend: reject
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use netfilter::expr::{self, Base, Cmp, Expr, Meta};
use netfilter::{Batch, Element, Hook, NetfilterError, Set, Value, Verdict};

use crate::fronts::{Backend, Front, Protocol, Target};
use crate::table::Delta;

/// The nftables table: ours alone.
const TABLE: &str = "navarch-proxy";
/// Upstream's masquerade mark.
const MASQUERADE_MARK: u32 = 0x4000;
const NAT_DESTINATION: i32 = -100;
const NAT_SOURCE: i32 = 100;
const RAW: i32 = -300;
/// `lo`, as the kernel compares names of links.
const LOOPBACK: &[u8; 16] = b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const RTN_LOCAL: u32 = 2;
// nft's numbers of the key types, for `nft list ruleset`.
const IPV4: u32 = 7;
const PROTO: u32 = 12;
const PORT: u32 = 13;
const MARK: u32 = 19;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
}

impl Network {
    /// Parses `10.42.0.0/16`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|p| *p <= 32)?;
        Some(Self { address: address.parse().ok()?, prefix })
    }

    fn mask(self) -> [u8; 4] {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0).to_be_bytes()
    }
}

/// Turns deltas into batches; remembers which shared chains exist.
pub(crate) struct Kernel {
    pods: Network,
    services: Network,
    chains: BTreeSet<String>,
}

impl Kernel {
    pub(crate) fn new(pods: Network, services: Network) -> Self {
        Self { pods, services, chains: BTreeSet::new() }
    }

    /// The whole program, in place of whatever was there.
    pub(crate) fn rebuild(&mut self, everything: &Delta) -> Batch {
        self.chains.clear();
        let mut batch = Batch::new(TABLE);
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        for set in sets() {
            batch.add_set(&set);
        }
        for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
            batch.add_base_chain(chain, "nat", hook, NAT_DESTINATION);
            batch.add_rule(
                chain,
                &[expr::destination(1), expr::protocol(9), expr::destination_port(10), expr::map("fronts", 1, 0)],
            );
            batch.add_rule(
                chain,
                &[
                    expr::fib_destination_type(1),
                    expr::cmp(Cmp::Eq, 1, &RTN_LOCAL.to_ne_bytes()),
                    expr::payload(Base::Network, 16, 1, 1),
                    expr::cmp(Cmp::Neq, 1, &[127]),
                    expr::protocol(1),
                    expr::destination_port(9),
                    expr::map("node-ports", 1, 0),
                ],
            );
        }
        batch.add_base_chain("guard", "filter", Hook::Prerouting, RAW);
        let stranger = [expr::meta(Meta::Iifname, 1), expr::cmp(Cmp::Neq, 1, LOOPBACK)];
        let to_loopback = within(16, Network { address: Ipv4Addr::LOCALHOST, prefix: 8 }, Cmp::Eq);
        batch.add_rule("guard", &[&stranger[..], &to_loopback, &[expr::verdict(&Verdict::Drop)]].concat());
        self.add_postrouting(&mut batch);
        for (chain, hook) in [("forward", Hook::Forward), ("filter-output", Hook::Output)] {
            batch.add_base_chain(chain, "filter", hook, 0);
            let to_services = within(16, self.services, Cmp::Eq);
            let with = |rest: &[Expr]| to_services.iter().chain(rest).cloned().collect::<Vec<_>>();
            let local = [expr::fib_destination_type(1), expr::cmp(Cmp::Neq, 1, &RTN_LOCAL.to_ne_bytes())];
            let tcp = [expr::protocol(1), expr::cmp(Cmp::Eq, 1, &[Protocol::Tcp as u8])];
            batch.add_rule(chain, &with(&[&local[..], &tcp[..], &[expr::reject_tcp()]].concat()));
            batch.add_rule(chain, &with(&[&local[..], &[expr::reject()]].concat()));
        }
        self.apply(&mut batch, everything);
        batch
    }

    fn add_postrouting(&self, batch: &mut Batch) {
        let mark = MASQUERADE_MARK.to_ne_bytes();
        batch.add_base_chain("postrouting", "nat", Hook::Postrouting, NAT_SOURCE);
        batch.add_rule(
            "postrouting",
            &[
                expr::meta(Meta::Mark, 1),
                expr::bitwise(1, &mark, &[0; 4]),
                expr::cmp(Cmp::Eq, 1, &mark),
                expr::masquerade(),
            ],
        );
        batch.add_rule(
            "postrouting",
            &[expr::source(1), expr::destination(9), expr::lookup("hairpins", 1), expr::masquerade()],
        );
        let leaving = [
            &within(12, self.pods, Cmp::Eq)[..],
            &within(16, self.pods, Cmp::Neq)[..],
            &[expr::fib_destination_type(1), expr::cmp(Cmp::Neq, 1, &RTN_LOCAL.to_ne_bytes()), expr::masquerade()],
        ];
        batch.add_rule("postrouting", &leaving.concat());
    }

    /// A change.
    pub(crate) fn change(&mut self, delta: &Delta) -> Batch {
        let mut batch = Batch::new(TABLE);
        self.apply(&mut batch, delta);
        batch
    }

    fn apply(&mut self, batch: &mut Batch, delta: &Delta) {
        let gone = Elements::of(&delta.removed);
        batch.delete_elements("fronts", &verdict_keys(&gone.fronts));
        batch.delete_elements("node-ports", &verdict_keys(&gone.node_ports));
        batch.delete_elements("vip-backends", &as_keys(&gone.vip_backends));
        batch.delete_elements("node-backends", &as_keys(&gone.node_backends));
        for (front, target) in &delta.added {
            self.ensure_chains(batch, *front, target);
        }
        let fresh = Elements::of(&delta.added);
        batch.add_elements("vip-backends", &as_pairs(&fresh.vip_backends));
        batch.add_elements("node-backends", &as_pairs(&fresh.node_backends));
        batch.add_elements("fronts", &as_verdicts(&fresh.fronts));
        batch.add_elements("node-ports", &as_verdicts(&fresh.node_ports));
        let hairpins =
            |ips: &BTreeSet<Ipv4Addr>| -> Vec<Vec<u8>> { ips.iter().map(|ip| ip.octets().repeat(2)).collect() };
        let (old, new) = (hairpins(&delta.hairpins_removed), hairpins(&delta.hairpins_added));
        batch.delete_elements("hairpins", &old.iter().map(|k| Element::Key(k)).collect::<Vec<_>>());
        batch.add_elements("hairpins", &new.iter().map(|k| Element::Key(k)).collect::<Vec<_>>());
    }

    /// Adds the chains that the front's verdict leads to, unless they exist.
    fn ensure_chains(&mut self, batch: &mut Batch, front: Front, target: &Target) {
        let plain = chain_name(front, target, false);
        if self.chains.insert(plain.clone()) {
            let (set, mut rule, next) = match front {
                Front::Address(..) => {
                    ("vip-backends", vec![expr::destination(1), expr::protocol(9), expr::destination_port(10)], 11)
                }
                Front::NodePort(..) => ("node-backends", vec![expr::protocol(1), expr::destination_port(9)], 10),
            };
            let count = u32::try_from(target.backends.len()).unwrap_or(u32::MAX);
            if target.by_client {
                rule.push(expr::source(next));
                rule.push(expr::hash(next, 4, count, next));
            } else {
                rule.push(expr::random(count, next));
            }
            rule.push(expr::map(set, 1, 1));
            rule.push(expr::dnat(1, 9));
            batch.add_chain(&plain);
            batch.add_rule(&plain, &rule);
        }
        let marking = chain_name(front, target, true);
        if target.masquerade && self.chains.insert(marking.clone()) {
            let mark = [
                expr::meta(Meta::Mark, 1),
                expr::bitwise(1, &(!MASQUERADE_MARK).to_ne_bytes(), &MASQUERADE_MARK.to_ne_bytes()),
                expr::set_meta(Meta::Mark, 1),
            ];
            batch.add_chain(&marking);
            batch.add_rule(&marking, &mark);
            batch.add_rule(&marking, &[expr::verdict(&Verdict::Goto(plain))]);
        }
    }
}

/// Matches the address at `offset` of the IPv4 header against a network.
fn within(offset: u32, network: Network, operator: Cmp) -> Vec<Expr> {
    let mask = network.mask();
    let masked: Vec<u8> = network.address.octets().iter().zip(mask).map(|(a, m)| a & m).collect();
    vec![expr::payload(Base::Network, offset, 4, 1), expr::bitwise(1, &mask, &[0; 4]), expr::cmp(operator, 1, &masked)]
}

fn sets() -> [Set<'static>; 5] {
    let backend = Value::Bytes(&[IPV4, PORT], 8);
    [
        Set { name: "fronts", key_types: &[IPV4, PROTO, PORT], key_length: 12, value: Value::Verdicts },
        Set { name: "node-ports", key_types: &[PROTO, PORT], key_length: 8, value: Value::Verdicts },
        Set { name: "vip-backends", key_types: &[IPV4, PROTO, PORT, MARK], key_length: 16, value: backend },
        Set { name: "node-backends", key_types: &[PROTO, PORT, MARK], key_length: 12, value: backend },
        Set { name: "hairpins", key_types: &[IPV4, IPV4], key_length: 8, value: Value::None },
    ]
}

fn chain_name(front: Front, target: &Target, masquerade: bool) -> String {
    let place = if matches!(front, Front::Address(..)) { "vip" } else { "node" };
    let masquerade = if masquerade { "-masq" } else { "" };
    let client = if target.by_client { "-client" } else { "" };
    format!("{place}{masquerade}{client}-{}", target.backends.len())
}

/// The encoded elements of some fronts.
#[derive(Default)]
struct Elements {
    fronts: Vec<(Vec<u8>, Verdict)>,
    node_ports: Vec<(Vec<u8>, Verdict)>,
    vip_backends: Vec<(Vec<u8>, Vec<u8>)>,
    node_backends: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Elements {
    fn of(fronts: &[(Front, Target)]) -> Self {
        let mut all = Self::default();
        for (front, target) in fronts {
            let key = front_key(*front);
            let verdict = Verdict::Goto(chain_name(*front, target, target.masquerade));
            let (fronts, backends) = match front {
                Front::Address(..) => (&mut all.fronts, &mut all.vip_backends),
                Front::NodePort(..) => (&mut all.node_ports, &mut all.node_backends),
            };
            for (number, backend) in (0u32..).zip(&target.backends) {
                backends.push(([&key[..], &number.to_ne_bytes()].concat(), backend_value(*backend)));
            }
            fronts.push((key, verdict));
        }
        all
    }
}

fn verdict_keys(pairs: &[(Vec<u8>, Verdict)]) -> Vec<Element<'_>> {
    pairs.iter().map(|(key, _)| Element::Key(key)).collect()
}

fn as_keys(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<Element<'_>> {
    pairs.iter().map(|(key, _)| Element::Key(key)).collect()
}

fn as_pairs(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<Element<'_>> {
    pairs.iter().map(|(key, value)| Element::Bytes(key, value)).collect()
}

fn as_verdicts(pairs: &[(Vec<u8>, Verdict)]) -> Vec<Element<'_>> {
    pairs.iter().map(|(key, verdict)| Element::Verdict(key, verdict)).collect()
}

fn front_key(front: Front) -> Vec<u8> {
    let tail = |protocol: Protocol, port: u16| {
        let port = port.to_be_bytes();
        [protocol as u8, 0, 0, 0, port[0], port[1], 0, 0]
    };
    match front {
        Front::Address(ip, protocol, port) => [&ip.octets()[..], &tail(protocol, port)].concat(),
        Front::NodePort(protocol, port) => tail(protocol, port).to_vec(),
    }
}

fn backend_value((ip, port): Backend) -> Vec<u8> {
    let port = port.to_be_bytes();
    [&ip.octets()[..], &[port[0], port[1], 0, 0]].concat()
}

/// Removes our table from this network namespace, if it is there.
pub fn purge() -> Result<(), NetfilterError> {
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    batch.delete_table();
    batch.commit()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;
    use crate::table::Table;

    fn run(command: &str) {
        let status = Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(status.success(), "{command}");
    }

    fn serve(address: &str, name: &'static str) {
        let listener = TcpListener::bind(address).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                stream.unwrap().write_all(name.as_bytes()).unwrap();
            }
        });
    }

    fn ask(address: &str) -> Result<String, ErrorKind> {
        let mut stream = TcpStream::connect(address).map_err(|e| e.kind())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|e| e.kind())?;
        Ok(answer)
    }

    fn target(backends: &[(Ipv4Addr, u16)], by_client: bool, masquerade: bool) -> Target {
        Target { backends: backends.to_vec(), by_client, masquerade }
    }

    /// The real kernel, in a network namespace of this thread's own.
    #[test]
    fn traffic_follows_the_table() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this test needs root");
        run("ip link set lo up && ip addr add 10.42.0.2/32 dev lo && ip addr add 10.42.0.3/32 dev lo");
        run("ip addr add 192.0.2.1/32 dev lo && ip route add 10.43.0.0/16 dev lo src 192.0.2.1");
        serve("10.42.0.2:8080", "two");
        serve("10.42.0.3:8080", "three");
        let (two, three) = ((Ipv4Addr::new(10, 42, 0, 2), 8080), (Ipv4Addr::new(10, 42, 0, 3), 8080));
        let vip = |last| Front::Address(Ipv4Addr::new(10, 43, 0, last), Protocol::Tcp, 80);
        let network = |text| Network::parse(text).unwrap();
        let mut kernel = Kernel::new(network("10.42.0.0/16"), network("10.43.0.0/16"));
        let mut table = Table::default();
        table.replace("d/a", BTreeMap::from([(vip(9), target(&[two, three], false, false))]));
        let node_port = Front::NodePort(Protocol::Tcp, 30008);
        table.replace(
            "d/b",
            BTreeMap::from([(vip(10), target(&[two, three], true, false)), (node_port, target(&[three], false, true))]),
        );
        kernel.rebuild(&table.full()).commit().unwrap();

        let answers: BTreeSet<String> = (0..40).map(|_| ask("10.43.0.9:80").unwrap()).collect();
        assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["three", "two"], "balances over both");
        let sticky: BTreeSet<String> = (0..20).map(|_| ask("10.43.0.10:80").unwrap()).collect();
        assert_eq!(sticky.len(), 1, "one client keeps its backend");
        assert_eq!(ask("192.0.2.1:30008").unwrap(), "three");
        assert_eq!(ask("10.43.0.77:80"), Err(ErrorKind::ConnectionRefused), "no such service");

        let delta = table.replace("d/a", BTreeMap::from([(vip(9), target(&[three], false, false))]));
        kernel.change(&delta).commit().unwrap();
        assert!((0..20).all(|_| ask("10.43.0.9:80").unwrap() == "three"), "a backend that left gets nothing new");
        let delta = table.replace("d/a", BTreeMap::new());
        kernel.change(&delta).commit().unwrap();
        assert_eq!(ask("10.43.0.9:80"), Err(ErrorKind::ConnectionRefused));
        purge().unwrap();
    }

    #[test]
    fn a_refused_batch_says_what_was_refused() {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("this test needs root");
        let mut batch = Batch::new(TABLE);
        batch.delete_elements("fronts", &[Element::Key(&[0; 12])]);
        assert_eq!(batch.commit().unwrap_err().to_string(), "nftables refused to delete elements of fronts");
    }
}
