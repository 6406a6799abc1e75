//! NodePorts: two pods of one node cannot have the same host port.

use crate::framework::{Plugin, Refusal, Verdict};
use crate::snapshot::{Node, Pod, Snapshot};
use crate::views::Port;

pub(crate) const PLUGIN: Plugin = Plugin { name: "NodePorts", filter, score: None, normalize: false, weight: 0 };

fn conflict(a: &Port, b: &Port) -> bool {
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
    let protocol = |p: &Port| if p.protocol.is_empty() { "TCP".to_owned() } else { p.protocol.clone() };
    a.host_port == b.host_port
        && protocol(a) == protocol(b)
        && (any(&a.host_ip) || any(&b.host_ip) || a.host_ip == b.host_ip)
}

fn filter(pod: &Pod, node: &Node, _: &Snapshot) -> Verdict {
    let taken = |port: &Port| node.pods.values().any(|p| p.ports.iter().any(|other| conflict(port, other)));
    if pod.ports.iter().any(taken) {
        return Refusal::curable("node(s) didn't have free ports for the requested pod ports");
    }
    Ok(())
}
