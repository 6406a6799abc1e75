//! `containerStatuses`, `initContainerStatuses`, `ephemeralContainerStatuses`.

use std::collections::HashMap;

use serde_json::json;

use super::Inputs;
use crate::api::{Container, ContainerStatus, MountStatus, Role, Running, State, Terminated};
use crate::pods::observed::{Record, RunState};
use crate::pods::{plan, resize};

const LOST: &str = "The container could not be located when the pod was terminated";
const LOST_ON_DELETE: &str =
    "The container could not be located when the pod was deleted.  The container used to be Running";
const INIT_FORGOTTEN: &str = "Unable to get init container status from container runtime and pod has been initialized, \
                              treat it as exited normally";

/// The statuses of one list: init containers in the spec's order, the others by name.
pub(crate) fn statuses(input: &Inputs, role: Role) -> Vec<ContainerStatus> {
    let containers = input.pod.containers(role);
    let old_list = match role {
        Role::Init => &input.old.init_container_statuses,
        Role::Main => &input.old.container_statuses,
        Role::Ephemeral => &input.old.ephemeral_container_statuses,
    };
    let old: HashMap<&str, &ContainerStatus> = old_list.iter().map(|s| (s.name.as_str(), s)).collect();
    let one = |c: &Container| status(input, role, c, old.get(c.name.as_str()).copied());
    let mut out: Vec<ContainerStatus> = containers.iter().map(one).collect();
    if role != Role::Init {
        out.sort_by(|a, b| a.name.cmp(&b.name));
    }
    out
}

fn status(input: &Inputs, role: Role, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    let mut records = input.observed.containers.iter().filter(|r| r.name == container.name);
    let newest = records.next();
    let before = records.next();
    let mut status = match newest {
        Some(record) => from_record(input, record, container, old),
        None => unseen(input, container, old),
    };
    if let Some(before) = before {
        status.last_state = state_of(input, before, old);
    } else if let (Some(_), Some(old)) = (newest, old) {
        // The one before was removed already: what was written of it still holds.
        status.last_state = match (&old.state.terminated, old.container_id != status.container_id) {
            (Some(ended), true) => State::terminated(ended.clone()),
            _ => old.last_state.clone(),
        };
    }
    status.volume_mounts = mounts(container);
    status.allocated_resources = Some(container.resources.requests.clone()).filter(|r| !r.is_empty());
    // What a running container really has: a change of the spec shows when it has been made.
    let is_due =
        |r: &Record| r.state == RunState::Running && r.limits.is_some_and(|l| resize::is_due(input.pod, container, &l));
    status.resources = match old.and_then(|old| old.resources.clone()) {
        Some(before) if newest.is_some_and(is_due) => Some(before),
        _ => Some(container.resources.clone()),
    };
    show_blocked(input, role, container, newest, &mut status);
    status
}

fn from_record(
    input: &Inputs,
    record: &Record,
    container: &Container,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let user = record.user.as_ref().map(|(uid, gid, groups)| {
        let mut linux = json!({"uid": uid, "gid": gid});
        if !groups.is_empty() {
            linux["supplementalGroups"] = json!(groups);
        }
        json!({"linux": linux})
    });
    let lost_while_running = record.state == RunState::Unknown && old.is_some_and(|o| o.state.running.is_some());
    let restarts = old.map_or(0, |o| o.restart_count);
    ContainerStatus {
        name: container.name.clone(),
        state: state_of(input, record, old),
        restart_count: if lost_while_running { restarts + 1 } else { record.restart_count },
        image: if record.image.is_empty() { container.image.clone() } else { record.image.clone() },
        image_id: record.image_id.clone(),
        container_id: container_id(input, record),
        user,
        ..ContainerStatus::default()
    }
}

fn state_of(input: &Inputs, record: &Record, old: Option<&ContainerStatus>) -> State {
    match record.state {
        RunState::Running => {
            State { running: Some(Running { started_at: time(record.started_at) }), ..State::default() }
        }
        RunState::Exited => State::terminated(written(input, record, old).unwrap_or_else(|| Terminated {
            exit_code: record.exit_code,
            signal: 0,
            reason: record.reason.clone(),
            message: record.message.clone(),
            started_at: time(record.started_at),
            finished_at: time(record.finished_at),
            container_id: container_id(input, record),
        })),
        RunState::Unknown if old.is_some_and(|o| o.state.running.is_some()) => State::terminated(Terminated {
            exit_code: 137,
            reason: "ContainerStatusUnknown".into(),
            message: LOST.into(),
            ..Terminated::default()
        }),
        RunState::Created | RunState::Unknown => State::waiting("", ""),
    }
}

/// What was written of this end already: it cannot change, and the file with its message may be gone by now.
fn written(input: &Inputs, record: &Record, old: Option<&ContainerStatus>) -> Option<Terminated> {
    let id = container_id(input, record);
    let known = old.into_iter().flat_map(|o| [&o.state, &o.last_state]).filter_map(|s| s.terminated.as_ref());
    known.into_iter().find(|t| t.container_id == id && record.message.is_empty()).cloned()
}

/// A container that the runtime does not know: not created yet, or lost.
fn unseen(input: &Inputs, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
    if let Some(old) = old.filter(|o| o.state.terminated.is_some()) {
        return old.clone();
    }
    let waiting = if input.pod.spec.init_containers.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone(),
        state: State::waiting(waiting, ""),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return status };
    status.restart_count = old.restart_count;
    status.last_state = old.last_state.clone();
    if old.state.running.is_some() && status.last_state.terminated.is_none() {
        status.last_state = State::terminated(Terminated {
            exit_code: 137,
            reason: "ContainerStatusUnknown".into(),
            message: LOST_ON_DELETE.into(),
            ..Terminated::default()
        });
        status.restart_count += i32::from(!input.pod.is_terminating());
    }
    status
}

/// A container that shall start and cannot is *waiting*, whatever it was before.
fn show_blocked(
    input: &Inputs,
    role: Role,
    container: &Container,
    newest: Option<&Record>,
    status: &mut ContainerStatus,
) {
    if role == Role::Init {
        if newest.is_some_and(|r| r.state == RunState::Exited && r.exit_code == 0) {
            return;
        }
        let main_exists = input.pod.spec.containers.iter().any(|c| input.observed.latest(&c.name).is_some());
        if newest.is_none() && main_exists && !container.is_sidecar() && status.state.waiting.is_some() {
            status.state = State::terminated(Terminated {
                reason: "Completed".into(),
                message: INIT_FORGOTTEN.into(),
                ..Terminated::default()
            });
            return;
        }
    }
    if input.is_ending || !plan::should_restart(input.pod, container, input.observed) {
        return;
    }
    let Some(blocked) = input.blocked.get(&container.name) else { return };
    if status.state.terminated.is_some() {
        status.last_state = std::mem::take(&mut status.state);
    }
    status.state = State::waiting(&blocked.reason, &blocked.message);
}

fn mounts(container: &Container) -> Vec<MountStatus> {
    let one = |m: &crate::api::VolumeMount| MountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only,
        recursive_read_only: m.read_only.then(|| "Disabled".into()),
    };
    container.volume_mounts.iter().map(one).collect()
}

fn container_id(input: &Inputs, record: &Record) -> String {
    format!("{}://{}", input.runtime_name, record.id)
}

fn time(nanos: i64) -> Option<String> {
    (nanos > 0).then(|| base::time::format_seconds(nanos / 1_000_000_000))
}
