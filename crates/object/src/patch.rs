//! Patches as pure functions on trees: JSON merge patch (RFC 7386) here, JSON patch, strategic merge and server-side apply
//! in a file each below.
//!
//! What depends on the type of a value (which lists merge, and by what key) comes in through [`MergeInfo`].
//! Server-side apply is [`apply()`]; every other write calls [`track`] to keep `metadata.managedFields`.

use serde_json::Value;

mod apply;
mod combine;
mod compare;
pub mod fields;
pub mod json;
pub mod managed;
mod prune;
mod shape;
pub mod strategic;
#[cfg(test)]
pub(crate) mod testing;

pub use apply::{ApplyError, Conflict, apply, shown_kind};
pub use combine::combine;
pub use compare::{Comparison, Misfit, check, compare, field_set};
pub use fields::{FieldSet, Path, PathElement};
pub use managed::{Versions, Write, keep_times, manager_of, one_version, same_but, track};
pub use prune::remove;
pub use shape::{MergeInfo, PatchStrategy, Shape, Untyped};

/// Applies an RFC 7386 merge patch in place.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Default::default());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// Any tree without nulls.
    pub(crate) fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0..5i64).prop_map(Value::from),
            "[a-c]".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4).prop_map(|m| m.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn merging_nothing_changes_nothing(value in prop::collection::btree_map("[a-d]", tree(), 0..4)) {
            let value: Value = value.into_iter().collect();
            let mut merged = value.clone();
            merge(&mut merged, &json!({}));
            prop_assert_eq!(merged, value);
        }

        #[test]
        fn a_merge_is_idempotent(a in tree(), b in tree()) {
            let mut once = a;
            merge(&mut once, &b);
            let mut twice = once.clone();
            merge(&mut twice, &b);
            prop_assert_eq!(once, twice);
        }
    }
}
