//! Removing paths from a value, by the schema.

use serde_json::{Map, Value};

use super::compare::element_of;
use super::fields::{FieldSet, PathElement};
use super::shape::{MergeInfo, Shape};

/// The value without the paths of `gone`. A container whose last item goes stays, empty.
pub fn remove<T: MergeInfo>(place: T, value: &Value, gone: &FieldSet) -> Value {
    let shape = place.shape(value);
    match (shape, value) {
        (Shape::Map, Value::Object(entries)) => {
            let mut kept = Map::new();
            for (key, item) in entries {
                let element = PathElement::field(key);
                if gone.has_member(&element) {
                    continue;
                }
                let item = match (gone.below(&element), place.field(key)) {
                    (Some(below), Some(at)) => remove(at, item, below),
                    _ => item.clone(),
                };
                kept.insert(key.clone(), item);
            }
            Value::Object(kept)
        }
        (Shape::Set | Shape::Keyed, Value::Array(items)) => {
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                let Ok(element) = element_of(place, shape, item) else {
                    kept.push(item.clone());
                    continue;
                };
                if gone.has_member(&element) {
                    continue;
                }
                kept.push(match gone.below(&element) {
                    Some(below) => remove(place.element(), item, below),
                    None => item.clone(),
                });
            }
            Value::Array(kept)
        }
        _ => value.clone(),
    }
}

/// The set with every structure's field on the way to a path made a path of its own, so that a structure goes when all
/// that was set in it goes.
pub(super) fn with_named_fields<T: MergeInfo>(place: Option<T>, set: &FieldSet) -> FieldSet {
    set.map_steps(|element, member, below| match (place, element.name()) {
        (Some(place), Some(name)) => {
            let named = !below.is_empty() && place.is_declared(name);
            (member || named, with_named_fields(place.field(name), below))
        }
        (Some(place), None) => (member, with_named_fields(Some(place.element()), below)),
        (None, _) => (member, with_named_fields(None::<T>, below)),
    })
}
