//! What a pass over a namespace found in the way, and the conditions that say so.

use std::collections::BTreeMap;
use std::sync::Arc;

use object::{Gvr, Object, Status};

use super::named;
use crate::views::{Condition, condition, set_condition};

/// See the module.
#[derive(Default)]
pub(super) struct Report {
    /// Group versions that discovery could not ask.
    pub undiscovered: Vec<(String, Status)>,
    /// Resources whose deletion failed.
    pub failed: Vec<(Gvr, Status)>,
    /// Objects left, by resource.
    pub left: BTreeMap<String, usize>,
    /// Objects left that finalizers hold, by finalizer.
    pub held: BTreeMap<String, usize>,
}

impl Report {
    /// Notes the objects of a resource that are left.
    pub fn note(&mut self, gvr: &Gvr, objects: &[Arc<Object>]) {
        if objects.is_empty() {
            return;
        }
        self.left.insert(named(gvr), objects.len());
        for finalizer in objects.iter().flat_map(|object| &object.head.finalizers) {
            *self.held.entry(finalizer.clone()).or_default() += 1;
        }
    }

    /// True when nothing is left and nothing failed.
    pub fn is_empty(&self) -> bool {
        self.undiscovered.is_empty() && self.is_empty_but_for_discovery()
    }

    /// The same without regard to groups that could not be asked.
    pub fn is_empty_but_for_discovery(&self) -> bool {
        self.failed.is_empty() && self.left.is_empty()
    }

    /// The conditions now, over those before. A namespace that never was held up gets none.
    pub fn conditions(&self, before: Vec<Condition>, stamp: &str) -> Vec<Condition> {
        let mut conditions = before;
        let joined = |texts: Vec<String>| texts.join(", ");
        let errors = |list: Vec<String>| match list.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let discovery = (!self.undiscovered.is_empty()).then(|| {
            let groups = self.undiscovered.iter().map(|(version, status)| format!("{version}: {status}")).collect();
            format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                self.undiscovered.len(),
                joined(groups)
            )
        });
        let content = (!self.failed.is_empty()).then(|| {
            let mut failures: Vec<String> = self.failed.iter().map(|(_, status)| status.to_string()).collect();
            failures.sort();
            format!("Failed to delete all resource types, {} remaining: {}", failures.len(), errors(failures))
        });
        let left = (!self.left.is_empty()).then(|| {
            let each = self.left.iter().map(|(resource, count)| format!("{resource} has {count} resource instances"));
            format!("Some resources are remaining: {}", joined(each.collect()))
        });
        let held = (!self.held.is_empty()).then(|| {
            let each = self.held.iter().map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"));
            format!("Some content in the namespace has finalizers remaining: {}", joined(each.collect()))
        });
        let all = [
            (
                "NamespaceDeletionDiscoveryFailure",
                "DiscoveryFailed",
                discovery,
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "GroupVersionParsingFailed",
                None,
                ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            (
                "NamespaceDeletionContentFailure",
                "ContentDeletionFailed",
                content,
                ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            ),
            (
                "NamespaceContentRemaining",
                "SomeResourcesRemain",
                left,
                ("ContentRemoved", "All content successfully removed"),
            ),
            (
                "NamespaceFinalizersRemaining",
                "SomeFinalizersRemain",
                held,
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ];
        for (kind, reason, problem, (fine, text)) in all {
            let mut new = match problem {
                Some(problem) => Condition::new(kind, "True", reason, problem, stamp),
                None => Condition::new(kind, "False", fine, text, stamp),
            };
            // The text changes with each pass; the time only with the state.
            if let Some(old) = condition(&conditions, kind).filter(|old| old.status == new.status) {
                new.last_transition_time.clone_from(&old.last_transition_time);
            }
            match conditions.iter_mut().find(|c| c.r#type == kind) {
                Some(old) => *old = new,
                None => set_condition(&mut conditions, new),
            }
        }
        conditions
    }
}
