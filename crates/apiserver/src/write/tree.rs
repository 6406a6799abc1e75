//! What a write does to an object's tree, whatever its kind.

use kinds::Kind;
use object::{Invalid, Status};
use serde_json::{Map, Value};

use crate::api::not_allowed;

/// The object's metadata, made when it is missing.
pub(crate) fn metadata_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value["metadata"].is_object() {
        value["metadata"] = Value::Object(Map::new());
    }
    match &mut value["metadata"] {
        Value::Object(metadata) => metadata,
        _ => unreachable!("it was made an object just now"),
    }
}

/// The refusal of an object that does not say what it is called.
pub(crate) fn nameless(name: &str) -> Status {
    Status::bad_request(format!(
        "the name of the object ({name} based on URL) was undeterminable: name must be provided"
    ))
}

/// The refusal of an update without the version that it builds on, of a kind that wants one.
pub(super) fn unversioned(kind: &Kind, name: &str) -> Status {
    let error = Invalid::invalid("metadata.resourceVersion", &0.into(), "must be specified for an update");
    // As upstream: the resource stands where the kind does elsewhere.
    Status::invalid(&kind.group, &kind.plural, name, &[error])
}

/// An object is written where its URL says.
pub(crate) fn check_place(value: &Value, name: &str, namespace: Option<&str>) -> Result<(), Status> {
    let given = value["metadata"]["name"].as_str().unwrap_or("");
    if !given.is_empty() && given != name {
        let text = format!("the name of the object ({given}) does not match the name on the URL ({name})");
        return Err(Status::bad_request(text));
    }
    let given = value["metadata"]["namespace"].as_str().unwrap_or("");
    if !given.is_empty() && namespace.is_some_and(|namespace| namespace != given) {
        return Err(Status::bad_request(OTHER_NAMESPACE));
    }
    Ok(())
}

const OTHER_NAMESPACE: &str = "the namespace of the provided object does not match the namespace sent on the request";

pub(super) fn set_namespace(kind: &Kind, value: &mut Value, namespace: Option<&str>) -> Result<(), Status> {
    let metadata = metadata_of(value);
    let given = metadata.get("namespace").and_then(Value::as_str).unwrap_or("");
    match namespace {
        Some(namespace) if given.is_empty() || given == namespace => {
            metadata.insert("namespace".into(), namespace.into());
            Ok(())
        }
        Some(_) => Err(Status::bad_request(OTHER_NAMESPACE)),
        None if kind.namespaced() => Err(not_allowed()),
        None => {
            metadata.remove("namespace");
            Ok(())
        }
    }
}

/// What only the server sets.
const OWN: [&str; 5] = ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// The part of an object's metadata that only the server sets.
pub(super) fn own_metadata(object: &Value) -> Value {
    let metadata = &object["metadata"];
    OWN.iter().filter_map(|field| Some(((*field).to_owned(), metadata.get(field)?.clone()))).collect()
}

/// That part as it was.
pub(super) fn restore_own_metadata(new: &mut Value, own: &Value) {
    let metadata = &mut new["metadata"];
    OWN.iter().for_each(|field| kinds::kind::keep(metadata, own, field));
}

/// What only the server sets stays as it was, and so do names; the deletion of an object cannot be taken back. What may not be said of
/// the uid and of a deletion is left for validation to tell.
pub(super) fn restore_metadata(new: &mut Value, old: &Value) {
    let metadata = metadata_of(new);
    metadata.remove("selfLink");
    if metadata.get("uid").is_some_and(|uid| uid == "") {
        metadata.remove("uid");
    }
    let old = &old["metadata"];
    for field in ["creationTimestamp", "generation", "namespace", "name"] {
        kinds::kind::keep(&mut new["metadata"], old, field);
    }
    for field in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let stays = field == "deletionTimestamp" && old[field].is_string();
        if stays || new["metadata"].get(field).is_none() {
            kinds::kind::keep(&mut new["metadata"], old, field);
        }
    }
}

/// Adds what Go writes into every object: the form in which trees are stored. True when there are empty lists in it that have to be hollow.
pub(super) fn complete(kind: &Kind, value: &mut Value) -> bool {
    let name = kind.schema.as_deref().filter(|_| kind.custom.is_none());
    name.is_some_and(|name| schema::complete(schema::table(), name, value))
}

/// Makes empty lists that are told `null`, as upstream's store does.
pub(super) fn make_hollow(kind: &Kind, value: &mut Value) {
    if let Some(name) = kind.schema.as_deref() {
        schema::hollow(schema::table(), name, value);
    }
}

/// Takes away owners that are there twice; the warning about it.
pub(super) fn dedupe_owners(value: &mut Value) -> Option<String> {
    let owners = value.get_mut("metadata")?.get_mut("ownerReferences")?.as_array_mut()?;
    let (mut kept, mut twice): (Vec<Value>, Vec<String>) = (Vec::new(), Vec::new());
    for owner in owners.drain(..) {
        match kept.contains(&owner) {
            true => twice.push(owner["uid"].as_str().unwrap_or("").to_owned()),
            false => kept.push(owner),
        }
    }
    *owners = kept;
    (!twice.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such \
             requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        )
    })
}

/// Drops empty maps and lists that Go would not encode.
pub(super) fn tidy(value: &mut Value) {
    let metadata = metadata_of(value);
    metadata.retain(|key, value| {
        let empty = value.is_null()
            || value.as_object().is_some_and(Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        !(empty
            && matches!(key.as_str(), "labels" | "annotations" | "finalizers" | "ownerReferences" | "managedFields"))
    });
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
}

/// True when metadata changed that a generation counts: a deployment's annotations go on to its replica sets.
pub(super) fn is_labelled_anew(kind: &Kind, new: &Value, old: &Value) -> bool {
    let of = |field, value: &Value| value["metadata"][field].as_object().filter(|all| !all.is_empty()).cloned();
    let differs = |field| of(field, new) != of(field, old);
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("apps", "Deployment") => differs("annotations"),
        ("discovery.k8s.io", "EndpointSlice") => differs("labels"),
        _ => false,
    }
}

/// What a generation counts: everything but metadata, and status where that is apart.
pub(super) fn spec_of(kind: &Kind, value: &Value) -> Map<String, Value> {
    // As upstream, which gives priority classes a generation and leaves it.
    if kind.kind == "PriorityClass" && kind.custom.is_none() {
        return Map::new();
    }
    let counts = |key: &str| key != "metadata" && (key != "status" || (kind.custom.is_some() && !kind.has_status()));
    let entries = value.as_object().into_iter().flatten();
    entries.filter(|(k, _)| counts(k)).map(|(k, v)| (k.clone(), v.clone())).collect()
}
