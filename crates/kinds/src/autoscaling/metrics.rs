//! Metrics that an autoscaler watches: checks, and the TARGETS column.

use object::Invalid;
use serde_json::Value;

use crate::checks;
use crate::tree::{list, text};

/// (type, field)
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

pub(super) fn validate(metrics: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (index, metric) in list(metrics).iter().enumerate() {
        let at = format!("{path}[{index}]");
        let kind = text(&metric["type"]);
        if kind.is_empty() {
            errors.push(Invalid::required(&format!("{at}.type"), "must specify a metric source type"));
        }
        let present: Vec<&str> = SOURCES.iter().map(|(_, f)| *f).filter(|f| metric[*f].is_object()).collect();
        if let Some(first) = present.first() {
            source(&metric[*first], first, &format!("{at}.{first}"), errors);
        }
        let Some((_, expected)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
            errors.push(Invalid::not_supported(&format!("{at}.type"), &kind.into(), &TYPES));
            continue;
        };
        if !metric[*expected].is_object() {
            let detail = "must populate information for the given metric source";
            errors.push(Invalid::required(&format!("{at}.{expected}"), detail));
        }
        for extra in present.iter().filter(|f| *f != expected) {
            let detail = "must populate the given metric source only";
            errors.push(Invalid::forbidden(&format!("{at}.{extra}"), detail));
        }
    }
}

fn source(source: &Value, kind: &str, path: &str, errors: &mut Vec<Invalid>) {
    let target = &source["target"];
    match kind {
        "resource" | "containerResource" => {
            if text(&source["name"]).is_empty() {
                errors.push(Invalid::required(&format!("{path}.name"), "must specify a resource name"));
            }
            if kind == "containerResource" && text(&source["container"]).is_empty() {
                errors.push(Invalid::required(&format!("{path}.container"), "must specify a container"));
            }
        }
        _ if text(&source["metric"]["name"]).is_empty() => {
            errors.push(Invalid::required(&format!("{path}.metric.name"), "must specify a metric name"));
        }
        _ => {}
    }
    if kind == "object" {
        super::reference(&source["describedObject"], &format!("{path}.describedObject"), errors);
    }
    if text(&target["type"]).is_empty() {
        errors.push(Invalid::required(&format!("{path}.target.type"), "must specify a metric target type"));
    }
    checks::one_of(target, &format!("{path}.target"), "type", &["Utilization", "Value", "AverageValue"], errors);
    if target["averageUtilization"].as_i64().is_some_and(|n| n < 1) {
        let at = format!("{path}.target.averageUtilization");
        errors.push(Invalid::invalid(&at, &target["averageUtilization"], "must be greater than 0"));
    }
}

/// `cpu: 10%/80%, <unknown>/5 + 1 more...`
pub(super) fn print(specs: &Value, statuses: &Value) -> String {
    let specs = list(specs);
    if specs.is_empty() {
        return "<none>".into();
    }
    let printed: Vec<String> = specs.iter().enumerate().map(|(i, spec)| one(spec, &list(statuses).get(i))).collect();
    match printed.len() {
        0..=2 => printed.join(", "),
        more => format!("{} + {} more...", printed[..2].join(", "), more - 2),
    }
}

fn one(spec: &Value, status: &Option<&Value>) -> String {
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == text(&spec["type"])) else {
        return "<unknown type>".into();
    };
    let target = &spec[*field]["target"];
    let current = status.map_or(&Value::Null, |s| &s[*field]["current"]);
    let shown = |value: &Value| value.as_str().map_or("<unknown>".to_owned(), Into::into);
    let percent = |value: &Value, none: &str| value.as_i64().map_or(none.to_owned(), |n| format!("{n}%"));
    match *field {
        "resource" | "containerResource" => {
            let name = text(&spec[*field]["name"]);
            match target["averageValue"].as_str() {
                Some(wanted) => format!("{name}: {}/{wanted}", shown(&current["averageValue"])),
                None => {
                    let wanted = percent(&target["averageUtilization"], "<auto>");
                    format!("{name}: {}/{wanted}", percent(&current["averageUtilization"], "<unknown>"))
                }
            }
        }
        "pods" => format!("{}/{}", shown(&current["averageValue"]), text(&target["averageValue"])),
        _ => match target["averageValue"].as_str() {
            Some(wanted) => format!("{}/{wanted} (avg)", shown(&current["averageValue"])),
            None => format!("{}/{}", shown(&current["value"]), text(&target["value"])),
        },
    }
}
