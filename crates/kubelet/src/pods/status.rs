//! Pod status out of the spec, the runtime's state, the probes' results and what could not be started. Pure.

mod conditions;
mod containers;
pub(crate) mod diff;
mod phase;

use super::observed::Observed;
use super::plan::ProbeResults;
use crate::api::{Address, Pod, PodStatus, Role};
use crate::qos;

pub(crate) use phase::phase;

/// Why a container could not be started: shown as its waiting state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// `CrashLoopBackOff`, `ErrImagePull` ...
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Everything that a status is made of.
pub(crate) struct Inputs<'a> {
    pub(crate) pod: &'a Pod,
    /// The newest status: what was written last.
    pub(crate) old: &'a PodStatus,
    pub(crate) observed: &'a Observed,
    pub(crate) probes: &'a ProbeResults,
    /// By container name.
    pub(crate) blocked: &'a std::collections::HashMap<String, Blocked>,
    /// Prefix of container ids: `navarch`.
    pub(crate) runtime_name: &'a str,
    pub(crate) node_ip: &'a str,
    /// Seconds since the epoch.
    pub(crate) now: i64,
    /// The pod will not run again: its containers ended or are being ended for good.
    pub(crate) is_ending: bool,
    /// Evicted or past its deadline: phase Failed with this reason and message.
    pub(crate) verdict: Option<&'a Blocked>,
}

/// The pod's status.
pub(crate) fn generate(input: &Inputs) -> PodStatus {
    let Inputs { pod, old, observed, .. } = input;
    let mut status = PodStatus {
        observed_generation: (pod.metadata.generation != 0).then_some(pod.metadata.generation),
        qos_class: qos::class(pod).into(),
        start_time: old.start_time.clone().or_else(|| Some(base::time::format_seconds(input.now))),
        init_container_statuses: containers::statuses(input, Role::Init),
        container_statuses: containers::statuses(input, Role::Main),
        ephemeral_container_statuses: containers::statuses(input, Role::Ephemeral),
        ..PodStatus::default()
    };
    set_addresses(&mut status, input);
    set_phase(&mut status, input);
    conditions::set_started_and_ready(&mut status, input);
    status.conditions = conditions::conditions(&status, input);
    if is_ending_alive(&status, old, observed) {
        // A pod is reported as ended only when nothing of it runs any more.
        status.phase = old.phase.clone();
    }
    status
}

fn is_ending_alive(status: &PodStatus, old: &PodStatus, observed: &Observed) -> bool {
    status.is_terminal() && !old.is_terminal() && !old.phase.is_empty() && observed.running().next().is_some()
}

fn set_addresses(status: &mut PodStatus, input: &Inputs) {
    let as_list = |ip: &str| vec![Address { ip: ip.to_owned() }];
    status.host_ip = input.node_ip.to_owned();
    status.host_ips = as_list(input.node_ip);
    let ips: Vec<Address> = input.observed.ips().iter().map(|ip| Address { ip: ip.clone() }).collect();
    status.pod_ips = if input.pod.spec.host_network {
        as_list(input.node_ip)
    } else if ips.is_empty() && (input.is_ending || input.pod.is_terminating() || input.old.is_terminal()) {
        // An ended pod still shows the address that it had.
        input.old.pod_ips.clone()
    } else {
        ips
    };
    status.pod_ip = status.pod_ips.first().map(|a| a.ip.clone()).unwrap_or_default();
}

fn set_phase(status: &mut PodStatus, input: &Inputs) {
    let old = input.old;
    let phase = phase(input.pod, status, input.is_ending, input.observed);
    status.phase = if old.is_terminal() { old.phase.clone() } else { phase.into() };
    if status.phase == old.phase {
        status.reason = old.reason.clone();
        status.message = old.message.clone();
    }
    if let Some(verdict) = input.verdict.filter(|_| !old.is_terminal()) {
        status.phase = "Failed".into();
        status.reason = verdict.reason.clone();
        status.message = verdict.message.clone();
    }
}

#[cfg(test)]
mod tests;
