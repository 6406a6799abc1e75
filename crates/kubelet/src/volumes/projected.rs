//! `projected` volumes: several sources in one directory.

use std::path::PathBuf;

use super::{Cause, Context, File, Mounted, Payload, config_map, downward, secret};
use crate::api::{Pod, Projected, TokenProjection};

/// Sets up the volume; of equal paths the later source wins.
pub(crate) async fn set_up(context: &Context<'_>, source: &Projected) -> Result<Mounted, Cause> {
    let mode = source.default_mode.unwrap_or(0o644);
    let mut files = Payload::new();
    for projection in &source.sources {
        if let Some(source) = &projection.secret {
            files.extend(secret::payload(context, source, mode).await?);
        } else if let Some(source) = &projection.config_map {
            files.extend(config_map::payload(context, source, mode).await?);
        } else if let Some(source) = &projection.downward_api {
            files.extend(downward::payload(context, source, mode)?);
        } else if let Some(source) = &projection.service_account_token {
            let file = token(context, source, mode).await?;
            files.insert(PathBuf::from(&source.path), file);
        } else {
            return Err(Cause::Spec("projected volume source is not supported by this node".into()));
        }
    }
    context.project(files, true).await
}

async fn token(context: &Context<'_>, source: &TokenProjection, mode: u32) -> Result<File, Cause> {
    let token = context.volumes.tokens.get(context.pod, source).await.map_err(Cause::Token)?;
    let user = common_user(context.pod);
    let has_owner = user.is_some() || context.pod.spec.security_context.fs_group.is_some();
    Ok(File { bytes: token.into_bytes(), mode: if has_owner { 0o600 } else { mode }, user })
}

/// The user that all containers run as, when they agree: it may then own the token.
fn common_user(pod: &Pod) -> Option<u32> {
    let default = pod.spec.security_context.run_as_user;
    let mut users = pod.all_containers().map(|(_, c)| c.security_context.run_as_user.or(default));
    let first = users.next()??;
    users.all(|u| u == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}
