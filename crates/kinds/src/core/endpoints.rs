//! `v1/Endpoints` and `discovery.k8s.io/v1 EndpointSlice`.

use serde_json::Value;

use crate::cells;
use crate::kind::{NO_RULES, Rules};

pub(crate) const RULES: Rules = Rules { default, row, ..NO_RULES };
pub(crate) const SLICE_RULES: Rules = Rules { default: default_slice, row: slice_row, ..NO_RULES };

fn default_protocols(ports: &mut Value) {
    for port in ports.as_array_mut().into_iter().flatten() {
        if port.get("protocol").is_none() {
            port["protocol"] = "TCP".into();
        }
    }
}

fn default(endpoints: &mut Value) {
    for subset in endpoints["subsets"].as_array_mut().into_iter().flatten() {
        if subset.get("ports").is_some() {
            default_protocols(&mut subset["ports"]);
        }
    }
    if endpoints["subsets"].is_null() {
        endpoints.as_object_mut().and_then(|o| o.remove("subsets"));
    }
}

fn default_slice(slice: &mut Value) {
    if slice.get("ports").is_some() {
        default_protocols(&mut slice["ports"]);
        for port in slice["ports"].as_array_mut().into_iter().flatten() {
            if port.get("name").is_none() {
                port["name"] = "".into();
            }
        }
    }
}

/// The first three of a list, and how many more there are.
fn first_three(all: Vec<String>, none: &str) -> Value {
    match all.len() {
        0 => none.into(),
        1..=3 => all.join(",").into(),
        more => format!("{} + {} more...", all[..3].join(","), more - 3).into(),
    }
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let mut all = Vec::new();
    for subset in object["subsets"].as_array().into_iter().flatten() {
        let addresses = subset["addresses"].as_array().into_iter().flatten().filter_map(|a| a["ip"].as_str());
        let ports: Vec<i64> =
            subset["ports"].as_array().into_iter().flatten().filter_map(|p| p["port"].as_i64()).collect();
        for address in addresses {
            if ports.is_empty() {
                all.push(address.to_owned());
            }
            all.extend(ports.iter().map(|port| format!("{address}:{port}")));
        }
    }
    let mut row = cells::row(object, now, &[".metadata.name", "@age"]);
    row.insert(1, first_three(all, "<none>"));
    row
}

fn slice_row(object: &Value, now: i64) -> Vec<Value> {
    let ports = object["ports"].as_array().into_iter().flatten();
    let ports = ports.map(|p| p["port"].as_i64().map_or("*".to_owned(), |n| n.to_string())).collect();
    let endpoints = object["endpoints"].as_array().into_iter().flatten();
    let addresses = endpoints.filter_map(|e| e["addresses"][0].as_str()).map(Into::into).collect();
    let mut row = cells::row(object, now, &[".metadata.name", ".addressType", "@age"]);
    row.insert(2, first_three(ports, "<unset>"));
    row.insert(3, first_three(addresses, "<unset>"));
    row
}
