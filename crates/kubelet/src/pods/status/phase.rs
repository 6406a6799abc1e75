//! The pod's phase: `Pending`, `Running`, `Succeeded`, `Failed`.

use crate::api::{Container, ContainerStatus, Pod, PodStatus, Role};
use crate::pods::observed::{Observed, RunState};

#[derive(Default)]
struct Counts {
    unknown: usize,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// The phase that the container statuses amount to.
pub(crate) fn phase(pod: &Pod, status: &PodStatus, is_ending: bool, observed: &Observed) -> &'static str {
    let init = init_progress(pod, status);
    if init.failed_for_good {
        return "Failed";
    }
    let mut counts = Counts::default();
    let pending_sidecars = count_sidecars(pod, status, &mut counts);
    count_main(pod, status, &mut counts);
    let has_started = pod.spec.containers.iter().any(|c| {
        let record = observed.latest(&c.name);
        record.is_some_and(|r| matches!(r.state, RunState::Running | RunState::Exited))
    });
    if init.pending || (pending_sidecars > 0 && !has_started) || counts.waiting > 0 {
        return "Pending";
    }
    if counts.running > 0 && counts.unknown == 0 {
        return "Running";
    }
    if counts.running == 0 && counts.stopped > 0 && counts.unknown == 0 {
        return stopped_phase(&counts, is_ending);
    }
    "Pending"
}

fn stopped_phase(counts: &Counts, is_ending: bool) -> &'static str {
    if !is_ending && counts.stopped != counts.stopped_for_good {
        return "Running";
    }
    if counts.stopped == counts.succeeded { "Succeeded" } else { "Failed" }
}

struct InitProgress {
    pending: bool,
    failed_for_good: bool,
}

fn init_progress(pod: &Pod, status: &PodStatus) -> InitProgress {
    let mut progress = InitProgress { pending: false, failed_for_good: false };
    for container in pod.spec.init_containers.iter().filter(|c| !c.is_sidecar()) {
        match ended(status.container(&container.name)) {
            Some(0) => {}
            Some(code) if !pod.restarts(container, code) => progress.failed_for_good = true,
            Some(_) | None => progress.pending = true,
        }
    }
    progress
}

/// The exit code of a container that does not run: of its present state, or of its last when it waits.
fn ended(status: Option<&ContainerStatus>) -> Option<i32> {
    let status = status?;
    let state = &status.state;
    if let Some(terminated) = &state.terminated {
        return Some(terminated.exit_code);
    }
    state.waiting.as_ref()?;
    status.last_state.terminated.as_ref().map(|t| t.exit_code)
}

fn count_sidecars(pod: &Pod, status: &PodStatus, counts: &mut Counts) -> usize {
    let mut pending = 0;
    for container in pod.spec.init_containers.iter().filter(|c| c.is_sidecar()) {
        let Some(found) = status.container(&container.name) else {
            counts.unknown += 1;
            continue;
        };
        if found.state.running.is_some() {
            counts.running += 1;
            pending += usize::from(found.started != Some(true));
        } else if found.state.terminated.is_none() && found.last_state.terminated.is_none() {
            counts.waiting += 1;
            pending += 1;
        }
    }
    pending
}

fn count_main(pod: &Pod, status: &PodStatus, counts: &mut Counts) {
    for container in pod.containers(Role::Main) {
        count_container(pod, container, status, counts);
    }
}

fn count_container(pod: &Pod, container: &Container, status: &PodStatus, counts: &mut Counts) {
    let Some(found) = status.container(&container.name) else {
        counts.unknown += 1;
        return;
    };
    if found.state.running.is_some() {
        counts.running += 1;
        return;
    }
    match ended(Some(found)) {
        Some(code) => {
            counts.stopped += 1;
            counts.stopped_for_good += usize::from(!pod.restarts(container, code));
            counts.succeeded += usize::from(code == 0 && found.state.terminated.is_some());
        }
        None if found.state.waiting.is_some() => counts.waiting += 1,
        None => counts.unknown += 1,
    }
}
