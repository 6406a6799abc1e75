//! `networking.k8s.io/v1 IngressClass`.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, set, text};
use crate::{age, checks, names};

pub(crate) const RULES: Rules = Rules { default, validate, row, ..NO_RULES };

fn default(class: &mut Value) {
    if let Some(parameters) = child(class, "spec.parameters") {
        set(parameters, "scope", "Cluster");
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    checks::immutable(new, old, &["spec.controller"], errors);
    let spec = Spot::new(&new["spec"], "spec");
    let controller = spec.at("controller");
    if controller.text().len() > 250 {
        errors.push(Invalid::too_long(&controller.path(), 250));
    }
    checks::domain_path(&controller, errors);
    let parameters = spec.at("parameters");
    if !parameters.is_set() {
        return;
    }
    super::local_reference(&parameters, errors);
    let (scope, namespace) = (parameters.at("scope"), parameters.at("namespace"));
    scope.exactly_one_of(&["Cluster", "Namespace"], errors);
    match (scope.text(), namespace.is_set()) {
        ("Namespace", false) => namespace.missing("`parameters.scope` is set to 'Namespace'", errors),
        ("Namespace", true) => namespace.obey(names::label, errors),
        ("Cluster", true) => namespace.forbid("`parameters.scope` is set to 'Cluster'", errors),
        _ => {}
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
