//! One decision: which nodes fit, which of them is best, and why the others do not fit. Pure.

use std::collections::BTreeMap;

use crate::plugins::PLUGINS;
use crate::snapshot::{Node, Pod, Snapshot};

/// The best score that a plugin gives a node.
pub(crate) const MOST: i64 = 100;

/// Scores nodes for a pod: one number per node.
pub(crate) type Score = fn(&Pod, &[&Node], &Snapshot) -> Vec<i64>;

/// A rule about pods and nodes.
pub(crate) struct Plugin {
    /// Upstream's name.
    #[allow(dead_code, reason = "names the row; the explainer prints it")]
    pub(crate) name: &'static str,
    /// Whether the pod can run on the node.
    pub(crate) filter: fn(&Pod, &Node, &Snapshot) -> Verdict,
    /// Raw scores, higher is better, one per node.
    pub(crate) score: Option<Score>,
    /// Raw scores are scaled so that the best is 100 (otherwise they are 0 to 100 already).
    pub(crate) normalize: bool,
    /// Weight of the score.
    pub(crate) weight: i64,
}

/// Why a pod cannot run on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// In upstream's words.
    pub(crate) reasons: Vec<String>,
    /// True when it could if other pods left (upstream's `Unschedulable`, as against `UnschedulableAndUnresolvable`).
    pub(crate) curable: bool,
}

/// Whether a pod can run on a node.
pub(crate) type Verdict = Result<(), Refusal>;

impl Refusal {
    /// Other pods are in the way.
    pub(crate) fn curable(reason: &str) -> Verdict {
        Err(Self { reasons: vec![reason.into()], curable: true })
    }
    /// The node itself is wrong.
    pub(crate) fn incurable(reason: &str) -> Verdict {
        Err(Self { reasons: vec![reason.into()], curable: false })
    }
}

/// Nodes that refused a pod.
pub(crate) type Refused = BTreeMap<String, Refusal>;

/// The outcome of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// This node.
    On(String),
    /// None fits.
    Nowhere(Refused),
}

/// Asks all plugins; like upstream, the first one that refuses speaks for the node.
pub(crate) fn fits(pod: &Pod, node: &Node, snapshot: &Snapshot) -> Verdict {
    PLUGINS.iter().try_for_each(|plugin| (plugin.filter)(pod, node, snapshot))
}

/// Decides where the pod runs. A node that was cleared for it comes first; equal scores go to the node with the fewest
/// pods, then by name.
pub(crate) fn place(pod: &Pod, snapshot: &Snapshot) -> Placement {
    let cleared = snapshot.nominated_node(&pod.uid).and_then(|name| snapshot.node(name));
    if let Some(node) = cleared.filter(|node| fits(pod, node, snapshot).is_ok()) {
        return Placement::On(node.name.clone());
    }
    let mut refused = Refused::new();
    let mut fitting: Vec<&Node> = Vec::new();
    for node in snapshot.nodes() {
        match fits(pod, node, snapshot) {
            Err(refusal) => drop(refused.insert(node.name.clone(), refusal)),
            Ok(()) => fitting.push(node),
        }
    }
    if fitting.is_empty() {
        return Placement::Nowhere(refused);
    }
    let mut totals = vec![0i64; fitting.len()];
    if fitting.len() > 1 {
        for plugin in PLUGINS {
            let Some(score) = plugin.score else { continue };
            let scores = score(pod, &fitting, snapshot);
            let best = scores.iter().copied().max().unwrap_or(0);
            for (total, score) in totals.iter_mut().zip(scores) {
                let score = if plugin.normalize && best > 0 { score * MOST / best } else { score };
                *total += score * plugin.weight;
            }
        }
    }
    let ranked = fitting.iter().zip(&totals).max_by(|(a, x), (b, y)| {
        x.cmp(y).then_with(|| b.pods.len().cmp(&a.pods.len())).then_with(|| b.name.cmp(&a.name))
    });
    match ranked {
        Some((node, _)) => Placement::On(node.name.clone()),
        None => Placement::Nowhere(refused),
    }
}

/// Upstream's sentence: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).`
pub(crate) fn sentence(refused: &Refused) -> String {
    if refused.is_empty() {
        return "no nodes available to schedule pods".into();
    }
    counted(refused.len(), refused.values().flat_map(|refusal| &refusal.reasons).map(String::as_str))
}

/// `0/3 nodes are available: ` and how often each reason was given.
pub(crate) fn counted<'a>(nodes: usize, reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::Object;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn node(snapshot: &mut Snapshot, name: &str, cpu: &str, extra: Value) {
        let mut value = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}}});
        object::patch::merge(&mut value, &extra);
        snapshot.set_node(&Object::from_value(&value).unwrap());
    }

    fn pod(name: &str, spec: Value) -> Pod {
        let value =
            json!({"metadata": {"name": name, "uid": name, "namespace": "d", "labels": {"app": "web"}}, "spec": spec});
        Pod::of(&Object::from_value(&value).unwrap()).unwrap()
    }

    fn asks(cpu: &str) -> Value {
        json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]})
    }

    fn check(snapshot: &Snapshot, spec: Value, wanted: &str) {
        let text = match place(&pod("new", spec.clone()), snapshot) {
            Placement::On(node) => node,
            Placement::Nowhere(reasons) => sentence(&reasons),
        };
        assert_eq!(text, wanted, "{spec}");
    }

    #[test]
    fn reasons_in_upstreams_words() {
        let mut snapshot = Snapshot::default();
        check(&snapshot, asks("1"), "no nodes available to schedule pods");
        node(
            &mut snapshot,
            "a",
            "2",
            json!({"spec": {"taints": [{"key": "dedicated", "value": "x", "effect": "NoSchedule"}]}}),
        );
        node(&mut snapshot, "b", "1", json!({}));
        node(&mut snapshot, "c", "4", json!({"spec": {"unschedulable": true}}));
        check(
            &snapshot,
            asks("2"),
            "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.",
        );
        let mut tolerant = asks("2");
        tolerant["tolerations"] = json!([{"key": "dedicated", "operator": "Exists"}]);
        check(&snapshot, tolerant, "a");
        let mut selective = asks("1");
        selective["nodeSelector"] = json!({"disk": "ssd"});
        check(
            &snapshot,
            selective,
            "0/3 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable.",
        );
    }

    #[test]
    fn pods_alike_are_spread() {
        let mut snapshot = Snapshot::default();
        for name in ["a", "b", "c"] {
            node(&mut snapshot, name, "8", json!({}));
        }
        let mut placed = Vec::new();
        for number in 0..6 {
            let pod = pod(&format!("p{number}"), asks("100m"));
            let Placement::On(on) = place(&pod, &snapshot) else { panic!("{number} fits") };
            snapshot.place(Arc::new(pod), &on);
            placed.push(on);
        }
        placed.sort();
        assert_eq!(placed, ["a", "a", "b", "b", "c", "c"]);
    }

    #[test]
    fn anti_affinity_and_host_ports_keep_apart() {
        let mut snapshot = Snapshot::default();
        node(&mut snapshot, "a", "8", json!({}));
        let apart = json!({"containers": [{"ports": [{"hostPort": 80}]}], "affinity": {"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}]}}});
        check(&snapshot, apart.clone(), "a");
        snapshot.place(Arc::new(pod("first", json!({"containers": [{"ports": [{"hostPort": 80}]}]}))), "a");
        check(
            &snapshot,
            apart,
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
        );
    }
}
