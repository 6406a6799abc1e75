//! When a probe runs and what its outcomes amount to. Pure.

use std::time::Duration;

use super::ProbeTarget;
use crate::api::Probe;
use crate::pods::plan::ProbeKind;

/// What a probe's task does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The pod has ended: no more probes.
    Stop,
    /// Wait for news, or this long.
    Wait(Option<Duration>),
    /// Probe at the next tick.
    Probe,
}

/// Results to store (`Some(result)`) or to forget (`None`), by container id.
type Changes = Vec<(String, Option<Option<bool>>)>;

/// Counts outcomes against thresholds.
#[derive(Debug)]
pub(crate) struct ProbeState {
    kind: ProbeKind,
    success_threshold: i64,
    failure_threshold: i64,
    initial_delay: i64,
    container_id: String,
    on_hold: bool,
    last: Option<bool>,
    run: i64,
    changes: Changes,
}

impl ProbeState {
    /// Nothing probed yet.
    pub(crate) fn new(kind: ProbeKind, probe: &Probe) -> Self {
        Self {
            kind,
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
            initial_delay: probe.initial_delay_seconds,
            container_id: String::new(),
            on_hold: false,
            last: None,
            run: 0,
            changes: Vec::new(),
        }
    }

    /// The container that is probed now.
    pub(crate) fn container_id(&self) -> &str {
        &self.container_id
    }

    /// What [`ProbeState::look`] decided about results.
    pub(crate) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Looks at the container called `name`.
    pub(crate) fn look(&mut self, target: &ProbeTarget, name: &str, now: i64) -> Step {
        if target.status.is_terminal() {
            return Step::Stop;
        }
        let Some(status) = target.status.container(name).filter(|s| !s.container_id.is_empty()) else {
            return Step::Wait(None);
        };
        let id = status.container_id.split_once("://").map_or("", |(_, id)| id);
        if id != self.container_id {
            self.meet(id, status.started == Some(true), status.ready);
        }
        if self.on_hold {
            return Step::Wait(None);
        }
        let Some(running) = &status.state.running else {
            if self.kind != ProbeKind::Startup {
                self.changes.push((self.container_id.clone(), Some(Some(self.kind == ProbeKind::Liveness))));
            }
            return Step::Wait(None);
        };
        if target.pod.is_terminating() && self.kind != ProbeKind::Readiness {
            self.changes.push((self.container_id.clone(), Some(Some(true))));
            return Step::Stop;
        }
        let started_at = running.started_at.as_deref().and_then(base::time::parse_seconds).unwrap_or(now);
        let early = self.initial_delay - (now - started_at);
        if early > 0 {
            return Step::Wait(Some(Duration::from_secs(u64::try_from(early).unwrap_or(1))));
        }
        let is_started = status.started == Some(true);
        if is_started == (self.kind == ProbeKind::Startup) {
            return Step::Wait(None);
        }
        Step::Probe
    }

    /// Another incarnation of the container.
    fn meet(&mut self, id: &str, was_started: bool, was_ready: bool) {
        if !self.container_id.is_empty() {
            self.changes.push((std::mem::take(&mut self.container_id), None));
        }
        self.container_id = id.to_owned();
        self.on_hold = false;
        self.last = None;
        self.run = 0;
        let initial = match self.kind {
            ProbeKind::Liveness => Some(true),
            // A container that was ready before the agent restarted stays so until a probe says otherwise.
            ProbeKind::Readiness => Some(was_ready),
            ProbeKind::Startup => was_started.then_some(true),
        };
        self.changes.push((id.to_owned(), Some(initial)));
    }

    /// Counts an outcome; the result when a threshold is reached.
    pub(crate) fn record(&mut self, success: bool) -> Option<bool> {
        if self.last == Some(success) {
            self.run += 1;
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let threshold = if success { self.success_threshold } else { self.failure_threshold };
        if self.run < threshold {
            return None;
        }
        if self.kind == ProbeKind::Startup || (self.kind == ProbeKind::Liveness && !success) {
            // No more probes until there is another container.
            self.on_hold = true;
            self.run = 0;
        }
        Some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn target(container: serde_json::Value, terminating: bool) -> ProbeTarget {
        let mut pod = json!({"metadata": {}});
        if terminating {
            pod["metadata"]["deletionTimestamp"] = json!("2026-11-21T02:00:00Z");
        }
        let status = json!({"phase": "Running", "containerStatuses": [container]});
        ProbeTarget {
            pod: Arc::new(serde_json::from_value(pod).unwrap()),
            status: Arc::new(serde_json::from_value(status).unwrap()),
        }
    }

    fn running(id: &str, started: bool) -> serde_json::Value {
        json!({"name": "c", "containerID": format!("navarch://{id}"), "started": started,
            "state": {"running": {"startedAt": "1970-01-01T00:00:00Z"}}})
    }

    #[test]
    fn thresholds() {
        let probe = Probe { success_threshold: 2, failure_threshold: 3, ..Probe::default() };
        let mut state = ProbeState::new(ProbeKind::Readiness, &probe);
        let outcomes = [true, true, true, false, false, false, true];
        let results: Vec<_> = outcomes.into_iter().map(|o| state.record(o)).collect();
        assert_eq!(results, [None, Some(true), Some(true), None, None, Some(false), None]);
    }

    #[test]
    fn probes_wait_for_their_turn() {
        let probe = Probe { initial_delay_seconds: 5, ..Probe::default() };
        let mut liveness = ProbeState::new(ProbeKind::Liveness, &probe);
        assert_eq!(liveness.look(&target(json!({"name": "c"}), false), "c", 9), Step::Wait(None));
        assert_eq!(liveness.look(&target(running("a", true), false), "c", 2), Step::Wait(Some(Duration::from_secs(3))));
        assert_eq!(liveness.take_changes(), [("a".to_owned(), Some(Some(true)))]);
        assert_eq!(liveness.look(&target(running("a", false), false), "c", 9), Step::Wait(None));
        assert_eq!(liveness.look(&target(running("a", true), false), "c", 9), Step::Probe);
        assert_eq!([liveness.record(false), liveness.record(false), liveness.record(false)], [None, None, Some(false)]);
        assert_eq!(liveness.look(&target(running("a", true), false), "c", 9), Step::Wait(None));
        assert_eq!(liveness.look(&target(running("b", true), false), "c", 9), Step::Probe);
        assert_eq!(liveness.take_changes(), [("a".to_owned(), None), ("b".to_owned(), Some(Some(true)))]);
        assert_eq!(liveness.look(&target(running("b", true), true), "c", 9), Step::Stop);
    }

    #[test]
    fn startup_runs_until_it_succeeds() {
        let mut startup = ProbeState::new(ProbeKind::Startup, &Probe::default());
        assert_eq!(startup.look(&target(running("a", false), false), "c", 9), Step::Probe);
        assert_eq!(startup.record(true), Some(true));
        assert_eq!(startup.look(&target(running("a", true), false), "c", 9), Step::Wait(None));
    }
}
