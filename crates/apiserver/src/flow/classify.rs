//! Which flow a request belongs to: `flowcontrol.apiserver.k8s.io/v1 FlowSchema`.

use std::borrow::Cow;

use http::HeaderValue;
use object::Object;
use serde::Deserialize;

use crate::user::User;

/// What a request wants, as schemas look at it.
pub(crate) struct Wanted<'a> {
    pub(crate) verb: &'a str,
    /// The resource; none for other paths.
    pub(crate) at: Option<&'a client::Resource>,
    pub(crate) path: &'a str,
    /// `pods`, `pods/log`.
    resource: Cow<'a, str>,
}

impl<'a> Wanted<'a> {
    pub(crate) fn new(verb: &'a str, at: Option<&'a client::Resource>, path: &'a str) -> Self {
        let resource = match at.map(|at| (&at.gvr.resource, &at.subresource)) {
            Some((resource, Some(sub))) => Cow::Owned(format!("{resource}/{sub}")),
            Some((resource, None)) => Cow::Borrowed(resource.as_str()),
            None => Cow::Borrowed(""),
        };
        Self { verb, at, path, resource }
    }

    /// True for what lasts as long as its client likes: it takes no seat.
    pub(crate) fn is_lasting(&self) -> bool {
        let sub = self.at.and_then(|at| at.subresource.as_deref());
        self.verb == "proxy" || matches!(sub, Some("attach" | "exec" | "proxy" | "log" | "portforward"))
    }
}

/// An object's UID as a header has it.
pub(super) fn uid_of(object: &Object) -> Option<HeaderValue> {
    HeaderValue::try_from(object.head.uid.as_str()).ok()
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    matching_precedence: Option<i64>,
    priority_level_configuration: Named,
    distinguisher_method: Option<Method>,
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Method {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Option<Named>,
    group: Option<Named>,
    service_account: Option<Account>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

/// A schema, ready for use.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: HeaderValue,
    pub(super) precedence: i64,
    pub(super) level: String,
    distinguisher: Option<String>,
    rules: Vec<Rule>,
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|l| l == "*" || l == wanted)
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => self.user.as_ref().is_some_and(|named| named.name == "*" || named.name == user.name),
            "Group" => self.group.as_ref().is_some_and(|named| named.name == "*" || user.groups.contains(&named.name)),
            "ServiceAccount" => self.service_account.as_ref().is_some_and(|account| {
                let rest = user.name.strip_prefix("system:serviceaccount:");
                let parts = rest.and_then(|rest| rest.split_once(':'));
                parts.is_some_and(|(ns, name)| ns == account.namespace && (account.name == "*" || name == account.name))
            }),
            _ => false,
        }
    }
}

impl ResourceRule {
    fn matches(&self, verb: &str, at: &client::Resource, resource: &str) -> bool {
        let scope = match at.namespace.as_deref() {
            Some(namespace) => any(&self.namespaces, namespace),
            None => self.cluster_scope,
        };
        scope && any(&self.verbs, verb) && any(&self.api_groups, &at.gvr.group) && any(&self.resources, resource)
    }
}

impl PathRule {
    fn matches(&self, verb: &str, path: &str) -> bool {
        let matches = |pattern: &String| {
            pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|start| path.starts_with(start))
        };
        any(&self.verbs, verb) && self.non_resource_urls.iter().any(matches)
    }
}

impl Schema {
    pub(super) fn of(object: &Object) -> Option<Self> {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct View {
            spec: Spec,
        }
        let View { spec } = object.view().ok()?;
        Some(Self {
            name: object.head.name.clone(),
            uid: uid_of(object)?,
            precedence: spec.matching_precedence.unwrap_or(1000),
            level: spec.priority_level_configuration.name,
            distinguisher: spec.distinguisher_method.map(|m| m.kind),
            rules: spec.rules,
        })
    }

    pub(super) fn matches(&self, user: &User, wanted: &Wanted<'_>) -> bool {
        self.rules.iter().any(|rule| {
            let fits = match wanted.at {
                Some(at) => rule.resource_rules.iter().any(|r| r.matches(wanted.verb, at, &wanted.resource)),
                None => rule.non_resource_rules.iter().any(|r| r.matches(wanted.verb, wanted.path)),
            };
            fits && rule.subjects.iter().any(|s| s.is(user))
        })
    }

    /// What distinguishes the request's flow from others of the schema.
    pub(super) fn distinguisher(&self, user: &User, wanted: &Wanted<'_>) -> String {
        match self.distinguisher.as_deref() {
            Some("ByUser") => user.name.clone(),
            Some("ByNamespace") => wanted.at.and_then(|at| at.namespace.clone()).unwrap_or_default(),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use client::Resource;
    use object::Gvr;
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_look_at_subjects_and_resources() {
        let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "s", "uid": "u"},
            "spec": {"priorityLevelConfiguration": {"name": "l"}, "distinguisherMethod": {"type": "ByUser"}, "rules": [{
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}}, {"kind": "Group", "group": {"name": "dev"}}],
                "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"], "namespaces": ["a"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["/healthz*"]}]}]}});
        let schema = Schema::of(&Object::from_value(&schema).unwrap()).unwrap();
        let check = |user: &User, verb: &str, at: Option<Resource>, path: &str, wanted: bool| {
            assert_eq!(
                schema.matches(user, &Wanted::new(verb, at.as_ref(), path)),
                wanted,
                "{} {verb} {at:?} {path}",
                user.name
            );
        };
        let pods = |namespace: Option<&str>| Resource::object(&Gvr::new("", "v1", "pods"), namespace, "x");
        let (bot, jane) = (User::service_account("a", "bot"), User::new("jane", &["dev"]));
        check(&bot, "get", Some(pods(Some("a"))), "", true);
        check(&jane, "get", Some(pods(Some("a")).sub("log")), "", true);
        check(&jane, "get", Some(pods(Some("a")).sub("exec")), "", false);
        check(&jane, "get", Some(pods(Some("b"))), "", false);
        check(&jane, "get", Some(pods(None)), "", false);
        check(&jane, "list", Some(pods(Some("a"))), "", false);
        check(&User::new("bob", &[]), "get", Some(pods(Some("a"))), "", false);
        check(&User::service_account("b", "bot"), "get", Some(pods(Some("a"))), "", false);
        check(&jane, "get", None, "/healthz/ping", true);
        check(&jane, "get", None, "/metrics", false);
        assert_eq!(schema.distinguisher(&jane, &Wanted::new("get", None, "/")), "jane");
    }
}
