//! `networking.k8s.io/v1 NetworkPolicy`.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, each, list, set, text};
use crate::{cells, checks};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };

fn default(policy: &mut Value) {
    let Some(spec) = child(policy, "spec") else { return };
    if list(&spec["policyTypes"]).is_empty() {
        let egress = !list(&spec["egress"]).is_empty();
        spec["policyTypes"] = if egress { vec!["Ingress", "Egress"] } else { vec!["Ingress"] }.into();
    }
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| each(rule, "ports", |port| set(port, "protocol", "TCP")));
    }
}

fn validate(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    checks::selector(&spec["podSelector"], "spec.podSelector", errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (index, rule) in list(&spec[direction]).iter().enumerate() {
            let path = format!("spec.{direction}[{index}]");
            for (place, port) in list(&rule["ports"]).iter().enumerate() {
                validate_port(port, &format!("{path}.ports[{place}]"), errors);
            }
            for (place, peer) in list(&rule[peers]).iter().enumerate() {
                validate_peer(peer, &format!("{path}.{peers}[{place}]"), errors);
            }
        }
    }
    for (index, kind) in list(&spec["policyTypes"]).iter().enumerate() {
        if !["Egress", "Ingress"].contains(&text(kind)) {
            errors.push(Invalid::not_supported(&format!("spec.policyTypes[{index}]"), kind, &["Egress", "Ingress"]));
        }
    }
}

fn validate_port(port: &Value, path: &str, errors: &mut Vec<Invalid>) {
    checks::one_of(port, path, "protocol", &["SCTP", "TCP", "UDP"], errors);
    let end = &port["endPort"];
    let at = format!("{path}.endPort");
    match (&port["port"], end.as_i64()) {
        (Value::Null, Some(_)) => {
            errors.push(Invalid::invalid(&at, end, "may not be specified when `port` is not specified"));
        }
        (Value::Null, None) => {}
        (Value::String(_), Some(_)) => {
            errors.push(Invalid::invalid(&at, end, "may not be specified when `port` is non-numeric"));
        }
        (number, last) => {
            checks::port(number, &format!("{path}.port"), errors);
            if last.is_some_and(|last| number.as_i64().is_some_and(|first| last < first)) {
                errors.push(Invalid::invalid(&at, number, "must be greater than or equal to `port`"));
            }
            if last.is_some() {
                checks::port(end, &at, errors);
            }
        }
    }
}

fn validate_peer(peer: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let selectors = ["podSelector", "namespaceSelector"].into_iter().filter(|s| peer[*s].is_object());
    let mut selected = 0;
    for selector in selectors {
        selected += 1;
        checks::selector(&peer[selector], &format!("{path}.{selector}"), errors);
    }
    let block = &peer["ipBlock"];
    if block.is_object() {
        validate_block(block, &format!("{path}.ipBlock"), errors);
    }
    match (selected, block.is_object()) {
        (0, false) => errors.push(Invalid::required(path, "must specify a peer")),
        (1.., true) => errors.push(Invalid::forbidden(path, "may not specify both ipBlock and another peer")),
        _ => {}
    }
}

/// (address as bits left-aligned in 128, prefix length, is IPv4)
fn network(text: &str) -> Option<(u128, u32, bool)> {
    let (address, length) = text.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    match address.parse::<std::net::IpAddr>().ok()? {
        std::net::IpAddr::V4(v4) if length <= 32 => Some((u128::from(v4.to_bits()) << 96, length, true)),
        std::net::IpAddr::V6(v6) if length <= 128 => Some((v6.to_bits(), length, false)),
        _ => None,
    }
}

fn validate_block(block: &Value, path: &str, errors: &mut Vec<Invalid>) {
    const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let cidr = text(&block["cidr"]);
    if cidr.is_empty() {
        errors.push(Invalid::required(&format!("{path}.cidr"), ""));
        return;
    }
    let Some((base, length, v4)) = network(cidr) else {
        errors.push(Invalid::invalid(&format!("{path}.cidr"), &cidr.into(), NOT_A_CIDR));
        return;
    };
    for (index, except) in list(&block["except"]).iter().enumerate() {
        let at = format!("{path}.except[{index}]");
        let Some((inner, inner_length, inner_v4)) = network(text(except)) else {
            errors.push(Invalid::invalid(&at, except, NOT_A_CIDR));
            continue;
        };
        let inside = length == 0 || (base ^ inner).leading_zeros() >= length;
        if v4 != inner_v4 || !inside || length >= inner_length {
            errors.push(Invalid::invalid(&at, except, "must be a strict subset of `cidr`"));
        }
    }
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let mut row = cells::row(object, now, &[".metadata.name", "@age"]);
    row.insert(1, cells::selector(&object["spec"]["podSelector"]).into());
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn policy() {
        let case = Case::new("networking.k8s.io/v1", "NetworkPolicy");
        case.defaulted(
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}),
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]}}),
        );
        case.invalid(
            json!({"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80, "endPort": 70}], "from": [{},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16", "10.0.0.0/8"]}}]}]}}),
            &[
                "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[1].ipBlock.except[2]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
            ],
        );
        case.row(json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}), json!(["x", "a=b", "10s"]));
    }
}
