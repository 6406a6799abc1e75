//! NodeUnschedulable: cordoned nodes take only pods that tolerate it.

use crate::framework::{Plugin, Refusal, Verdict};
use crate::snapshot::{Node, Pod, Snapshot};
use crate::views::Taint;

pub(crate) const PLUGIN: Plugin =
    Plugin { name: "NodeUnschedulable", filter, score: None, normalize: false, weight: 0 };

fn filter(pod: &Pod, node: &Node, _: &Snapshot) -> Verdict {
    let taint =
        Taint { key: "node.kubernetes.io/unschedulable".into(), value: String::new(), effect: "NoSchedule".into() };
    if node.view.spec.unschedulable && !pod.view.spec.tolerations.iter().any(|t| t.tolerates(&taint)) {
        return Refusal::incurable("node(s) were unschedulable");
    }
    Ok(())
}
