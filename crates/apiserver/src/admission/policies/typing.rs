//! `status.typeChecking` of validating policies: their expressions against the types of what they match, once per generation.

use cel::{Environment, Type};
use client::Resource;
use kinds::Kind;
use object::{Gvr, Status};
use serde_json::{Value, json};

use super::{items, text};
use crate::api::Api;
use crate::user::User;
use crate::write::{Part, WriteQuery};

const PREFIX: &str = "/registry/validatingadmissionpolicies/";
const MANAGER: &str = "validatingadmissionpolicy-status-controller";
/// Kinds that a policy is checked against.
const MOST_KINDS: usize = 10;

impl Api {
    /// Checks the policies that changed since they were checked.
    pub(super) async fn check_types(&self) {
        let page = self.store.range(PREFIX, None, 0, 0);
        for item in page.into_iter().flat_map(|page| page.items) {
            let Ok(policy) = item.object.value() else { continue };
            let generation = policy["metadata"]["generation"].as_i64().unwrap_or(0);
            if generation <= policy["status"]["observedGeneration"].as_i64().unwrap_or(0) {
                continue;
            }
            if let Err(error) = self.tell_types(&policy, generation).await
                && !error.is_not_found()
            {
                tracing::warn!(policy = item.object.head.name, %error, "cannot write what type checking found");
            }
        }
    }

    async fn tell_types(&self, policy: &Value, generation: i64) -> Result<(), Status> {
        let warnings = warnings(self, policy);
        let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
        let gvr = Gvr::new("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies");
        let at = Resource::object(&gvr, None, text(&policy["metadata"]["name"]));
        let kind = self.stored_kind_of(&gvr)?;
        let set = |old: &Value| {
            let mut new = old.clone();
            // It may have changed meanwhile: then it is looked at again.
            if old["metadata"]["generation"].as_i64() == Some(generation) {
                new["status"]["observedGeneration"] = generation.into();
                new["status"]["typeChecking"] = checked.clone();
            }
            Ok(new)
        };
        let query = WriteQuery { manager: Some(MANAGER.into()), ..WriteQuery::default() };
        self.change(&User::superuser(), &kind, &at, Part::Status, &query, set).await.map(drop)
    }
}

/// The kinds that the policy names; none where it names all.
fn matched(api: &Api, policy: &Value) -> Vec<std::sync::Arc<Kind>> {
    let mut found: Vec<std::sync::Arc<Kind>> = Vec::new();
    for rule in items(&policy["spec"]["matchConstraints"]["resourceRules"]) {
        let any = |field: &str| items(&rule[field]).any(|v| v == "*");
        if any("apiGroups") || any("apiVersions") || any("resources") {
            continue;
        }
        for group in items(&rule["apiGroups"]) {
            for version in items(&rule["apiVersions"]) {
                for resource in items(&rule["resources"]).filter(|r| !text(r).contains('/')) {
                    let kind = api.registry.by_gvr(&Gvr::new(text(group), text(version), text(resource)));
                    let kind = kind.filter(|kind| !found.iter().any(|known| known.gvk() == kind.gvk()));
                    found.extend(kind.filter(|_| found.len() < MOST_KINDS));
                }
            }
        }
    }
    found.sort_by_key(|kind| kind.gvk().to_string());
    found
}

fn type_of(kind: &Kind) -> Type {
    let of = |name: &str| cel::type_named(schema::table(), name);
    match (&kind.custom, &kind.schema) {
        (Some(custom), _) => {
            let metadata = of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
            cel::with_field(cel::type_of(&custom.root, true), "metadata", metadata)
        }
        (None, Some(name)) => of(name),
        (None, None) => Type::Dyn,
    }
}

fn environment(api: &Api, policy: &Value, kind: &Kind) -> Environment {
    let spec = &policy["spec"];
    let object = type_of(kind);
    let param = &spec["paramKind"];
    let params = object::Gvk::from_api_version(text(&param["apiVersion"]), text(&param["kind"]));
    let params = match param.is_object() {
        true => api.registry.by_gvk(&params).map_or(Type::Dyn, |kind| type_of(&kind)),
        false => Type::Dyn,
    };
    let host = || Type::Host("kubernetes.authorization.Authorizer");
    let mut environment = Environment::from([
        ("object".to_owned(), object.clone()),
        ("oldObject".to_owned(), object),
        ("params".to_owned(), params),
        ("request".to_owned(), Type::Dyn),
        ("namespaceObject".to_owned(), cel::type_named(schema::table(), "io.k8s.api.core.v1.Namespace")),
        ("authorizer".to_owned(), host()),
        ("authorizer.requestResource".to_owned(), host()),
    ]);
    for variable in items(&spec["variables"]) {
        let source = text(&variable["expression"]);
        let found = cel::parse(source).ok().and_then(|expr| cel::check(&expr, source, &environment).ok());
        environment.insert(format!("variables.{}", text(&variable["name"])), found.unwrap_or(Type::Dyn));
    }
    environment
}

/// `expressionWarnings`.
fn warnings(api: &Api, policy: &Value) -> Vec<Value> {
    let kinds: Vec<_> =
        matched(api, policy).into_iter().map(|kind| (kind.gvk(), environment(api, policy, &kind))).collect();
    let mut found = Vec::new();
    for (index, validation) in items(&policy["spec"]["validations"]).enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(&validation[field]);
            if source.is_empty() {
                continue;
            }
            let mut said = String::new();
            for (gvk, environment) in &kinds {
                let checked = cel::parse(source).and_then(|expr| cel::check(&expr, source, environment));
                if let Err(why) = checked {
                    said.push_str(&format!("{}/{}, Kind={}: {why}\n", gvk.group, gvk.version, gvk.kind));
                }
            }
            if !said.is_empty() {
                found.push(json!({"fieldRef": format!("spec.validations[{index}].{field}"), "warning": said}));
            }
        }
    }
    found
}
