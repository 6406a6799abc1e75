//! LimitRanger: a namespace's limit ranges give containers what they leave open, and refuse what is too small or too large.

use kinds::Kind;
use object::{Quantity, Status};
use serde_json::{Value, json};

use crate::api::{Api, store_status};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn ranges(api: &Api, kind: &Kind, object: &Value) -> Result<Vec<(String, Value)>, Status> {
    let concerned = kind.group.is_empty() && matches!(kind.plural.as_str(), "pods" | "persistentvolumeclaims");
    let Some(namespace) = object["metadata"]["namespace"].as_str().filter(|_| concerned) else { return Ok(Vec::new()) };
    let page =
        api.store.range(&format!("/registry/limitranges/{namespace}/"), None, 0, 0).map_err(|e| store_status(&e))?;
    let read = |v: store::Versioned| Ok((v.object.head.name.clone(), v.object.value().map_err(Status::internal)?));
    page.items.into_iter().map(read).collect()
}

fn items<'a>(range: &'a Value, of: &'a str) -> impl Iterator<Item = &'a Value> {
    range["spec"]["limits"].as_array().into_iter().flatten().filter(move |item| item["type"] == of)
}

/// Gives a new pod's containers their defaults.
pub(super) fn admit(api: &Api, kind: &Kind, object: &mut Value) -> Result<(), Status> {
    if kind.kind != "Pod" {
        return Ok(());
    }
    for (_, range) in ranges(api, kind, object)? {
        let mut notes = Vec::new();
        for item in items(&range, "Container") {
            for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
                for container in object["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    fill(container, item, what, &mut notes);
                }
            }
        }
        if !notes.is_empty() {
            let text = format!("LimitRanger plugin set: {}", notes.join("; "));
            object["metadata"]["annotations"][ANNOTATION] = text.into();
        }
    }
    Ok(())
}

fn fill(container: &mut Value, item: &Value, what: &str, notes: &mut Vec<String>) {
    let name = container["name"].as_str().unwrap_or("").to_owned();
    for (from, to, word) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
        let mut set: Vec<&str> = Vec::new();
        for (resource, amount) in item[from].as_object().into_iter().flatten() {
            let resources = &mut container["resources"];
            if resources[to].get(resource).is_none() {
                if !resources.is_object() {
                    *resources = json!({});
                }
                resources[to][resource] = amount.clone();
                set.push(resource);
            }
        }
        if !set.is_empty() {
            notes.push(format!("{} {word} for {what} {name}", set.join(", ")));
        }
    }
}

/// Refuses a new object that a range does not allow.
pub(super) fn check(api: &Api, kind: &Kind, object: &Value) -> Result<(), Status> {
    let name = object["metadata"]["name"].as_str().unwrap_or("");
    let mut errors: Vec<String> = Vec::new();
    for (_, range) in ranges(api, kind, object)? {
        if kind.kind == "PersistentVolumeClaim" {
            for item in items(&range, "PersistentVolumeClaim") {
                let requests = &object["spec"]["resources"]["requests"];
                bounds(item, "PersistentVolumeClaim", requests, &Value::Null, &mut errors);
            }
            continue;
        }
        for item in items(&range, "Container") {
            let all = ["containers", "initContainers"]
                .into_iter()
                .flat_map(|l| object["spec"][l].as_array().into_iter().flatten());
            for container in all {
                let resources = &container["resources"];
                bounds(item, "Container", &resources["requests"], &resources["limits"], &mut errors);
            }
        }
        for item in items(&range, "Pod") {
            let (requests, limits) = (total(object, "requests"), total(object, "limits"));
            bounds(item, "Pod", &requests, &limits, &mut errors);
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(Status::forbidden(&kind.group, &kind.plural, name, one)),
        many => Err(Status::forbidden(&kind.group, &kind.plural, name, &format!("[{}]", many.join(", ")))),
    }
}

/// What all containers together ask for.
fn total(pod: &Value, which: &str) -> Value {
    let mut sum = std::collections::BTreeMap::<String, Quantity>::new();
    for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
        for (resource, amount) in container["resources"][which].as_object().into_iter().flatten() {
            let more = amount.as_str().and_then(Quantity::parse).unwrap_or_default();
            let mine = sum.entry(resource.clone()).or_default();
            *mine = mine.plus(more);
        }
    }
    for init in pod["spec"]["initContainers"].as_array().into_iter().flatten() {
        for (resource, amount) in init["resources"][which].as_object().into_iter().flatten() {
            let asked = amount.as_str().and_then(Quantity::parse).unwrap_or_default();
            let mine = sum.entry(resource.clone()).or_default();
            *mine = (*mine).max(asked);
        }
    }
    sum.iter().map(|(resource, amount)| (resource.clone(), json!(kinds::quota::shown(resource, *amount)))).collect()
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
            (None, _) => errors.push(format!("maximum {resource} usage per {of} is {shown}.  No limit is specified")),
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
        let Some((request, limit)) = request.zip(limit).filter(|(request, _)| !request.is_zero()) else {
            let why = "No limit and/or request is specified";
            errors.push(format!("{resource} max limit to request ratio per {of} is {shown}, but {why}"));
            continue;
        };
        let ratio = limit.millis() as f64 / request.millis() as f64;
        if ratio > most.millis() as f64 / 1000.0 {
            errors.push(format!(
                "{resource} max limit to request ratio per {of} is {shown}, but provided ratio is {ratio:.6}"
            ));
        }
    }
}
