//! Cells of tables that are plain paths: `.spec.nodeName`, with `|text` for what is absent, `@age` for an age, `#` for a count, `?` for a boolean.

use serde_json::Value;

use crate::age;

/// The value at a dotted path; `Null` when it is absent. Keys with dots are not reachable.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').filter(|p| !p.is_empty()).fold(value, |v, key| match key.parse::<usize>() {
        Ok(index) if v.is_array() => &v[index],
        _ => &v[key],
    })
}

/// Evaluates cells: see the module.
pub(crate) fn row(object: &Value, now: i64, cells: &[&str]) -> Vec<Value> {
    cells.iter().map(|cell| one(object, now, cell)).collect()
}

fn one(object: &Value, now: i64, cell: &str) -> Value {
    if *cell == *"@age" {
        return age::since(&object["metadata"]["creationTimestamp"], now).into();
    }
    if let Some(path) = cell.strip_prefix('#') {
        let counted = match at(object, path) {
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            _ => 0,
        };
        return counted.into();
    }
    if let Some(path) = cell.strip_prefix('?') {
        return (*at(object, path) == true).into();
    }
    let (path, absent) = cell.split_once('|').unwrap_or((cell, ""));
    match at(object, path) {
        Value::Null => absent.into(),
        Value::String(text) if text.is_empty() => absent.into(),
        Value::Array(items) if items.is_empty() => absent.into(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",").into(),
        other => other.clone(),
    }
}

/// Names and images of a pod template's containers, and a selector: the wide columns of workloads.
pub(crate) fn workload(object: &Value) -> Vec<Value> {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    let join = |field: &str| {
        let all = containers.into_iter().flatten().filter_map(|c| c[field].as_str());
        Value::from(all.collect::<Vec<_>>().join(","))
    };
    vec![join("name"), join("image"), selector(&object["spec"]["selector"]).into()]
}

/// A selector as text; `<none>` for an empty one.
pub(crate) fn selector(selector: &Value) -> String {
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let labels = if structured { &selector["matchLabels"] } else { selector };
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let mut terms: Vec<(String, String)> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), format!("{key}={}", text(value))))
        .collect();
    for expression in selector["matchExpressions"].as_array().into_iter().flatten().filter(|_| structured) {
        let key = text(&expression["key"]);
        let mut values: Vec<String> = expression["values"].as_array().into_iter().flatten().map(text).collect();
        values.sort_unstable();
        let values = values.join(",");
        let shown = match expression["operator"].as_str().unwrap_or("") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        };
        terms.push((key, shown));
    }
    if terms.is_empty() {
        return "<none>".into();
    }
    terms.sort_by(|a, b| a.0.cmp(&b.0));
    terms.into_iter().map(|(_, shown)| shown).collect::<Vec<_>>().join(",")
}

/// Paths for kinds whose rows need no code, by `group/plural`.
pub(crate) fn plain(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "networking.k8s.io/servicecidrs" => &[".metadata.name", ".spec.cidrs", "@age"],
        "storage.k8s.io/csinodes" => &[".metadata.name", "#.spec.drivers", "@age"],
        "storage.k8s.io/volumeattachments" => &[
            ".metadata.name",
            ".spec.attacher",
            ".spec.source.persistentVolumeName",
            ".spec.nodeName",
            ".status.attached",
            "@age",
        ],
        "storage.k8s.io/volumeattributesclasses" => &[".metadata.name", ".driverName", "@age"],
        "scheduling.k8s.io/priorityclasses" => {
            &[".metadata.name", ".value", "?.globalDefault", "@age", ".preemptionPolicy"]
        }
        "coordination.k8s.io/leases" => &[".metadata.name", ".spec.holderIdentity", "@age"],
        "node.k8s.io/runtimeclasses" => &[".metadata.name", ".handler", "@age"],
        "admissionregistration.k8s.io/mutatingwebhookconfigurations"
        | "admissionregistration.k8s.io/validatingwebhookconfigurations" => &[".metadata.name", "#.webhooks", "@age"],
        "resource.k8s.io/resourceslices" => {
            &[".metadata.name", ".spec.nodeName", ".spec.driver", ".spec.pool.name", "@age"]
        }
        "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations" => &[
            ".metadata.name",
            ".spec.type",
            ".spec.limited.nominalConcurrencyShares|<none>",
            ".spec.limited.limitResponse.queuing.queues|<none>",
            ".spec.limited.limitResponse.queuing.handSize|<none>",
            ".spec.limited.limitResponse.queuing.queueLengthLimit|<none>",
            "@age",
        ],
        _ => return None,
    })
}
