//! Counting pods that ended, each once.

use object::Object;

use super::indexes::{self, Indexes};
use super::pods::Pods;
use super::policy::{self, Failure};
use super::{Status, View, is_tracked, untrack};
use crate::plan::Op;
use crate::world::World;

/// Brings the counters in `status` up to date. True when pods that ended are not noted in the stored status yet; and the
/// operations that let pods go which are.
pub(super) fn count(view: &View, found: &Pods, status: &mut Status, world: &World) -> (bool, Vec<Op>) {
    let mut new = false;
    let mut released = Vec::new();
    let mut completed = indexes::parse(&status.completed_indexes);
    for (pods, is_success) in [(&found.succeeded, true), (&found.failed, false)] {
        for pod in pods.iter().filter(|pod| is_tracked(pod)) {
            let noted = if is_success {
                &mut status.uncounted_terminated_pods.succeeded
            } else {
                &mut status.uncounted_terminated_pods.failed
            };
            let stored = &view.status.uncounted_terminated_pods;
            let stored = if is_success { &stored.succeeded } else { &stored.failed };
            if stored.contains(&pod.head.uid) {
                released.push(untrack(pod));
                continue;
            }
            // An index that is complete already is not counted twice.
            if is_success && view.is_indexed() {
                let index = indexes::of_pod(pod);
                if index.is_none_or(|index| !completed.insert(index)) {
                    released.push(untrack(pod));
                    continue;
                }
            }
            if !is_success && policy::failure(view, &world.pod(pod)) == Failure::Ignored {
                released.push(untrack(pod));
                continue;
            }
            noted.push(pod.head.uid.clone());
            new = true;
        }
    }
    status.completed_indexes = indexes::print(&completed);
    status.failed_indexes = policy::failed_indexes(view, found, status, world).map(|failed| indexes::print(&failed));
    // What is noted and no longer held is counted.
    let held = |uid: &String| found.all().any(|pod: &Object| pod.head.uid == *uid && is_tracked(pod));
    let uncounted = &mut status.uncounted_terminated_pods;
    let (kept, counted): (Vec<_>, Vec<_>) = uncounted.succeeded.drain(..).partition(held);
    uncounted.succeeded = kept;
    if !view.is_indexed() {
        status.succeeded += counted.len() as i64;
    } else {
        status.succeeded = completed_count(&completed);
    }
    let (kept, counted): (Vec<_>, Vec<_>) = uncounted.failed.drain(..).partition(held);
    uncounted.failed = kept;
    status.failed += counted.len() as i64;
    (new, released)
}

fn completed_count(completed: &Indexes) -> i64 {
    completed.len() as i64
}
