//! What the kubelet reads and writes of the API: narrow views of pods, typed pod status.
//!
//! Views are read from a tree without nulls, because clients send `null` where they mean "absent" and Go reads it so.

mod container;
mod pod;
mod status;
mod volume;

use std::collections::BTreeMap;

use object::{Object, Quantity};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use container::*;
pub(crate) use pod::*;
pub(crate) use status::*;
pub(crate) use volume::*;

/// `resources.requests`, `emptyDir.sizeLimit` ...: quantities as they were written.
pub(crate) type Quantities = BTreeMap<String, Value>;

/// A quantity that may have been written as a string or a number; `None` when it is none.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}

/// The quantity under `name`, zero when absent.
pub(crate) fn amount(of: &Quantities, name: &str) -> Quantity {
    of.get(name).and_then(quantity).unwrap_or_else(|| Quantity::from_units(0))
}

/// A port by number or by name; also `maxSurge` and its like.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum IntOrString {
    Int(i64),
    String(String),
}

/// Reads a view of `object`, taking `null` for absent.
pub(crate) fn view<T: DeserializeOwned>(object: &Object) -> Result<T, object::MalformedObject> {
    let mut tree = object.value()?;
    strip_nulls(&mut tree);
    Ok(serde_json::from_value(tree)?)
}

/// Removes all map entries that are `null`.
pub(crate) fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}
