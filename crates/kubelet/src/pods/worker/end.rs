//! The end of a pod: everything stopped, told, unmounted, deleted, forgotten.

use std::sync::Arc;

use protos::cri::v1::{RemoveContainerRequest, RemovePodSandboxRequest};

use super::{Input, Next, Worker};
use crate::api::{Pod, Role};
use crate::config::sandbox;
use crate::pods::kill::{self, KillAll};
use crate::pods::observed::{Observed, observe};
use crate::pods::status::Blocked;

impl Worker {
    /// Stops containers and sandboxes. Shorter grace periods that arrive meanwhile are obeyed.
    pub(super) async fn kill_everything(&mut self, pod: &Arc<Pod>, observed: &Observed) -> bool {
        let mut grace = grace_of(&self.input.borrow());
        let shared = self.shared.clone();
        let mut all = KillAll::begin(&shared, pod, observed, grace);
        let mut input = self.input.clone();
        let mut is_open = true;
        loop {
            tokio::select! {
                () = all.containers_ended() => break,
                changed = input.changed(), if is_open => {
                    is_open = changed.is_ok();
                    let now = grace_of(&input.borrow());
                    if now < grace {
                        grace = now;
                        all.hasten(grace);
                    }
                }
            }
        }
        kill::stop_sandboxes(&self.shared, observed).await
    }

    /// In a new sandbox initialization begins anew: what is known of the init containers must not say otherwise.
    pub(super) async fn purge_init(&self, pod: &Pod, observed: &Observed) {
        for record in &observed.containers {
            if !matches!(pod.container(&record.name), Some((Role::Init, _))) {
                continue;
            }
            let request = RemoveContainerRequest { container_id: record.id.clone() };
            if let Err(error) = self.shared.runtime.remove_container(request).await {
                tracing::debug!(container = record.id, %error, "cannot remove an init container");
            }
        }
    }

    /// A pod that ends, or has ended and waits for its deletion.
    pub(super) async fn end(&mut self, input: &Input, observed: Observed, verdict: Option<Blocked>) -> Option<Next> {
        self.probes.pod_ends();
        self.blocked.clear();
        if observed.is_alive() {
            self.publish(input, &observed, false, verdict.as_ref());
            if !self.kill_everything(&input.pod, &observed).await {
                return Some(self.after_error());
            }
            let Ok(after) = observe(&self.shared.runtime, &self.uid).await else { return Some(self.after_error()) };
            if after.is_alive() {
                return Some(self.after_error());
            }
            let newest = self.input.borrow().clone();
            return self.ended(&newest, &after, verdict).await;
        }
        self.ended(input, &observed, verdict).await
    }

    /// Nothing runs any more.
    async fn ended(&mut self, input: &Input, observed: &Observed, verdict: Option<Blocked>) -> Option<Next> {
        let pod = &input.pod;
        self.publish(input, observed, true, verdict.as_ref());
        self.probes.stop().await;
        self.shared.objects.release(&self.uid);
        self.shared.puller.forget(&self.uid);
        self.shared.crashes.lock().forget(&format!("{}_", self.uid));
        if let Err(error) = self.shared.volumes.tear_down(&self.uid).await {
            tracing::warn!(pod = pod.key(), %error, "volumes of the pod are left behind for now");
            return Some(self.after_error());
        }
        let is_to_go = input.is_gone || pod.is_terminating();
        if !is_to_go {
            return Some(Next::At(None));
        }
        self.hand_on(input, None, true);
        if !input.is_gone {
            // The API object goes when the final status is written; then this worker sees it gone.
            return Some(Next::At(None));
        }
        self.remove(pod, observed).await;
        self.shared.registry.write().remove(&self.uid);
        None
    }

    /// Nothing of the pod is left on the node.
    async fn remove(&self, pod: &Pod, observed: &Observed) {
        for sandbox in &observed.sandboxes {
            let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(error) = self.shared.runtime.remove_pod_sandbox(request).await {
                tracing::warn!(sandbox = sandbox.id, %error, "cannot remove the sandbox");
            }
        }
        for record in &observed.containers {
            let request = RemoveContainerRequest { container_id: record.id.clone() };
            if let Err(error) = self.shared.runtime.remove_container(request).await {
                tracing::debug!(container = record.id, %error, "cannot remove the container");
            }
        }
        let m = &pod.metadata;
        let logs = sandbox::log_directory(&self.shared.node, &m.namespace, &m.name, &m.uid);
        let links = self.shared.links_dir.clone();
        let prefix = format!("{}_{}_", m.name, m.namespace);
        let ids: Vec<String> = observed.containers.iter().map(|c| format!("-{}.log", c.id)).collect();
        let work = move || {
            // What cannot be removed now is found again by the garbage collector.
            let _ = std::fs::remove_dir_all(logs);
            for entry in std::fs::read_dir(links).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(&prefix) && ids.iter().any(|id| name.ends_with(id)) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        };
        let _ = tokio::task::spawn_blocking(work).await;
    }
}

/// How long containers may take to end. A pod that is removed from the API while it runs was deleted by force.
fn grace_of(input: &Input) -> i64 {
    if input.is_gone { 0 } else { input.pod.grace_seconds() }
}
