//! What is told of services that are allowed, but odd.

use serde_json::Value;

use crate::addresses::{ip_warning, network_warning};
use crate::tree::{list, text};

pub(super) fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let spec = &new["spec"];
    let kind = text(&spec["type"]);
    let headless = kind == "ClusterIP" && spec["clusterIP"] == "None";
    let external = list(&spec["externalIPs"]);
    let addresses = |field: &str| -> Vec<String> {
        let all = list(&spec[field]).iter().enumerate();
        all.filter_map(|(index, ip)| ip_warning(&format!("spec.{field}[{index}]"), text(ip))).collect()
    };
    let mut found = Vec::new();
    let mut tell = |holds: bool, line: &str| {
        if holds {
            found.push(line.to_owned());
        }
    };
    let hints = new["metadata"]["annotations"].get("service.kubernetes.io/topology-aware-hints").is_some();
    tell(
        hints,
        "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead",
    );
    if !headless && kind != "ExternalName" {
        found.extend(addresses("clusterIPs"));
    }
    let mut tell = |holds: bool, line: &str| {
        if holds {
            found.push(line.to_owned());
        }
    };
    let balanced = text(&spec["loadBalancerIP"]);
    tell(headless && !balanced.is_empty(), "spec.loadBalancerIP is ignored for headless services");
    tell(headless && !external.is_empty(), "spec.externalIPs is ignored for headless services");
    tell(headless && spec["sessionAffinity"] != "None", "spec.SessionAffinity is ignored for headless services");
    found.extend(addresses("externalIPs"));
    if !external.is_empty() && !headless && kind != "ExternalName" {
        found.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    found.extend(ip_warning("spec.loadBalancerIP", balanced));
    for (index, range) in list(&spec["loadBalancerSourceRanges"]).iter().enumerate() {
        found.extend(network_warning(&format!("spec.loadBalancerSourceRanges[{index}]"), text(range)));
    }
    if kind == "ExternalName" && !external.is_empty() {
        found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !text(&spec["externalName"]).is_empty() {
        found.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec["trafficDistribution"] == "PreferClose" {
        found.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
    found
}
