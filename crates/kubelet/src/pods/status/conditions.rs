//! The conditions that the kubelet owns, and `started` and `ready` of containers.

use super::Inputs;
use crate::api::{Condition, Container, ContainerStatus, Pod, PodStatus, Probe, Role};
use crate::pods::plan::{ProbeKind, ProbeResults, sandbox_needed};

/// The condition types that only the kubelet writes.
pub(crate) const OWNED: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Fills in `started` and `ready` of all containers.
pub(crate) fn set_started_and_ready(status: &mut PodStatus, input: &Inputs) {
    let pod = input.pod;
    for container in &mut status.container_statuses {
        if let Some((_, spec)) = pod.container(&container.name) {
            mark(container, spec, input);
        }
    }
    for container in &mut status.init_container_statuses {
        let Some((_, spec)) = pod.container(&container.name) else { continue };
        mark(container, spec, input);
        if !spec.is_sidecar() {
            container.ready = container.state.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
        }
    }
}

fn mark(status: &mut ContainerStatus, spec: &Container, input: &Inputs) {
    let id = status.container_id.split_once("://").map_or("", |(_, id)| id);
    let old = input.old.container(&spec.name).filter(|o| o.container_id == status.container_id);
    let started = match (&status.state.running, &spec.startup_probe) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(_), Some(_)) => match input.probes.get(id, ProbeKind::Startup) {
            Some(success) => success,
            // After a restart of the agent a started container stays started.
            None => old.is_some_and(|o| o.started == Some(true)),
        },
    };
    status.started = Some(started);
    let was_ready = old.is_some_and(|o| o.ready);
    status.ready = started && is_ready(id, spec.readiness_probe.as_ref(), input.probes, was_ready);
}

fn is_ready(id: &str, probe: Option<&Probe>, probes: &ProbeResults, was_ready: bool) -> bool {
    match probe {
        None => true,
        Some(_) => probes.get(id, ProbeKind::Readiness).unwrap_or(was_ready),
    }
}

/// Conditions of others, then ours.
pub(crate) fn conditions(status: &PodStatus, input: &Inputs) -> Vec<Condition> {
    let pod = input.pod;
    let mut out: Vec<Condition> =
        pod.status.conditions.iter().filter(|c| !OWNED.contains(&c.r#type.as_str())).cloned().collect();
    let has_sandbox = sandbox_needed(pod, input.observed).is_none();
    let owned = [
        simple("PodReadyToStartContainers", has_sandbox),
        initialized(pod, status),
        ready(pod, status, &out),
        containers_ready(pod, status, "ContainersReady"),
        simple("PodScheduled", true),
    ];
    for mut condition in owned {
        condition.observed_generation = status.observed_generation;
        let old = input.old.condition(&condition.r#type).filter(|o| o.status == condition.status);
        let since = old.and_then(|o| o.last_transition_time.clone());
        condition.last_transition_time = since.or_else(|| Some(base::time::format_seconds(input.now)));
        out.push(condition);
    }
    out
}

fn simple(of: &str, is_true: bool) -> Condition {
    Condition { r#type: of.into(), status: if is_true { "True" } else { "False" }.into(), ..Condition::default() }
}

fn because(of: &str, reason: &str, message: String) -> Condition {
    Condition { reason: reason.into(), message, ..simple(of, false) }
}

/// `[a b]`, as Go prints a list.
fn listed(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn messages(unknown: &[&str], other: &[&str], word: &str) -> String {
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!("containers with unknown status: {}", listed(unknown)));
    }
    if !other.is_empty() {
        parts.push(format!("containers with {word} status: {}", listed(other)));
    }
    parts.join(", ")
}

fn initialized(pod: &Pod, status: &PodStatus) -> Condition {
    let of = "Initialized";
    let mut unknown = Vec::new();
    let mut incomplete = Vec::new();
    for container in pod.containers(Role::Init) {
        match status.container(&container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) if container.is_sidecar() && s.started == Some(true) => {}
            Some(s) if !container.is_sidecar() && s.ready => {}
            Some(_) => incomplete.push(container.name.as_str()),
        }
    }
    if status.phase == "Succeeded" && unknown.is_empty() {
        return Condition { reason: "PodCompleted".into(), ..simple(of, true) };
    }
    let has_started = |s: &ContainerStatus| {
        s.state.running.is_some() || s.state.terminated.is_some() || s.last_state.terminated.is_some()
    };
    if status.container_statuses.iter().any(has_started) {
        return simple(of, true);
    }
    match messages(&unknown, &incomplete, "incomplete") {
        message if message.is_empty() => simple(of, true),
        message => because(of, "ContainersNotInitialized", message),
    }
}

fn containers_ready(pod: &Pod, status: &PodStatus, of: &str) -> Condition {
    let sidecars = pod.spec.init_containers.iter().filter(|c| c.is_sidecar());
    let mut unknown = Vec::new();
    let mut unready = Vec::new();
    for container in sidecars.chain(&pod.spec.containers) {
        match status.container(&container.name) {
            None => unknown.push(container.name.as_str()),
            Some(s) if !s.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match status.phase.as_str() {
        "Succeeded" if unknown.is_empty() => because(of, "PodCompleted", String::new()),
        "Failed" => because(of, "PodFailed", String::new()),
        _ => match messages(&unknown, &unready, "unready") {
            message if message.is_empty() => simple(of, true),
            message => because(of, "ContainersNotReady", message),
        },
    }
}

fn ready(pod: &Pod, status: &PodStatus, others: &[Condition]) -> Condition {
    let containers = containers_ready(pod, status, "Ready");
    if containers.status != "True" {
        return containers;
    }
    let mut unmet = Vec::new();
    for gate in &pod.spec.readiness_gates {
        let name = &gate.condition_type;
        match others.iter().find(|c| c.r#type == *name) {
            None => unmet.push(format!("corresponding condition of pod readiness gate {name:?} does not exist.")),
            Some(c) if c.status != "True" => {
                unmet.push(format!("the status of pod readiness gate {name:?} is not \"True\", but {}", c.status));
            }
            Some(_) => {}
        }
    }
    if unmet.is_empty() { simple("Ready", true) } else { because("Ready", "ReadinessGatesNotReady", unmet.join(", ")) }
}
