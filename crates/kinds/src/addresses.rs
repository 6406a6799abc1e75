//! Addresses and networks in text, as strict as upstream is about them.

use std::net::{IpAddr, Ipv4Addr};

use crate::names::Problems;

pub(crate) const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_A_NETWORK: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Reads an address as upstream did of old: with zeros before the parts of IPv4.
fn sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))?;
        *octet =
            part.trim_start_matches('0').parse().or_else(|_| if part.contains('0') { Ok(0) } else { Err(()) }).ok()?;
    }
    parts.next().is_none().then(|| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// An address in any of its spellings.
pub(crate) fn ip(text: &str) -> Problems {
    let Some(_) = sloppy(text) else { return vec![NOT_AN_IP.into()] };
    match text.parse::<IpAddr>() {
        Err(_) => vec!["must not have leading 0s".into()],
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => vec!["must not be an IPv4-mapped IPv6 address".into()],
        Ok(_) => Vec::new(),
    }
}

/// An address as it is written by programs.
pub(crate) fn canonical_ip(text: &str) -> Problems {
    let problems = ip(text);
    match text.parse::<IpAddr>() {
        Ok(address) if problems.is_empty() && address.to_string() != text => {
            vec![format!("must be in canonical form (\"{address}\")")]
        }
        _ => problems,
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

/// The network's address and the length of its prefix.
pub(crate) fn network_of(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address = sloppy(address)?;
    let bits: u8 = bits.parse().ok().filter(|_| bits.bytes().all(|b| b.is_ascii_digit()))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then(|| (masked(address, bits), bits))
}

/// A network in any of its spellings.
pub(crate) fn network(text: &str) -> Problems {
    let (Some((network, _)), Some((address, bits))) = (network_of(text), text.split_once('/')) else {
        return vec![NOT_A_NETWORK.into()];
    };
    match address.parse::<IpAddr>() {
        _ if bits.len() > 1 && bits.starts_with('0') => {
            vec!["must not have leading 0s in IP or prefix length".into()]
        }
        Err(_) => vec!["must not have leading 0s in IP or prefix length".into()],
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            vec!["must not have an IPv4-mapped IPv6 address".into()]
        }
        Ok(address) if address != network => vec!["must not have bits set beyond the prefix length".into()],
        Ok(_) => Vec::new(),
    }
}

/// A network as it is written by programs.
pub(crate) fn canonical_network(text: &str) -> Problems {
    let problems = network(text);
    match network_of(text).map(|(address, bits)| format!("{address}/{bits}")) {
        Some(canonical) if problems.is_empty() && canonical != text => {
            vec![format!("must be in canonical form (\"{canonical}\")")]
        }
        _ => problems,
    }
}

/// An address with the length of its network's prefix, in the form that is the only one.
pub(crate) fn interface(text: &str) -> Problems {
    let parts = text.split_once('/').and_then(|(address, _)| Some((sloppy(address)?, network_of(text)?.1)));
    let Some((address, length)) = parts else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into()];
    };
    let canonical = format!("{address}/{length}");
    match text == canonical {
        true => Vec::new(),
        false => vec![format!("must be in canonical form ({canonical:?})")],
    }
}

/// What to tell of an address that is allowed, but unusual.
pub(crate) fn ip_warning(path: &str, text: &str) -> Option<String> {
    let address: IpAddr = text.parse().ok()?;
    (address.is_ipv6() && address.to_string() != text)
        .then(|| format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")"))
}

/// What to tell of a network that is allowed, but unusual.
pub(crate) fn network_warning(path: &str, text: &str) -> Option<String> {
    let (network, bits) = network_of(text)?;
    let canonical = format!("{network}/{bits}");
    (network.is_ipv6() && canonical != text)
        .then(|| format!("{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_addresses() {
        for (text, wrong) in [
            ("10.0.0.1", ""),
            ("::1", ""),
            ("FE80::1", ""),
            ("010.0.0.1", "must not have leading 0s"),
            ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
            ("1.2.3", NOT_AN_IP),
            ("", NOT_AN_IP),
        ] {
            assert_eq!(ip(text).join(""), wrong, "{text}");
        }
        assert_eq!(canonical_ip("FE80::1"), ["must be in canonical form (\"fe80::1\")"]);
        for (text, wrong) in [
            ("10.0.0.0/8", ""),
            ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
            ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
            ("10.0.0.0/33", NOT_A_NETWORK),
            ("x", NOT_A_NETWORK),
        ] {
            assert_eq!(network(text).join(""), wrong, "{text}");
        }
    }
}
