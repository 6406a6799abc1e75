//! NodeResourcesFit (with the LeastAllocated score) and NodeResourcesBalancedAllocation.

use crate::framework::{MOST, Plugin, Refusal, Verdict};
use crate::snapshot::{Node, Pod, Snapshot};

pub(crate) const FIT: Plugin =
    Plugin { name: "NodeResourcesFit", filter, score: Some(least_allocated), normalize: false, weight: 1 };
pub(crate) const BALANCED: Plugin = Plugin {
    name: "NodeResourcesBalancedAllocation",
    filter: |_, _, _| Ok(()),
    score: Some(balanced),
    normalize: false,
    weight: 1,
};

/// What a pod without requests counts for in scores: millicores, bytes.
const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

fn filter(pod: &Pod, node: &Node, _: &Snapshot) -> Verdict {
    let mut refusal = Refusal { reasons: Vec::new(), curable: true };
    let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
    if pods + 1 > node.allocatable.get("pods") {
        refusal.reasons.push("Too many pods".into());
    }
    for (resource, asked) in &pod.requests.0 {
        if *asked > 0 && *asked > node.allocatable.get(resource) - node.used.get(resource) {
            refusal.reasons.push(format!("Insufficient {resource}"));
            refusal.curable &= *asked <= node.allocatable.get(resource);
        }
    }
    if refusal.reasons.is_empty() { Ok(()) } else { Err(refusal) }
}

/// (used with this pod, allocatable) of cpu and memory, as scores count them.
fn shares(pod: &Pod, node: &Node) -> [(i64, i64); 2] {
    [("cpu", DEFAULT_CPU), ("memory", DEFAULT_MEMORY)].map(|(resource, default)| {
        let counted = |p: &Pod| match p.requests.get(resource) {
            0 => default,
            asked => asked,
        };
        let used: i64 = node.pods.values().map(|p| counted(p)).sum();
        (used + counted(pod), node.allocatable.get(resource))
    })
}

fn least_allocated(pod: &Pod, nodes: &[&Node], _: &Snapshot) -> Vec<i64> {
    let free = |(used, all): (i64, i64)| if all <= 0 || used > all { 0 } else { (all - used) * MOST / all };
    nodes.iter().map(|node| shares(pod, node).map(free).iter().sum::<i64>() / 2).collect()
}

fn balanced(pod: &Pod, nodes: &[&Node], _: &Snapshot) -> Vec<i64> {
    let percent = |(used, all): (i64, i64)| if all <= 0 { MOST } else { (used * MOST / all).min(MOST) };
    // With two resources the standard deviation is half the difference.
    nodes
        .iter()
        .map(|node| shares(pod, node).map(percent))
        .map(|[cpu, memory]| MOST - (cpu - memory).abs() / 2)
        .collect()
}
