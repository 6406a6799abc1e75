//! The pod worker's brain: what is wanted, what runs, what the probes say -> what to do next. Pure.
//!
//! One plan holds what can be done now; the worker observes again after doing it. The order of decisions is upstream's:
//! sandbox first, then init containers from the last to the first (a finished one may have been removed, so the last
//! that is known decides), then ephemeral containers, then the main ones.

mod init;

use std::collections::HashMap;

use super::observed::{Observed, Record, RunState};
use crate::api::{Container, Pod, RestartPolicy, Role};
use crate::labels;

/// Why a container is killed; decides which grace period counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// The spec changed, or the container's state is unknown.
    Replaced,
    /// Its startup probe failed.
    Startup,
    /// Its liveness probe failed.
    Liveness,
}

/// A container to stop before anything is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) message: String,
    pub(crate) reason: KillReason,
}

/// What to do now, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Stop all containers and sandboxes first.
    pub(crate) kill_pod: bool,
    /// Then run a sandbox of this attempt.
    pub(crate) create_sandbox: Option<u32>,
    /// The sandbox to start containers in, when it stands already.
    pub(crate) sandbox: Option<String>,
    /// Containers to stop.
    pub(crate) kills: Vec<Kill>,
    /// Containers to start, in order.
    pub(crate) starts: Vec<(Role, usize)>,
}

impl Plan {
    /// True when there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        !self.kill_pod && self.create_sandbox.is_none() && self.kills.is_empty() && self.starts.is_empty()
    }
}

/// The three kinds of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

/// What the probes found, by container id. Absent: not known yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ProbeResults(pub(crate) HashMap<(String, ProbeKind), Option<bool>>);

impl ProbeResults {
    /// `Some(true)` success, `Some(false)` failure, `None` unknown.
    pub(crate) fn get(&self, id: &str, kind: ProbeKind) -> Option<bool> {
        self.0.get(&(id.to_owned(), kind)).copied().flatten()
    }
}

/// Whether the pod needs another sandbox, and as which attempt.
pub(crate) fn sandbox_needed(pod: &Pod, observed: &Observed) -> Option<u32> {
    let Some(newest) = observed.sandboxes.first() else { return Some(0) };
    let ready = observed.sandboxes.iter().filter(|s| s.is_ready).count();
    let without_address = !pod.spec.host_network && newest.ips.is_empty();
    let replaced = ready > 1 || !newest.is_ready || newest.host_network != pod.spec.host_network || without_address;
    replaced.then_some(newest.attempt + 1)
}

/// What to do for a pod that shall run.
pub(crate) fn plan(pod: &Pod, observed: &Observed, probes: &ProbeResults) -> Plan {
    if let Some(attempt) = sandbox_needed(pod, observed) {
        return plan_with_new_sandbox(pod, observed, attempt);
    }
    let mut plan = Plan { sandbox: observed.sandboxes.first().map(|s| s.id.clone()), ..Plan::default() };
    for (index, container) in pod.spec.ephemeral_containers.iter().enumerate() {
        if observed.latest(&container.name).is_none() {
            plan.starts.push((Role::Ephemeral, index));
        }
    }
    match init::advance(pod, observed, probes, &mut plan) {
        init::Progress::Failed => {
            return Plan { kill_pod: true, sandbox: plan.sandbox, ..Plan::default() };
        }
        init::Progress::Pending => return plan,
        init::Progress::Done => {}
    }
    plan_main(pod, observed, probes, &mut plan);
    plan
}

fn plan_with_new_sandbox(pod: &Pod, observed: &Observed, attempt: u32) -> Plan {
    let mut plan = Plan { kill_pod: true, ..Plan::default() };
    if !restarts_on_failure(pod) && attempt != 0 && !observed.containers.is_empty() {
        return plan;
    }
    let done = |c: &Container| {
        let policy = c.restart_policy.unwrap_or(pod.spec.restart_policy);
        let ended_well = |r: &Record| r.state == RunState::Exited && r.exit_code == 0;
        policy == RestartPolicy::OnFailure && observed.latest(&c.name).is_some_and(ended_well)
    };
    let starts: Vec<usize> = (0..pod.spec.containers.len()).filter(|i| !done(&pod.spec.containers[*i])).collect();
    let initialized = pod.spec.containers.iter().any(|c| observed.latest(&c.name).is_some());
    if starts.is_empty() && initialized {
        return plan;
    }
    plan.create_sandbox = Some(attempt);
    plan.starts = match pod.spec.init_containers.is_empty() {
        false => vec![(Role::Init, 0)],
        true => starts.into_iter().map(|i| (Role::Main, i)).collect(),
    };
    plan
}

fn plan_main(pod: &Pod, observed: &Observed, probes: &ProbeResults, plan: &mut Plan) {
    let mut kept = 0;
    let mut started = 0;
    for (index, container) in pod.spec.containers.iter().enumerate() {
        let record = observed.latest(&container.name).filter(|r| r.state == RunState::Running);
        let Some(record) = record else {
            if should_restart(pod, container, observed) {
                plan.starts.push((Role::Main, index));
                started += 1;
                kill_unknown(container, observed, plan);
            }
            continue;
        };
        let Some((why, reason)) = unfit(container, record, probes) else {
            kept += 1;
            continue;
        };
        let policy = container.restart_policy.unwrap_or(pod.spec.restart_policy);
        let restart = policy != RestartPolicy::Never || reason == KillReason::Replaced;
        let mut message = why;
        if restart {
            message.push_str(", will be restarted");
            plan.starts.push((Role::Main, index));
            started += 1;
        }
        plan.kills.push(Kill { id: record.id.clone(), name: record.name.clone(), message, reason });
    }
    if kept == 0 && started == 0 {
        plan.kill_pod = true;
        plan.starts.retain(|(role, _)| *role != Role::Init);
    }
}

fn unfit(container: &Container, record: &Record, probes: &ProbeResults) -> Option<(String, KillReason)> {
    let name = &container.name;
    if is_changed(container, record) {
        return Some((format!("Container {name} definition changed"), KillReason::Replaced));
    }
    if probes.get(&record.id, ProbeKind::Liveness) == Some(false) {
        return Some((format!("Container {name} failed liveness probe"), KillReason::Liveness));
    }
    if probes.get(&record.id, ProbeKind::Startup) == Some(false) {
        return Some((format!("Container {name} failed startup probe"), KillReason::Startup));
    }
    None
}

fn is_changed(container: &Container, record: &Record) -> bool {
    record.hash.is_some_and(|hash| hash != labels::hash(container))
}

fn kill_unknown(container: &Container, observed: &Observed, plan: &mut Plan) {
    if let Some(record) = observed.latest(&container.name).filter(|r| r.state == RunState::Unknown) {
        plan.kills.push(Kill {
            id: record.id.clone(),
            name: record.name.clone(),
            message: "Container is in \"unknown\" state, try killing it before restart".into(),
            reason: KillReason::Replaced,
        });
    }
}

/// Whether the pod's own policy starts failed containers again.
pub(crate) fn restarts_on_failure(pod: &Pod) -> bool {
    pod.spec.restart_policy != RestartPolicy::Never
}

/// Whether a container that does not run shall be started.
pub(crate) fn should_restart(pod: &Pod, container: &Container, observed: &Observed) -> bool {
    if pod.is_terminating() {
        return false;
    }
    match observed.latest(&container.name) {
        None => true,
        Some(record) => match record.state {
            RunState::Running => false,
            RunState::Created | RunState::Unknown => true,
            RunState::Exited => pod.restarts(container, record.exit_code),
        },
    }
}

#[cfg(test)]
mod tests;
