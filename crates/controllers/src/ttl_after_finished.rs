//! Finished jobs with `ttlSecondsAfterFinished` are deleted when that time is over.

use std::sync::Arc;

use object::Object;
use serde::Deserialize;

use crate::kinds::JOBS;
use crate::plan::Op;
use crate::views::Condition;
use crate::world::World;
use crate::{Controller, Plan, Verb};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: "ttl-after-finished-controller",
    of: &JOBS,
    owns: &[],
    watches: &[],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

#[derive(Deserialize, Default)]
#[serde(default)]
struct View {
    spec: Spec,
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    ttl_seconds_after_finished: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    conditions: Option<Vec<Condition>>,
}

fn reconcile(job: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let view: View = job.view().unwrap_or_default();
    let ended = view.status.conditions.iter().flatten();
    let ended = ended.filter(|c| c.is_true() && matches!(c.r#type.as_str(), "Complete" | "Failed"));
    let ended = ended.filter_map(|c| base::time::parse_seconds(c.last_transition_time.as_deref()?)).next();
    let (Some(ttl), Some(ended), false) = (view.spec.ttl_seconds_after_finished, ended, job.head.is_terminating())
    else {
        return plan;
    };
    if ended + ttl > world.now() {
        plan.requeue_after(ended + ttl - world.now());
        return plan;
    }
    let mut op = Op::delete(&JOBS, job);
    if let Verb::Delete(options) = &mut op.verb {
        options.propagation = Some(client::Propagation::Foreground);
        options.resource_version = Some(job.head.resource_version);
    }
    plan.push(op);
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Scene;

    #[test]
    fn jobs_go_when_their_time_is_over() {
        let check = |ttl: serde_json::Value, ended: &str, wanted: &str| {
            let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "ns"},
                "spec": {"ttlSecondsAfterFinished": ttl},
                "status": {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": ended}]}});
            assert_eq!(Scene::new(vec![job]).plan(&CONTROLLER, "ns/j").to_string(), wanted);
        };
        check(json!(60), "2026-01-31T23:58:00Z", "delete jobs ns/j\n");
        check(json!(60), "2026-01-31T23:59:30Z", "requeue 30 s\n");
        check(json!(null), "2026-01-01T00:00:00Z", "");
    }
}
