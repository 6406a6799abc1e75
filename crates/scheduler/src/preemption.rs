//! Preemption: when no node takes a pod, which pods of less priority would have to go. Pure.
//!
//! As upstream's DefaultPreemption: on each node all pods of less priority leave, and as many as possible come back, those
//! whose disruption budget forbids to evict them and the more important ones first. The node that loses least wins.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use object::{LabelSelector, Object};
use serde::Deserialize;
use serde_json::Value;

use crate::framework::{self, Refused};
use crate::snapshot::{Pod, Snapshot};

/// A PodDisruptionBudget.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    namespace: String,
    selector: LabelSelector,
    allowed: i64,
    /// Pods that are going already.
    disrupted: BTreeSet<String>,
}

impl Budget {
    /// `None` when the object is no readable budget, or selects nothing.
    pub(crate) fn of(object: &Object) -> Option<Self> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct View {
            spec: Spec,
            status: Status,
        }
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Spec {
            selector: Option<Value>,
        }
        #[derive(Deserialize, Default)]
        #[serde(rename_all = "camelCase", default)]
        struct Status {
            disruptions_allowed: i64,
            disrupted_pods: serde_json::Map<String, Value>,
        }
        let view: View = object.view().ok()?;
        Some(Self {
            namespace: object.head.namespace.clone(),
            selector: LabelSelector::from_object(&view.spec.selector?)?,
            allowed: view.status.disruptions_allowed,
            disrupted: view.status.disrupted_pods.into_iter().map(|(name, _)| name).collect(),
        })
    }

    fn covers(&self, pod: &Pod) -> bool {
        self.namespace == pod.namespace && !self.disrupted.contains(&pod.name) && self.selector.matches(&pod.labels)
    }
}

/// What preemption can do for a pod.
#[derive(Debug)]
pub(crate) enum Plan {
    /// These pods go, and the pod comes to this node.
    Evict { node: String, victims: Vec<Arc<Pod>> },
    /// Nothing, in upstream's words.
    Nothing(String),
}

/// One node and who would have to go.
struct Candidate {
    node: String,
    victims: Vec<Arc<Pod>>,
    violations: usize,
}

/// Whose departure would let the pod run. The snapshot is as before when this returns.
pub(crate) fn plan(pod: &Pod, snapshot: &mut Snapshot, refused: &Refused, budgets: &[Budget]) -> Plan {
    if pod.view.spec.preemption_policy == "Never" {
        return Plan::Nothing("not eligible due to preemptionPolicy=Never.".into());
    }
    if snapshot.is_being_cleared(pod) {
        return Plan::Nothing("not eligible due to a terminating pod on the nominated node.".into());
    }
    let curable = refused.iter().filter(|(_, refusal)| refusal.curable);
    let candidates: Vec<Candidate> = curable.filter_map(|(node, _)| candidate(pod, node, snapshot, budgets)).collect();
    match candidates.into_iter().min_by_key(loss) {
        Some(best) => Plan::Evict { node: best.node, victims: best.victims },
        None => {
            let reason = |curable| match curable {
                true => "No preemption victims found for incoming pod",
                false => "Preemption is not helpful for scheduling",
            };
            Plan::Nothing(framework::counted(refused.len(), refused.values().map(|r| reason(r.curable))))
        }
    }
}

/// More important first: by priority, then by who has run for longer.
fn importance(pod: &Pod) -> (Reverse<i32>, i64) {
    (Reverse(pod.view.spec.priority), started(pod))
}

/// Seconds since the epoch; a pod that has not started is the youngest.
fn started(pod: &Pod) -> i64 {
    pod.view.status.start_time.as_deref().and_then(base::time::parse_seconds).unwrap_or(i64::MAX)
}

/// What choosing this candidate costs; less is better.
fn loss(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<i64>, String) {
    let highest = candidate.victims.iter().map(|v| v.view.spec.priority).max().unwrap_or(i32::MIN);
    // Shifted so that more victims never make the sum smaller.
    let sum = candidate.victims.iter().map(|v| i64::from(v.view.spec.priority) - i64::from(i32::MIN)).sum();
    let oldest = candidate.victims.iter().filter(|v| v.view.spec.priority == highest).map(|v| started(v)).min();
    let oldest = Reverse(oldest.unwrap_or(i64::MAX));
    (candidate.violations, highest, sum, candidate.victims.len(), oldest, candidate.node.clone())
}

fn candidate(pod: &Pod, name: &str, snapshot: &mut Snapshot, budgets: &[Budget]) -> Option<Candidate> {
    let fits =
        |snapshot: &Snapshot| snapshot.node(name).is_some_and(|node| framework::fits(pod, node, snapshot).is_ok());
    let less = |p: &&Arc<Pod>| p.view.spec.priority < pod.view.spec.priority;
    let mut lower: Vec<Arc<Pod>> = snapshot.node(name)?.pods.values().filter(less).cloned().collect();
    lower.sort_by_key(|p| (importance(p), p.uid.clone()));
    for p in &lower {
        snapshot.remove_pod(&p.uid);
    }
    let possible = !lower.is_empty() && fits(snapshot);
    let (mut victims, mut violations) = (Vec::new(), 0);
    if possible {
        let (protected, free) = by_budget(lower.clone(), budgets);
        for (p, is_protected) in protected.into_iter().map(|p| (p, true)).chain(free.into_iter().map(|p| (p, false))) {
            snapshot.place(p.clone(), name);
            if !fits(snapshot) {
                snapshot.remove_pod(&p.uid);
                violations += usize::from(is_protected);
                victims.push(p);
            }
        }
    }
    for p in lower {
        snapshot.place(p, name);
    }
    (!victims.is_empty()).then(|| Candidate { node: name.into(), victims, violations })
}

/// Parts the pods into those that a budget protects and the others, each in the given order.
fn by_budget(pods: Vec<Arc<Pod>>, budgets: &[Budget]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut allowed: Vec<i64> = budgets.iter().map(|b| b.allowed).collect();
    pods.into_iter().partition(|pod| {
        let mut protected = false;
        for (_, allowed) in budgets.iter().zip(&mut allowed).filter(|(b, _)| b.covers(pod)) {
            *allowed -= 1;
            protected |= *allowed < 0;
        }
        protected
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Placement;
    use serde_json::json;

    fn snapshot(nodes: &[(&str, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (name, cpu) in nodes {
            let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "pods": "110"}}});
            snapshot.set_node(&Object::from_value(&node).unwrap());
        }
        snapshot
    }

    fn pod(name: &str, priority: i32, cpu: &str) -> Pod {
        let value = json!({"metadata": {"name": name, "uid": name, "namespace": "d", "labels": {"app": name}},
            "spec": {"priority": priority, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
            "status": {"startTime": format!("2026-01-01T00:00:{:02}Z", name.len())}});
        Pod::of(&Object::from_value(&value).unwrap()).unwrap()
    }

    /// `node: victims`, or why nothing can be done.
    fn check(pod: &Pod, snapshot: &mut Snapshot, budgets: &[Budget], wanted: &str) {
        let Placement::Nowhere(refused) = framework::place(pod, snapshot) else { panic!("{} fits", pod.name) };
        let before = format!("{:?}", snapshot.nodes().map(|n| (n.pods.len(), n.used.clone())).collect::<Vec<_>>());
        let text = match plan(pod, snapshot, &refused, budgets) {
            Plan::Nothing(why) => why,
            Plan::Evict { node, victims } => {
                let names: Vec<&str> = victims.iter().map(|v| v.name.as_str()).collect();
                format!("{node}: {}", names.join(" "))
            }
        };
        assert_eq!(text, wanted);
        let after = format!("{:?}", snapshot.nodes().map(|n| (n.pods.len(), n.used.clone())).collect::<Vec<_>>());
        assert_eq!(before, after, "the snapshot is left as it was");
    }

    #[test]
    fn the_least_important_pods_go_and_no_more_than_needed() {
        let mut snapshot = snapshot(&[("a", "2"), ("b", "2")]);
        for (name, priority, node) in [("low", 1, "a"), ("mid", 5, "a"), ("hi", 9, "b"), ("higher", 9, "b")] {
            snapshot.place(Arc::new(pod(name, priority, "1")), node);
        }
        check(&pod("new", 10, "1"), &mut snapshot, &[], "a: low");
        check(&pod("new", 10, "2"), &mut snapshot, &[], "a: mid low");
        check(
            &pod("new", 1, "1"),
            &mut snapshot,
            &[],
            "0/2 nodes are available: 2 No preemption victims found for incoming pod.",
        );
        check(
            &pod("new", 10, "3"),
            &mut snapshot,
            &[],
            "0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
        );
        let mut meek = pod("new", 10, "1");
        meek.view.spec.preemption_policy = "Never".into();
        check(&meek, &mut snapshot, &[], "not eligible due to preemptionPolicy=Never.");
    }

    #[test]
    fn budgets_are_kept_where_that_is_possible() {
        let mut snapshot = snapshot(&[("a", "1"), ("b", "1")]);
        snapshot.place(Arc::new(pod("cheap", 1, "1")), "a");
        snapshot.place(Arc::new(pod("dear", 5, "1")), "b");
        let budget = json!({"metadata": {"name": "b", "namespace": "d"}, "spec": {"selector": {"matchLabels": {"app": "cheap"}}},
            "status": {"disruptionsAllowed": 0}});
        let budget = Budget::of(&Object::from_value(&budget).unwrap()).unwrap();
        check(&pod("new", 10, "1"), &mut snapshot, &[], "a: cheap");
        check(&pod("new", 10, "1"), &mut snapshot, &[budget], "b: dear");
    }

    #[test]
    fn nobody_takes_what_was_cleared_for_another() {
        let mut snapshot = snapshot(&[("a", "1")]);
        let (low, high) = (Arc::new(pod("low", 1, "1")), Arc::new(pod("high", 9, "1")));
        snapshot.place(low.clone(), "a");
        snapshot.nominate(high.clone(), "a", vec!["low".into()]);
        check(&high, &mut snapshot, &[], "not eligible due to a terminating pod on the nominated node.");
        snapshot.remove_pod("low");
        let thief = pod("thief", 5, "1");
        let placed = snapshot.with_nominated(&thief, |s| framework::place(&thief, s));
        assert!(matches!(placed, Placement::Nowhere(_)));
        let placed = snapshot.with_nominated(&high, |s| framework::place(&high, s));
        assert_eq!(placed, Placement::On("a".into()));
    }
}
