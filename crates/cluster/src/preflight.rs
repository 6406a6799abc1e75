//! Checks before a start: each problem is one line that says what is wrong and what to do, found before anything is changed.
//!
//! [`Facts`] are read from the machine, [`check`] decides on them alone: so every answer has a test.

mod facts;
mod network;
mod nftables;
mod ports;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use facts::{Cgroups, Facts, Taken};
pub use network::{Network, Route, routes};

/// A start needs at least this much room on the disk of the data directory.
pub const ROOM: u64 = 64 << 20;

/// What is about to be started.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Where all state is kept.
    pub data_dir: PathBuf,
    /// Containers are to run here.
    pub agent: bool,
    /// It is a local cluster, not a server of its own.
    pub local: bool,
    /// Where it will listen, and the flag that changes that.
    pub listen: Vec<(SocketAddr, &'static str)>,
    /// Networks that it will use, and the flag that changes each.
    pub networks: Vec<(String, &'static str)>,
    /// Links that an earlier start made: routes over them are our own.
    pub own_links: Vec<String>,
}

/// What keeps a start from succeeding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable, for search engines and scripts: `NET-PORT-BUSY`.
    pub id: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} [{}]", self.what, self.advice, self.id)
    }
}

fn problem(id: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Problem {
    Problem { id, what: what.into(), advice: advice.into() }
}

/// How many things [`check`] looks at.
pub const CHECKS: usize = 10;

/// Everything that is wrong, the most basic first.
pub fn check(facts: &Facts, wanted: &Wanted) -> Vec<Problem> {
    let mut found = Vec::new();
    if wanted.agent {
        if !facts.is_root {
            let advice = "run it as root (sudo), or only the control plane with --disable-agent";
            // Nothing else can be judged from here.
            return vec![problem(
                "HOST-NOT-ROOT",
                "a node needs root: it makes namespaces, mounts and cgroups",
                advice,
            )];
        }
        kernel(facts, &mut found);
        cgroups(facts, &mut found);
    }
    if let Some(holder) = &facts.holder {
        let what = format!("{} is in use by another navarch (pid {holder})", wanted.data_dir.display());
        found.push(problem("DATA-IN-USE", what, "stop that one, or give this one another --data-dir"));
        // Its ports and routes are that one's too.
        return found;
    }
    if facts.is_local && !wanted.local {
        let what = format!("{} holds a cluster of `navarch up`", wanted.data_dir.display());
        let advice = "give another --data-dir, or remove that one (navarch down --purge)";
        found.push(problem("DATA-FOREIGN", what, advice));
    }
    if let Some(free) = facts.free_bytes.filter(|free| *free < ROOM) {
        let what = format!("only {} MiB are free for {}", free >> 20, wanted.data_dir.display());
        let advice = format!("make room ({} MiB at least), or use another --data-dir", ROOM >> 20);
        found.push(problem("DATA-DISK-FULL", what, advice));
    }
    for Taken { address, flag, by } in &facts.taken {
        let what = format!("cannot listen on {address}: {by}");
        found.push(problem("NET-PORT-BUSY", what, format!("stop that program, or choose another place with {flag}")));
    }
    networks(facts, wanted, &mut found);
    found
}

fn kernel(facts: &Facts, found: &mut Vec<Problem>) {
    const NEEDED: [(&str, &str); 3] =
        [("overlay", "root file systems of containers"), ("veth", "pods' links"), ("bridge", "the pod network")];
    for (module, purpose) in NEEDED {
        if facts.lacks(module) {
            let what = format!("this kernel has no {module}, which is needed for {purpose}");
            found.push(problem(
                "HOST-KERNEL",
                what,
                format!("load it (modprobe {module}), or use a kernel that has it"),
            ));
        }
    }
    if !facts.has_nftables {
        let what = "this kernel has no nf_tables, which is needed for services";
        found.push(problem("HOST-KERNEL", what, "load it (modprobe nf_tables), or use a kernel that has it"));
    }
    if !facts.missing_namespaces.is_empty() {
        let what = format!("this kernel has no namespaces of kind {}", facts.missing_namespaces.join(", "));
        found.push(problem("HOST-KERNEL", what, "use a kernel that is built with them"));
    }
}

fn cgroups(facts: &Facts, found: &mut Vec<Problem>) {
    const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];
    let Cgroups { controllers } = &facts.cgroups;
    if controllers.is_empty() {
        let advice = "mount them (mount -t cgroup2 none /sys/fs/cgroup), or start on a machine that has them";
        found.push(problem("HOST-CGROUPS", "there are no control groups at /sys/fs/cgroup", advice));
        return;
    }
    let missing: Vec<&str> = NEEDED.into_iter().filter(|c| !controllers.iter().any(|have| have == c)).collect();
    if !missing.is_empty() {
        let what = format!("the control groups have no {} controller", missing.join(", "));
        let advice = "turn it on at boot (cgroup_enable=memory), or start on a machine that has it";
        found.push(problem("HOST-CGROUPS", what, advice));
    }
}

fn networks(facts: &Facts, wanted: &Wanted, found: &mut Vec<Problem>) {
    let mut parsed: Vec<(Network, &str)> = Vec::new();
    for (text, flag) in &wanted.networks {
        let Some(network) = Network::parse(text) else {
            let what = format!("{flag} {text:?} is no IPv4 network");
            found.push(problem("NET-CIDR", what, "write it as address/length, like 10.42.0.0/16"));
            continue;
        };
        if let Some((other, other_flag)) = parsed.iter().find(|(other, _)| other.overlaps(network)) {
            let what = format!("{flag} {network} and {other_flag} {other} overlap");
            found.push(problem("NET-CIDR-OVERLAP", what, "give them separate networks"));
        }
        let ours = |route: &&Route| wanted.own_links.contains(&route.link);
        let taken = facts.routes.iter().find(|r| r.network.prefix > 0 && !ours(r) && r.network.overlaps(network));
        if let Some(Route { network: theirs, link }) = taken {
            let what = format!("{flag} {network} overlaps {theirs}, which this machine reaches over {link}");
            found.push(problem("NET-CIDR-OVERLAP", what, format!("choose another network with {flag}")));
        }
        parsed.push((network, flag));
    }
}

/// Looks at this machine and decides.
pub fn run(wanted: &Wanted) -> Result<(), crate::ClusterError> {
    let found = check(&Facts::gather(std::path::Path::new("/"), wanted), wanted);
    if found.is_empty() { Ok(()) } else { Err(crate::ClusterError::Preflight(found)) }
}
