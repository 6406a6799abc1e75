//! Merging an applied configuration into the present object, by the schema. Nothing is removed here: see `prune`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::compare::{element_of, pair_shape};
use super::fields::PathElement;
use super::shape::{MergeInfo, Shape};

/// The present value with the applied one laid over it: maps by key, lists by item, the rest replaced.
/// Items that both have come in the applied order, those that only the present value has keep their places among them.
pub fn combine<T: MergeInfo>(place: T, present: &Value, applied: &Value) -> Value {
    pair(place, Some(present), Some(applied)).unwrap_or(Value::Null)
}

fn pair<T: MergeInfo>(place: T, present: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    match pair_shape(place, present, applied) {
        Shape::Leaf => applied.or(present).cloned(),
        Shape::Map => {
            let empty = Map::new();
            let present = present.and_then(Value::as_object).unwrap_or(&empty);
            let applied = applied.and_then(Value::as_object).unwrap_or(&empty);
            Some(Value::Object(entries(place, present, applied)))
                .filter(|v| v.as_object().is_some_and(|m| !m.is_empty()))
        }
        shape => {
            let items = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
            let merged = Items::new(place, shape, items(present), items(applied)).merge();
            Some(Value::Array(merged)).filter(|v| v.as_array().is_some_and(|l| !l.is_empty()))
        }
    }
}

fn entries<T: MergeInfo>(place: T, present: &Map<String, Value>, applied: &Map<String, Value>) -> Map<String, Value> {
    let added = applied.keys().filter(|key| !present.contains_key(*key));
    let mut merged = Map::new();
    for key in present.keys().chain(added) {
        let (old, new) = (present.get(key), applied.get(key));
        let value = match place.field(key) {
            Some(below) => pair(below, old, new),
            None => new.or(old).cloned(), // not declared: what was there stays
        };
        if let Some(value) = value {
            merged.insert(key.clone(), value);
        }
    }
    merged
}

/// One list's merge.
struct Items<T> {
    place: T,
    present: Vec<(Option<PathElement>, Value)>,
    applied: Vec<(Option<PathElement>, Value)>,
}

impl<T: MergeInfo> Items<T> {
    fn new(place: T, shape: Shape, present: Vec<Value>, applied: Vec<Value>) -> Self {
        let steps = |items: Vec<Value>| {
            items.into_iter().map(|item| (element_of(place, shape, &item).ok(), item)).collect::<Vec<_>>()
        };
        Self { place, present: steps(present), applied: steps(applied) }
    }

    /// Walks both lists at once. Items that only the present list has are taken as they are reached, up to the next item
    /// that both have; those and new ones come in the applied order.
    fn merge(self) -> Vec<Value> {
        let mut at: HashMap<&PathElement, Vec<usize>> = HashMap::new();
        for (index, (element, _)) in self.present.iter().enumerate() {
            if let Some(element) = element {
                at.entry(element).or_default().push(index);
            }
        }
        let wanted: HashSet<&PathElement> = self.applied.iter().filter_map(|(element, _)| element.as_ref()).collect();
        let is_wanted = |index: usize| self.present[index].0.as_ref().is_some_and(|e| wanted.contains(e));
        let mut next_shared = vec![None; self.applied.len()];
        let mut next = None;
        for (index, (element, _)) in self.applied.iter().enumerate().rev() {
            next = element.as_ref().filter(|e| at.contains_key(e)).or(next);
            next_shared[index] = next;
        }

        let mut out = Vec::with_capacity(self.present.len().max(self.applied.len()));
        let mut left = 0;
        for ((element, new), next) in self.applied.iter().zip(next_shared) {
            while left < self.present.len() && (next.is_none() || self.present[left].0.as_ref() != next) {
                if !is_wanted(left) {
                    out.push(self.present[left].1.clone());
                }
                left += 1;
            }
            if element.as_ref() == next && element.is_some() {
                left += 1;
            }
            // Items that stand twice in the present list are replaced, not merged.
            let mine = element.as_ref().and_then(|e| at.get(e)).filter(|places| places.len() == 1);
            out.extend(pair(self.place.element(), mine.map(|places| &self.present[places[0]].1), Some(new)));
        }
        for index in left..self.present.len() {
            if !is_wanted(index) {
                out.push(self.present[index].1.clone());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch::testing::pod;
    use serde_json::json;

    fn check(present: Value, applied: Value, wanted: Value) {
        assert_eq!(combine(pod(), &present, &applied), wanted, "{applied}");
    }

    #[test]
    fn lists_merge_in_the_applied_order() {
        let names = |names: &[&str]| json!({"set": names});
        check(names(&["a", "b", "c"]), names(&["b"]), names(&["a", "b", "c"]));
        check(names(&["a", "b", "c"]), names(&["c", "a"]), names(&["b", "c", "a"]));
        check(names(&["a", "b"]), names(&["x", "b"]), names(&["a", "x", "b"]));
        check(names(&[]), names(&["x"]), names(&["x"]));
    }

    #[test]
    fn maps_and_leaves() {
        check(
            json!({"containers": [{"name": "a", "image": "1", "args": ["x"]}], "labels": {"a": "1"}}),
            json!({"containers": [{"name": "a", "args": ["y"]}, {"name": "b"}], "labels": {"b": "2"}}),
            json!({"containers": [{"name": "a", "image": "1", "args": ["y"]}, {"name": "b"}], "labels": {"a": "1", "b": "2"}}),
        );
        check(json!({"atomic": {"a": "1"}}), json!({"atomic": {"b": "2"}}), json!({"atomic": {"b": "2"}}));
    }
}
