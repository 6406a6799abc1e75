//! Addresses, networks, URLs.

use std::net::IpAddr;
use std::sync::Arc;

use base::percent::form_decoded;

use super::Answer;
use crate::error::Failure;
use crate::value::{Url, Value};

fn address(text: &str) -> Option<IpAddr> {
    let parsed: IpAddr = text.parse().ok()?;
    // An IPv4 address in the clothes of an IPv6 one is refused, as upstream does.
    match parsed {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        parsed => Some(parsed),
    }
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = text.split_once('/')?;
    let plain = bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let (ip, bits) = (address(ip)?, bits.parse::<u8>().ok().filter(|_| plain)?);
    (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, bits))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)) << 96,
        IpAddr::V6(v6) => v6.into(),
    }
}

fn masked(ip: IpAddr, bits: u8) -> u128 {
    if bits == 0 { 0 } else { number(ip) >> (128 - u32::from(bits)) << (128 - u32::from(bits)) }
}

fn back(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(((number >> 96) as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(number.into()),
    }
}

fn holds(network: (IpAddr, u8), ip: IpAddr) -> bool {
    network.0.is_ipv4() == ip.is_ipv4() && masked(network.0, network.1) == masked(ip, network.1)
}

pub(super) fn call(method: bool, name: &str, args: &[&Value]) -> Answer {
    let flag = |b: bool| Ok(Value::Bool(b));
    Some(match (name, args) {
        ("ip", [Value::String(text)]) => {
            let words = || {
                Failure::new(format!("IP Address {text:?} parse error during conversion from string: not an address"))
            };
            address(text).map(Value::Ip).ok_or_else(words)
        }
        ("isIP", [Value::String(text)]) => flag(address(text).is_some()),
        ("ip.isCanonical", [Value::String(text)]) => {
            let words = || {
                Failure::new(format!("IP Address {text:?} parse error during conversion from string: not an address"))
            };
            address(text).map(|ip| Value::Bool(ip.to_string() == **text)).ok_or_else(words)
        }
        ("cidr", [Value::String(text)]) => {
            let words = || Failure::new(format!("network address parse error during conversion from string: {text:?}"));
            network(text).map(|(ip, bits)| Value::Cidr(ip, bits)).ok_or_else(words)
        }
        ("isCIDR", [Value::String(text)]) => flag(network(text).is_some()),
        ("url", [Value::String(text)]) => {
            let words = || {
                Failure::new(format!(
                    "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
                ))
            };
            parse_url(text).map(|url| Value::Url(Arc::new(url))).ok_or_else(words)
        }
        ("isURL", [Value::String(text)]) => flag(parse_url(text).is_some()),
        (_, [Value::Ip(ip)]) if method => match name {
            "family" => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
            "isUnspecified" => flag(ip.is_unspecified()),
            "isLoopback" => flag(ip.is_loopback()),
            "isLinkLocalMulticast" => flag(match ip {
                IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
                IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
            }),
            "isLinkLocalUnicast" => flag(match ip {
                IpAddr::V4(v4) => v4.is_link_local(),
                IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
            }),
            "isGlobalUnicast" => {
                flag(!ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !is_link_local(*ip))
            }
            _ => return None,
        },
        (_, [Value::Cidr(ip, bits)]) if method => match name {
            "ip" => Ok(Value::Ip(*ip)),
            "masked" => Ok(Value::Cidr(back(masked(*ip, *bits), *ip), *bits)),
            "prefixLength" => Ok(Value::Int((*bits).into())),
            _ => return None,
        },
        ("containsIP", [Value::Cidr(ip, bits), Value::Ip(inner)]) if method => flag(holds((*ip, *bits), *inner)),
        ("containsIP", [Value::Cidr(ip, bits), Value::String(text)]) if method => {
            flag(address(text).is_some_and(|i| holds((*ip, *bits), i)))
        }
        ("containsCIDR", [Value::Cidr(ip, bits), Value::Cidr(inner, n)]) if method => {
            flag(n >= bits && holds((*ip, *bits), *inner))
        }
        ("containsCIDR", [Value::Cidr(ip, bits), Value::String(text)]) if method => {
            flag(network(text).is_some_and(|(inner, n)| n >= *bits && holds((*ip, *bits), inner)))
        }
        (_, [Value::Url(url)]) if method => match name {
            "getScheme" => Ok(url.scheme.as_str().into()),
            "getHost" => Ok(url.host.as_str().into()),
            "getHostname" => Ok(split_port(&url.host).0.into()),
            "getPort" => Ok(split_port(&url.host).1.into()),
            "getEscapedPath" => Ok(url.path.as_str().into()),
            "getQuery" => {
                let mut keys: Vec<&str> = url.query.iter().map(|(k, _)| k.as_str()).collect();
                keys.dedup();
                let of =
                    |key: &str| url.query.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str().into()).collect();
                Ok(Value::map(keys.into_iter().map(|key| (key.to_owned(), Value::list(of(key))))))
            }
            _ => return None,
        },
        _ => return None,
    })
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn split_port(host: &str) -> (&str, &str) {
    let bare = |name: &'_ str| -> usize { name.len() };
    match host.rfind(':').filter(|at| !host[*at..].contains(']')) {
        Some(at) => (host[..at].trim_start_matches('[').trim_end_matches(']'), &host[at + 1..]),
        None => (host[..bare(host)].trim_start_matches('[').trim_end_matches(']'), ""),
    }
}

fn parse_url(text: &str) -> Option<Url> {
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return None;
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, Some(rest)),
        None if text.starts_with('/') => ("", None),
        None => return None,
    };
    if rest.is_some()
        && !(scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)))
    {
        return None;
    }
    let rest = rest.unwrap_or(text).split('#').next()?;
    let at = if scheme.is_empty() { 0 } else { rest.find(['/', '?']).unwrap_or(rest.len()) };
    let (host, rest) = rest.split_at(at);
    let host = host.rsplit('@').next()?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let pairs = query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")));
    let mut query: Vec<(String, String)> = pairs.map(|(k, v)| (form_decoded(k), form_decoded(v))).collect();
    query.sort_by(|a, b| a.0.cmp(&b.0));
    Some(Url { scheme: scheme.into(), host: host.into(), path: path.into(), query, text: text.into() })
}
