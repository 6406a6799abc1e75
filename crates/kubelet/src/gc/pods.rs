//! Directories and logs of pods that are gone: after a crash, or when a tear-down failed.

use std::collections::HashSet;

use protos::cri::v1::ListPodSandboxRequest;

use crate::labels;
use crate::pods::manager::Wakers;
use crate::shared::Shared;

/// Removes what belongs to no pod of the API and to none of the runtime.
pub(crate) async fn sweep(shared: &Shared, wakers: &Wakers) {
    let Ok(sandboxes) = shared.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await else { return };
    let running: HashSet<String> =
        sandboxes.items.into_iter().filter_map(|s| s.labels.get(labels::POD_UID).cloned()).collect();
    let is_orphan = |uid: &str| !wakers.has(uid) && !running.contains(uid);
    for uid in shared.volumes.known().into_iter().filter(|uid| is_orphan(uid)) {
        match shared.volumes.tear_down(&uid).await {
            Ok(()) => tracing::info!(uid, "removed what a pod had left behind"),
            Err(error) => tracing::warn!(uid, %error, "cannot remove what a pod had left behind"),
        }
    }
    for entry in std::fs::read_dir(&shared.node.log_dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // `<namespace>_<name>_<uid>`
        let uid = name.rsplit('_').next().unwrap_or_default();
        if name.matches('_').count() == 2 && is_orphan(uid) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    for entry in std::fs::read_dir(&shared.links_dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() && !path.exists() {
            let _ = std::fs::remove_file(path);
        }
    }
}
