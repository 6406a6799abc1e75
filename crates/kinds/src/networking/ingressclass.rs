//! `networking.k8s.io/v1 IngressClass`.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, set, text};
use crate::{age, checks};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };

fn default(class: &mut Value) {
    if let Some(parameters) = child(class, "spec.parameters") {
        set(parameters, "scope", "Cluster");
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    checks::immutable(new, old, &["spec.controller"], errors);
    checks::required(new, "", "spec.controller", errors);
    let controller = text(&new["spec"]["controller"]);
    let parts = controller.split_once('/');
    if !controller.is_empty() && parts.is_none_or(|(domain, path)| domain.is_empty() || path.is_empty()) {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(Invalid::invalid("spec.controller", &controller.into(), detail));
    }
    let parameters = &new["spec"]["parameters"];
    if !parameters.is_object() {
        return;
    }
    for field in ["kind", "name"] {
        checks::required(parameters, "spec.parameters", field, errors);
    }
    checks::one_of(parameters, "spec.parameters", "scope", &["Cluster", "Namespace"], errors);
    let namespace = text(&parameters["namespace"]);
    if parameters["scope"] == "Namespace" && namespace.is_empty() {
        let detail = "`parameters.scope` is set to 'Namespace'";
        errors.push(Invalid::required("spec.parameters.namespace", detail));
    } else if parameters["scope"] == "Cluster" && !namespace.is_empty() {
        let detail = "`parameters.scope` is set to 'Cluster'";
        errors.push(Invalid::forbidden("spec.parameters.namespace", detail));
    }
}

fn row(class: &Value, now: i64) -> Vec<Value> {
    let marked = class["metadata"]["annotations"]["ingressclass.kubernetes.io/is-default-class"] == "true";
    let name = text(&class["metadata"]["name"]);
    let parameters = &class["spec"]["parameters"];
    let shown = match (parameters.is_object(), parameters["apiGroup"].as_str()) {
        (false, _) => "<none>".into(),
        (true, Some(group)) => format!("{}.{group}/{}", text(&parameters["kind"]), text(&parameters["name"])),
        (true, None) => format!("{}/{}", text(&parameters["kind"]), text(&parameters["name"])),
    };
    vec![
        if marked { format!("{name} (default)").into() } else { name.into() },
        text(&class["spec"]["controller"]).into(),
        shown.into(),
        age::since(&class["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn class() {
        let case = Case::new("networking.k8s.io/v1", "IngressClass");
        case.invalid(
            json!({"spec": {"controller": "nginx"}}),
            &["spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")"],
        );
        case.row(
            json!({"spec": {"controller": "k8s.io/nginx", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}}),
            json!(["x", "k8s.io/nginx", "K.g/n", "10s"]),
        );
    }
}
