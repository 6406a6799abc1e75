//! A container's environment.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{NodeFacts, downward, expand};
use crate::api::{Container, EnvSource, KeyRef, Pod};
use crate::objects::{ObjectKind, Objects, ObjectsError};

/// Why an environment cannot be made; shown as `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvError {
    /// The ConfigMap or Secret is absent or unreadable.
    #[error(transparent)]
    Object(#[from] ObjectsError),
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key { key: String, kind: &'static str, namespace: String, name: String },
    /// A field or resource that cannot be given.
    #[error("{0}")]
    Field(String),
}

/// What the environment is made of besides the container.
pub(crate) struct Sources<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) ips: &'a [String],
    pub(crate) node: &'a NodeFacts,
    pub(crate) objects: &'a Objects,
    /// Service variables.
    pub(crate) services: &'a BTreeMap<String, String>,
}

/// The variables, in name order.
pub(crate) async fn environment(
    container: &Container,
    from: &Sources<'_>,
) -> Result<BTreeMap<String, String>, EnvError> {
    let mut env = BTreeMap::new();
    for source in &container.env_from {
        let refs = [(&source.config_map_ref, ObjectKind::ConfigMap), (&source.secret_ref, ObjectKind::Secret)];
        for (reference, kind) in refs {
            let Some(reference) = reference else { continue };
            let Some(data) = data(from, kind, &reference.name, reference.optional).await? else { continue };
            for (key, value) in data {
                env.insert(format!("{}{key}", source.prefix), String::from_utf8_lossy(&value).into_owned());
            }
        }
    }
    for var in &container.env {
        let value = match &var.value_from {
            None => expand::expand(&var.value, |name| env.get(name).or_else(|| from.services.get(name)).cloned()),
            Some(source) => match resolve(container, source, from).await? {
                Some(value) => value,
                None => continue,
            },
        };
        env.insert(var.name.clone(), value);
    }
    for (name, value) in from.services {
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(env)
}

async fn resolve(container: &Container, source: &EnvSource, from: &Sources<'_>) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        let text = downward::field(from.pod, &field.field_path, from.ips, from.node);
        return text.map(Some).map_err(EnvError::Field);
    }
    if let Some(field) = &source.resource_field_ref {
        return downward::resource(from.pod, Some(container), field, from.node).map(Some).map_err(EnvError::Field);
    }
    if let Some(key) = &source.config_map_key_ref {
        return keyed(from, ObjectKind::ConfigMap, key).await;
    }
    if let Some(key) = &source.secret_key_ref {
        return keyed(from, ObjectKind::Secret, key).await;
    }
    Ok(Some(String::new()))
}

async fn keyed(from: &Sources<'_>, kind: ObjectKind, key: &KeyRef) -> Result<Option<String>, EnvError> {
    let Some(data) = data(from, kind, &key.name, key.optional).await? else { return Ok(None) };
    match data.get(&key.key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if key.optional => Ok(None),
        None => Err(EnvError::Key {
            key: key.key.clone(),
            kind: kind.kind(),
            namespace: from.pod.metadata.namespace.clone(),
            name: key.name.clone(),
        }),
    }
}

type Data = BTreeMap<String, Vec<u8>>;

async fn data(from: &Sources<'_>, kind: ObjectKind, name: &str, optional: bool) -> Result<Option<Data>, EnvError> {
    match from.objects.get(kind, &from.pod.metadata.namespace, name).await {
        Ok(object) => {
            let tree: Value = crate::api::view(&object).unwrap_or_default();
            // Upstream reads `data` only: `binaryData` is no text.
            Ok(Some(text_data(kind, &tree)))
        }
        Err(error) if optional && error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn text_data(kind: ObjectKind, tree: &Value) -> Data {
    let entries = tree["data"].as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| {
            let text = value.as_str()?;
            let bytes = match kind {
                ObjectKind::Secret => STANDARD.decode(text).ok()?,
                ObjectKind::ConfigMap => text.as_bytes().to_vec(),
            };
            Some((key.clone(), bytes))
        })
        .collect()
}
