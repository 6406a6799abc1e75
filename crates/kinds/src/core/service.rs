//! `v1/Service`. Addresses and node ports are allocated by admission.

use object::Invalid;
use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules};
use crate::tree::{self, text};
use crate::{age, cells, checks, metadata, names};

pub(crate) const RULES: Rules =
    Rules { default, prepare_create, prepare_update, validate, name: names::label, row, ..NO_RULES };

fn set(object: &mut Value, key: &str, value: Value) {
    if object.get(key).is_none_or(|v| v == "") {
        object[key] = value;
    }
}

fn default(service: &mut Value) {
    let spec = &mut service["spec"];
    set(spec, "sessionAffinity", "None".into());
    set(spec, "type", "ClusterIP".into());
    if spec["sessionAffinity"] == "None" {
        spec.as_object_mut().and_then(|s| s.remove("sessionAffinityConfig"));
    } else if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set(port, "protocol", "TCP".into());
        if port.get("targetPort").is_none_or(|t| t == 0 || t == "") {
            port["targetPort"] = port["port"].clone();
        }
    }
    let kind = spec["type"].as_str().unwrap_or("").to_owned();
    let exposed = kind == "ClusterIP" && !tree::list(&spec["externalIPs"]).is_empty();
    if kind == "NodePort" || kind == "LoadBalancer" || exposed {
        set(spec, "externalTrafficPolicy", "Cluster".into());
    }
    if kind != "ExternalName" {
        set(spec, "internalTrafficPolicy", "Cluster".into());
    }
    if kind == "LoadBalancer" && spec.get("allocateLoadBalancerNodePorts").is_none() {
        spec["allocateLoadBalancerNodePorts"] = true.into();
    }
}

fn prepare_create(new: &mut Value) {
    new["status"] = json!({"loadBalancer": {}});
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
    let before = &old["spec"];
    let mut forget = |field: &str| {
        if spec[field] == before[field] {
            tree::remove(spec, field);
        }
    };
    if was == "LoadBalancer" && is != was {
        ["allocateLoadBalancerNodePorts", "loadBalancerClass"].into_iter().for_each(&mut forget);
    }
    if outside(&was) && !outside(&is) {
        ["externalTrafficPolicy", "healthCheckNodePort"].into_iter().for_each(&mut forget);
    }
    if was != "ExternalName" && is == "ExternalName" {
        let fields = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"];
        fields.into_iter().for_each(&mut forget);
    }
    if was == "ExternalName" && is != was {
        forget("externalName");
    }
    let ports =
        |spec: &Value| -> Vec<Value> { tree::list(&spec["ports"]).iter().map(|p| p["nodePort"].clone()).collect() };
    if outside(&was) && !outside(&is) && ports(spec) == ports(before) {
        tree::each(spec, "ports", |port| drop(tree::remove(port, "nodePort")));
    }
}

/// What goes with which type.
fn validate_type(spec: &Value, kind: &str, errors: &mut Vec<Invalid>) {
    let outside = kind == "NodePort" || kind == "LoadBalancer";
    if spec["clusterIP"] == "None" && outside {
        let detail = format!("may not be set to 'None' for {kind} services");
        errors.push(Invalid::invalid("spec.clusterIPs[0]", &spec["clusterIP"], detail));
    }
    for (index, port) in tree::list(&spec["ports"]).iter().enumerate() {
        if !outside && port["nodePort"].as_i64().is_some_and(|n| n != 0) {
            let detail = format!("may not be used when `type` is '{kind}'");
            errors.push(Invalid::forbidden(&format!("spec.ports[{index}].nodePort"), detail));
        }
    }
    let policy = &spec["externalTrafficPolicy"];
    if outside {
        checks::one_of(spec, "spec", "externalTrafficPolicy", &["Cluster", "Local"], errors);
    } else if !text(policy).is_empty() && tree::list(&spec["externalIPs"]).is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(Invalid::invalid("spec.externalTrafficPolicy", policy, detail));
    }
    checks::one_of(spec, "spec", "internalTrafficPolicy", &["Cluster", "Local"], errors);
    let timeout = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    if timeout.as_i64().is_some_and(|t| !(1..=86_400).contains(&t)) {
        let detail = "must be greater than 0 and less than 86400";
        errors.push(Invalid::invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout, detail));
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    let kind = spec["type"].as_str().unwrap_or("");
    let headless = spec["clusterIP"] == "None";
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    if !["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"].contains(&kind) {
        errors.push(Invalid::not_supported(
            "spec.type",
            &spec["type"],
            &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        ));
    }
    if !["None", "ClientIP"].contains(&spec["sessionAffinity"].as_str().unwrap_or("")) {
        errors.push(Invalid::not_supported("spec.sessionAffinity", &spec["sessionAffinity"], &["ClientIP", "None"]));
    }
    if kind == "ExternalName" {
        match spec["externalName"].as_str().map(|n| n.trim_end_matches('.')).filter(|n| !n.is_empty()) {
            None => errors.push(Invalid::required("spec.externalName", "")),
            Some(name) => {
                if let Some(why) = names::subdomain(name) {
                    errors.push(Invalid::invalid("spec.externalName", &spec["externalName"], why));
                }
            }
        }
    } else if ports.is_empty() && !headless {
        errors.push(Invalid::required("spec.ports", ""));
    }
    validate_ports(ports, errors);
    validate_type(spec, kind, errors);
    metadata::labels(&spec["selector"], "spec.selector", errors);
    if let Some(ip) = spec["clusterIP"].as_str().filter(|ip| !ip.is_empty() && *ip != "None")
        && ip.parse::<std::net::IpAddr>().is_err()
    {
        let detail = "must be empty, 'None', or a valid IP address";
        errors.push(Invalid::invalid("spec.clusterIPs[0]", &spec["clusterIP"], detail));
    }
    if let Some(old) = old {
        let old_ip = &old["spec"]["clusterIP"];
        let had = old_ip.as_str().is_some_and(|ip| !ip.is_empty());
        if had && kind != "ExternalName" && old["spec"]["type"] != "ExternalName" && old_ip != &spec["clusterIP"] {
            errors.push(Invalid::invalid("spec.clusterIPs[0]", &spec["clusterIP"], "may not change once set"));
        }
    }
}

fn validate_ports(ports: &[Value], errors: &mut Vec<Invalid>) {
    let mut names_seen = Vec::new();
    let mut numbers_seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = port["name"].as_str().unwrap_or("");
        if name.is_empty() {
            if ports.len() > 1 {
                errors.push(Invalid::required(&format!("{path}.name"), ""));
            }
        } else if let Some(why) = names::label(name) {
            errors.push(Invalid::invalid(&format!("{path}.name"), &port["name"], why));
        } else if names_seen.contains(&name) {
            errors.push(Invalid::duplicate(&format!("{path}.name"), &port["name"]));
        } else {
            names_seen.push(name);
        }
        if !is_port(&port["port"]) {
            errors.push(Invalid::invalid(
                &format!("{path}.port"),
                &number(&port["port"]),
                "must be between 1 and 65535, inclusive",
            ));
        }
        if !["TCP", "UDP", "SCTP"].contains(&port["protocol"].as_str().unwrap_or("")) {
            errors.push(Invalid::not_supported(
                &format!("{path}.protocol"),
                &port["protocol"],
                &["SCTP", "TCP", "UDP"],
            ));
        }
        let target = &port["targetPort"];
        match target.as_str() {
            Some(name) => {
                if let Some(why) = names::port_name(name) {
                    errors.push(Invalid::invalid(&format!("{path}.targetPort"), target, why));
                }
            }
            None if !is_port(target) => {
                errors.push(Invalid::invalid(
                    &format!("{path}.targetPort"),
                    &number(target),
                    "must be between 1 and 65535, inclusive",
                ));
            }
            None => {}
        }
        let key = (port["protocol"].clone(), port["port"].clone());
        if numbers_seen.contains(&key) {
            let shown = json!({"port": port["port"], "protocol": port["protocol"]});
            errors.push(Invalid::duplicate(&path, &shown));
        }
        numbers_seen.push(key);
    }
}

fn number(value: &Value) -> Value {
    if value.is_null() { 0.into() } else { value.clone() }
}

/// True for 1 to 65535.
pub(crate) fn is_port(value: &Value) -> bool {
    value.as_i64().is_some_and(|p| (1..=65_535).contains(&p))
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
        case.invalid(
            json!({"spec": {"clusterIP": "None", "type": "NodePort", "ports": [{"port": 0}]}}),
            &[
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
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
