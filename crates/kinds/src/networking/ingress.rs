//! `networking.k8s.io/v1 Ingress`.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{list, text};
use crate::{age, checks, names};

pub(crate) const RULES: Rules = Rules { validate, validate_status, row, warnings, ..NO_RULES };

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let annotated = new["metadata"]["annotations"].get(CLASS).is_some() && new["spec"]["ingressClassName"].is_null();
    let line = || format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead");
    (old.is_none() && annotated).then(line).into_iter().collect()
}

/// The class before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    let backend = &spec["defaultBackend"];
    if list(&spec["rules"]).is_empty() && !backend.is_object() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(Invalid::invalid("spec", &spec["rules"], detail));
    }
    if backend.is_object() {
        validate_backend(backend, "spec.defaultBackend", errors);
    }
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        validate_rule(rule, &format!("spec.rules[{index}]"), errors);
    }
    for (index, tls) in list(&spec["tls"]).iter().enumerate() {
        for (place, host) in list(&tls["hosts"]).iter().enumerate() {
            validate_host(text(host), &format!("spec.tls[{index}].hosts[{place}]"), errors);
        }
        checks::named(tls, &format!("spec.tls[{index}]"), "secretName", names::subdomain, errors);
    }
    if let Some(class) = spec["ingressClassName"].as_str() {
        for why in names::subdomain(class) {
            errors.push(Invalid::invalid("spec.ingressClassName", &class.into(), why));
        }
    }
    let noted = &new["metadata"]["annotations"][CLASS];
    if old.is_none() && noted.is_string() && spec["ingressClassName"].is_string() && *noted != spec["ingressClassName"]
    {
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(Invalid::invalid(&format!("annotations.{CLASS}"), noted, detail));
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Vec<Invalid>) {
    let status = crate::spot::Spot::new(&new["status"], "status");
    let balancer = status.at("loadBalancer");
    for place in balancer.list("ingress") {
        let (ip, host) = (place.at("ip"), place.at("hostname"));
        let known = list(&old["status"]["loadBalancer"]["ingress"]).iter().any(|o| o["ip"] == ip.text());
        if !ip.text().is_empty() && !known {
            ip.ip(errors);
        }
        host.named(names::subdomain, errors);
        if host.text().parse::<std::net::IpAddr>().is_ok() {
            host.fail("must be a DNS name, not an IP address", errors);
        }
    }
}

fn validate_host(host: &str, path: &str, errors: &mut Vec<Invalid>) {
    let why = if host.contains('*') { names::wildcard(host) } else { names::subdomain(host) };
    for why in why {
        errors.push(Invalid::invalid(path, &host.into(), why));
    }
}

fn validate_rule(rule: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let host = text(&rule["host"]);
    if !host.is_empty() {
        if host.parse::<std::net::IpAddr>().is_ok() {
            let detail = "must be a DNS name, not an IP address";
            errors.push(Invalid::invalid(&format!("{path}.host"), &host.into(), detail));
        }
        validate_host(host, &format!("{path}.host"), errors);
    }
    if !rule["http"].is_object() {
        return;
    }
    let paths = list(&rule["http"]["paths"]);
    if paths.is_empty() {
        errors.push(Invalid::required(&format!("{path}.http.paths"), ""));
    }
    for (index, entry) in paths.iter().enumerate() {
        validate_path(entry, &format!("{path}.http.paths[{index}]"), errors);
    }
}

fn validate_path(entry: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let (place, at) = (text(&entry["path"]), format!("{path}.path"));
    let mut wrong = |detail: String| errors.push(Invalid::invalid(&at, &place.into(), detail));
    match entry["pathType"].as_str() {
        None => {
            errors.push(Invalid::required(&format!("{path}.pathType"), "pathType must be specified"));
            return;
        }
        Some("Exact" | "Prefix") => {
            if !place.starts_with('/') {
                wrong("must be an absolute path".into());
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|p| place.contains(p)) {
                wrong(format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].into_iter().filter(|e| place.ends_with(e)) {
                wrong(format!("cannot end with '{end}'"));
            }
        }
        Some("ImplementationSpecific") => {
            if !place.is_empty() && !place.starts_with('/') {
                wrong("must be an absolute path".into());
            }
        }
        Some(_) => errors.push(Invalid::not_supported(
            &format!("{path}.pathType"),
            &entry["pathType"],
            &["Exact", "ImplementationSpecific", "Prefix"],
        )),
    }
    validate_backend(&entry["backend"], &format!("{path}.backend"), errors);
}

fn validate_backend(backend: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    let mut wrong = |detail: &str| errors.push(Invalid::invalid(path, &"".into(), detail));
    match (service.is_object(), resource.is_object()) {
        (true, true) => wrong("cannot set both resource and service backends"),
        (false, false) => wrong("resource or service backend is required"),
        (false, true) => {
            let at = format!("{path}.resource");
            super::local_reference(&crate::spot::Spot::new(resource, &at), errors);
        }
        (true, false) => {
            checks::required(service, &format!("{path}.service"), "name", errors);
            checks::named(service, &format!("{path}.service"), "name", names::label, errors);
            let number = service["port"]["number"].as_i64().filter(|n| *n != 0);
            match (text(&service["port"]["name"]).is_empty(), number) {
                (false, Some(_)) => {
                    errors.push(Invalid::invalid(path, &"".into(), "cannot set both port name & port number"));
                }
                (false, None) => checks::port(&service["port"]["name"], &format!("{path}.service.port.name"), errors),
                (true, Some(_)) => {
                    checks::port(&service["port"]["number"], &format!("{path}.service.port.number"), errors);
                }
                (true, None) => errors.push(Invalid::required(path, "port name or number is required")),
            }
        }
    }
}

fn hosts(rules: &[Value]) -> String {
    let named: Vec<&str> = rules.iter().map(|r| text(&r["host"])).filter(|h| !h.is_empty()).collect();
    match named.len() {
        0 => "*".into(),
        // Upstream counts the rules without a host among those that are left.
        more if more > 3 || (more == 3 && rules.last().is_some_and(|r| text(&r["host"]).is_empty())) => {
            format!("{} + {} more...", named[..3].join(","), rules.len() - 3)
        }
        _ => named.join(","),
    }
}

fn row(ingress: &Value, now: i64) -> Vec<Value> {
    let spec = &ingress["spec"];
    let balanced = list(&ingress["status"]["loadBalancer"]["ingress"]).iter();
    let mut addresses: Vec<&str> =
        balanced.map(|i| i["ip"].as_str().unwrap_or(text(&i["hostname"]))).filter(|a| !a.is_empty()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    vec![
        ingress["metadata"]["name"].clone(),
        spec["ingressClassName"].as_str().unwrap_or("<none>").into(),
        hosts(list(&spec["rules"])).into(),
        addresses.join(",").into(),
        if list(&spec["tls"]).is_empty() { "80" } else { "80, 443" }.into(),
        age::since(&ingress["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn ingress() {
        let case = Case::new("networking.k8s.io/v1", "Ingress");
        case.invalid(
            json!({"spec": {}}),
            &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
        );
        case.invalid(
            json!({"spec": {"rules": [{"host": "*.a.b", "http": {"paths": [
                {"path": "a//b", "pathType": "Prefix", "backend": {"service": {"name": "s"}}}, {"backend": {}}]}}]}}),
            &[
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must be an absolute path",
                "spec.rules[0].http.paths[0].path: Invalid value: \"a//b\": must not contain '//'",
                "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
                "spec.rules[0].http.paths[1].pathType: Required value: pathType must be specified",
            ],
        );
        case.row(
            json!({"spec": {"ingressClassName": "nginx", "rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}], "tls": [{}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.2"}, {"hostname": "h"}, {"ip": "10.0.0.2"}]}}}),
            json!(["x", "nginx", "a,b,c + 1 more...", "10.0.0.2,h", "80, 443", "10s"]),
        );
    }
}
