//! AppArmor's profile may be chosen, not left out.

use std::collections::BTreeSet;

use super::{Pod, Violation, plural, quoted};
use crate::tree::{entries, text};

const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

pub(super) fn baseline(pod: &Pod<'_>) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let setters = pod.setters(|context| {
        let profile = &context["appArmorProfile"];
        let kind = text(&profile["type"]);
        let is_bad = profile.is_object() && !matches!(kind, "RuntimeDefault" | "Localhost");
        if is_bad {
            bad.insert(kind);
        }
        is_bad
    });
    let is_allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations = entries(&pod.metadata["annotations"]).map(|(key, value)| (key, text(value)));
    let annotations = annotations.filter(|(key, value)| key.starts_with(ANNOTATION) && !is_allowed(value));
    let mut annotations: Vec<String> = annotations.map(|(key, value)| format!("{key}={value:?}")).collect();
    annotations.sort();
    let mut words = setters.words();
    if !annotations.is_empty() {
        words.push(plural(annotations.len(), "annotation", "annotations").to_owned());
    }
    if words.is_empty() {
        return None;
    }
    let values: Vec<String> = bad.into_iter().map(str::to_owned).chain(annotations).collect();
    Some(Violation {
        reason: plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles"),
        detail: format!("{} must not set AppArmor profile type to {}", words.join(" and "), quoted(values)),
    })
}
