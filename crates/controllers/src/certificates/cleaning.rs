//! Removes requests that are done with: an hour after they were decided, a day after they were made or approved for nothing, and
//! when their certificate ends.

use std::sync::Arc;

use object::Object;
use serde_json::json;

use super::{NAME, View};
use crate::kinds::CERTIFICATE_REQUESTS;
use crate::plan::Op;
use crate::world::World;
use crate::{Controller, Plan};

/// The controller.
pub static CONTROLLER: Controller = Controller {
    name: NAME,
    of: &CERTIFICATE_REQUESTS,
    owns: &[],
    watches: &[],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn reconcile(request: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let value = request.value().unwrap_or_default();
    let view: View = request.view().unwrap_or_default();
    let second = |text: Option<&str>| text.and_then(base::time::parse_seconds);
    let decided = |kind: &str| second(view.condition(kind)?.last_update_time.as_deref());
    let created = second(value["metadata"]["creationTimestamp"].as_str());
    let pending = created.filter(|_| view.status.conditions.is_empty()).map(|at| at + DAY);
    let refused = [decided("Denied"), decided("Failed")].into_iter().flatten().map(|at| at + HOUR);
    let approved = decided("Approved").map(|at| at + if view.is_issued() { HOUR } else { DAY });
    let pem = crate::secrets::data(&json!({"data": value["status"]}), "certificate").unwrap_or_default();
    let ends = pki::csr::ends(&pem).filter(|_| view.condition("Approved").is_some());
    let Some(due) = pending.into_iter().chain(refused).chain(approved).chain(ends).min() else { return plan };
    if due < world.now() {
        plan.push(Op::delete(&CERTIFICATE_REQUESTS, request));
    } else {
        plan.requeue_after(due - world.now() + 1);
    }
    plan
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{NOW, Scene};

    #[test]
    fn requests_go_when_their_time_is_over() {
        let ago = |seconds: i64| base::time::format_seconds(NOW - seconds);
        let check = |created: i64, status: Value, wanted: &str| {
            let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                "metadata": {"name": "r", "creationTimestamp": ago(created)}, "status": status});
            assert_eq!(Scene::new(vec![request]).plan(&CONTROLLER, "r").to_string(), wanted, "{status}");
        };
        let (gone, condition) = (
            "delete certificatesigningrequests r\n",
            |kind: &str, seconds: i64| json!([{"type": kind, "status": "True", "lastUpdateTime": ago(seconds)}]),
        );
        check(DAY + 1, json!({}), gone);
        check(DAY - 99, json!({}), "requeue 100 s\n");
        check(DAY + 1, json!({"conditions": condition("Denied", HOUR - 9)}), "requeue 10 s\n");
        check(DAY + 1, json!({"conditions": condition("Denied", HOUR + 1)}), gone);
        check(2 * DAY, json!({"conditions": condition("Approved", HOUR + 1)}), &format!("requeue {} s\n", DAY - HOUR));
        check(2 * DAY, json!({"conditions": condition("Approved", HOUR + 1), "certificate": "eA=="}), gone);
    }
}
