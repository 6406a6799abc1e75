//! All roles and bindings, by subject, so that a decision looks only at what concerns the user.

use std::collections::HashMap;

use object::{LabelSelector, Object};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::rules::{Attributes, Rule};

#[derive(Deserialize, Default)]
#[serde(default)]
struct RoleView {
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BindingView {
    subjects: Option<Vec<SubjectView>>,
    role_ref: RoleRefView,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SubjectView {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct RoleRefView {
    kind: String,
    name: String,
}

/// A binding as its subjects see it.
struct Grant {
    /// Where it holds; empty for everywhere.
    namespace: String,
    /// Key of the role: `(namespace, name)`, namespace empty for cluster roles.
    role: (String, String),
    /// What it is, for the audit log: `ClusterRoleBinding "b" of ClusterRole "view" to User "jane"`.
    told: String,
}

/// Who may do what.
#[derive(Default)]
pub struct Index {
    rules: HashMap<(String, String), Vec<Rule>>,
    /// User name (service accounts under their user name) -> grants.
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

/// Members of this group may do everything.
const SUPERUSERS: &str = "system:masters";

impl Index {
    /// Builds the index from Roles, ClusterRoles and their bindings (told apart by kind).
    pub fn build<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut index = Self::default();
        for object in objects {
            let (namespace, name) = (object.head.namespace.clone(), object.head.name.clone());
            match object.head.kind.as_str() {
                "Role" | "ClusterRole" => {
                    let rules = object.view::<RoleView>().ok().and_then(|v| v.rules).unwrap_or_default();
                    index.rules.insert((namespace, name), rules);
                }
                "RoleBinding" | "ClusterRoleBinding" => {
                    let Ok(view) = object.view::<BindingView>() else { continue };
                    let role_namespace = match view.role_ref.kind.as_str() {
                        "ClusterRole" => String::new(),
                        // A cluster binding has no namespace to look in.
                        "Role" if !namespace.is_empty() => namespace.clone(),
                        _ => continue,
                    };
                    let binding = match namespace.as_str() {
                        "" => name,
                        namespace => format!("{name}/{namespace}"),
                    };
                    for subject in view.subjects.unwrap_or_default() {
                        let role = (role_namespace.clone(), view.role_ref.name.clone());
                        let who = match subject.kind.as_str() {
                            "ServiceAccount" => format!("{}/{}", subject.name, subject.namespace),
                            _ => subject.name.clone(),
                        };
                        let told = format!(
                            "{} {binding:?} of {} {:?} to {} {who:?}",
                            object.head.kind, view.role_ref.kind, view.role_ref.name, subject.kind
                        );
                        let grant = Grant { namespace: namespace.clone(), role, told };
                        let (map, key) = match subject.kind.as_str() {
                            "Group" => (&mut index.groups, subject.name),
                            "ServiceAccount" => {
                                let of = if subject.namespace.is_empty() { &namespace } else { &subject.namespace };
                                (&mut index.users, format!("system:serviceaccount:{of}:{}", subject.name))
                            }
                            "User" => (&mut index.users, subject.name),
                            _ => continue,
                        };
                        map.entry(key).or_default().push(grant);
                    }
                }
                _ => {}
            }
        }
        index
    }

    fn grants<'a>(&'a self, user: &str, groups: &'a [String]) -> impl Iterator<Item = &'a Grant> {
        let mine = self.users.get(user).into_iter().flatten();
        mine.chain(groups.iter().filter_map(|g| self.groups.get(g)).flatten())
    }

    /// True when some rule allows it.
    pub fn allows(&self, wanted: &Attributes<'_>) -> bool {
        if wanted.groups.iter().any(|g| g == SUPERUSERS) {
            return true;
        }
        self.granting(wanted).is_some()
    }

    fn granting<'a>(&'a self, wanted: &'a Attributes<'_>) -> Option<&'a Grant> {
        self.grants(wanted.user, wanted.groups)
            .filter(|g| g.namespace.is_empty() || (!wanted.resource.is_empty() && g.namespace == wanted.namespace))
            .find(|g| self.rules.get(&g.role).is_some_and(|rules| rules.iter().any(|rule| rule.allows(wanted))))
    }

    /// Why it is allowed, in upstream's words; empty where no binding says so.
    pub fn reason(&self, wanted: &Attributes<'_>) -> String {
        if wanted.groups.iter().any(|g| g == SUPERUSERS) {
            return String::new();
        }
        self.granting(wanted).map(|grant| format!("RBAC: allowed by {}", grant.told)).unwrap_or_default()
    }

    /// All rules that hold for a user in a namespace: SelfSubjectRulesReview and escalation checks.
    pub fn rules_for(&self, user: &str, groups: &[String], namespace: &str) -> Vec<Rule> {
        let mut rules: Vec<Rule> = self
            .grants(user, groups)
            .filter(|g| g.namespace.is_empty() || g.namespace == namespace)
            .filter_map(|g| self.rules.get(&g.role))
            .flatten()
            .cloned()
            .collect();
        // Who may do everything may do it without a role as well.
        let all = || vec!["*".to_owned()];
        let everything = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
        if groups.iter().any(|g| g == SUPERUSERS) && !rules.contains(&everything) {
            rules.push(everything);
            rules.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
        }
        rules
    }

    /// The rules of a role; `namespace` empty for a cluster role.
    pub fn role(&self, namespace: &str, name: &str) -> Option<&[Rule]> {
        self.rules.get(&(namespace.to_owned(), name.to_owned())).map(Vec::as_slice)
    }
}

/// The rules that an aggregated cluster role should have: those of all cluster roles that its selectors match, without
/// repetition. `None` when the role does not aggregate.
pub fn aggregate<'a>(role: &Value, roles: impl IntoIterator<Item = &'a Object>) -> Option<Value> {
    let selectors: Vec<LabelSelector> = role["aggregationRule"]["clusterRoleSelectors"]
        .as_array()?
        .iter()
        .filter_map(LabelSelector::from_object)
        .collect();
    let mut rules: Vec<Value> = Vec::new();
    for other in roles {
        if role["metadata"]["name"] == other.head.name.as_str()
            || !selectors.iter().any(|s| s.matches(&other.head.labels))
        {
            continue;
        }
        let value = other.value().unwrap_or_default();
        for rule in value["rules"].as_array().into_iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(json!(rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap_objects;

    fn index(extra: &[Value]) -> Index {
        let objects: Vec<Object> =
            bootstrap_objects().iter().chain(extra).map(|o| Object::from_value(o).unwrap()).collect();
        Index::build(&objects)
    }

    fn check(index: &Index, user: &str, groups: &[&str], verb: &str, resource: &str, namespace: &str, wanted: bool) {
        let groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        let attributes = Attributes { user, groups: &groups, verb, resource, namespace, ..Attributes::default() };
        assert_eq!(index.allows(&attributes), wanted, "{user} {verb} {resource} in {namespace:?}");
    }

    #[test]
    fn the_default_policy() {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "b", "namespace": "dev"}, "roleRef": {"kind": "ClusterRole", "name": "system:node-proxier"},
            "subjects": [{"kind": "ServiceAccount", "name": "bot"}]});
        let index = index(&[binding]);
        check(&index, "admin", &["system:masters"], "delete", "nodes", "", true);
        check(&index, "bob", &["system:authenticated"], "list", "pods", "default", false);
        check(&index, "system:kube-scheduler", &[], "list", "pods", "", true);
        check(&index, "system:serviceaccount:dev:bot", &[], "list", "services", "dev", true);
        check(&index, "system:serviceaccount:dev:bot", &[], "list", "services", "default", false);
        let bot = Attributes {
            user: "system:serviceaccount:dev:bot",
            verb: "list",
            resource: "services",
            namespace: "dev",
            ..Attributes::default()
        };
        let why =
            "RBAC: allowed by RoleBinding \"b/dev\" of ClusterRole \"system:node-proxier\" to ServiceAccount \"bot/\"";
        assert_eq!(index.reason(&bot), why);
        let health = Attributes {
            verb: "get",
            path: "/healthz",
            groups: &["system:unauthenticated".to_owned()],
            ..Attributes::default()
        };
        assert!(index.allows(&health));
        let other = Attributes { path: "/metrics", ..health };
        assert!(!index.allows(&other));
    }

    #[test]
    fn unknown_kinds_grant_nothing() {
        let binding = |kind: &str, role_kind: &str, name: &str| {
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"kind": role_kind, "name": "cluster-admin"}, "subjects": [{"kind": kind, "name": name}]})
        };
        let index = index(&[
            binding("Robot", "ClusterRole", "r2"),
            binding("User", "Role", "eve"),
            binding("User", "ClusterRole", "ann"),
        ]);
        check(&index, "r2", &[], "get", "pods", "", false);
        check(&index, "eve", &[], "get", "pods", "", false);
        check(&index, "ann", &[], "get", "pods", "", true);
    }

    #[test]
    fn aggregation_unites_rules() {
        let objects: Vec<Object> = bootstrap_objects().iter().map(|o| Object::from_value(o).unwrap()).collect();
        let view = bootstrap_objects()
            .into_iter()
            .find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == "view")
            .unwrap();
        let rules = aggregate(&view, objects.iter().filter(|o| o.head.kind == "ClusterRole")).unwrap();
        assert!(rules.as_array().unwrap().iter().any(|r| r["resources"].as_array().unwrap().contains(&json!("pods"))));
        assert!(aggregate(&json!({"metadata": {"name": "x"}}), &objects).is_none());
    }
}
