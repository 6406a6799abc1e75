//! Local clusters: a whole node in the background, in a network namespace of its own, and gone again without a trace.
//!
//! ```text
//! navarch up --> preflight --> namespace + veth pair --> server (a process of its own, detached) --> node Ready --> kubeconfig
//! navarch down --> server, containers, mounts, cgroups, veth pair, namespace, context; --purge: the data too
//! ```
//!
//! What a cluster is stands in its data directory ([`Cluster`], `cluster.json`), and who runs it in a lock that the server's
//! process holds: nothing has to be remembered elsewhere, and a crash of anything leaves nothing that `up` or `down` could not
//! go on from. The host keeps its ports, routes, firewall and sysctls; what changes there is one link, one kubeconfig context and
//! files below the data directory and `/run/navarch`. Pulls, names and what pods send out go over sockets that are made in the host's
//! network ([`outside`], [`egress`]): the host forwards and translates nothing.
//!
//! What belongs here: the life of such a cluster, the user's kubeconfig, the checks before a start ([`preflight`], which
//! `navarch server` makes too), the demo. What does not: what a server or a node is made of (the root starts it; links and
//! namespaces are made through [`Wire`]).
//!
//! Start reading at `up.rs` and `down.rs`.

pub mod demo;
mod down;
pub mod egress;
mod error;
pub mod kubeconfig;
pub mod outside;
pub mod preflight;
mod processes;
mod state;
mod status;
mod up;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

pub use down::down;
pub use error::ClusterError;
pub use state::Running;
pub use status::{Report, report};
pub use up::{Progress, Started, Up, up};

type Result<T> = std::result::Result<T, ClusterError>;

/// What [`Wire`] made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The host's address on the pair.
    pub host: Ipv4Addr,
    /// The node's.
    pub node: Ipv4Addr,
}

/// The node's own network: a namespace and one pair of links. The root plugs it in.
#[async_trait]
pub trait Wire: Send + Sync {
    /// A network for a new pair that overlaps none of `avoid`, nor any address of this machine: `198.18.0.0/30`.
    async fn choose(&self, avoid: &[String]) -> std::io::Result<String>;
    /// Makes the namespace at `namespace`, if it is not there, and a pair between it and here; replaces a pair of that name.
    async fn join(&self, namespace: &Path, host_link: &str, network: &str) -> std::io::Result<Link>;
    /// Removes the pair, and the namespace if one is given: pods' links live in it. Missing is fine.
    async fn cut(&self, namespace: Option<&Path>, host_link: &str) -> std::io::Result<()>;
}

/// A local cluster, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    name: Option<String>,
    dir: PathBuf,
    run_root: PathBuf,
}

/// Where the data of clusters are; a name is appended.
pub const DATA_DIR: &str = "/var/lib/navarch";
/// Where what does not outlive a reboot is.
pub const RUN_DIR: &str = "/run/navarch";

impl Cluster {
    /// The cluster of that name (a DNS label), or the one without a name. `data_dir` is where it keeps everything, if not in the
    /// usual place.
    pub fn new(name: Option<&str>, data_dir: Option<&Path>) -> Result<Self> {
        let is_label = |n: &str| {
            let fits = n.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            (1..=40).contains(&n.len()) && fits && !n.starts_with('-') && !n.ends_with('-')
        };
        if let Some(name) = name.filter(|n| !is_label(n)) {
            return Err(ClusterError::Name(name.into()));
        }
        let usual = name.map_or_else(|| DATA_DIR.to_owned(), |name| format!("{DATA_DIR}-{name}"));
        let dir = data_dir.map_or_else(|| PathBuf::from(usual), Path::to_owned);
        // Mounts are known by absolute paths.
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        Ok(Self { name: name.map(Into::into), dir, run_root: RUN_DIR.into() })
    }

    /// The name of its context, cluster and user in a kubeconfig, and of its node.
    pub fn context(&self) -> String {
        self.name.as_deref().map_or_else(|| "navarch".to_owned(), |name| format!("navarch-{name}"))
    }

    /// Where it keeps everything.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The administrator's kubeconfig that the server writes.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// What the server says.
    pub fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn run_dir(&self) -> PathBuf {
        self.run_root.join(self.context())
    }

    /// The node's network namespace.
    pub fn namespace(&self) -> PathBuf {
        self.run_dir().join("netns")
    }

    /// The host's end of the veth pair: at most 15 bytes, and another for every name.
    fn host_link(&self) -> String {
        let Some(name) = &self.name else { return "navarch".into() };
        if name.len() <= 7 {
            return format!("navarch-{name}");
        }
        // FNV-1a: only to tell long names apart.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        format!("navarch{hash:08x}")
    }

    /// The part of a command line that names this cluster, with a space before it: for advice.
    pub fn flags(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" --name {name}")).unwrap_or_default();
        let usual = Self::new(self.name.as_deref(), None).is_ok_and(|usual| usual.dir == self.dir);
        if usual { name } else { format!("{name} --data-dir {}", self.dir.display()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_things_fit() {
        let cluster = |name| Cluster::new(name, None).unwrap();
        assert_eq!(cluster(None).host_link(), "navarch");
        assert_eq!(cluster(Some("dev")).host_link(), "navarch-dev");
        let (a, b) = (cluster(Some("a-long-name-1")).host_link(), cluster(Some("a-long-name-2")).host_link());
        assert!(a != b && a.len() == 15);
        assert_eq!(cluster(Some("dev")).dir(), Path::new("/var/lib/navarch-dev"));
        assert_eq!(cluster(Some("dev")).flags(), " --name dev");
        for bad in ["", "A", "a_b", "-a", "a/b", "..", &"x".repeat(41)] {
            assert!(Cluster::new(Some(bad), None).is_err(), "{bad}");
        }
    }
}
