//! DefaultStorageClass, DefaultIngressClass, StorageObjectInUseProtection, PersistentVolumeClaimResize.

use object::{Quantity, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::api::{Api, store_status};

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_STORAGE: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const DEFAULT_INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    creation_timestamp: String,
    annotations: std::collections::BTreeMap<String, String>,
}

/// The newest class with one of the marks; of several that are as old the first by name.
fn default_class(api: &Api, prefix: &str, marks: &[&str]) -> Result<Option<String>, Status> {
    let page = api.store.range(prefix, None, 0, 0).map_err(|e| store_status(&e))?;
    let marked = page.items.into_iter().filter_map(|item| {
        let metadata = item.object.view::<View>().ok()?.metadata;
        let is_default = marks.iter().any(|m| metadata.annotations.get(*m).is_some_and(|v| v == "true"));
        is_default.then(|| (std::cmp::Reverse(metadata.creation_timestamp), item.object.head.name.clone()))
    });
    Ok(marked.min().map(|(_, name)| name))
}

/// DefaultStorageClass.
pub(super) fn default_storage(api: &Api, at: &Attributes<'_>, claim: &mut Value) -> Result<(), Status> {
    let concerned =
        at.is("", "persistentvolumeclaims") && at.subresource.is_empty() && at.operation == Operation::Create;
    let has_class =
        !claim["spec"]["storageClassName"].is_null() || claim["metadata"]["annotations"].get(BETA_CLASS).is_some();
    if concerned
        && !has_class
        && let Some(name) = default_class(api, "/registry/storageclasses/", &DEFAULT_STORAGE)?
    {
        claim["spec"]["storageClassName"] = name.into();
    }
    Ok(())
}

/// DefaultIngressClass.
pub(super) fn default_ingress(api: &Api, at: &Attributes<'_>, ingress: &mut Value) -> Result<(), Status> {
    let concerned =
        at.is("networking.k8s.io", "ingresses") && at.subresource.is_empty() && at.operation == Operation::Create;
    let has_class = !ingress["spec"]["ingressClassName"].is_null()
        || ingress["metadata"]["annotations"].get("kubernetes.io/ingress.class").is_some();
    if concerned
        && !has_class
        && let Some(name) = default_class(api, "/registry/ingressclasses/", &DEFAULT_INGRESS)?
    {
        ingress["spec"]["ingressClassName"] = name.into();
    }
    Ok(())
}

/// StorageObjectInUseProtection: what is in use is not gone before it is free. The controllers of the same names take the finalizers away.
pub(super) fn protect(at: &Attributes<'_>, object: &mut Value) {
    if at.operation != Operation::Create || !at.subresource.is_empty() {
        return;
    }
    let finalizer = match (at.kind.group.as_str(), at.kind.plural.as_str()) {
        ("", "persistentvolumes") => "kubernetes.io/pv-protection",
        ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        ("storage.k8s.io", "volumeattributesclasses") => "kubernetes.io/vac-protection",
        _ => return,
    };
    match object["metadata"].get_mut("finalizers").and_then(Value::as_array_mut) {
        Some(finalizers) if finalizers.iter().any(|f| f == finalizer) => {}
        Some(finalizers) => finalizers.push(finalizer.into()),
        None => object["metadata"]["finalizers"] = json!([finalizer]),
    }
}

/// PersistentVolumeClaimResize: only bound claims grow, and only where their class lets them.
pub(super) fn resize(api: &Api, at: &Attributes<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    if !at.is("", "persistentvolumeclaims") || !at.subresource.is_empty() || at.operation != Operation::Update {
        return Ok(());
    }
    let size = |claim: &Value| {
        claim["spec"]["resources"]["requests"]["storage"].as_str().and_then(Quantity::parse).unwrap_or_default()
    };
    if size(new) <= size(old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err(at.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let class = |claim: &Value| {
        let beta = claim["metadata"]["annotations"].get(BETA_CLASS).and_then(Value::as_str).map(str::to_owned);
        beta.or(claim["spec"]["storageClassName"].as_str().map(str::to_owned)).unwrap_or_default()
    };
    let name = class(new);
    let grows = !name.is_empty()
        && name == class(old)
        && api
            .stored_value(&format!("/registry/storageclasses/{name}"))
            .is_some_and(|class| class["allowVolumeExpansion"] == true);
    if grows {
        return Ok(());
    }
    Err(at.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
