//! Horizontal pod autoscalers: v1 knows one CPU percentage; the rest of v2 travels in annotations, in v1's own metric form.

use serde_json::{Map, Value, json};

use crate::cells::at;
use crate::tree::{list, remove, set, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const OLD_TOLERANCES: [&str; 2] =
    ["autoscaling.alpha.kubernetes.io/scale-down-tolerance", "autoscaling.alpha.kubernetes.io/scale-up-tolerance"];
/// Percent of the requested CPU that is aimed at when nothing else is said.
const CPU_TARGET: i64 = 80;

/// Per kind of metric: the fields of v1 in Go's order, and where v2 has them.
type Fields = &'static [(&'static str, &'static str)];
const SPECS: &[(&str, Fields)] = &[
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("targetValue", "target.value"),
            ("selector", "metric.selector"),
            ("averageValue", "target.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("targetAverageValue", "target.averageValue"),
            ("selector", "metric.selector"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("targetAverageUtilization", "target.averageUtilization"),
            ("targetAverageValue", "target.averageValue"),
            ("container", "container"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("targetValue", "target.value"),
            ("targetAverageValue", "target.averageValue"),
        ],
    ),
];
const STATUSES: &[(&str, Fields)] = &[
    (
        "object",
        &[
            ("target", "describedObject"),
            ("metricName", "metric.name"),
            ("currentValue", "current.value"),
            ("selector", "metric.selector"),
            ("averageValue", "current.averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", "metric.name"),
            ("currentAverageValue", "current.averageValue"),
            ("selector", "metric.selector"),
        ],
    ),
    (
        "resource",
        &[
            ("name", "name"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("currentAverageUtilization", "current.averageUtilization"),
            ("currentAverageValue", "current.averageValue"),
            ("container", "container"),
        ],
    ),
    (
        "external",
        &[
            ("metricName", "metric.name"),
            ("metricSelector", "metric.selector"),
            ("currentValue", "current.value"),
            ("currentAverageValue", "current.averageValue"),
        ],
    ),
];

fn put(target: &mut Value, path: &str, value: Value) {
    match path.split_once('.') {
        Some((head, rest)) => put(&mut target[head], rest, value),
        None => target[path] = value,
    }
}

/// One metric, its fields moved by the table.
fn moved(metric: &Value, table: &[(&str, Fields)], older: bool) -> Value {
    let mut made = json!({"type": metric["type"]});
    for (kind, fields) in table.iter().filter(|(kind, _)| metric[*kind].is_object()) {
        made[*kind] = Value::Object(Map::new());
        for (v1, v2) in *fields {
            let (from, to) = if older { (v2, v1) } else { (v1, v2) };
            let value = at(&metric[*kind], from);
            if !value.is_null() {
                put(&mut made[*kind], to, value.clone());
            }
        }
        if !older && std::ptr::eq(table, SPECS) {
            target_type(kind, &mut made[*kind]["target"]);
        }
    }
    made
}

/// Metrics of v1 as an annotation has them: JSON with the fields in Go's order.
fn written(metrics: &[Value], table: &[(&str, Fields)]) -> String {
    let part = |field: &str, value: &Value| {
        let inner = match value.is_object() {
            true if field == "target" => ordered(&["kind", "name", "apiVersion"], value),
            true => schema::go::shown(schema::table(), "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", value),
            false => value.to_string(),
        };
        format!("{}:{inner}", Value::from(field))
    };
    let one = |metric: &Value| {
        let mut parts = vec![part("type", &metric["type"])];
        for (kind, fields) in table.iter().filter(|(kind, _)| metric[*kind].is_object()) {
            let given = fields.iter().filter(|(field, _)| !metric[*kind][*field].is_null());
            let inner: Vec<String> = given.map(|(field, _)| part(field, &metric[*kind][*field])).collect();
            parts.push(format!("{}:{{{}}}", Value::from(*kind), inner.join(",")));
        }
        format!("{{{}}}", parts.join(","))
    };
    format!("[{}]", metrics.iter().map(one).collect::<Vec<_>>().join(","))
}

/// An object with these fields in this order.
fn ordered(fields: &[&str], value: &Value) -> String {
    let given = fields.iter().filter(|field| !value[**field].is_null());
    let parts: Vec<String> = given.map(|field| format!("{}:{}", Value::from(*field), value[*field])).collect();
    format!("{{{}}}", parts.join(","))
}

/// v2 says how the target is meant; v1 leaves it to which field is there.
fn target_type(kind: &str, target: &mut Value) {
    let has = |field: &str| !target[field].is_null();
    let name = match kind {
        "pods" => "AverageValue",
        "resource" | "containerResource" if has("averageUtilization") => "Utilization",
        "object" if !has("averageValue") => "Value",
        "external" if has("value") => "Value",
        _ => "AverageValue",
    };
    target["type"] = name.into();
    if kind == "object" && name == "AverageValue" && target["value"] == "0" {
        remove(target, "value");
    }
}

fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn cpu(path: &str, percent: &Value) -> Value {
    let mut resource = json!({"name": "cpu"});
    resource[path] = json!({"averageUtilization": percent});
    if path == "target" {
        resource[path]["type"] = "Utilization".into();
    }
    json!({"type": "Resource", "resource": resource})
}

fn drop_annotations(hpa: &mut Value) {
    let Some(annotations) = hpa.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    for name in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].iter().chain(&OLD_TOLERANCES) {
        annotations.remove(*name);
    }
    if annotations.is_empty() {
        remove(&mut hpa["metadata"], "annotations");
    }
}

/// Keys of `behavior` with another case of their first letter: upstream writes its internal type's field names.
fn recased(value: Value, upper: bool) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(key, value)| {
                let mut letters = key.chars();
                let first = letters.next().map(|c| if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
                (first.into_iter().chain(letters).collect::<String>(), recased(value, upper))
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(|i| recased(i, upper)).collect(),
        other => other,
    }
}

pub(super) fn to_v1(mut hpa: Value) -> Value {
    hpa["apiVersion"] = "autoscaling/v1".into();
    drop_annotations(&mut hpa);
    let mut notes = Vec::new();
    let metrics = hpa.get_mut("spec").and_then(|spec| remove(spec, "metrics")).unwrap_or_default();
    let percent = |m: &Value| is_cpu(m) && !m["resource"]["target"]["averageUtilization"].is_null();
    if let Some(found) = list(&metrics).iter().find(|m| percent(m)) {
        hpa["spec"]["targetCPUUtilizationPercentage"] = found["resource"]["target"]["averageUtilization"].clone();
    }
    let others: Vec<Value> = list(&metrics).iter().filter(|m| !percent(m)).map(|m| moved(m, SPECS, true)).collect();
    if !others.is_empty() {
        notes.push((METRICS, written(&others, SPECS)));
    }
    if let Some(behavior) = hpa.get_mut("spec").and_then(|spec| remove(spec, "behavior")).filter(Value::is_object) {
        let name = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior";
        notes.push((BEHAVIOR, schema::go::shown(schema::table(), name, &behavior)));
    }
    if let Some(status) = hpa.get_mut("status") {
        let current = remove(status, "currentMetrics").unwrap_or_default();
        let used = list(&current).iter().filter(|m| is_cpu(m));
        if let Some(used) = used.map(|m| &m["resource"]["current"]["averageUtilization"]).find(|u| !u.is_null()) {
            status["currentCPUUtilizationPercentage"] = used.clone();
        }
        if !list(&current).is_empty() {
            let current: Vec<Value> = list(&current).iter().map(|m| moved(m, STATUSES, true)).collect();
            notes.push((CURRENT_METRICS, written(&current, STATUSES)));
        }
        if let Some(conditions) = remove(status, "conditions").filter(|c| !list(c).is_empty()) {
            notes.push((CONDITIONS, conditions.to_string()));
        }
        // What v1 writes into every object.
        set(status, "currentReplicas", 0);
    }
    for (name, value) in notes {
        hpa["metadata"]["annotations"][name] = value.into();
    }
    hpa
}

pub(super) fn to_v2(mut hpa: Value) -> Value {
    hpa["apiVersion"] = "autoscaling/v2".into();
    let note = |name: &str| -> Option<Value> { serde_json::from_str(text(&hpa["metadata"]["annotations"][name])).ok() };
    let (metrics, current, conditions, behavior) =
        (note(METRICS), note(CURRENT_METRICS), note(CONDITIONS), note(BEHAVIOR));
    drop_annotations(&mut hpa);
    let all = |table, value: Option<Value>| -> Vec<Value> {
        list(&value.unwrap_or_default()).iter().map(|m| moved(m, table, false)).collect()
    };
    let mut specs = all(SPECS, metrics);
    if let Some(spec) = hpa.get_mut("spec") {
        if let Some(percent) = remove(spec, "targetCPUUtilizationPercentage").filter(|p| !p.is_null()) {
            specs.push(cpu("target", &percent));
        }
        if specs.is_empty() {
            specs.push(cpu("target", &CPU_TARGET.into()));
        }
        spec["metrics"] = specs.into();
        if let Some(behavior) =
            behavior.map(|b| recased(b, false)).filter(|b| b.as_object().is_some_and(|o| !o.is_empty()))
        {
            spec["behavior"] = behavior;
        }
    }
    if let Some(status) = hpa.get_mut("status") {
        if status["currentReplicas"] == 0 {
            remove(status, "currentReplicas");
        }
        let percent = remove(status, "currentCPUUtilizationPercentage").filter(|p| !p.is_null());
        let statuses = all(STATUSES, current);
        if !statuses.is_empty() {
            status["currentMetrics"] = statuses.into();
        } else if let Some(percent) = percent {
            status["currentMetrics"] = vec![cpu("current", &percent)].into();
        }
        if let Some(conditions) = conditions {
            status["conditions"] = conditions;
        }
    }
    hpa
}
