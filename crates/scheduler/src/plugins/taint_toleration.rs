//! TaintToleration: hard taints keep pods away, soft ones cost score.

use crate::framework::{MOST, Plugin, Refusal, Verdict};
use crate::snapshot::{Node, Pod, Snapshot};
use crate::views::Taint;

pub(crate) const PLUGIN: Plugin =
    Plugin { name: "TaintToleration", filter, score: Some(score), normalize: false, weight: 3 };

fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    pod.view.spec.tolerations.iter().any(|t| t.tolerates(taint))
}

fn filter(pod: &Pod, node: &Node, _: &Snapshot) -> Verdict {
    let hard = |t: &&Taint| t.effect == "NoSchedule" || t.effect == "NoExecute";
    match node.view.spec.taints.iter().filter(hard).find(|t| !tolerated(pod, t)) {
        Some(_) => Refusal::incurable("node(s) had untolerated taint(s)"),
        None => Ok(()),
    }
}

fn score(pod: &Pod, nodes: &[&Node], _: &Snapshot) -> Vec<i64> {
    let soft = |node: &&Node| {
        let taints = node.view.spec.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
        i64::try_from(taints.filter(|t| !tolerated(pod, t)).count()).unwrap_or(i64::MAX)
    };
    let counts: Vec<i64> = nodes.iter().map(soft).collect();
    let worst = counts.iter().copied().max().unwrap_or(0);
    counts.into_iter().map(|c| if worst == 0 { MOST } else { MOST - c * MOST / worst }).collect()
}
