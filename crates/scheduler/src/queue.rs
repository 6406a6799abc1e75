//! Pods that wait for a node: ready ones by priority and age, refused ones until something changes that could help them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics;
use crate::snapshot::Pod;

/// First and longest wait of a pod that was refused.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A refused pod is tried again after this long even if nothing seems to have changed.
const FLUSH: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    /// Order of arrival.
    number: u64,
    /// Decisions that refused it.
    attempts: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In `ready`.
    Ready,
    /// A decision or a binding is under way.
    Taken,
    /// Refused: waits for a change of the cluster; then not before this.
    Refused { not_before: Instant, flush_at: Instant },
    /// Something changed: becomes ready at this time.
    BackingOff { until: Instant },
}

/// The queue. Pods are known by uid.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: HashMap<String, Entry>,
    /// (lower is first: negated priority, arrival, uid)
    ready: BTreeSet<(i64, u64, String)>,
    arrivals: u64,
}

fn rank(entry: &Entry) -> (i64, u64, String) {
    (-i64::from(entry.pod.view.spec.priority), entry.number, entry.pod.uid.clone())
}

impl Queue {
    /// A pod without a node appeared or changed. A change of a refused pod makes it ready.
    pub(crate) fn set(&mut self, pod: Pod, spec_changed: bool) {
        let uid = pod.uid.clone();
        if let Some(entry) = self.entries.get_mut(&uid) {
            let old_rank = rank(entry);
            entry.pod = Arc::new(pod);
            if entry.state == State::Ready || (spec_changed && !matches!(entry.state, State::Taken)) {
                entry.state = State::Ready;
                self.ready.remove(&old_rank);
                self.ready.insert(rank(entry));
            }
            return;
        }
        self.arrivals += 1;
        let entry = Entry { pod: Arc::new(pod), number: self.arrivals, attempts: 0, state: State::Ready };
        self.ready.insert(rank(&entry));
        self.entries.insert(uid, entry);
    }

    /// The pod is gone, or has its node.
    pub(crate) fn remove(&mut self, uid: &str) {
        if let Some(entry) = self.entries.remove(uid) {
            self.ready.remove(&rank(&entry));
        }
    }

    /// The next pod to decide about.
    pub(crate) fn pop(&mut self) -> Option<Arc<Pod>> {
        let (_, _, uid) = self.ready.pop_first()?;
        let entry = self.entries.get_mut(&uid)?;
        entry.state = State::Taken;
        Some(entry.pod.clone())
    }

    /// No node took the pod, or its binding failed.
    pub(crate) fn refused(&mut self, uid: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(uid) {
            let wait = FIRST_WAIT.saturating_mul(1 << entry.attempts.min(4)).min(LONGEST_WAIT);
            entry.attempts += 1;
            entry.state = State::Refused { not_before: now + wait, flush_at: now + FLUSH };
        }
    }

    /// The cluster changed in a way that may help: refused pods are tried again when their back-off is over.
    pub(crate) fn cluster_changed(&mut self) {
        for entry in self.entries.values_mut() {
            if let State::Refused { not_before, .. } = entry.state {
                entry.state = State::BackingOff { until: not_before };
            }
        }
    }

    /// Moves what is due to the ready pods; the time at which to look again.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let (mut backing_off, mut unschedulable) = (0, 0);
        for entry in self.entries.values_mut() {
            let (due, count) = match entry.state {
                State::Refused { flush_at, .. } => (flush_at, &mut unschedulable),
                State::BackingOff { until } => (until, &mut backing_off),
                State::Ready | State::Taken => continue,
            };
            if due <= now {
                entry.state = State::Ready;
                self.ready.insert(rank(entry));
            } else {
                next = Some(next.map_or(due, |n| n.min(due)));
                *count += 1;
            }
        }
        metrics::pending(self.ready.len(), backing_off, unschedulable);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::Object;
    use serde_json::json;

    fn pod(name: &str, priority: i32) -> Pod {
        let value = json!({"metadata": {"name": name, "uid": name}, "spec": {"priority": priority}});
        Pod::of(&Object::from_value(&value).unwrap()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn priority_then_age_and_back_off_after_a_refusal() {
        let mut queue = Queue::default();
        for (name, priority) in [("a", 0), ("b", 5), ("c", 0)] {
            queue.set(pod(name, priority), true);
        }
        let popped: Vec<String> = std::iter::from_fn(|| queue.pop()).map(|p| p.name.clone()).collect();
        assert_eq!(popped, ["b", "a", "c"]);
        queue.refused("a", Instant::now());
        assert!(queue.tick(Instant::now()).is_some() && queue.pop().is_none(), "nothing changed");
        queue.cluster_changed();
        let due = queue.tick(Instant::now()).unwrap();
        assert!(queue.pop().is_none(), "still backing off");
        tokio::time::advance(due - Instant::now()).await;
        queue.tick(Instant::now());
        assert_eq!(queue.pop().unwrap().name, "a");
        queue.remove("a");
        assert!(queue.tick(Instant::now()).is_none());
    }
}
