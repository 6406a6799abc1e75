//! `v1/Service`. Addresses and node ports are allocated by admission.

mod validation;
mod warnings;

use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules};
use crate::tree::{self, set, text};
use crate::{age, cells, names};

pub(crate) const RULES: Rules = Rules {
    default,
    prepare_create,
    prepare_update,
    validate: validation::validate,
    validate_status: validation::validate_status,
    name: names::label,
    row,
    warnings: warnings::warnings,
    ..NO_RULES
};

pub use validation::validate_addresses;

fn default(service: &mut Value) {
    let spec = &mut service["spec"];
    set(spec, "sessionAffinity", "None");
    set(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "None" {
        spec.as_object_mut().and_then(|s| s.remove("sessionAffinityConfig"));
    } else if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set(port, "protocol", "TCP");
        if port.get("targetPort").is_none_or(|t| t == 0 || t == "") {
            port["targetPort"] = port["port"].clone();
        }
    }
    let kind = spec["type"].as_str().unwrap_or("").to_owned();
    let exposed = kind == "ClusterIP" && !tree::list(&spec["externalIPs"]).is_empty();
    if kind == "NodePort" || kind == "LoadBalancer" || exposed {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" && spec.get("allocateLoadBalancerNodePorts").is_none() {
        spec["allocateLoadBalancerNodePorts"] = true.into();
    }
    if kind == "LoadBalancer" {
        let places = service.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut);
        for place in places.into_iter().flatten().filter(|place| !text(&place["ip"]).is_empty()) {
            set(place, "ipMode", "VIP");
        }
    }
}

fn prepare_create(new: &mut Value) {
    new["status"] = json!({"loadBalancer": {}});
    drop_inner_policy(new);
}

/// Names outside have no traffic within; what is no policy is still told of.
fn drop_inner_policy(new: &mut Value) {
    let spec = &mut new["spec"];
    if spec["type"] == "ExternalName" && matches!(text(&spec["internalTrafficPolicy"]), "Cluster" | "Local" | "") {
        tree::remove(spec, "internalTrafficPolicy");
    }
}

/// Takes away what only the former type had a use for, unless the user set it anew.
fn prepare_update(new: &mut Value, old: &Value) {
    crate::kind::keep_status(new, old);
    let (was, is) = (text(&old["spec"]["type"]).to_owned(), text(&new["spec"]["type"]).to_owned());
    let outside = |kind: &str| kind == "NodePort" || kind == "LoadBalancer";
    if was == "LoadBalancer" && is != was {
        new["status"]["loadBalancer"] = json!({});
    }
    let Some(spec) = new.get_mut("spec").filter(|s| s.is_object()) else { return };
    let (before, now) = (&old["spec"], spec.clone());
    let (exposed, checked) = (validation::is_exposed, validation::needs_health_check);
    let mut forget = |field: &str| {
        if spec[field] == before[field] {
            tree::remove(spec, field);
        }
    };
    if was == "LoadBalancer" && is != was {
        ["allocateLoadBalancerNodePorts", "loadBalancerClass"].into_iter().for_each(&mut forget);
    }
    if exposed(before) && !exposed(&now) {
        forget("externalTrafficPolicy");
    }
    if checked(before) && !checked(&now) {
        forget("healthCheckNodePort");
    }
    if was != "ExternalName" && is == "ExternalName" {
        let fields = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"];
        fields.into_iter().for_each(&mut forget);
    }
    let ports =
        |spec: &Value| -> Vec<Value> { tree::list(&spec["ports"]).iter().map(|p| p["nodePort"].clone()).collect() };
    if outside(&was) && !outside(&is) && ports(spec) == ports(before) {
        tree::each(spec, "ports", |port| drop(tree::remove(port, "nodePort")));
    }
    drop_inner_policy(new);
}

fn row(service: &Value, now: i64) -> Vec<Value> {
    let spec = &service["spec"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let kind = text(&spec["type"]);
    let listed = |list: &Value| -> Vec<String> { list.as_array().into_iter().flatten().map(text).collect() };
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let balanced: Vec<String> =
        ingress.map(|i| if i["ip"].is_string() { text(&i["ip"]) } else { text(&i["hostname"]) }).collect();
    let external = match kind.as_str() {
        "ExternalName" => text(&spec["externalName"]),
        "LoadBalancer" => {
            let all = [balanced, listed(&spec["externalIPs"])].concat();
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        _ => match listed(&spec["externalIPs"]) {
            none if none.is_empty() => "<none>".into(),
            some => some.join(","),
        },
    };
    let ports: Vec<String> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| match p["nodePort"].as_i64().filter(|n| *n != 0) {
            Some(node) => format!("{}:{node}/{}", p["port"], text(&p["protocol"])),
            None => format!("{}/{}", p["port"], text(&p["protocol"])),
        })
        .collect();
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    vec![
        service["metadata"]["name"].clone(),
        kind.into(),
        or_none(text(&spec["clusterIP"])).into(),
        external.into(),
        or_none(ports.join(",")).into(),
        age::since(&service["metadata"]["creationTimestamp"], now).into(),
        cells::selector(&spec["selector"]).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Case;

    #[test]
    fn service() {
        let case = Case::new("v1", "Service");
        case.defaulted(
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
            json!({"spec": {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None",
                "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster"}}),
        );
        let mut service = json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "a"}]}}});
        let places = json!([{"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "a"}]);
        super::default(&mut service);
        assert_eq!(service["status"]["loadBalancer"]["ingress"], places, "what load balancers write");
        case.invalid(
            json!({"spec": {"clusterIP": "None", "type": "NodePort", "ports": [{"port": 0}]}}),
            &[
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.clusterIPs: Required value",
            ],
        );
        case.invalid(
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}),
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        );
        case.row(
            json!({"spec": {"type": "NodePort", "clusterIP": "10.43.0.1", "ports": [{"port": 80, "nodePort": 30008, "protocol": "TCP"}], "selector": {"a": "b"}}}),
            json!(["x", "NodePort", "10.43.0.1", "<none>", "80:30008/TCP", "10s", "a=b"]),
        );
    }

    #[test]
    fn another_type_drops_what_the_former_one_had() {
        let old = json!({"spec": {"type": "NodePort", "clusterIP": "10.43.0.1", "externalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "nodePort": 30008}]}, "status": {"loadBalancer": {}}});
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        prepare_update(&mut new, &old);
        assert_eq!(new["spec"], json!({"type": "ClusterIP", "clusterIP": "10.43.0.1", "ports": [{"port": 80}]}));
        new["spec"]["type"] = "ExternalName".into();
        prepare_update(&mut new, &json!({"spec": {"type": "ClusterIP", "clusterIP": "10.43.0.1"}}));
        assert!(new["spec"].get("clusterIP").is_none(), "{new}");
    }
}
