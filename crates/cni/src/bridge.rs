//! The bridge, and a veth pair for each sandbox.

use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use crate::ipam::Ipam;
use crate::namespace::run_in;
use crate::netlink::Netlink;
use crate::{Cidr, CniError, Result};

/// How the node's pod network looks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the bridge link; sandbox links begin with `nv` and the sandbox id.
    pub bridge: String,
    /// The node's share of the cluster CIDR: pods live here, the bridge has its first address.
    pub pod_cidr: Cidr,
    /// Routed to the bridge, so that an address of it that no rule translates goes nowhere else.
    pub service_cidr: Cidr,
    /// Further addresses of the node itself, on the bridge (the cluster DNS).
    pub addresses: Vec<Ipv4Addr>,
    /// MTU of the bridge and the pods.
    pub mtu: u32,
    /// Where address records are kept.
    pub state_dir: PathBuf,
}

/// The node's pod network.
pub struct Bridge {
    config: Config,
    ipam: Mutex<Ipam>,
}

/// The pod's interface.
const POD_LINK: &str = "eth0";
/// Sandbox links on the node begin so.
const LINK_PREFIX: &str = "nv";

fn link_name(id: &str) -> String {
    format!("{LINK_PREFIX}{}", id.chars().filter(char::is_ascii_alphanumeric).take(11).collect::<String>())
}

fn sysctl(path: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(path);
    if fs::read_to_string(&path).is_ok_and(|present| present.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(CniError::io(format!("set {} to {value}", path.display())))
}

impl Bridge {
    /// Makes the bridge (or takes over the one that is there), turns on forwarding, reads the address records.
    pub async fn open(config: Config) -> Result<Self> {
        let netlink = Netlink::open()?;
        let index = netlink.add_bridge(&config.bridge, config.mtu).await?;
        let gateway = config.pod_cidr.gateway();
        netlink.add_address(index, gateway, config.pod_cidr.prefix).await?;
        for address in &config.addresses {
            netlink.add_address(index, *address, 32).await?;
        }
        netlink.add_route(config.service_cidr, index, Some(gateway)).await?;
        sysctl("net/ipv4/ip_forward", "1")?;
        // Host ports are reached by 127.0.0.1 too; the service proxy keeps pods out of it.
        sysctl(&format!("net/ipv4/conf/{}/route_localnet", config.bridge), "1")?;
        let ipam = Ipam::open(config.pod_cidr, config.state_dir.join("addresses"))?;
        Ok(Self { config, ipam: Mutex::new(ipam) })
    }

    /// Connects the namespace at `namespace` and returns the pod's address. Doing it again for the same id makes it anew,
    /// with the same address.
    pub async fn attach(&self, id: &str, namespace: &Path) -> Result<Ipv4Addr> {
        let address = self.ipam.lock().await.allocate(id)?;
        let attached = self.connect(id, namespace, address).await;
        if attached.is_err() {
            // The cause is what the caller hears; a link that stays is removed by the next attempt.
            let _ = self.detach(id).await;
        }
        attached.map(|()| address)
    }

    async fn connect(&self, id: &str, namespace: &Path, address: Ipv4Addr) -> Result<()> {
        let netlink = Netlink::open()?;
        let host_link = link_name(id);
        let pod_link = format!("p{}", &host_link[LINK_PREFIX.len()..]);
        netlink.delete(&host_link).await?;
        netlink.add_veth(&host_link, &pod_link, self.config.mtu).await?;
        let target =
            fs::File::open(namespace).map_err(CniError::io(format!("open the namespace {}", namespace.display())))?;
        netlink.give(&pod_link, target.as_raw_fd()).await?;
        let bridge = netlink.index(&self.config.bridge).await?;
        netlink.join_bridge(&host_link, bridge).await?;
        let (cidr, mtu) = (self.config.pod_cidr, self.config.mtu);
        tracing::debug!(id, %address, mtu, "connecting a sandbox");
        run_in(namespace.to_owned(), move || async move {
            let netlink = Netlink::open()?;
            netlink.up("lo").await?;
            let index = netlink.rename_up(&pod_link, POD_LINK).await?;
            netlink.add_address(index, address, cidr.prefix).await?;
            netlink.add_default_route(cidr.gateway()).await
        })
        .await
    }

    /// Disconnects a sandbox and frees its address. Idempotent.
    pub async fn detach(&self, id: &str) -> Result<()> {
        let deleted = Netlink::open()?.delete(&link_name(id)).await;
        self.ipam.lock().await.release(id);
        deleted
    }

    /// Frees what sandboxes held that are no more (after a crash or a reboot).
    pub async fn retain(&self, alive: &HashSet<String>) -> Result<()> {
        self.ipam.lock().await.retain_owners(alive);
        let wanted: HashSet<String> = alive.iter().map(|id| link_name(id)).collect();
        let netlink = Netlink::open()?;
        for link in netlink.links(LINK_PREFIX).await? {
            if !wanted.contains(&link) && link != self.config.bridge {
                netlink.delete(&link).await?;
            }
        }
        Ok(())
    }

    /// Removes the bridge and every sandbox link from this network namespace.
    pub async fn purge(bridge: &str) -> Result<()> {
        let netlink = Netlink::open()?;
        for link in netlink.links(LINK_PREFIX).await? {
            netlink.delete(&link).await?;
        }
        netlink.delete(bridge).await
    }
}
