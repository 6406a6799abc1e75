//! Metrics that an autoscaler watches: checks, and the TARGETS column.

use object::Quantity;
use serde_json::Value;

use crate::core::podspec::containers::resources;
use crate::names;
use crate::spot::{Errors, Spot};
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

pub(super) fn validate(metrics: &Value, path: &str, errors: &mut Errors) {
    for (index, metric) in list(metrics).iter().enumerate() {
        let at = format!("{path}[{index}]");
        let metric = Spot::new(metric, &at);
        let kind = metric.at("type");
        if kind.text().is_empty() {
            kind.missing("must specify a metric source type", errors);
        }
        let expected = SOURCES.iter().find(|(name, _)| *name == kind.text()).map(|(_, field)| *field);
        if expected.is_none() {
            kind.unsupported(&TYPES, errors);
        }
        let present: Vec<&str> = SOURCES.iter().map(|(_, f)| *f).filter(|f| metric.at(f).is_set()).collect();
        if let Some(first) = present.first() {
            source(&metric.at(first), first, errors);
        }
        match expected {
            None => kind.unsupported(&TYPES, errors),
            Some(field) if metric.at(field).is_set() => {}
            Some(field) => metric.at(field).missing("must populate information for the given metric source", errors),
        }
        for extra in present.iter().filter(|f| present.len() > 1 && Some(**f) != expected) {
            metric.at(extra).forbid("must populate the given metric source only", errors);
        }
    }
}

fn source(source: &Spot, kind: &str, errors: &mut Errors) {
    let target = source.at("target");
    let [value, average, utilization] = ["value", "averageValue", "averageUtilization"].map(|field| target.at(field));
    match kind {
        "resource" | "containerResource" => {
            let (name, container) = (source.at("name"), source.at("container"));
            if name.text().is_empty() {
                name.missing("must specify a resource name", errors);
            } else if kind == "containerResource" {
                resources::container_resource(name.text(), &name, errors);
            }
            match container.text().is_empty() {
                _ if kind == "resource" => {}
                true => container.missing("must specify a container", errors),
                false => container.obey(names::label, errors),
            }
        }
        _ => {
            if kind == "object" {
                let described = source.at("describedObject");
                super::reference(described.value, &described.path(), false, errors);
            }
            let (metric, name) = (source.at("metric"), "name");
            match metric.at(name).text().is_empty() {
                true => metric.at(name).missing("must specify a metric name", errors),
                false => metric.at(name).obey(names::path_segment, errors),
            }
        }
    }
    validate_target(&target, errors);
    match kind {
        "object" if !value.is_set() && !average.is_set() => {
            average.missing("must set either a target value or averageValue", errors);
        }
        "external" => match (value.is_set(), average.is_set()) {
            (false, false) => average.missing("must set either a target value for metric or a per-pod target", errors),
            (true, true) => value.forbid("may not set both a target value for metric and a per-pod target", errors),
            _ => {}
        },
        "pods" if !average.is_set() => average.missing("must specify a positive target averageValue", errors),
        "resource" | "containerResource" => match (utilization.is_set(), average.is_set()) {
            (false, false) => utilization.missing("must set either a target raw value or a target utilization", errors),
            (true, true) => average.forbid("may not set both a target raw value and a target utilization", errors),
            _ => {}
        },
        _ => {}
    }
}

fn validate_target(target: &Spot, errors: &mut Errors) {
    let kind = target.at("type");
    if kind.text().is_empty() {
        kind.missing("must specify a metric target type", errors);
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind.text()) {
        kind.fail_as(kind.text(), "must be either Utilization, Value, or AverageValue", errors);
    }
    for field in ["value", "averageValue"] {
        let amount = target.at(field);
        if amount.quantity().is_some_and(|amount| amount <= Quantity::default()) {
            amount.fail("must be positive", errors);
        }
    }
    if target.at("averageUtilization").number().is_some_and(|n| n < 1) {
        target.at("averageUtilization").fail("must be greater than 0", errors);
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
