//! Stopping containers: preStop hook, stop signal, SIGKILL after the grace period; sidecars after the main containers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use protos::cri::v1::{StopContainerRequest, StopPodSandboxRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hooks;
use super::observed::{Observed, Record};
use super::plan::{Kill, KillReason};
use crate::api::{Pod, Role};
use crate::events::About;
use crate::shared::Shared;

/// Even a forced end gives a container this long.
const LEAST_GRACE: i64 = 2;

/// Which containers must have ended before one may be signalled.
type Ended = Arc<HashMap<String, watch::Sender<bool>>>;

/// One container's end.
struct Victim {
    id: String,
    name: String,
    grace: i64,
    before: Vec<String>,
}

/// Stops one container of a pod that goes on.
pub(crate) async fn kill_one(shared: &Arc<Shared>, pod: &Arc<Pod>, kill: &Kill, ips: &[String]) {
    let grace = grace_for(pod, kill);
    announce(shared, pod, &kill.name, &kill.message);
    let victim = Victim { id: kill.id.clone(), name: kill.name.clone(), grace, before: Vec::new() };
    stop(shared.clone(), pod.clone(), victim, ips.to_vec(), Ended::default(), CancellationToken::new()).await;
}

fn grace_for(pod: &Pod, kill: &Kill) -> i64 {
    let container = pod.container(&kill.name).map(|(_, c)| c);
    let of_probe = container.and_then(|c| match kill.reason {
        KillReason::Startup => c.startup_probe.as_ref()?.termination_grace_period_seconds,
        KillReason::Liveness => c.liveness_probe.as_ref()?.termination_grace_period_seconds,
        KillReason::Replaced => None,
    });
    let of_deletion = pod.metadata.deletion_grace_period_seconds;
    of_deletion.or(of_probe).unwrap_or_else(|| pod.grace_seconds())
}

fn announce(shared: &Shared, pod: &Pod, name: &str, message: &str) {
    if let Some((_, container)) = pod.container(name) {
        shared.events.normal(About::container(pod, container), "Killing", message);
    }
}

/// Stops all of a pod, and again with less grace when that is asked for meanwhile.
pub(crate) struct KillAll<'a> {
    shared: &'a Arc<Shared>,
    pod: Arc<Pod>,
    observed: &'a Observed,
    running: JoinSet<()>,
    hooks: CancellationToken,
    ended: Ended,
}

impl<'a> KillAll<'a> {
    /// Announces the end and begins it.
    pub(crate) fn begin(shared: &'a Arc<Shared>, pod: &Arc<Pod>, observed: &'a Observed, grace: i64) -> Self {
        for record in observed.running() {
            announce(shared, pod, &record.name, &format!("Stopping container {}", record.name));
        }
        let ended = observed.running().map(|r| (r.name.clone(), watch::channel(false).0)).collect();
        let mut all = Self {
            shared,
            pod: pod.clone(),
            observed,
            running: JoinSet::new(),
            hooks: CancellationToken::new(),
            ended: Arc::new(ended),
        };
        all.round(grace);
        all
    }

    /// Stops again with this grace; hooks that still run are given up.
    pub(crate) fn hasten(&mut self, grace: i64) {
        std::mem::take(&mut self.hooks).cancel();
        self.round(grace);
    }

    fn round(&mut self, grace: i64) {
        let ips = self.observed.ips().to_vec();
        for record in self.observed.running() {
            let victim = Victim {
                id: record.id.clone(),
                name: record.name.clone(),
                grace,
                before: end_before(&self.pod, record, self.observed),
            };
            let hooks = self.hooks.clone();
            let task = stop(self.shared.clone(), self.pod.clone(), victim, ips.clone(), self.ended.clone(), hooks);
            self.running.spawn(task);
        }
    }

    /// Waits for all containers; may be dropped and called again.
    pub(crate) async fn containers_ended(&mut self) {
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(pod = self.pod.key(), %error, "stopping a container failed");
            }
        }
    }
}

/// Sidecars end after the main containers, in reverse order of their start (KEP-753).
fn end_before(pod: &Pod, record: &Record, observed: &Observed) -> Vec<String> {
    let sidecars: Vec<&str> =
        pod.spec.init_containers.iter().filter(|c| c.is_sidecar()).map(|c| c.name.as_str()).collect();
    let Some(place) = sidecars.iter().position(|name| *name == record.name) else { return Vec::new() };
    let is_main = |name: &str| matches!(pod.container(name), Some((Role::Main, _)));
    let later = |name: &str| sidecars.iter().position(|s| *s == name).is_some_and(|p| p > place);
    observed.running().map(|r| r.name.clone()).filter(|name| is_main(name) || later(name)).collect()
}

async fn stop(
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    victim: Victim,
    ips: Vec<String>,
    ended: Ended,
    hooks: CancellationToken,
) {
    let deadline = Instant::now() + Duration::from_secs(u64::try_from(victim.grace).unwrap_or(0));
    run_pre_stop(&shared, &pod, &victim, &ips, deadline, &hooks).await;
    wait_for_others(&victim, &ended, deadline, &hooks).await;
    let left = deadline.saturating_duration_since(Instant::now()).as_secs_f64().round() as i64;
    let timeout = left.max(LEAST_GRACE);
    let request = StopContainerRequest { container_id: victim.id.clone(), timeout };
    match shared.runtime.stop_container(request).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => tracing::warn!(pod = pod.key(), container = victim.name, %error, "cannot stop the container"),
    }
    if let Some(done) = ended.get(&victim.name) {
        done.send_replace(true);
    }
}

async fn run_pre_stop(
    shared: &Arc<Shared>,
    pod: &Pod,
    victim: &Victim,
    ips: &[String],
    deadline: Instant,
    cancelled: &CancellationToken,
) {
    let Some((_, container)) = pod.container(&victim.name) else { return };
    let Some(hook) = container.lifecycle.pre_stop.as_ref().filter(|_| victim.grace > 0) else { return };
    let run = hooks::run(shared, pod, container, &victim.id, hook, ips);
    tokio::select! {
        result = run => if let Err(error) = result {
            tracing::info!(pod = pod.key(), container = victim.name, error, "PreStop hook failed");
            // The message is not in the event: it may quote secrets.
            shared.events.warning(About::container(pod, container), "FailedPreStopHook", "PreStopHook failed");
        },
        () = tokio::time::sleep_until(deadline) => {
            tracing::info!(pod = pod.key(), container = victim.name, "PreStop hook not completed in grace period");
        }
        () = cancelled.cancelled() => {}
    }
}

async fn wait_for_others(victim: &Victim, ended: &Ended, deadline: Instant, cancelled: &CancellationToken) {
    for name in &victim.before {
        let Some(other) = ended.get(name) else { continue };
        let mut other = other.subscribe();
        tokio::select! {
            _ = other.wait_for(|done| *done) => {}
            () = tokio::time::sleep_until(deadline) => return,
            () = cancelled.cancelled() => return,
        }
    }
}

/// Stops the sandboxes that still stand. False when one would not.
pub(crate) async fn stop_sandboxes(shared: &Shared, observed: &Observed) -> bool {
    let mut all = true;
    for sandbox in &observed.sandboxes {
        let request = StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
        match shared.runtime.stop_pod_sandbox(request).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::warn!(sandbox = sandbox.id, %error, "cannot stop the sandbox");
                all = false;
            }
        }
    }
    all
}
