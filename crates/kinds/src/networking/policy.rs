//! `networking.k8s.io/v1 NetworkPolicy`.

use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, each, list, set};
use crate::{addresses, cells};

pub(crate) const RULES: Rules = Rules { default, validate, row, warnings, ..NO_RULES };

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

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    spec.at("podSelector").selector(errors);
    // Networks that were accepted once are not looked at again.
    let known: Vec<&Value> = old.map(blocks).unwrap_or_default();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.list(direction) {
            rule.list("ports").for_each(|port| validate_port(&port, errors));
            rule.list(peers).for_each(|peer| validate_peer(&peer, &known, errors));
        }
    }
    let kinds = spec.at("policyTypes");
    if kinds.len() > 2 {
        kinds.fail("may not specify more than two policyTypes", errors);
        return;
    }
    spec.list("policyTypes").for_each(|kind| kind.exactly_one_of(&["Ingress", "Egress"], errors));
}

/// All networks that a policy names.
fn blocks(policy: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for peer in list(&policy["spec"][direction]).iter().flat_map(|rule| list(&rule[peers])) {
            found.push(&peer["ipBlock"]["cidr"]);
            found.extend(list(&peer["ipBlock"]["except"]));
        }
    }
    found
}

fn validate_port(port: &Spot, errors: &mut Errors) {
    port.at("protocol").one_of(&["TCP", "UDP", "SCTP"], errors);
    let (first, last) = (port.at("port"), port.at("endPort"));
    match first.value {
        Value::Null if last.is_set() => last.fail("may not be specified when `port` is not specified", errors),
        Value::Null => {}
        Value::String(_) => {
            if last.is_set() {
                last.fail("may not be specified when `port` is non-numeric", errors);
            }
            first.port(errors);
        }
        _ => {
            first.port_number(errors);
            if last.number().is_some_and(|last| last < first.count()) {
                last.fail_as(first.count(), "must be greater than or equal to `port`", errors);
            }
            if last.is_set() {
                last.port_number(errors);
            }
        }
    }
}

fn validate_peer(peer: &Spot, known: &[&Value], errors: &mut Errors) {
    let mut selected = 0;
    for selector in ["podSelector", "namespaceSelector"].into_iter().filter(|s| peer.at(s).is_set()) {
        selected += 1;
        peer.at(selector).selector(errors);
    }
    let block = peer.at("ipBlock");
    if block.is_set() {
        validate_block(&block, known, errors);
    }
    match (selected, block.is_set()) {
        (0, false) => peer.missing("must specify a peer", errors),
        (1.., true) => peer.forbid("may not specify both ipBlock and another peer", errors),
        _ => {}
    }
}

/// (address as bits left-aligned in 128, prefix length, is IPv4)
fn network(text: &str) -> Option<(u128, u32, bool)> {
    let (address, length) = addresses::network_of(text)?;
    Some(match address {
        std::net::IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, length.into(), true),
        std::net::IpAddr::V6(v6) => (v6.to_bits(), length.into(), false),
    })
}

fn validate_block(block: &Spot, known: &[&Value], errors: &mut Errors) {
    let cidr = block.at("cidr");
    if cidr.text().is_empty() {
        cidr.missing("", errors);
        return;
    }
    let check = |spot: &Spot, errors: &mut Errors| {
        if !known.contains(&spot.value) {
            spot.obey(addresses::network, errors);
        }
    };
    check(&cidr, errors);
    let Some((base, length, v4)) = network(cidr.text()) else { return };
    for except in block.list("except") {
        check(&except, errors);
        let Some((inner, inner_length, inner_v4)) = network(except.text()) else { continue };
        let inside = length == 0 || (base ^ inner).leading_zeros() >= length;
        if v4 != inner_v4 || !inside || length >= inner_length {
            except.fail("must be a strict subset of `cidr`", errors);
        }
    }
}

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let spec = Spot::new(&new["spec"], "spec");
    let mut found = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.list(direction) {
            for peer in rule.list(peers) {
                let block = peer.at("ipBlock");
                found.extend(addresses::network_warning(&block.at("cidr").path(), block.at("cidr").text()));
                let excepted = block.list("except");
                found.extend(excepted.filter_map(|e| addresses::network_warning(&e.path(), e.text())));
            }
        }
    }
    found
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
