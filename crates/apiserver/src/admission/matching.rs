//! Whether a webhook or a policy is about a request: rules, selectors, equivalent versions.

use std::collections::BTreeMap;

use object::{Gvr, LabelSelector};
use serde_json::Value;

use super::attributes::Attributes;
use crate::api::Api;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn list(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn has(values: &Value, wanted: &str) -> bool {
    list(values).any(|v| v == "*" || v == wanted)
}

/// `pods`, `pods/status`, `pods/*`, `*/scale`, `*`, `*/*`.
fn matches_resource(rule: &str, resource: &str, subresource: &str) -> bool {
    let (of, sub) = rule.split_once('/').unwrap_or((rule, ""));
    (of == "*" || of == resource) && (sub == subresource || sub == "*")
}

fn matches_rule(rule: &Value, gvr: &Gvr, at: &Attributes<'_>) -> bool {
    let scope = match text(&rule["scope"]) {
        "" | "*" => true,
        "Namespaced" => at.kind.namespaced(),
        _ => !at.kind.namespaced(),
    };
    let named =
        rule["resourceNames"].as_array().is_none_or(|names| names.is_empty() || names.iter().any(|n| n == at.name));
    scope
        && named
        && has(&rule["operations"], at.operation.name())
        && has(&rule["apiGroups"], &gvr.group)
        && has(&rule["apiVersions"], &gvr.version)
        && list(&rule["resources"]).any(|r| matches_resource(r, &gvr.resource, at.subresource))
}

/// The resource through which one of the rules is about the request: the one that was asked for, or with `equivalent` one that is the
/// same in another version.
pub(crate) fn by_rules(api: &Api, rules: &Value, at: &Attributes<'_>, equivalent: bool) -> Option<Gvr> {
    let rules: Vec<&Value> = rules.as_array().into_iter().flatten().collect();
    let own = at.gvr();
    if rules.iter().any(|rule| matches_rule(rule, &own, at)) {
        return Some(own);
    }
    if !equivalent {
        return None;
    }
    let others = api.registry.equivalents(at.kind);
    others.into_iter().map(|kind| kind.gvr()).find(|gvr| rules.iter().any(|rule| matches_rule(rule, gvr, at)))
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let entries = object["metadata"]["labels"].as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

fn selects(selector: &Value, labels: &BTreeMap<String, String>) -> bool {
    let is_empty = |key: &str| match &selector[key] {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if is_empty("matchLabels") && is_empty("matchExpressions") {
        return true;
    }
    LabelSelector::from_object(selector).is_some_and(|selector| selector.matches(labels))
}

/// Whether the namespace of the request is selected; a Namespace is in itself, what is in none is always selected.
pub(crate) fn by_namespace(api: &Api, selector: &Value, at: &Attributes<'_>, object: &Value, old: &Value) -> bool {
    if at.kind.group.is_empty() && at.kind.kind == "Namespace" {
        let own = if object.is_object() { object } else { old };
        return selects(selector, &labels(own));
    }
    if at.namespace.is_empty() {
        return true;
    }
    let namespace = api.store.get(&format!("/registry/namespaces/{}", at.namespace));
    let labels = namespace.map(|n| n.object.head.labels.to_map()).unwrap_or_default();
    selects(selector, &labels)
}

/// Whether the object is selected, as it is or as it was.
pub(crate) fn by_object(selector: &Value, object: &Value, old: &Value) -> bool {
    [object, old].iter().any(|o| o.is_object() && selects(selector, &labels(o)))
        || (object.is_null() && old.is_null() && selects(selector, &BTreeMap::new()))
}
