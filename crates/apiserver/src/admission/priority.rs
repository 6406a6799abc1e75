//! Priority: a pod's number and preemption policy come from its class; one class at most is for pods that name none.

use object::Status;
use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::api::{Api, store_status};

/// What of a PriorityClass counts.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Class {
    value: i64,
    global_default: bool,
    preemption_policy: Option<String>,
}

/// The class for pods that name none, with its name: the least of several.
fn default_class(api: &Api) -> Result<Option<(String, Class)>, Status> {
    let all = api.store.range("/registry/priorityclasses/", None, 0, 0).map_err(|e| store_status(&e))?;
    let classes = all.items.into_iter().filter_map(|v| {
        let class = v.object.view::<Class>().ok()?;
        class.global_default.then(|| (v.object.head.name.clone(), class))
    });
    Ok(classes.min_by_key(|(_, class)| class.value))
}

pub(super) fn admit(api: &Api, at: &Attributes<'_>, pod: &mut Value, old: &Value) -> Result<(), Status> {
    if !at.is("", "pods") || !at.subresource.is_empty() {
        return Ok(());
    }
    let spec = &mut pod["spec"];
    match at.operation {
        Operation::Create => resolve(api, at, spec),
        Operation::Update => {
            for field in ["priority", "preemptionPolicy"] {
                let before = &old["spec"][field];
                if spec[field].is_null() && !before.is_null() {
                    spec[field] = before.clone();
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn resolve(api: &Api, at: &Attributes<'_>, spec: &mut Value) -> Result<(), Status> {
    let class = match spec.get("priorityClassName").and_then(Value::as_str).filter(|n| !n.is_empty()) {
        Some(name) => {
            let found = api.store.get(&format!("/registry/priorityclasses/{name}"));
            let found = found.ok_or_else(|| at.forbidden(&format!("no PriorityClass with name {name} was found")))?;
            Some((name.to_owned(), found.object.view::<Class>().map_err(Status::internal)?))
        }
        None => default_class(api)?,
    };
    let (name, class) = class.unwrap_or_default();
    let computed = class.value;
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|p| *p != computed) {
        return Err(at.forbidden(&format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
        )));
    }
    let policy = class.preemption_policy.unwrap_or_else(|| "PreemptLowerPriority".into());
    if let Some(given) = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|p| *p != policy) {
        return Err(at.forbidden(&format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    spec["priority"] = computed.into();
    spec["preemptionPolicy"] = policy.into();
    if !name.is_empty() {
        spec["priorityClassName"] = name.into();
    }
    Ok(())
}

pub(super) fn validate(api: &Api, at: &Attributes<'_>, class: &Value) -> Result<(), Status> {
    let concerned = at.is("scheduling.k8s.io", "priorityclasses") && at.subresource.is_empty() && at.writes();
    if !concerned || class["globalDefault"] != true {
        return Ok(());
    }
    match default_class(api)? {
        Some((name, _)) if at.operation == Operation::Create || name != at.name => {
            Err(at.forbidden(&format!("PriorityClass {name} is already marked as default. Only one default can exist")))
        }
        _ => Ok(()),
    }
}
