//! `configMap` volumes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Cause, Context, File, Mounted, Payload};
use crate::api::{ConfigMapSource, KeyToPath};
use crate::objects::ObjectKind;

/// Sets up the volume.
pub(crate) async fn set_up(context: &Context<'_>, source: &ConfigMapSource) -> Result<Mounted, Cause> {
    let files = payload(context, source, source.default_mode.unwrap_or(0o644)).await?;
    context.project(files, false).await
}

/// The files of a ConfigMap; also of one inside a projected volume.
pub(crate) async fn payload(context: &Context<'_>, source: &ConfigMapSource, mode: u32) -> Result<Payload, Cause> {
    let namespace = &context.pod.metadata.namespace;
    let object = match context.volumes.objects.get(ObjectKind::ConfigMap, namespace, &source.name).await {
        Ok(object) => object,
        Err(error) if source.optional && error.is_not_found() => return Ok(Payload::new()),
        Err(error) => return Err(error.into()),
    };
    let tree: Value = crate::api::view(&object).unwrap_or_default();
    let mut data = BTreeMap::new();
    for (key, value) in tree["data"].as_object().into_iter().flatten() {
        data.insert(key.clone(), value.as_str().unwrap_or_default().as_bytes().to_vec());
    }
    for (key, value) in tree["binaryData"].as_object().into_iter().flatten() {
        data.insert(key.clone(), STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default());
    }
    select(data, &source.items, source.optional, mode, "configmap references non-existent config key")
}

/// The keys that `items` asks for (all when it asks for none) as files.
pub(crate) fn select(
    mut data: BTreeMap<String, Vec<u8>>,
    items: &[KeyToPath],
    optional: bool,
    mode: u32,
    complaint: &str,
) -> Result<Payload, Cause> {
    let file = |bytes, mode| File { bytes, mode, user: None };
    if items.is_empty() {
        return Ok(data.into_iter().map(|(key, bytes)| (PathBuf::from(key), file(bytes, mode))).collect());
    }
    let mut out = Payload::new();
    for item in items {
        match data.get_mut(&item.key) {
            Some(bytes) => {
                out.insert(PathBuf::from(&item.path), file(bytes.clone(), item.mode.unwrap_or(mode)));
            }
            None if optional => {}
            None => return Err(Cause::Spec(format!("{complaint}: {}", item.key))),
        }
    }
    Ok(out)
}
