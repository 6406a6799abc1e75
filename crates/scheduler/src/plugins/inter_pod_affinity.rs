//! InterPodAffinity: pods that want, or do not want, each other's company within a topology.

use object::LabelSelector;

use crate::framework::{Plugin, Refusal, Verdict};
use crate::snapshot::{Node, Pod, Snapshot};
use crate::views::PodTerm;

pub(crate) const PLUGIN: Plugin =
    Plugin { name: "InterPodAffinity", filter, score: Some(score), normalize: true, weight: 2 };

/// True when `other` is one of the pods that a term of `owner` speaks of: in a namespace that is listed or selected (the
/// owner's when neither is said), with the right labels.
fn speaks_of(term: &PodTerm, owner: &Pod, other: &Pod, snapshot: &Snapshot) -> bool {
    let selected = term.namespace_selector.as_ref().and_then(LabelSelector::from_object);
    let own = term.namespaces.is_empty() && selected.is_none() && other.namespace == owner.namespace;
    let namespace = || {
        own || term.namespaces.contains(&other.namespace)
            || selected.is_some_and(|s| s.matches(snapshot.namespace_labels(&other.namespace)))
    };
    let selector = term.label_selector.as_ref().and_then(LabelSelector::from_object);
    selector.is_some_and(|s| s.matches(&other.labels)) && namespace()
}

fn same_domain(key: &str, a: &Node, b: &Node) -> bool {
    a.labels.get(key).is_some_and(|value| b.labels.get(key) == Some(value))
}

/// True when a pod that the term speaks of runs in the node's domain.
fn met(term: &PodTerm, pod: &Pod, node: &Node, snapshot: &Snapshot) -> bool {
    let domain = snapshot.nodes().filter(|n| same_domain(&term.topology_key, n, node));
    domain.flat_map(|n| n.pods.values()).any(|p| speaks_of(term, pod, p, snapshot))
}

fn filter(pod: &Pod, node: &Node, snapshot: &Snapshot) -> Verdict {
    let affinity = &pod.view.spec.affinity;
    for term in &affinity.pod_affinity.required {
        let nobody_yet = || {
            let all = snapshot.nodes().flat_map(|n| n.pods.values()).any(|p| speaks_of(term, pod, p, snapshot));
            !all && speaks_of(term, pod, pod, snapshot) && node.labels.contains_key(&term.topology_key)
        };
        if !met(term, pod, node, snapshot) && !nobody_yet() {
            return Refusal::incurable("node(s) didn't match pod affinity rules");
        }
    }
    if affinity.pod_anti_affinity.required.iter().any(|term| met(term, pod, node, snapshot)) {
        return Refusal::curable("node(s) didn't match pod anti-affinity rules");
    }
    let objects = |other: &Node| {
        other.pods.values().any(|p| {
            let terms = &p.view.spec.affinity.pod_anti_affinity.required;
            terms.iter().any(|t| speaks_of(t, p, pod, snapshot) && same_domain(&t.topology_key, other, node))
        })
    };
    if snapshot.nodes().any(objects) {
        return Refusal::curable("node(s) didn't satisfy existing pods anti-affinity rules");
    }
    Ok(())
}

fn score(pod: &Pod, nodes: &[&Node], snapshot: &Snapshot) -> Vec<i64> {
    let affinity = &pod.view.spec.affinity;
    let weigh = |node: &&Node| -> i64 {
        let sum = |terms: &[crate::views::WeightedPodTerm]| -> i64 {
            terms.iter().filter(|t| met(&t.pod_affinity_term, pod, node, snapshot)).map(|t| t.weight).sum()
        };
        sum(&affinity.pod_affinity.preferred) - sum(&affinity.pod_anti_affinity.preferred)
    };
    let raw: Vec<i64> = nodes.iter().map(weigh).collect();
    let least = raw.iter().copied().min().unwrap_or(0);
    raw.into_iter().map(|s| s - least).collect()
}
