//! `v1/Endpoints`; slices are in `slice`.

pub(crate) mod slice;

use std::net::IpAddr;

use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{each, list, set, text};
use crate::{addresses, cells, names};

pub(crate) const RULES: Rules = Rules { default, validate, row, warnings, ..NO_RULES };

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if new["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"] == "endpoint-controller" {
        return found;
    }
    for (index, subset) in list(&new["subsets"]).iter().enumerate() {
        for field in ["addresses", "notReadyAddresses"] {
            for (at, address) in list(&subset[field]).iter().enumerate() {
                let path = format!("subsets[{index}].{field}[{at}].ip");
                found.extend(addresses::ip_warning(&path, text(&address["ip"])));
            }
        }
    }
    found
}

fn default(endpoints: &mut Value) {
    each(endpoints, "subsets", |subset| each(subset, "ports", |port| set(port, "protocol", "TCP")));
}

/// An endpoint's address is one that others can reach.
pub(crate) fn endpoint_ip(address: &Spot, errors: &mut Errors) {
    let Ok(ip) = address.text().parse::<IpAddr>() else {
        if !addresses::ip(address.text()).iter().any(|why| why == "must not have leading 0s") {
            address.fail_as(address.text(), "must be a valid IP address", errors);
        }
        return;
    };
    let ip = ip.to_canonical();
    let link_local = |multicast: bool| match ip {
        IpAddr::V4(v4) if multicast => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) if multicast => v6.segments()[0] & 0xff0f == 0xff02,
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    };
    if ip.is_unspecified() {
        address.fail(format!("may not be unspecified ({})", address.text()), errors);
    }
    for (is, range) in [
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local(false), "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (link_local(true), "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if is {
            address.fail(range, errors);
        }
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    if old.is_some_and(|old| old["subsets"] == new["subsets"]) {
        return;
    }
    for subset in Spot::new(new, "").list("subsets") {
        let lists = ["addresses", "notReadyAddresses"];
        if lists.iter().all(|l| subset.at(l).len() == 0) {
            subset.missing("must specify `addresses` or `notReadyAddresses`", errors);
        }
        for address in lists.iter().flat_map(|l| subset.list(l)) {
            address.at("ip").ip(errors);
            address.at("hostname").named(names::label, errors);
            if address.at("nodeName").is_set() {
                address.at("nodeName").obey(names::subdomain, errors);
            }
            endpoint_ip(&address.at("ip"), errors);
        }
        for port in subset.list("ports") {
            match subset.at("ports").len() > 1 {
                true => port.at("name").must_obey(names::label, errors),
                false => port.at("name").named(names::label, errors),
            }
            port.at("port").port_number(errors);
            port.at("protocol").must_be_one_of(&["SCTP", "TCP", "UDP"], errors);
            if port.at("appProtocol").is_set() {
                port.at("appProtocol").obey(names::qualified, errors);
            }
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
                "subsets[1].addresses[0].ip: Invalid value: \"x\": must be a valid IP address",
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
