//! Where a pod stands in its life: shall it run, or end, and why. Pure.

use super::status::Blocked;
use crate::api::{Pod, PodStatus};

/// What a worker does with its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Make it run; look again at this time (seconds since the epoch) for its deadline.
    Run { deadline: Option<i64> },
    /// Stop everything; with a verdict the pod has failed.
    End { verdict: Option<Blocked> },
}

/// Decides by the API object and the newest status.
pub(crate) fn stage(pod: &Pod, is_gone: bool, status: &PodStatus, now: i64) -> Stage {
    if is_gone || pod.is_terminating() || status.is_terminal() {
        return Stage::End { verdict: None };
    }
    let started = status.start_time.as_deref().and_then(base::time::parse_seconds);
    let deadline = started.zip(pod.spec.active_deadline_seconds).map(|(start, most)| start + most);
    match deadline {
        Some(at) if now >= at => Stage::End {
            verdict: Some(Blocked {
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
            }),
        },
        deadline => Stage::Run { deadline },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stages() {
        let check = |metadata, spec, status, is_gone, expect: &str| {
            let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
            let status: PodStatus = serde_json::from_value(status).unwrap();
            let found = match stage(&pod, is_gone, &status, 1_700_000_100) {
                Stage::Run { deadline } => format!("run {}", deadline.unwrap_or(0)),
                Stage::End { verdict } => format!("end {}", verdict.unwrap_or_default().reason),
            };
            assert_eq!(found, expect);
        };
        let started = json!({"startTime": "2023-11-14T22:13:20Z"});
        check(json!({}), json!({}), started.clone(), false, "run 0");
        check(json!({}), json!({}), started.clone(), true, "end ");
        check(json!({"deletionTimestamp": "x"}), json!({}), started.clone(), false, "end ");
        check(json!({}), json!({}), json!({"phase": "Succeeded"}), false, "end ");
        check(json!({}), json!({"activeDeadlineSeconds": 200}), started.clone(), false, "run 1700000200");
        check(json!({}), json!({"activeDeadlineSeconds": 100}), started, false, "end DeadlineExceeded");
    }
}
