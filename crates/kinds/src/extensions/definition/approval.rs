//! Groups of the Kubernetes community: a definition in one says who approved it (`api-approved.kubernetes.io`).

use object::Invalid;
use serde_json::Value;

use crate::tree::text;

const ANNOTATION: &str = "api-approved.kubernetes.io";

/// What the annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Bypassed,
    Approved,
    Invalid,
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

fn is_url(text: &str) -> bool {
    let host = |rest: &str| !rest.is_empty() && !rest.starts_with('/');
    text.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) && host(rest)
    })
}

fn state(definition: &Value) -> (State, String) {
    let given = text(&definition["metadata"]["annotations"][ANNOTATION]);
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    match given {
        "" => (State::Missing, format!("protected groups must have approval annotation {ANNOTATION:?}, {SEE}")),
        given if given.starts_with("unapproved") => (State::Bypassed, format!("not approved: {given:?}")),
        given if is_url(given) => (State::Approved, format!("approved in {given}")),
        _ => {
            let why = format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
            );
            (State::Invalid, why)
        }
    }
}

/// Adds what is wrong with the annotation, unless it was so before.
pub(super) fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let (is, why) = state(new);
    if !is_protected(text(&new["spec"]["group"])) || old.is_some_and(|old| state(old).0 == is) {
        return;
    }
    let at = format!("metadata.annotations[{ANNOTATION}]");
    match is {
        State::Missing => errors.push(Invalid::required(&at, why)),
        State::Invalid => errors.push(Invalid::invalid(&at, &new["metadata"]["annotations"][ANNOTATION], why)),
        State::Approved | State::Bypassed => {}
    }
}

/// Status, reason and message of the condition `KubernetesAPIApprovalPolicyConformant`; `None` for groups of others.
pub(crate) fn condition(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    if !is_protected(text(&definition["spec"]["group"])) {
        return None;
    }
    let (is, why) = state(definition);
    Some(match is {
        State::Missing => ("False", "MissingAnnotation", why),
        State::Invalid => ("False", "InvalidAnnotation", why),
        State::Bypassed => ("False", "UnapprovedAnnotation", why),
        State::Approved => ("True", "ApprovedAnnotation", why),
    })
}
