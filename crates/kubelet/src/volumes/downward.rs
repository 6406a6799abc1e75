//! `downwardAPI` volumes.

use std::path::PathBuf;

use super::{Cause, Context, File, Mounted, Payload};
use crate::api::DownwardApi;
use crate::config::downward;

/// Sets up the volume.
pub(crate) async fn set_up(context: &Context<'_>, source: &DownwardApi) -> Result<Mounted, Cause> {
    let files = payload(context, source, source.default_mode.unwrap_or(0o644))?;
    context.project(files, true).await
}

/// The files of the items; also of those inside a projected volume.
pub(crate) fn payload(context: &Context<'_>, source: &DownwardApi, mode: u32) -> Result<Payload, Cause> {
    let node = &context.volumes.node;
    let mut out = Payload::new();
    for item in &source.items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(context.pod, &field.field_path, context.ips, node),
            (None, Some(of)) => downward::resource(context.pod, None, of, node),
            (None, None) => Err(format!("downward API item {:?} names no field", item.path)),
        };
        let bytes = text.map_err(Cause::Spec)?.into_bytes();
        out.insert(PathBuf::from(&item.path), File { bytes, mode: item.mode.unwrap_or(mode), user: None });
    }
    Ok(out)
}
