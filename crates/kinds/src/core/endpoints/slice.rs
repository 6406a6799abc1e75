//! `discovery.k8s.io/v1 EndpointSlice`.

use object::Invalid;
use serde_json::Value;

use super::some;
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{each, list, set, text};
use crate::{addresses, cells, checks, names};

pub(crate) const RULES: Rules =
    Rules { default, validate, row, prepare_create: drop_topology, prepare_update, warnings, ..NO_RULES };

/// Controllers, which write no addresses that anybody has to be told of.
const MANAGERS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

/// Most of each that fit into one slice.
const MOST_ENDPOINTS: usize = 1000;
const MOST_PORTS: usize = 20_000;
const MOST_ADDRESSES: usize = 100;
const MOST_HINTS: usize = 8;

/// Where endpoints are has fields of its own by now; what was said in the old way stays where it is.
fn drop_topology(slice: &mut Value) {
    crate::tree::each(slice, "endpoints", |endpoint| drop(crate::tree::remove(endpoint, "deprecatedTopology")));
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() && new["addressType"] == "FQDN" {
        found.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let by = &new["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
    if MANAGERS.contains(&text(by)) {
        return found;
    }
    for (index, endpoint) in list(&new["endpoints"]).iter().enumerate() {
        for (at, ip) in list(&endpoint["addresses"]).iter().enumerate() {
            found.extend(addresses::ip_warning(&format!("endpoints[{index}].addresses[{at}]"), text(ip)));
        }
    }
    found
}

fn prepare_update(new: &mut Value, old: &Value) {
    let said =
        |slice: &Value| crate::tree::list(&slice["endpoints"]).iter().any(|e| !e["deprecatedTopology"].is_null());
    if !said(old) {
        drop_topology(new);
    }
}

fn default(slice: &mut Value) {
    each(slice, "ports", |port| {
        set(port, "protocol", "TCP");
        if port["name"].is_null() {
            port["name"] = "".into();
        }
    });
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let slice = Spot::new(new, "");
    slice.at("addressType").must_be_one_of(&["FQDN", "IPv4", "IPv6"], errors);
    validate_ports(&slice, errors);
    if old.is_none_or(|old| old["endpoints"] != new["endpoints"]) {
        validate_endpoints(&slice, errors);
    }
    checks::immutable(new, old, &["addressType"], errors);
}

fn validate_ports(slice: &Spot, errors: &mut Errors) {
    let ports = slice.at("ports");
    if ports.len() > MOST_PORTS {
        errors.push(Invalid::too_many("ports", ports.len(), MOST_PORTS));
        return;
    }
    let mut seen = Vec::new();
    for port in slice.list("ports") {
        let name = port.at("name");
        name.named(names::label, errors);
        match seen.contains(&name.text()) {
            true => name.duplicate(errors),
            false => seen.push(name.text()),
        }
        port.at("protocol").exactly_one_of(&["SCTP", "TCP", "UDP"], errors);
        if port.at("appProtocol").is_set() {
            port.at("appProtocol").obey(names::qualified, errors);
        }
    }
}

fn validate_endpoints(slice: &Spot, errors: &mut Errors) {
    let endpoints = slice.at("endpoints");
    if endpoints.len() > MOST_ENDPOINTS {
        errors.push(Invalid::too_many("endpoints", endpoints.len(), MOST_ENDPOINTS));
        return;
    }
    let kind = slice.at("addressType");
    for endpoint in slice.list("endpoints") {
        let addresses = endpoint.at("addresses");
        if addresses.len() == 0 {
            addresses.missing("must contain at least 1 address", errors);
        } else if addresses.len() > MOST_ADDRESSES {
            errors.push(Invalid::too_many(&addresses.path(), addresses.len(), MOST_ADDRESSES));
        }
        for address in endpoint.list("addresses") {
            validate_address(kind.text(), &address, &addresses, errors);
        }
        if endpoint.at("nodeName").is_set() {
            endpoint.at("nodeName").obey(names::subdomain, errors);
        }
        if endpoint.at("hostname").is_set() {
            endpoint.at("hostname").obey(names::label, errors);
        }
        hints(&endpoint.at("hints"), errors);
    }
}

/// For whom an endpoint is.
fn hints(hints: &Spot, errors: &mut Errors) {
    for (field, rule) in [("forZones", names::label_value as names::Rule), ("forNodes", names::subdomain)] {
        let all = hints.at(field);
        if all.len() > MOST_HINTS {
            errors.push(Invalid::too_many(&all.path(), all.len(), MOST_HINTS));
            return;
        }
        let mut seen = Vec::new();
        for hint in hints.list(field) {
            let name = hint.at("name");
            match seen.contains(&name.text()) {
                true => name.duplicate(errors),
                false => seen.push(name.text()),
            }
            name.obey(rule, errors);
        }
    }
}

fn validate_address(kind: &str, address: &Spot, all: &Spot, errors: &mut Errors) {
    let before = errors.len();
    match kind {
        "IPv4" => address.ip(errors),
        "IPv6" => address.obey(crate::addresses::canonical_ip, errors),
        "FQDN" => {
            let name = address.text().strip_suffix('.').unwrap_or(address.text());
            let problems = names::subdomain(name);
            if name.is_empty() {
                address.missing("", errors);
            } else if !problems.is_empty() {
                address.fail_as(name, problems.join(","), errors);
            } else if !name.contains('.') {
                address.fail("should be a domain with at least two segments separated by dots", errors);
            }
            return;
        }
        _ => return,
    }
    if errors.len() == before {
        let sixth = address.text().contains(':');
        if sixth != (kind == "IPv6") {
            all.fail_as(address.text(), format!("must be an {kind} address"), errors);
        }
        super::endpoint_ip(address, errors);
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
                "endpoints[0].addresses[0]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
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
