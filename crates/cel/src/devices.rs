//! The variable `device` of selectors of devices (DRA): its type, and how large its parts can be.

use std::sync::Arc;

use crate::check::{ANY, Type};
use crate::sizes::Sizes;

/// So many attributes and capacities a device has at most; so long are domains and drivers, names and values.
const MOST_ENTRIES: u64 = 32;
const MOST_DOMAIN: u64 = 63;
const MOST_NAME: u64 = 32;
const MOST_VALUE: u64 = 64;

/// The type.
pub fn device_type() -> Type {
    let by_name = |value: Type| Type::Map(Box::new(Type::String), Box::new(value));
    let fields = [
        ("driver", Type::String),
        ("attributes", by_name(by_name(ANY))),
        ("capacity", by_name(by_name(Type::Opaque("kubernetes.Quantity")))),
        ("allowMultipleAllocations", Type::Bool),
    ];
    let fields = fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
    Type::Record("kubernetes.DRADevice", Arc::new(fields))
}

/// The sizes.
pub fn device_sizes() -> Sizes {
    let map = |key: u64, element: Sizes, takes_fields: bool| Sizes {
        element: Some(Box::new(element)),
        is_map: true,
        key: Some(Box::new(Sizes::simple(key, 0))),
        takes_fields,
        ..Sizes::simple(MOST_ENTRIES, 0)
    };
    let attributes = map(MOST_DOMAIN, map(MOST_NAME, Sizes::simple(MOST_VALUE, 0), true), false);
    let capacity = map(MOST_DOMAIN, map(MOST_NAME, Sizes::NOTHING, false), false);
    let fields = [
        ("driver", Sizes::simple(MOST_DOMAIN, 0)),
        ("attributes", attributes),
        ("capacity", capacity),
        ("allowMultipleAllocations", Sizes::simple(1, 0)),
    ];
    Sizes { fields: fields.into_iter().map(|(name, of)| (name.to_owned(), of)).collect(), ..Sizes::NOTHING }
}
