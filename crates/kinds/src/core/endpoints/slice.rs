//! `discovery.k8s.io/v1 EndpointSlice`.

use object::Invalid;
use serde_json::Value;

use super::{endpoint_ip, some};
use crate::kind::{NO_RULES, Rules};
use crate::tree::{each, list, set, text};
use crate::{cells, checks, names};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };

/// Most of each that fit into one slice.
const MOST_ENDPOINTS: usize = 1000;
const MOST_PORTS: usize = 20_000;
const MOST_ADDRESSES: usize = 100;

fn default(slice: &mut Value) {
    each(slice, "ports", |port| {
        set(port, "protocol", "TCP");
        if port["name"].is_null() {
            port["name"] = "".into();
        }
    });
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    match text(&new["addressType"]) {
        "" => errors.push(Invalid::required("addressType", "")),
        _ => checks::one_of(new, "", "addressType", &["FQDN", "IPv4", "IPv6"], errors),
    }
    validate_ports(list(&new["ports"]), errors);
    if old.is_none_or(|old| old["endpoints"] != new["endpoints"]) {
        validate_endpoints(new, errors);
    }
    checks::immutable(new, old, &["addressType"], errors);
}

fn validate_ports(ports: &[Value], errors: &mut Vec<Invalid>) {
    if ports.len() > MOST_PORTS {
        errors.push(Invalid::too_many("ports", ports.len(), MOST_PORTS));
        return;
    }
    let mut seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("ports[{index}]");
        checks::named(port, &path, "name", names::label, errors);
        if seen.contains(&&port["name"]) {
            errors.push(Invalid::duplicate(&format!("{path}.name"), &port["name"]));
        }
        seen.push(&port["name"]);
        checks::one_of(port, &path, "protocol", &["SCTP", "TCP", "UDP"], errors);
        checks::named(port, &path, "appProtocol", names::qualified, errors);
    }
}

fn validate_endpoints(slice: &Value, errors: &mut Vec<Invalid>) {
    let endpoints = list(&slice["endpoints"]);
    if endpoints.len() > MOST_ENDPOINTS {
        errors.push(Invalid::too_many("endpoints", endpoints.len(), MOST_ENDPOINTS));
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = format!("endpoints[{index}]");
        let addresses = list(&endpoint["addresses"]);
        let at = format!("{path}.addresses");
        if addresses.is_empty() {
            errors.push(Invalid::required(&at, "must contain at least 1 address"));
        } else if addresses.len() > MOST_ADDRESSES {
            errors.push(Invalid::too_many(&at, addresses.len(), MOST_ADDRESSES));
        }
        for (place, address) in addresses.iter().enumerate() {
            validate_address(text(&slice["addressType"]), address, &at, place, errors);
        }
        checks::named(endpoint, &path, "nodeName", names::subdomain, errors);
        checks::named(endpoint, &path, "hostname", names::label, errors);
    }
}

fn validate_address(kind: &str, address: &Value, path: &str, place: usize, errors: &mut Vec<Invalid>) {
    let at = format!("{path}[{place}]");
    let parsed = text(address).parse::<std::net::IpAddr>();
    match (kind, parsed) {
        ("IPv4" | "IPv6", Err(_)) => errors.push(Invalid::invalid(&at, address, super::NOT_AN_IP)),
        ("IPv4", Ok(ip)) if !ip.is_ipv4() => errors.push(Invalid::invalid(path, address, "must be an IPv4 address")),
        ("IPv6", Ok(ip)) if !ip.is_ipv6() => errors.push(Invalid::invalid(path, address, "must be an IPv6 address")),
        ("IPv4" | "IPv6", Ok(_)) => endpoint_ip(address, &at, errors),
        ("FQDN", _) => {
            let name = text(address).trim_end_matches('.');
            if let Some(why) = names::subdomain(name) {
                errors.push(Invalid::invalid(&at, address, why));
            } else if !name.contains('.') {
                errors.push(Invalid::invalid(
                    &at,
                    address,
                    "should be a domain with at least two segments separated by dots",
                ));
            }
        }
        _ => {}
    }
}

fn row(slice: &Value, now: i64) -> Vec<Value> {
    let ports = list(&slice["ports"]).iter().map(|p| match p["port"].as_i64() {
        Some(number) => number.to_string(),
        None => p["name"].as_str().unwrap_or("*").to_owned(),
    });
    let addresses = list(&slice["endpoints"]).iter().flat_map(|e| list(&e["addresses"])).map(|a| text(a).to_owned());
    let or_unset = |shown: String| if shown.is_empty() { "<unset>".to_owned() } else { shown };
    let mut row = cells::row(slice, now, &[".metadata.name", ".addressType", "@age"]);
    row.insert(2, or_unset(some(&ports.collect::<Vec<_>>())).into());
    row.insert(3, or_unset(some(&addresses.collect::<Vec<_>>())).into());
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn slice() {
        let case = Case::new("discovery.k8s.io/v1", "EndpointSlice");
        case.defaulted(
            json!({"addressType": "IPv4", "ports": [{"port": 80}]}),
            json!({"addressType": "IPv4", "ports": [{"port": 80, "name": "", "protocol": "TCP"}]}),
        );
        case.invalid(
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1", "x", "127.0.0.1"]}, {}]}),
            &[
                "endpoints[0].addresses: Invalid value: \"::1\": must be an IPv4 address",
                "endpoints[0].addresses[1]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "endpoints[0].addresses[2]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "endpoints[1].addresses: Required value: must contain at least 1 address",
            ],
        );
        case.row(
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]},
                {"addresses": ["10.0.0.3"]}, {"addresses": ["10.0.0.4"]}]}),
            json!(["x", "IPv4", "80", "10.0.0.1,10.0.0.2,10.0.0.3 + 1 more...", "10s"]),
        );
    }
}
