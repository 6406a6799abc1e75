//! LimitRanger: a namespace's limit ranges give containers what they leave open, and refuse what is too small or too large.

use object::{Quantity, Status};
use serde_json::{Map, Value, json};

use super::{Attributes, Operation};
use crate::api::{Api, store_status};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The ranges that the request is to be measured by: new pods and claims, changed claims, resized pods.
fn ranges(api: &Api, at: &Attributes<'_>, old: &Value) -> Result<Vec<Value>, Status> {
    let concerned = matches!(
        (at.kind.plural.as_str(), at.operation, at.subresource),
        ("pods", Operation::Create, "")
            | ("pods", Operation::Update, "resize")
            | ("persistentvolumeclaims", Operation::Create | Operation::Update, "")
    );
    if !concerned || !at.kind.group.is_empty() || old["metadata"]["deletionTimestamp"].is_string() {
        return Ok(Vec::new());
    }
    let prefix = format!("/registry/limitranges/{}/", at.namespace);
    let page = api.store.range(&prefix, None, 0, 0).map_err(|e| store_status(&e))?;
    page.items.into_iter().map(|v| v.object.value().map_err(Status::internal)).collect()
}

fn items<'a>(range: &'a Value, of: &'a str) -> impl Iterator<Item = &'a Value> {
    range["spec"]["limits"].as_array().into_iter().flatten().filter(move |item| item["type"] == of)
}

/// Gives a pod's containers their defaults.
pub(super) fn admit(api: &Api, at: &Attributes<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
    if at.kind.kind != "Pod" {
        return Ok(());
    }
    for range in ranges(api, at, old)? {
        let (mut requests, mut limits) = (Map::new(), Map::new());
        for item in items(&range, "Container") {
            requests.extend(item["defaultRequest"].as_object().cloned().unwrap_or_default());
            limits.extend(item["default"].as_object().cloned().unwrap_or_default());
        }
        let mut notes = Vec::new();
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            for container in object["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                fill(container, "requests", &requests, &format!("request for {what}"), &mut notes);
                fill(container, "limits", &limits, &format!("limit for {what}"), &mut notes);
            }
        }
        if !notes.is_empty() {
            let text = format!("LimitRanger plugin set: {}", notes.join("; "));
            object["metadata"]["annotations"][ANNOTATION] = text.into();
        }
    }
    Ok(())
}

fn fill(container: &mut Value, which: &str, defaults: &Map<String, Value>, what: &str, notes: &mut Vec<String>) {
    let mut set: Vec<&str> = Vec::new();
    for (resource, amount) in defaults {
        let resources = &mut container["resources"];
        if resources[which].get(resource).is_none() {
            if !resources.is_object() {
                *resources = json!({});
            }
            resources[which][resource] = amount.clone();
            set.push(resource);
        }
    }
    if !set.is_empty() {
        set.sort_unstable();
        notes.push(format!("{} {what} {}", set.join(", "), container["name"].as_str().unwrap_or("")));
    }
}

/// Refuses an object that a range does not allow.
pub(super) fn check(api: &Api, at: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
    for range in ranges(api, at, old)? {
        let errors = exceeded(&range, &at.kind.plural, &object["spec"]);
        if !errors.is_empty() {
            let errors = if errors.len() == 1 { errors.concat() } else { format!("[{}]", errors.join(", ")) };
            return Err(at.forbidden(&errors));
        }
    }
    Ok(())
}

/// What of a range the spec of a pod or claim does not keep to; each sentence once.
fn exceeded(range: &Value, plural: &str, spec: &Value) -> Vec<String> {
    let mut errors: Vec<String> = Vec::new();
    if plural == "persistentvolumeclaims" {
        for item in items(range, "PersistentVolumeClaim") {
            bounds(item, "PersistentVolumeClaim", &spec["resources"]["requests"], &Value::Null, &mut errors);
        }
    } else {
        let total = |which: &str| -> Value {
            let all = kinds::quota::amounts(spec, which, false);
            all.iter().map(|(name, amount)| (name.clone(), json!(kinds::quota::shown(name, *amount)))).collect()
        };
        for item in range["spec"]["limits"].as_array().into_iter().flatten() {
            match item["type"].as_str() {
                Some("Container") => {
                    let lists = ["containers", "initContainers"].into_iter();
                    for container in lists.flat_map(|l| spec[l].as_array().into_iter().flatten()) {
                        let resources = &container["resources"];
                        bounds(item, "Container", &resources["requests"], &resources["limits"], &mut errors);
                    }
                }
                Some("Pod") => bounds(item, "Pod", &total("requests"), &total("limits"), &mut errors),
                _ => {}
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    errors.retain(|error| seen.insert(error.clone()));
    errors
}

fn bounds(item: &Value, of: &str, requests: &Value, limits: &Value, errors: &mut Vec<String>) {
    let amount = |from: &Value, resource: &str| from[resource].as_str().and_then(Quantity::parse);
    let text = |from: &Value, resource: &str| from[resource].as_str().unwrap_or("").to_owned();
    for (resource, shown) in item["min"].as_object().into_iter().flatten() {
        let Some(least) = amount(&item["min"], resource) else { continue };
        let shown = shown.as_str().unwrap_or("");
        match (amount(requests, resource), amount(limits, resource)) {
            (None, _) => errors.push(format!("minimum {resource} usage per {of} is {shown}.  No request is specified")),
            (Some(request), _) if request < least => {
                let is = text(requests, resource);
                errors.push(format!("minimum {resource} usage per {of} is {shown}, but request is {is}"));
            }
            (_, Some(limit)) if limit < least => {
                let is = text(limits, resource);
                errors.push(format!("minimum {resource} usage per {of} is {shown}, but limit is {is}"));
            }
            _ => {}
        }
    }
    for (resource, shown) in item["max"].as_object().into_iter().flatten() {
        let Some(most) = amount(&item["max"], resource) else { continue };
        let shown = shown.as_str().unwrap_or("");
        // A claim has no limits: its request is what counts.
        let limit = if of == "PersistentVolumeClaim" { requests } else { limits };
        match (amount(limit, resource), amount(requests, resource)) {
            (None, _) => {
                let what = if of == "PersistentVolumeClaim" { "request" } else { "limit" };
                errors.push(format!("maximum {resource} usage per {of} is {shown}.  No {what} is specified"));
            }
            (Some(is), _) if is > most => {
                let word = if of == "PersistentVolumeClaim" { "request" } else { "limit" };
                let is = text(limit, resource);
                errors.push(format!("maximum {resource} usage per {of} is {shown}, but {word} is {is}"));
            }
            (_, Some(request)) if request > most => {
                let is = text(requests, resource);
                errors.push(format!("maximum {resource} usage per {of} is {shown}, but request is {is}"));
            }
            _ => {}
        }
    }
    for (resource, shown) in item["maxLimitRequestRatio"].as_object().into_iter().flatten() {
        let Some(most) = amount(&item["maxLimitRequestRatio"], resource) else { continue };
        let (request, limit) = (amount(requests, resource), amount(limits, resource));
        let shown = shown.as_str().unwrap_or("");
        let is_set = |amount: &Option<Quantity>| amount.is_some_and(|a| !a.is_zero());
        if !is_set(&request) || !is_set(&limit) {
            let what = if is_set(&request) { "limit" } else { "request" };
            let why = format!("no {what} is specified or {what} is 0");
            errors.push(format!("{resource} max limit to request ratio per {of} is {shown}, but {why}"));
            continue;
        }
        let (request, limit) = (request.unwrap_or_default(), limit.unwrap_or_default());
        let ratio = limit.millis() as f64 / request.millis() as f64;
        if ratio > most.millis() as f64 / 1000.0 {
            errors.push(format!(
                "{resource} max limit to request ratio per {of} is {shown}, but provided ratio is {ratio:.6}"
            ));
        }
    }
}
