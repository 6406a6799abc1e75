//! `secret` volumes: in memory, never on disk.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Cause, Context, Mounted, Payload, config_map};
use crate::api::SecretSource;
use crate::objects::ObjectKind;

/// Sets up the volume.
pub(crate) async fn set_up(context: &Context<'_>, source: &SecretSource) -> Result<Mounted, Cause> {
    let files = payload(context, source, source.default_mode.unwrap_or(0o644)).await?;
    context.project(files, true).await
}

/// The files of a Secret; also of one inside a projected volume.
pub(crate) async fn payload(context: &Context<'_>, source: &SecretSource, mode: u32) -> Result<Payload, Cause> {
    let namespace = &context.pod.metadata.namespace;
    let object = match context.volumes.objects.get(ObjectKind::Secret, namespace, &source.secret_name).await {
        Ok(object) => object,
        Err(error) if source.optional && error.is_not_found() => return Ok(Payload::new()),
        Err(error) => return Err(error.into()),
    };
    let tree: Value = crate::api::view(&object).unwrap_or_default();
    let entries = tree["data"].as_object().into_iter().flatten();
    let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
    let data = entries.map(|(key, value)| (key.clone(), decode(value))).collect();
    config_map::select(data, &source.items, source.optional, mode, "references non-existent secret key")
}
