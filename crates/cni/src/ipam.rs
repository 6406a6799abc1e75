//! Addresses of the node's pod CIDR: one file per taken address, so that they outlive the agent.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{CniError, Result};

/// An IPv4 network: address and prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The network's address, host bits zero.
    pub network: Ipv4Addr,
    /// Prefix length.
    pub prefix: u8,
}

impl FromStr for Cidr {
    type Err = CniError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || CniError::Cidr(text.into());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let prefix: u8 = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        Ok(Self { network: Ipv4Addr::from(u32::from(address) & mask), prefix })
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Cidr {
    /// Number of addresses.
    pub fn size(self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix)).unwrap_or(u32::MAX)
    }
    /// The `n`th address (0 is the network's own).
    pub fn nth(self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network).wrapping_add(n))
    }
    /// The first usable address: the bridge's.
    pub fn gateway(self) -> Ipv4Addr {
        self.nth(1)
    }
    /// True when it holds the address.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address).wrapping_sub(u32::from(self.network)) < self.size()
    }
    /// True when the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }
}

/// Who has which address.
pub(crate) struct Ipam {
    cidr: Cidr,
    dir: PathBuf,
    taken: BTreeMap<Ipv4Addr, String>,
    last: u32,
}

impl Ipam {
    /// Reads what was taken before.
    pub(crate) fn open(cidr: Cidr, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).map_err(CniError::io(format!("create {}", dir.display())))?;
        let entries = fs::read_dir(&dir).map_err(CniError::io(format!("read {}", dir.display())))?;
        let mut taken = BTreeMap::new();
        for entry in entries.flatten() {
            let address = entry.file_name().to_string_lossy().parse::<Ipv4Addr>().ok();
            if let (Some(address), Ok(id)) = (address.filter(|a| cidr.contains(*a)), fs::read_to_string(entry.path())) {
                taken.insert(address, id);
            }
        }
        let last = taken.keys().next_back().map_or(1, |a| u32::from(*a) - u32::from(cidr.network));
        Ok(Self { cidr, dir, taken, last })
    }

    /// An address for `id`: the one that it has, or the next free one after the last that was given.
    pub(crate) fn allocate(&mut self, id: &str) -> Result<Ipv4Addr> {
        if let Some((address, _)) = self.taken.iter().find(|(_, owner)| *owner == id) {
            return Ok(*address);
        }
        // Not the network, the gateway and the broadcast address.
        let usable = self.cidr.size().saturating_sub(3);
        let candidates = (0..usable).map(|step| 2 + (self.last.wrapping_sub(1) + step) % usable);
        let free = candidates.map(|n| (n, self.cidr.nth(n))).find(|(_, a)| !self.taken.contains_key(a));
        let Some((n, address)) = free else {
            return Err(CniError::Exhausted { cidr: self.cidr.to_string(), in_use: self.taken.len() });
        };
        let path = self.dir.join(address.to_string());
        fs::write(&path, id).map_err(CniError::io(format!("write {}", path.display())))?;
        self.taken.insert(address, id.into());
        self.last = n;
        Ok(address)
    }

    /// Frees what `id` has.
    pub(crate) fn release(&mut self, id: &str) {
        self.retain(|owner| owner != id);
    }

    /// Frees the addresses of owners that are no more.
    pub(crate) fn retain_owners(&mut self, alive: &HashSet<String>) {
        self.retain(|owner| alive.contains(owner));
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        let dir = &self.dir;
        self.taken.retain(|address, owner| {
            let kept = keep(owner);
            if !kept && let Err(error) = fs::remove_file(dir.join(address.to_string())) {
                tracing::warn!(%address, %error, "cannot remove the record of a freed address");
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_stable_unique_and_come_back() {
        let dir = std::env::temp_dir().join(format!("navarch-ipam-{}", std::process::id()));
        let cidr: Cidr = "10.42.0.0/29".parse().unwrap();
        let mut ipam = Ipam::open(cidr, dir.clone()).unwrap();
        let first = ipam.allocate("a").unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 42, 0, 2));
        assert_eq!(ipam.allocate("a").unwrap(), first);
        let others: HashSet<Ipv4Addr> = ["b", "c", "d", "e"].iter().map(|id| ipam.allocate(id).unwrap()).collect();
        assert_eq!(others.len(), 4);
        assert!(matches!(ipam.allocate("f"), Err(CniError::Exhausted { in_use: 5, .. })));
        ipam.release("a");
        let mut again = Ipam::open(cidr, dir.clone()).unwrap();
        assert_eq!(again.allocate("f").unwrap(), first);
        again.retain_owners(&HashSet::from(["b".to_owned()]));
        assert_eq!(again.taken.len(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn networks_parse_and_overlap() {
        let cidr = |t: &str| t.parse::<Cidr>().unwrap();
        assert_eq!(cidr("10.42.7.9/16").to_string(), "10.42.0.0/16");
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.42.0.0/16")));
        assert!(!cidr("10.42.0.0/24").overlaps(cidr("10.42.1.0/24")));
        assert!("10.42.0.0".parse::<Cidr>().is_err() && "10.42.0.0/33".parse::<Cidr>().is_err());
    }
}
