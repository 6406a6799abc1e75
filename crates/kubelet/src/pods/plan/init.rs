//! Init containers and sidecars: which of them starts next, and whether the pod is initialized.

use super::{Kill, KillReason, Plan, ProbeKind, ProbeResults, is_changed, restarts_on_failure, should_restart};
use crate::api::{Container, Pod, Role};
use crate::pods::observed::{Observed, Record, RunState};

/// How far initialization came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The main containers may start.
    Done,
    /// Wait, or start what the plan says.
    Pending,
    /// An init container failed for good: the pod ends.
    Failed,
}

/// Adds to `plan` what the init containers need.
pub(crate) fn advance(pod: &Pod, observed: &Observed, probes: &ProbeResults, plan: &mut Plan) -> Progress {
    let containers = &pod.spec.init_containers;
    if containers.is_empty() {
        return Progress::Done;
    }
    let runs = |c: &Container| {
        let state = observed.latest(&c.name).map(|r| r.state);
        matches!(state, Some(RunState::Created | RunState::Running))
    };
    let mut walk = Walk {
        pod,
        probes,
        last: containers.len() - 1,
        initialized: pod.spec.containers.iter().any(runs),
        starts: Vec::new(),
        kills: Vec::new(),
    };
    let mut known = walk.initialized;
    for (index, container) in containers.iter().enumerate().rev() {
        let Some(record) = observed.latest(&container.name) else {
            if known && container.is_sidecar() {
                walk.starts.push(index);
            }
            continue;
        };
        if known && !container.is_sidecar() {
            continue;
        }
        if !walk.visit(index, container, record, known, should_restart(pod, container, observed)) {
            return Progress::Failed;
        }
        known = true;
    }
    if !known {
        walk.starts.push(0);
    }
    walk.starts.sort_unstable();
    walk.starts.dedup();
    plan.kills.extend(walk.kills);
    plan.starts.extend(walk.starts.into_iter().map(|i| (Role::Init, i)));
    if walk.initialized { Progress::Done } else { Progress::Pending }
}

struct Walk<'a> {
    pod: &'a Pod,
    probes: &'a ProbeResults,
    last: usize,
    initialized: bool,
    starts: Vec<usize>,
    kills: Vec<Kill>,
}

impl Walk<'_> {
    /// False when the pod has failed.
    fn visit(&mut self, index: usize, container: &Container, record: &Record, known: bool, restart: bool) -> bool {
        let sidecar = container.is_sidecar();
        match record.state {
            RunState::Created => self.starts.push(index),
            RunState::Running if sidecar => self.visit_running_sidecar(index, container, record, known),
            RunState::Running => {}
            RunState::Exited if sidecar => self.starts.push(index),
            RunState::Exited if record.exit_code == 0 => self.passed(index, known),
            RunState::Exited if !restart => return false,
            RunState::Exited => self.starts.push(index),
            RunState::Unknown => {
                if !sidecar && !restarts_on_failure(self.pod) {
                    return false;
                }
                let message = "Init container is in \"unknown\" state, try killing it before restart".to_owned();
                self.replace(index, record, message, KillReason::Replaced);
            }
        }
        true
    }

    fn visit_running_sidecar(&mut self, index: usize, container: &Container, record: &Record, known: bool) {
        if container.startup_probe.is_some() {
            match self.probes.get(&record.id, ProbeKind::Startup) {
                Some(true) => {}
                Some(false) => {
                    let message = format!("Init container {} failed startup probe", container.name);
                    return self.replace(index, record, message, KillReason::Startup);
                }
                None => return,
            }
        }
        self.passed(index, known);
        if is_changed(container, record) {
            let message = format!("Init container {} definition changed", container.name);
            self.replace(index, record, message, KillReason::Replaced);
        } else if self.probes.get(&record.id, ProbeKind::Liveness) == Some(false) {
            let message = format!("Init container {} failed liveness probe", container.name);
            self.replace(index, record, message, KillReason::Liveness);
        }
    }

    fn passed(&mut self, index: usize, known: bool) {
        if index == self.last {
            self.initialized = true;
        } else if !known {
            self.starts.push(index + 1);
        }
    }

    fn replace(&mut self, index: usize, record: &Record, message: String, reason: KillReason) {
        self.kills.push(Kill { id: record.id.clone(), name: record.name.clone(), message, reason });
        self.starts.push(index);
    }
}
