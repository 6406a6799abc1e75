//! PodTopologySpread: the pod's constraints, and without any, upstream's default of spreading by node and zone.

use std::collections::{BTreeMap, HashMap};

use object::LabelSelector;

use crate::framework::{MOST, Plugin, Refusal, Verdict};
use crate::plugins::node_affinity;
use crate::snapshot::{Node, Pod, Snapshot};
use crate::views::SpreadConstraint;

pub(crate) const PLUGIN: Plugin =
    Plugin { name: "PodTopologySpread", filter, score: Some(score), normalize: false, weight: 2 };

fn selector(constraint: &SpreadConstraint) -> LabelSelector {
    constraint.label_selector.as_ref().and_then(LabelSelector::from_object).unwrap_or_default()
}

/// Pods of the namespace that the selector matches, on this node.
fn matching(node: &Node, pod: &Pod, selector: &LabelSelector) -> i64 {
    let alike = |p: &Pod| p.namespace == pod.namespace && !p.terminating && selector.matches(&p.labels);
    i64::try_from(node.pods.values().filter(|p| alike(p)).count()).unwrap_or(i64::MAX)
}

/// Matching pods per value of the topology key, over the nodes that the pod may use at all.
fn per_domain<'a>(pod: &Pod, snapshot: &'a Snapshot, key: &str, selector: &LabelSelector) -> BTreeMap<&'a str, i64> {
    let mut counts = BTreeMap::new();
    for node in snapshot.nodes().filter(|n| node_affinity::allowed(pod, n)) {
        if let Some(domain) = node.labels.get(key) {
            *counts.entry(domain.as_str()).or_default() += matching(node, pod, selector);
        }
    }
    counts
}

fn filter(pod: &Pod, node: &Node, snapshot: &Snapshot) -> Verdict {
    for constraint in
        pod.view.spec.topology_spread_constraints.iter().filter(|c| c.when_unsatisfiable == "DoNotSchedule")
    {
        let Some(domain) = node.labels.get(&constraint.topology_key) else {
            return Refusal::incurable("node(s) didn't match pod topology spread constraints (missing required label)");
        };
        let selector = selector(constraint);
        let counts = per_domain(pod, snapshot, &constraint.topology_key, &selector);
        let least = counts.values().copied().min().unwrap_or(0);
        let here = counts.get(domain.as_str()).copied().unwrap_or(0) + i64::from(selector.matches(&pod.labels));
        if here - least > constraint.max_skew {
            return Refusal::curable("node(s) didn't match pod topology spread constraints");
        }
    }
    Ok(())
}

/// Fewer pods alike, more score. Without constraints of its own a pod is spread over the nodes against pods with its labels.
fn score(pod: &Pod, nodes: &[&Node], snapshot: &Snapshot) -> Vec<i64> {
    let soft = pod.view.spec.topology_spread_constraints.iter().filter(|c| c.when_unsatisfiable == "ScheduleAnyway");
    let mut rules: Vec<(String, LabelSelector)> = soft.map(|c| (c.topology_key.clone(), selector(c))).collect();
    if pod.view.spec.topology_spread_constraints.is_empty() && !pod.labels.is_empty() {
        let alike = LabelSelector::from_map(&pod.labels);
        rules = vec![("kubernetes.io/hostname".into(), alike.clone()), ("topology.kubernetes.io/zone".into(), alike)];
    }
    let mut loads: HashMap<&str, i64> = HashMap::new();
    for (key, selector) in &rules {
        let counts = per_domain(pod, snapshot, key, selector);
        for node in nodes {
            let count = node.labels.get(key).and_then(|domain| counts.get(domain.as_str()));
            *loads.entry(&node.name).or_default() += count.copied().unwrap_or(0);
        }
    }
    let load = |node: &&Node| loads.get(node.name.as_str()).copied().unwrap_or(0);
    let worst = nodes.iter().map(load).max().unwrap_or(0);
    nodes.iter().map(|n| if worst == 0 { MOST } else { MOST - load(n) * MOST / worst }).collect()
}
