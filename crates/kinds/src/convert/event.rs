//! Events: the same fields under other names.

use serde_json::Value;

use crate::tree::{remove, set};

/// (core/v1, events.k8s.io/v1)
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(event: &mut Value, from: &str, to: &str) {
    if let Some(value) = remove(event, from) {
        event[to] = value;
    }
}

pub(super) fn to_events(mut event: Value) -> Value {
    for (core, events) in NAMES {
        rename(&mut event, core, events);
    }
    // Of the two forms, only the one of old writes who is nobody.
    for field in ["reportingController", "reportingInstance"] {
        if event[field] == "" || event[field].is_null() {
            remove(&mut event, field);
        }
    }
    event["apiVersion"] = "events.k8s.io/v1".into();
    event
}

pub(super) fn to_core(mut event: Value) -> Value {
    for (core, events) in NAMES {
        rename(&mut event, events, core);
    }
    for field in ["reportingComponent", "reportingInstance"] {
        set(&mut event, field, "");
    }
    event["apiVersion"] = "v1".into();
    event
}
