//! Roles and their bindings (`rbac.authorization.k8s.io/v1`).

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, each, list, set, set_text, text};
use crate::{age, checks, names};

const GROUP: &str = "rbac.authorization.k8s.io";
const ANY: Rules = Rules { name: names::path_segment, ..NO_RULES };

pub(crate) const ROLE_RULES: Rules = Rules { validate: |new, _, errors| rules(new, true, errors), ..ANY };
pub(crate) const CLUSTER_ROLE_RULES: Rules = Rules { validate: validate_cluster_role, ..ANY };
pub(crate) const BINDING_RULES: Rules = Rules {
    default: default_binding,
    validate: |new, old, errors| binding(new, old, &["Role", "ClusterRole"], errors),
    row,
    ..ANY
};
pub(crate) const CLUSTER_BINDING_RULES: Rules = Rules {
    default: default_binding,
    validate: |new, old, errors| binding(new, old, &["ClusterRole"], errors),
    row,
    ..ANY
};

fn default_binding(binding: &mut Value) {
    if let Some(role) = child(binding, "roleRef") {
        set_text(role, "apiGroup", GROUP);
    }
    each(binding, "subjects", |subject| {
        if subject["kind"] == "User" || subject["kind"] == "Group" {
            set(subject, "apiGroup", GROUP);
        }
    });
}

fn rules(role: &Value, namespaced: bool, errors: &mut Vec<Invalid>) {
    for (index, rule) in list(&role["rules"]).iter().enumerate() {
        let path = format!("rules[{index}]");
        let none = |field: &str| list(&rule[field]).is_empty();
        if none("verbs") {
            errors.push(Invalid::required(&format!("{path}.verbs"), "verbs must contain at least one value"));
        }
        if !none("nonResourceURLs") {
            let at = format!("{path}.nonResourceURLs");
            if namespaced {
                let detail = "namespaced rules cannot apply to non-resource URLs";
                errors.push(Invalid::invalid(&at, &rule["nonResourceURLs"], detail));
            }
            if !(none("apiGroups") && none("resources") && none("resourceNames")) {
                let detail = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(Invalid::invalid(&at, &rule["nonResourceURLs"], detail));
            }
            continue;
        }
        if none("apiGroups") {
            let detail = "resource rules must supply at least one api group";
            errors.push(Invalid::required(&format!("{path}.apiGroups"), detail));
        }
        if none("resources") {
            let detail = "resource rules must supply at least one resource";
            errors.push(Invalid::required(&format!("{path}.resources"), detail));
        }
    }
}

fn validate_cluster_role(new: &Value, _: Option<&Value>, errors: &mut Vec<Invalid>) {
    rules(new, false, errors);
    let aggregation = &new["aggregationRule"];
    if !aggregation.is_object() {
        return;
    }
    let (path, selectors) = ("aggregationRule.clusterRoleSelectors", list(&aggregation["clusterRoleSelectors"]));
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(Invalid::required(path, detail));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let (at, before) = (format!("{path}[{index}]"), errors.len());
        checks::selector(selector, &at, errors);
        if errors.len() > before {
            errors.push(Invalid::invalid(&at, &Value::Null, "invalid label selector."));
        }
    }
}

fn binding(new: &Value, old: Option<&Value>, kinds: &[&str], errors: &mut Vec<Invalid>) {
    let role = &new["roleRef"];
    checks::exactly_one_of(role, "roleRef", "apiGroup", &[GROUP], errors);
    let kind = text(&role["kind"]);
    if !kinds.contains(&kind) {
        errors.push(Invalid::unsupported("roleRef.kind", &kind.into(), kinds));
    }
    checks::required(role, "roleRef", "name", errors);
    checks::named(role, "roleRef", "name", names::path_segment, errors);
    for (index, subject) in list(&new["subjects"]).iter().enumerate() {
        let path = format!("subjects[{index}]");
        checks::required(subject, &path, "name", errors);
        match text(&subject["kind"]) {
            "ServiceAccount" => {
                checks::named(subject, &path, "name", names::subdomain, errors);
                if !text(&subject["apiGroup"]).is_empty() {
                    errors.push(Invalid::not_supported(&format!("{path}.apiGroup"), &subject["apiGroup"], &[""]));
                }
                if kinds.len() == 1 {
                    checks::required(subject, &path, "namespace", errors);
                }
            }
            "User" | "Group" => checks::exactly_one_of(subject, &path, "apiGroup", &[GROUP], errors),
            other => {
                let kinds = ["ServiceAccount", "User", "Group"];
                errors.push(Invalid::unsupported(&format!("{path}.kind"), &other.into(), &kinds));
            }
        }
    }
    if old.is_some_and(|old| old["roleRef"] != *role) {
        errors.push(Invalid::invalid("roleRef", role, "cannot change roleRef"));
    }
}

fn row(binding: &Value, now: i64) -> Vec<Value> {
    let role = &binding["roleRef"];
    let subjects = |kind: &str| -> Value {
        let all = list(&binding["subjects"]).iter().filter(|s| s["kind"] == kind);
        let names = all.map(|s| match text(&s["namespace"]) {
            namespace if kind == "ServiceAccount" && !namespace.is_empty() => {
                format!("{namespace}/{}", text(&s["name"]))
            }
            _ => text(&s["name"]).to_owned(),
        });
        names.collect::<Vec<_>>().join(", ").into()
    };
    vec![
        binding["metadata"]["name"].clone(),
        format!("{}/{}", text(&role["kind"]), text(&role["name"])).into(),
        age::since(&binding["metadata"]["creationTimestamp"], now).into(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn roles() {
        Case::new("rbac.authorization.k8s.io/v1", "Role").invalid(
            json!({"rules": [{"apiGroups": [""]}, {"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
                "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            ],
        );
    }

    #[test]
    fn bindings() {
        let case = Case::new("rbac.authorization.k8s.io/v1", "RoleBinding");
        let role = json!({"kind": "ClusterRole", "name": "view"});
        let full = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
        case.defaulted(
            json!({"roleRef": role, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
            json!({"roleRef": full, "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount", "name": "s"}]}),
        );
        case.update(
            json!({"roleRef": role}),
            json!({"roleRef": {"kind": "ClusterRole", "name": "edit"}}),
            &[
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"edit\"}: cannot change roleRef",
            ],
        );
        case.row(
            json!({"roleRef": role, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}, {"kind": "User", "name": "v"}]}),
            json!(["x", "ClusterRole/view", "10s", "u, v", "", "n/s"]),
        );
    }
}
