//! One rule against one request.

use serde::{Deserialize, Deserializer, Serialize};

/// What a request wants to do.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    /// Who.
    pub user: &'a str,
    /// In which groups.
    pub groups: &'a [String],
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or an HTTP verb in lower case.
    pub verb: &'a str,
    /// API group of the resource.
    pub group: &'a str,
    /// Its version; no rule looks at it.
    pub version: &'a str,
    /// Plural resource; empty for a non-resource request.
    pub resource: &'a str,
    /// Subresource; empty for none.
    pub subresource: &'a str,
    /// Namespace; empty for cluster scope.
    pub namespace: &'a str,
    /// Object name; empty for the collection.
    pub name: &'a str,
    /// URL path of a non-resource request.
    pub path: &'a str,
    /// What the field selector demands: field, equal (or not), value.
    pub fields: &'a [(String, bool, String)],
}

fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `rbac.authorization.k8s.io/v1 PolicyRule`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs; `*` is all.
    #[serde(deserialize_with = "or_empty")]
    pub verbs: Vec<String>,
    /// API groups; `*` is all.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources: `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; none is all.
    #[serde(deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths of non-resource requests; a final `*` matches the rest.
    #[serde(rename = "nonResourceURLs", deserialize_with = "or_empty", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

pub(crate) fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|l| l == "*" || l == wanted)
}

pub(crate) fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match (pattern.split_once('/'), subresource) {
        (None, "") => pattern == resource,
        (Some((left, right)), sub) if !sub.is_empty() => right == sub && (left == "*" || left == resource),
        _ => false,
    }
}

pub(crate) fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|start| path.starts_with(start))
}

impl Rule {
    /// True when the rule allows it (scope is the binding's business).
    pub fn allows(&self, wanted: &Attributes<'_>) -> bool {
        if !has(&self.verbs, wanted.verb) {
            return false;
        }
        if wanted.resource.is_empty() {
            return self.non_resource_urls.iter().any(|p| path_matches(p, wanted.path));
        }
        has(&self.api_groups, wanted.group)
            && self.resources.iter().any(|r| resource_matches(r, wanted.resource, wanted.subresource))
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| n == wanted.name))
    }
}

/// Upstream's words for a refusal, as they follow `... is forbidden: `.
pub fn denial(wanted: &Attributes<'_>) -> String {
    if wanted.resource.is_empty() {
        return format!("User {:?} cannot {} path {:?}", wanted.user, wanted.verb, wanted.path);
    }
    let resource = match wanted.subresource {
        "" => wanted.resource.to_owned(),
        sub => format!("{}/{sub}", wanted.resource),
    };
    let place = match wanted.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        wanted.user, wanted.verb, wanted.group
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: vec![],
        }
    }

    #[test]
    fn subresources_are_named_apart() {
        let check = |resources: &[&str], resource, subresource, wanted| {
            let attributes = Attributes { verb: "get", resource, subresource, ..Attributes::default() };
            assert_eq!(
                rule(&["get"], &[""], resources, &[]).allows(&attributes),
                wanted,
                "{resources:?} {resource}/{subresource}"
            );
        };
        check(&["pods"], "pods", "", true);
        check(&["pods"], "pods", "log", false);
        check(&["pods/log"], "pods", "log", true);
        check(&["*/log"], "pods", "log", true);
        check(&["*"], "pods", "log", true);
    }

    #[test]
    fn names_and_paths() {
        let attributes = Attributes { verb: "get", resource: "secrets", name: "b", ..Attributes::default() };
        assert!(!rule(&["get"], &[""], &["secrets"], &["a"]).allows(&attributes));
        let urls = Rule { verbs: vec!["get".into()], non_resource_urls: vec!["/healthz/*".into()], ..Rule::default() };
        assert!(urls.allows(&Attributes { verb: "get", path: "/healthz/ping", ..Attributes::default() }));
        assert!(!urls.allows(&Attributes { verb: "get", path: "/metrics", ..Attributes::default() }));
    }

    #[test]
    fn refusals_in_upstreams_words() {
        let attributes =
            Attributes { user: "bob", verb: "list", resource: "pods", namespace: "default", ..Attributes::default() };
        assert_eq!(
            denial(&attributes),
            r#"User "bob" cannot list resource "pods" in API group "" in the namespace "default""#
        );
    }
}
