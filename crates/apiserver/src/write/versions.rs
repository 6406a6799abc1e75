//! The other versions of an object in which its managed fields speak: conflicts and what an apply takes away are settled there.

use std::sync::Arc;

use kinds::Kind;
use object::Gvk;
use schema::Place;
use serde_json::Value;

use crate::api::Api;

impl Api {
    /// The kinds of those versions. What a webhook converts is left out: its paths are read as if they were of the version of the
    /// write.
    pub(crate) fn managed_versions(&self, kind: &Kind, object: &Value) -> Vec<Arc<Kind>> {
        if !kind.is_converted() || kind.custom.as_ref().is_some_and(|custom| custom.webhook.is_some()) {
            return Vec::new();
        }
        let own = kind.api_version();
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        let mut versions: Vec<&str> =
            entries.filter_map(|entry| entry["apiVersion"].as_str()).filter(|version| *version != own).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
            .into_iter()
            .filter_map(|version| self.registry.by_gvk(&Gvk::from_api_version(version, &kind.kind)))
            .collect()
    }
}

/// Converts among the version of a write and those.
pub(crate) fn converter<'k>(
    own: &'k Kind,
    others: &'k [Arc<Kind>],
) -> impl Fn(&Value, &str) -> Option<(Place<'k>, Value)> {
    move |object, version| {
        let others = others.iter().map(|kind| &**kind);
        let kind = std::iter::once(own).chain(others).find(|kind| kind.api_version() == version)?;
        let text = |field: &str| object[field].as_str().unwrap_or("");
        let from = Gvk::from_api_version(text("apiVersion"), text("kind"));
        let mut converted = kinds::convert(object.clone(), &from, &kind.gvk());
        converted["apiVersion"] = version.into();
        Some((kind.place(), converted))
    }
}
