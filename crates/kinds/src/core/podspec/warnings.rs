//! What is told of pods and templates that are allowed, but odd.

use serde_json::Value;

use super::LISTS;
use crate::addresses::ip_warning;
use crate::spot::Spot;
use crate::tree::list;
use crate::{names, tree};

/// Labels of nodes that have other names by now.
pub(crate) fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

/// (field, as upstream calls it, what became of it)
pub(crate) const VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// A name that will be part of host names should be a DNS label.
pub(crate) fn host_name(name: &Value, used_in: &str) -> Option<String> {
    let problems = names::label(tree::text(name));
    (!problems.is_empty()).then(|| {
        let problems = problems.join(" ");
        format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{problems}]"
        )
    })
}

/// What to tell of a template at `path`, or of a pod (`path` is empty).
pub(crate) fn warnings(template: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let whole = Spot::new(template, path);
    let spec = whole.at("spec");
    placement(&spec, &mut found);
    let annotations = &template["metadata"]["annotations"];
    let annotated = |key: &str| annotations.get(key).is_some();
    let dot = if path.is_empty() { "" } else { "." };
    for (key, message) in ANNOTATIONS.iter().filter(|(key, _)| annotated(key)) {
        found.push(format!("{path}{dot}metadata.annotations[{key}]: {message}"));
    }
    for volume in spec.list("volumes") {
        for (_, called, message) in VOLUMES.iter().filter(|(field, ..)| volume.at(field).is_set()) {
            found.push(format!("{}: {message}", volume.at(called).path()));
        }
        let ephemeral = volume.at("ephemeral");
        let claim = ephemeral.at("volumeClaimTemplate");
        claim_spec(&claim.at("spec"), &mut found);
    }
    spec.list("volumes").for_each(|volume| overlaps(&volume, &mut found));
    repeated(&spec, "hostAliases", "ip", &mut found);
    repeated(&spec, "imagePullSecrets", "name", &mut found);
    for secret in spec.list("imagePullSecrets").filter(|s| s.at("name").text().is_empty()) {
        found.push(format!("{}: invalid empty name \"\"", secret.at("name").path()));
    }
    let overhead = spec.at("overhead");
    for resource in ["memory", "ephemeral-storage"] {
        fraction(&overhead, resource, &mut found);
    }
    let context = spec.at("securityContext");
    if !context.at("seccompProfile").is_set() && annotated("seccomp.security.alpha.kubernetes.io/pod") {
        let key = "seccomp.security.alpha.kubernetes.io/pod";
        found.push(seccomp(path, key));
    }
    for container in LISTS.into_iter().flat_map(|l| spec.list(l)) {
        let context = container.at("securityContext");
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{}", container.at("name").text());
        if !context.at("seccompProfile").is_set() && annotated(&key) {
            found.push(seccomp(path, &key));
        }
        let resources = container.at("resources");
        for resource in ["memory", "ephemeral-storage"] {
            for kind in ["limits", "requests"] {
                fraction(&resources.at(kind), resource, &mut found);
            }
        }
        variables(&container, &mut found);
    }
    ports(&spec, &mut found);
    if spec.at("terminationGracePeriodSeconds").number().is_some_and(|s| s < 0) {
        let at = spec.at("terminationGracePeriodSeconds").path();
        found.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    selectors(&spec, &mut found);
    let dns = spec.at("dnsConfig");
    found.extend(dns.list("nameservers").filter_map(|ip| ip_warning(&ip.path(), ip.text())));
    for alias in spec.list("hostAliases") {
        found.extend(ip_warning(&alias.at("ip").path(), alias.at("ip").text()));
    }
    found
}

/// Files of a volume that hide each other.
fn overlaps(volume: &Spot, found: &mut Vec<String>) {
    let name = object::quoted(volume.at("name").text());
    let named = |kind: &str, name: &Spot| format!("{kind} {}", object::quoted(name.text()));
    let of = |source: &Spot, from: &str| -> Vec<(String, String)> {
        source.list("items").map(|item| (item.at("path").text().to_owned(), from.to_owned())).collect()
    };
    let mut tell = |files: Vec<(String, String)>, seen: &mut Vec<(String, String)>, described: &str| {
        for (path, from) in files {
            let path = path.trim_end_matches('/').to_owned();
            let shown = |(path, from): &(String, String)| match from.as_str() {
                "" => object::quoted(path),
                from => format!("{} ({from})", object::quoted(path)),
            };
            let file = (path, from);
            let below = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
            for other in seen.iter().filter(|s| s.0 == file.0 || below(&s.0, &file.0) || below(&file.0, &s.0)) {
                let (file, other) = (shown(&file), shown(other));
                found.push(format!("volume {name} ({described}): overlapping paths: {file} with {other}"));
            }
            seen.push(file);
        }
    };
    let (map, secret, downward) = (volume.at("configMap"), volume.at("secret"), volume.at("downwardAPI"));
    tell(of(&map, ""), &mut Vec::new(), &named("ConfigMap", &map.at("name")));
    tell(of(&secret, ""), &mut Vec::new(), &named("Secret", &secret.at("secretName")));
    tell(of(&downward, ""), &mut Vec::new(), "DownwardAPI");
    let (projected, mut seen) = (volume.at("projected"), Vec::new());
    let mut empty = 0;
    for source in projected.list("sources") {
        let [map, secret, downward, token] =
            ["configMap", "secret", "downwardAPI", "serviceAccountToken"].map(|kind| source.at(kind));
        let files = if source.len() == 0 {
            empty += 1;
            Vec::new()
        } else if map.at("items").len() > 0 {
            of(&map, &named("ConfigMap", &map.at("name")))
        } else if secret.at("items").len() > 0 {
            of(&secret, &named("Secret", &secret.at("name")))
        } else if downward.at("items").len() > 0 {
            of(&downward, "DownwardAPI")
        } else if token.is_set() {
            vec![(token.at("path").text().to_owned(), "ServiceAccountToken".to_owned())]
        } else {
            Vec::new()
        };
        tell(files, &mut seen, "Projected");
    }
    found.extend((0..empty).map(|_| format!("volume {name} (Projected) has no sources provided")));
}

fn seccomp(path: &str, key: &str) -> String {
    let dot = if path.is_empty() { "" } else { "." };
    format!(
        "{path}{dot}metadata.annotations[{key}]: non-functional in v1.27+; use the \"seccompProfile\" field instead"
    )
}

/// Terms that name labels of old, or values that no label has.
pub(crate) fn node_term(term: &Spot, check_values: bool, found: &mut Vec<String>) {
    for rule in term.list("matchExpressions") {
        let key = rule.at("key");
        if let Some(message) = deprecated_label(key.text()) {
            found.push(format!("{}: {} is {message}", key.path(), key.text()));
        }
        if check_values {
            for value in rule.list("values") {
                let shown = object::quoted(value.text());
                let told = names::label_value(value.text()).into_iter();
                found.extend(told.map(|why| format!("{}: {shown} is invalid, {why}", value.path())));
            }
        }
    }
}

fn placement(spec: &Spot, found: &mut Vec<String>) {
    for (key, spot) in spec.map("nodeSelector") {
        found.extend(deprecated_label(key).map(|message| format!("{}: {message}", spot.path())));
    }
    let affinity = spec.at("affinity");
    let node = affinity.at("nodeAffinity");
    let required = node.at("requiredDuringSchedulingIgnoredDuringExecution");
    required.list("nodeSelectorTerms").for_each(|term| node_term(&term, false, found));
    for preferred in node.list("preferredDuringSchedulingIgnoredDuringExecution") {
        node_term(&preferred.at("preference"), true, found);
    }
    for rule in spec.list("topologySpreadConstraints") {
        let key = rule.at("topologyKey");
        if let Some(message) = deprecated_label(key.text()) {
            found.push(format!("{}: {} is {message}", key.path(), key.text()));
        }
        nothing_selected(&rule, found);
    }
}

fn nothing_selected(term: &Spot, found: &mut Vec<String>) {
    let selector = term.at("labelSelector");
    if !selector.is_set() {
        found.push(format!("{}: a null labelSelector results in matching no pod", selector.path()));
    }
}

fn selectors(spec: &Spot, found: &mut Vec<String>) {
    let affinity = spec.at("affinity");
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.at(kind);
        pods.list("requiredDuringSchedulingIgnoredDuringExecution").for_each(|term| nothing_selected(&term, found));
        for preferred in pods.list("preferredDuringSchedulingIgnoredDuringExecution") {
            nothing_selected(&preferred.at("podAffinityTerm"), found);
        }
    }
}

fn repeated(spec: &Spot, field: &str, key: &str, found: &mut Vec<String>) {
    let mut seen = Vec::new();
    for item in spec.list(field) {
        let name = item.at(key);
        if seen.contains(&name.text()) {
            found.push(format!("{}: duplicate {key} {}", name.path(), object::quoted(name.text())));
        } else {
            seen.push(name.text());
        }
    }
}

/// Bytes come whole.
fn fraction(amounts: &Spot, resource: &str, found: &mut Vec<String>) {
    let amount = amounts.at(resource);
    if amount.quantity().is_some_and(|q| q.millis() % 1000 != 0) {
        let shown = object::quoted(amount.text());
        found.push(format!(
            "{}[{resource}]: fractional byte value {shown} is invalid, must be an integer",
            amounts.path()
        ));
    }
}

/// What to tell of a claim's spec.
pub(crate) fn claim_spec(spec: &Spot, found: &mut Vec<String>) {
    let resources = spec.at("resources");
    for kind in ["requests", "limits"] {
        fraction(&resources.at(kind), "storage", found);
    }
}

/// A variable that is defined again without using what it was before.
fn variables(container: &Spot, found: &mut Vec<String>) {
    let mut seen = Vec::new();
    for variable in container.list("env") {
        let (name, value) = (variable.at("name").text(), variable.at("value").text());
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        let reference = format!("$({name})");
        if variable.at("valueFrom").is_set() || value == reference || !value.contains(&reference) {
            found.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                variable.path(),
                object::quoted(name)
            ));
        }
    }
}

fn ports(spec: &Spot, found: &mut Vec<String>) {
    let mut all: Vec<(String, &str, &str, i64, i64)> = Vec::new();
    let mut named: Vec<(&str, String)> = Vec::new();
    let mut about_names = Vec::new();
    for container in LISTS.into_iter().flat_map(|l| spec.list(l).collect::<Vec<_>>()) {
        for port in container.list("ports") {
            let (ip, host) = (port.at("hostIP").text(), port.at("hostPort").count());
            let (protocol, number, name) =
                (port.at("protocol").text(), port.at("containerPort").count(), port.at("name").text());
            if !ip.is_empty() && host == 0 {
                found.push(format!(
                    "{}: hostIP set without hostPort: {{Name:{name} HostPort:{host} ContainerPort:{number} Protocol:{protocol} HostIP:{ip}}}",
                    port.path()
                ));
            }
            for (other, other_protocol, other_ip, other_number, other_host) in &all {
                if *other_number != number || *other_protocol != protocol {
                    continue;
                }
                let how = if ip == *other_ip && host == *other_host {
                    "duplicate"
                } else if host == 0 || *other_host == 0 {
                    "overlapping"
                } else if host == *other_host && (ip.is_empty() != other_ip.is_empty()) {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                found.push(format!("{}: {how} port definition with {other}", port.path()));
            }
            all.push((port.path(), protocol, ip, number, host));
            if name.is_empty() {
                continue;
            }
            match named.iter().find(|(known, _)| *known == name) {
                Some((_, other)) => about_names.push(format!(
                    "{}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                    port.path(),
                    object::quoted(name)
                )),
                None => named.push((name, port.path())),
            }
        }
    }
    found.append(&mut about_names);
}

/// True when the object's spec was changed: only then is it spoken of again.
pub(crate) fn is_changed(new: &Value, old: Option<&Value>) -> bool {
    old.is_none_or(|old| old["metadata"]["generation"] != new["metadata"]["generation"])
}

/// The warnings of a workload: its template's, and those about its name.
pub(crate) fn workload(new: &Value, old: Option<&Value>) -> Vec<String> {
    if !is_changed(new, old) {
        return Vec::new();
    }
    let mut found = Vec::new();
    if old.is_none() {
        found.extend(host_name(&new["metadata"]["name"], "Pod names and hostnames"));
    }
    found.extend(warnings(&new["spec"]["template"], "spec.template"));
    found
}

/// The warnings of a stateful set's claims, too.
pub(crate) fn claims(new: &Value, found: &mut Vec<String>) {
    for (index, claim) in list(&new["spec"]["volumeClaimTemplates"]).iter().enumerate() {
        claim_spec(&Spot::new(&claim["spec"], &format!("spec.volumeClaimTemplates[{index}].Spec")), found);
    }
}
