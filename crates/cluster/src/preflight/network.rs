//! IPv4 networks, and the kernel's table of routes as text.

use std::fmt;
use std::net::Ipv4Addr;

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: u32,
    /// Its length.
    pub prefix: u8,
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl Network {
    /// `10.42.0.0/16`; bits beyond the length are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|p| *p <= 32)?;
        let address: Ipv4Addr = address.parse().ok()?;
        Some(Self { address: u32::from(address) & mask(prefix), prefix })
    }

    /// Address and mask as they stand in packets.
    pub fn bytes(self) -> ([u8; 4], [u8; 4]) {
        (self.address.to_be_bytes(), mask(self.prefix).to_be_bytes())
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.address & shorter == other.address & shorter
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.address), self.prefix)
    }
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub network: Network,
    /// Over which link.
    pub link: String,
}

/// Reads the text of `/proc/net/route`.
pub fn routes(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Numbers stand there in the machine's byte order.
        let number = |at: usize| fields.get(at).and_then(|f| u32::from_str_radix(f, 16).ok()).map(u32::from_be);
        let prefix = u8::try_from(number(7)?.leading_ones()).ok()?;
        Some(Route { network: Network { address: number(1)?, prefix }, link: fields.first()?.to_string() })
    };
    text.lines().skip(1).filter_map(route).collect()
}
