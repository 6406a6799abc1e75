//! The networks that cluster IPs come from: `networking.k8s.io/v1 ServiceCIDR` (KEP-1880).

use std::net::Ipv4Addr;

use object::Status;
use serde_json::Value;

use crate::api::{Api, store_status};

const NETWORKS: &str = "/registry/servicecidrs/";

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    base: u32,
    size: u32,
}

impl Range {
    /// The network `10.43.0.0/16`; `None` when it is no IPv4 network of at least two hosts.
    pub(super) fn parse(cidr: &str) -> Option<Self> {
        let (address, prefix) = cidr.split_once('/')?;
        let prefix: u32 = prefix.parse().ok().filter(|p| (1..=30).contains(p))?;
        let size = 1u32 << (32 - prefix);
        let base = u32::from(address.parse::<Ipv4Addr>().ok()?) & !(size - 1);
        Some(Self { base, size })
    }

    pub(super) fn cidr(self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.base), 32 - self.size.trailing_zeros())
    }

    /// The first address.
    pub(super) fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// How many addresses there are to give: the network's own and the broadcast address are nobody's.
    pub(super) fn hosts(self) -> usize {
        self.size as usize - 2
    }

    /// True for an address of a host in it.
    pub(super) fn holds(self, ip: Ipv4Addr) -> bool {
        (1..self.size - 1).contains(&u32::from(ip).wrapping_sub(self.base))
    }

    /// An address that is free. The first sixteenth (16 to 256 addresses) is left to those who ask for an address by name
    /// (KEP-3070), as long as there are others.
    pub(super) fn choose(self, is_free: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        let low = (self.size / 16).clamp(16.min(self.size / 2), 256);
        let upper = self.size - 1;
        let start = rand::random_range(low..upper);
        let all = (start..upper).chain(low..start).chain(1..low);
        all.map(|n| Ipv4Addr::from(self.base + n)).find(|ip| is_free(*ip))
    }
}

/// The networks that are ready and stay, the configured one first. It counts from the start, before it is an object.
pub(super) fn ranges(api: &Api, own: Range) -> Result<Vec<Range>, Status> {
    let page = api.store.range(NETWORKS, None, 0, 0).map_err(|e| store_status(&e))?;
    let mut found = vec![own];
    for item in page.items {
        let network = item.object.value().map_err(Status::internal)?;
        let cidrs = network["spec"]["cidrs"].as_array().into_iter().flatten();
        let mut ranges = cidrs.filter_map(|cidr| Range::parse(cidr.as_str()?));
        let Some(range) = ranges.next() else { continue };
        if network["metadata"]["deletionTimestamp"].is_string() {
            found.retain(|other| *other != range);
        } else if is_ready(&network) && !found.contains(&range) {
            found.push(range);
        }
    }
    Ok(found)
}

fn is_ready(network: &Value) -> bool {
    let conditions = network["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_given_and_nothing_else() {
        let range = Range::parse("10.9.0.5/29").unwrap();
        assert_eq!((range.cidr().as_str(), range.hosts()), ("10.9.0.0/29", 6));
        let held: Vec<u8> = (0..16).filter(|n| range.holds(Ipv4Addr::new(10, 9, 0, *n))).collect();
        assert_eq!(held, [1, 2, 3, 4, 5, 6]);
        assert_eq!(
            range.choose(|ip| ip.octets()[3] == 1),
            Some(range.first()),
            "the lower ones when nothing else is free"
        );
        assert_eq!(range.choose(|_| false), None);
        let wide = Range::parse("10.96.0.0/16").unwrap();
        assert!((0..100).all(|_| wide.choose(|_| true).is_some_and(|ip| u32::from(ip) - wide.base >= 256)));
        assert_eq!(Range::parse("fd00::/64"), None);
        assert_eq!(Range::parse("10.0.0.0/31"), None);
    }
}
