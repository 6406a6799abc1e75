//! A netlink connection, and the few questions and changes that this crate needs.

use std::net::Ipv4Addr;
use std::os::fd::RawFd;

use futures::TryStreamExt;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::{Cidr, CniError, Result};

/// A connection to the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Passes errors of this number over: the change was made before.
fn unless(errno: i32, outcome: std::result::Result<(), rtnetlink::Error>) -> std::result::Result<(), rtnetlink::Error> {
    match outcome {
        Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -errno => Ok(()),
        other => other,
    }
}

impl Netlink {
    #[allow(clippy::disallowed_methods, reason = "the connection's driver is owned by this struct and aborted with it")]
    pub(crate) fn open() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(CniError::io("open a netlink socket"))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// The index of a link; `None` when there is none of that name.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<u32>> {
        let mut found = self.handle.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(link) => Ok(link.map(|l| l.header.index)),
            Err(rtnetlink::Error::NetlinkError(e)) if e.raw_code() == -libc::ENODEV => Ok(None),
            Err(source) => Err(CniError::Netlink { operation: format!("look up the link {name}"), source }),
        }
    }

    pub(crate) async fn index(&self, name: &str) -> Result<u32> {
        self.find(name).await?.ok_or_else(|| CniError::NoLink(name.into()))
    }

    /// A bridge whose traffic passes through the IP hooks of netfilter: services between its own pods need that.
    pub(crate) async fn add_bridge(&self, name: &str, mtu: u32) -> Result<u32> {
        let link = LinkBridge::new(name).mtu(mtu).nf_call_iptables(true).build();
        let made = unless(libc::EEXIST, self.handle.link().add(link).execute().await);
        made.map_err(|source| CniError::Netlink { operation: format!("add the bridge {name}"), source })?;
        let index = self.index(name).await?;
        self.set(LinkUnspec::new_with_index(index).up().build(), name).await?;
        Ok(index)
    }

    pub(crate) async fn add_veth(&self, name: &str, peer: &str, mtu: u32) -> Result<()> {
        let made = self.handle.link().add(LinkVeth::new(name, peer).mtu(mtu).build()).execute().await;
        made.map_err(|source| CniError::Netlink { operation: format!("add the veth pair {name}"), source })
    }

    /// Moves a link into another namespace.
    pub(crate) async fn give(&self, name: &str, namespace: RawFd) -> Result<()> {
        let index = self.index(name).await?;
        self.set(LinkUnspec::new_with_index(index).setns_by_fd(namespace).build(), name).await
    }

    /// Makes a link a port of the bridge, with hairpin: a pod may reach itself through a service.
    pub(crate) async fn join_bridge(&self, name: &str, bridge: u32) -> Result<()> {
        let index = self.index(name).await?;
        self.set(LinkUnspec::new_with_index(index).controller(bridge).up().build(), name).await?;
        self.set(LinkBridgePort::new(index).hairpin(true).build(), name).await
    }

    pub(crate) async fn rename_up(&self, name: &str, to: &str) -> Result<u32> {
        let index = self.index(name).await?;
        self.set(LinkUnspec::new_with_index(index).name(to).build(), name).await?;
        self.set(LinkUnspec::new_with_index(index).up().build(), to).await?;
        Ok(index)
    }

    pub(crate) async fn up(&self, name: &str) -> Result<u32> {
        let index = self.index(name).await?;
        self.set(LinkUnspec::new_with_index(index).up().build(), name).await?;
        Ok(index)
    }

    async fn set(&self, change: LinkMessage, name: &str) -> Result<()> {
        let made = self.handle.link().set(change).execute().await;
        made.map_err(|source| CniError::Netlink { operation: format!("change the link {name}"), source })
    }

    pub(crate) async fn add_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let made = self.handle.address().add(index, address.into(), prefix).execute().await;
        unless(libc::EEXIST, made)
            .map_err(|source| CniError::Netlink { operation: format!("add the address {address}/{prefix}"), source })
    }

    /// A route to `network` through the link.
    pub(crate) async fn add_route(&self, network: Cidr, index: u32, source: Option<Ipv4Addr>) -> Result<()> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network.network, network.prefix)
            .output_interface(index)
            .scope(rtnetlink::packet_route::route::RouteScope::Link);
        if let Some(source) = source {
            route = route.pref_source(source);
        }
        let made = self.handle.route().add(route.build()).execute().await;
        unless(libc::EEXIST, made)
            .map_err(|source| CniError::Netlink { operation: format!("add a route to {network}"), source })
    }

    pub(crate) async fn add_default_route(&self, gateway: Ipv4Addr) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
        let made = self.handle.route().add(route).execute().await;
        unless(libc::EEXIST, made)
            .map_err(|source| CniError::Netlink { operation: format!("add a default route by {gateway}"), source })
    }

    /// Removes a link; missing is fine.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        let Some(index) = self.find(name).await? else { return Ok(()) };
        let made = unless(libc::ENODEV, self.handle.link().del(index).execute().await);
        made.map_err(|source| CniError::Netlink { operation: format!("delete the link {name}"), source })
    }

    /// The addresses of this namespace, with their networks.
    pub(crate) async fn addresses(&self) -> Result<Vec<Cidr>> {
        use rtnetlink::packet_route::address::AddressAttribute;
        let mut found = self.handle.address().get().execute();
        let mut all = Vec::new();
        let failed = |source| CniError::Netlink { operation: "list the addresses".into(), source };
        while let Some(message) = found.try_next().await.map_err(failed)? {
            for attribute in &message.attributes {
                if let AddressAttribute::Address(std::net::IpAddr::V4(address)) = attribute {
                    all.extend(format!("{address}/{}", message.header.prefix_len).parse::<Cidr>());
                }
            }
        }
        Ok(all)
    }

    /// Names of the links that start with `prefix`.
    pub(crate) async fn links(&self, prefix: &str) -> Result<Vec<String>> {
        use rtnetlink::packet_route::link::LinkAttribute;
        let mut found = self.handle.link().get().execute();
        let mut all = Vec::new();
        let failed = |source| CniError::Netlink { operation: "list the links".into(), source };
        while let Some(link) = found.try_next().await.map_err(failed)? {
            let name = link.attributes.iter().find_map(|a| match a {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            all.extend(name.filter(|n| n.starts_with(prefix)));
        }
        Ok(all)
    }
}
