//! `v1/Endpoints`; slices are in `slice`.

pub(crate) mod slice;

use std::net::IpAddr;

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{each, list, set, text};
use crate::{cells, checks, names};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };

const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

fn default(endpoints: &mut Value) {
    each(endpoints, "subsets", |subset| each(subset, "ports", |port| set(port, "protocol", "TCP")));
}

/// An endpoint's address is one that others can reach.
fn endpoint_ip(address: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let Ok(ip) = text(address).parse::<IpAddr>() else { return };
    let link_local = |multicast: bool| match ip {
        IpAddr::V4(v4) if multicast => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) if multicast => v6.segments()[0] & 0xff0f == 0xff02,
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    for (is, range) in [
        (ip.is_unspecified(), "may not be unspecified"),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local(false), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (link_local(true), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if is {
            let detail = if ip.is_unspecified() { format!("{range} ({})", text(address)) } else { range.to_owned() };
            errors.push(Invalid::invalid(path, address, detail));
        }
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    if old.is_some_and(|old| old["subsets"] == new["subsets"]) {
        return;
    }
    for (index, subset) in list(&new["subsets"]).iter().enumerate() {
        let path = format!("subsets[{index}]");
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|l| list(&subset[*l]).is_empty()) {
            errors.push(Invalid::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        for kind in lists {
            for (place, address) in list(&subset[kind]).iter().enumerate() {
                let at = format!("{path}.{kind}[{place}]");
                if text(&address["ip"]).parse::<IpAddr>().is_err() {
                    errors.push(Invalid::invalid(&format!("{at}.ip"), &text(&address["ip"]).into(), NOT_AN_IP));
                }
                checks::named(address, &at, "hostname", names::label, errors);
                checks::named(address, &at, "nodeName", names::subdomain, errors);
                endpoint_ip(&address["ip"], &format!("{at}.ip"), errors);
            }
        }
        let ports = list(&subset["ports"]);
        for (place, port) in ports.iter().enumerate() {
            let at = format!("{path}.ports[{place}]");
            if ports.len() > 1 {
                checks::required(port, &at, "name", errors);
            }
            checks::named(port, &at, "name", names::label, errors);
            checks::port(&port["port"], &format!("{at}.port"), errors);
            checks::one_of(port, &at, "protocol", &["SCTP", "TCP", "UDP"], errors);
            checks::named(port, &at, "appProtocol", names::qualified, errors);
        }
    }
}

/// The first three of a list, and how many more there are.
fn some(all: &[String]) -> String {
    match all.len() {
        0..=3 => all.join(","),
        more => format!("{} + {} more...", all[..3].join(","), more - 3),
    }
}

fn row(endpoints: &Value, now: i64) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in list(&endpoints["subsets"]) {
        let addresses = || list(&subset["addresses"]).iter().map(|a| text(&a["ip"]));
        if list(&subset["ports"]).is_empty() {
            all.extend(addresses().map(str::to_owned));
        }
        for port in list(&subset["ports"]) {
            let number = port["port"].as_i64().unwrap_or(0);
            all.extend(
                addresses().map(|a| if a.contains(':') { format!("[{a}]:{number}") } else { format!("{a}:{number}") }),
            );
        }
    }
    let shown = if list(&endpoints["subsets"]).is_empty() { "<none>".to_owned() } else { some(&all) };
    let mut row = cells::row(endpoints, now, &[".metadata.name", "@age"]);
    row.insert(1, shown.into());
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn endpoints() {
        let case = Case::new("v1", "Endpoints");
        case.invalid(
            json!({"subsets": [{}, {"addresses": [{"ip": "x"}], "ports": [{"port": 0}]}]}),
            &[
                "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`",
                "subsets[1].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                "subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        );
        case.row(json!({}), json!(["x", "<none>", "10s"]));
        case.row(
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}, {"port": 443}]}]}),
            json!(["x", "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more...", "10s"]),
        );
    }
}
