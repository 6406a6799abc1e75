//! Conversion between the served versions of one storage: `autoscaling` v1 and v2, core and `events.k8s.io` events.

mod event;
mod hpa;

use object::Gvk;
use serde_json::Value;

/// The object in another served version. Lossless: what the older form cannot say goes through annotations, as upstream has it.
/// Versions that share a form (and pairs that are no versions of one kind) come back as they were.
pub fn convert(value: Value, from: &Gvk, to: &Gvk) -> Value {
    if from == to {
        return value;
    }
    match (from.group.as_str(), from.version.as_str(), to.group.as_str(), to.version.as_str(), to.kind.as_str()) {
        ("autoscaling", "v1", "autoscaling", "v2", "HorizontalPodAutoscaler") => hpa::to_v2(value),
        ("autoscaling", "v2", "autoscaling", "v1", "HorizontalPodAutoscaler") => hpa::to_v1(value),
        ("", "v1", "events.k8s.io", "v1", "Event") => event::to_events(value),
        ("events.k8s.io", "v1", "", "v1", "Event") => event::to_core(value),
        _ => value,
    }
}

#[cfg(test)]
mod tests;
