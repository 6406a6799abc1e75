//! Log rotation: 10 MiB per file, five files per container.

use std::path::{Path, PathBuf};

use protos::cri::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStatusRequest, ListContainersRequest,
    ReopenContainerLogRequest,
};

use crate::shared::Shared;

const MOST_BYTES: u64 = 10 * 1024 * 1024;
const MOST_FILES: usize = 5;

/// Rotates the logs of running containers that have grown too large.
pub(crate) async fn rotate(shared: &Shared) {
    let state = ContainerStateValue { state: ContainerState::ContainerRunning as i32 };
    let filter = ContainerFilter { state: Some(state), ..ContainerFilter::default() };
    let Ok(running) = shared.runtime.list_containers(ListContainersRequest { filter: Some(filter) }).await else {
        return;
    };
    for container in running.containers {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let Ok(reply) = shared.runtime.container_status(request).await else { continue };
        let Some(path) = reply.status.map(|s| PathBuf::from(s.log_path)) else { continue };
        if std::fs::metadata(&path).is_ok_and(|m| m.len() >= MOST_BYTES)
            && let Err(error) = rotate_one(shared, &container.id, &path).await
        {
            tracing::warn!(container = container.id, error, "the log could not be rotated");
        }
    }
}

async fn rotate_one(shared: &Shared, id: &str, path: &Path) -> Result<(), String> {
    prune(path, MOST_FILES - 2);
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let rotated = PathBuf::from(format!("{}.{stamp}", path.display()));
    std::fs::rename(path, &rotated).map_err(|e| e.to_string())?;
    let request = ReopenContainerLogRequest { container_id: id.to_owned() };
    if let Err(error) = shared.runtime.reopen_container_log(request).await {
        // The container still writes to the file that was renamed: give it its name back.
        return match std::fs::rename(&rotated, path) {
            Ok(()) => Err(error.to_string()),
            Err(rename) => Err(format!("{error}; and {rename}")),
        };
    }
    Ok(())
}

/// Leaves the newest `keep` rotated files.
fn prune(path: &Path, keep: usize) {
    let old = rotated(path);
    let surplus = old.len().saturating_sub(keep);
    for file in &old[..surplus] {
        // Found again at the next rotation.
        let _ = std::fs::remove_file(file);
    }
}

/// Files that were rotated away from `path`, the oldest first.
pub(crate) fn rotated(path: &Path) -> Vec<PathBuf> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else { return Vec::new() };
    let prefix = format!("{name}.");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut out: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect();
    out.sort();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for name in ["0.log", "0.log.20260101-000000", "0.log.20260102-000000", "0.log.20260103-000000", "1.log"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        prune(&path, 1);
        assert_eq!(rotated(&path), [dir.path().join("0.log.20260103-000000")]);
        assert!(path.exists() && dir.path().join("1.log").exists());
    }
}
