//! One veth pair between the host and the namespace that holds a node: all that `navarch up` adds to the host's network.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::namespace::run_in;
use crate::netlink::Netlink;
use crate::{Cidr, CniError, Result};

/// The pair's names and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The host's end: link name (at most 15 bytes).
    pub host_link: String,
    /// The network of the pair; a /30.
    pub network: Cidr,
}

/// Pairs take /30 networks from here (RFC 2544, never routed).
const POOL: Cidr = Cidr { network: Ipv4Addr::new(198, 18, 0, 0), prefix: 15 };
const NODE_LINK: &str = "eth0";

impl Uplink {
    /// The host's address.
    pub fn host_address(&self) -> Ipv4Addr {
        self.network.nth(1)
    }
    /// The node's address.
    pub fn node_address(&self) -> Ipv4Addr {
        self.network.nth(2)
    }

    /// Makes the pair, one end in the namespace at `namespace`; replaces one of the same name.
    pub async fn create(&self, namespace: &Path) -> Result<()> {
        let netlink = Netlink::open()?;
        netlink.delete(&self.host_link).await?;
        let peer = format!("{}p", &self.host_link[..self.host_link.len().min(14)]);
        netlink.add_veth(&self.host_link, &peer, 1500).await?;
        let target = std::fs::File::open(namespace)
            .map_err(CniError::io(format!("open the namespace {}", namespace.display())))?;
        netlink.give(&peer, target.as_raw_fd()).await?;
        let index = netlink.up(&self.host_link).await?;
        netlink.add_address(index, self.host_address(), self.network.prefix).await?;
        let (address, prefix, gateway) = (self.node_address(), self.network.prefix, self.host_address());
        run_in(namespace.to_owned(), move || async move {
            let netlink = Netlink::open()?;
            netlink.up("lo").await?;
            let index = netlink.rename_up(&peer, NODE_LINK).await?;
            netlink.add_address(index, address, prefix).await?;
            netlink.add_default_route(gateway).await
        })
        .await
    }

    /// Removes the pair; missing is fine.
    pub async fn delete(&self) -> Result<()> {
        Netlink::open()?.delete(&self.host_link).await
    }
}

/// A network for a new pair that overlaps no address of this namespace and nothing of `avoid` (where its routes lead).
pub async fn free_uplink(host_link: &str, avoid: &[Cidr]) -> Result<Uplink> {
    let mut present = Netlink::open()?.addresses().await?;
    present.extend(avoid);
    let networks = (0..POOL.size() / 4).map(|n| Cidr { network: POOL.nth(n * 4), prefix: 30 });
    let free = networks.into_iter().find(|n| !present.iter().any(|p| p.overlaps(*n)));
    let network = free.ok_or_else(|| CniError::Exhausted { cidr: POOL.to_string(), in_use: present.len() })?;
    Ok(Uplink { host_link: host_link.into(), network })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace;
    use crate::{Bridge, bridge::Config};
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;

    /// A host and a node with two pods, all in namespaces: what answers whom.
    #[test]
    fn pods_reach_each_other_and_the_host_reaches_the_node() {
        let dir = std::env::temp_dir().join(format!("navarch-cni-{}", std::process::id()));
        let (host, node) = (dir.join("host"), dir.join("node"));
        let pods = [dir.join("a"), dir.join("b")];
        let in_namespace = |path: &PathBuf, work: fn(PathBuf)| {
            let (path, dir) = (path.clone(), dir.clone());
            let entered = std::thread::spawn(move || {
                namespace::enter(&path).expect("this test needs root");
                work(dir);
            });
            entered.join().expect("the work in the namespace succeeds");
        };
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime().block_on(async {
            for path in [&host, &node].into_iter().chain(&pods) {
                namespace::create(path).await.expect("this test needs root");
            }
        });
        in_namespace(&host, |dir| {
            let work = async move {
                let avoid: Vec<Cidr> = vec!["198.18.0.0/30".parse().unwrap()];
                let uplink = free_uplink("navarch-test", &avoid).await.unwrap();
                uplink.create(&dir.join("node")).await.unwrap();
                assert_ne!(free_uplink("other", &avoid).await.unwrap().network, uplink.network);
            };
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        });
        in_namespace(&node, |dir| {
            let work = async move {
                let config = Config {
                    bridge: "navarch0".into(),
                    pod_cidr: "10.42.0.0/24".parse().unwrap(),
                    service_cidr: "10.43.0.0/16".parse().unwrap(),
                    addresses: vec!["10.43.0.10".parse().unwrap()],
                    mtu: 1500,
                    state_dir: dir.join("state"),
                };
                let bridge = Bridge::open(config).await.unwrap();
                assert_eq!(bridge.attach("aaa", &dir.join("a")).await.unwrap().to_string(), "10.42.0.2");
                assert_eq!(bridge.attach("bbb", &dir.join("b")).await.unwrap().to_string(), "10.42.0.3");
                assert_eq!(
                    bridge.attach("bbb", &dir.join("b")).await.unwrap().to_string(),
                    "10.42.0.3",
                    "again, the same"
                );
            };
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
        });
        let listen = |path: &PathBuf, address: &'static str| {
            let path = path.clone();
            std::thread::spawn(move || {
                namespace::enter(&path).unwrap();
                TcpListener::bind(address).unwrap()
            })
            .join()
            .unwrap()
        };
        let _pod = listen(&pods[1], "10.42.0.3:80");
        let _node = listen(&node, "198.18.0.6:6443");
        in_namespace(&pods[0], |_| drop(TcpStream::connect("10.42.0.3:80").expect("pod to pod")));
        in_namespace(&host, |_| drop(TcpStream::connect("198.18.0.6:6443").expect("host to node")));
        in_namespace(&node, |_| {
            let purge = async { Bridge::purge("navarch0").await.unwrap() };
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(purge);
        });
        for path in [&host, &node].into_iter().chain(&pods) {
            namespace::remove(path).unwrap();
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
