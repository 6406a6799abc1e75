//! `apps/v1 StatefulSet`.

use object::Invalid;
use serde_json::{Value, json};

use crate::apps::validate_workload;
use crate::core::claim;
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules, keep};
use crate::tree::{each, list, made, set, text};
use crate::{age, cells, checks, names};

pub(crate) const RULES: Rules = Rules { default, validate, name: names::label, row, ..NO_RULES };

fn default(object: &mut Value) {
    let Some(spec) = made(object, "spec") else { return };
    set(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = made(spec, "updateStrategy") {
        let new = text(&strategy["type"]).is_empty();
        set(strategy, "type", "RollingUpdate");
        if strategy["type"] == "RollingUpdate"
            && (new || strategy["rollingUpdate"].is_object())
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            set(rolling, "partition", 0);
        }
    }
    if let Some(retention) = made(spec, "persistentVolumeClaimRetentionPolicy") {
        set(retention, "whenDeleted", "Retain");
        set(retention, "whenScaled", "Retain");
    }
    set(spec, "replicas", 1);
    set(spec, "revisionHistoryLimit", 10);
    each(spec, "volumeClaimTemplates", |template| {
        template["apiVersion"] = "v1".into();
        template["kind"] = "PersistentVolumeClaim".into();
        if let Some(spec) = made(template, "spec") {
            claim::default_spec(spec);
        }
        set(template, "status", json!({"phase": "Pending"}));
    });
    if let Some(template) = spec.get_mut("template") {
        default_template(template);
    }
}

/// The template with a volume per claim template, as the controller gives it to the pods.
fn with_claims(new: &Value) -> Value {
    let claims = list(&new["spec"]["volumeClaimTemplates"]);
    let mut whole = new.clone();
    if claims.is_empty() {
        return whole;
    }
    let names: Vec<&str> = claims.iter().map(|c| text(&c["metadata"]["name"])).collect();
    let own = list(&new["spec"]["template"]["spec"]["volumes"]).iter().filter(|v| !names.contains(&text(&v["name"])));
    let made = names.iter().map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}}));
    whole["spec"]["template"]["spec"]["volumes"] = made.chain(own.cloned()).collect();
    whole
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    let policy = &spec["podManagementPolicy"];
    if policy != "OrderedReady" && policy != "Parallel" {
        errors.push(Invalid::invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"));
    }
    let strategy = &spec["updateStrategy"];
    match strategy["type"].as_str() {
        Some("OnDelete") if !strategy["rollingUpdate"].is_null() => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(Invalid::invalid("spec.updateStrategy.rollingUpdate", &strategy["rollingUpdate"], detail));
        }
        Some("RollingUpdate") => {
            checks::non_negative(
                &strategy["rollingUpdate"],
                "spec.updateStrategy.rollingUpdate",
                &["partition"],
                errors,
            );
        }
        Some("OnDelete") => {}
        _ => errors.push(Invalid::invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'")),
    }
    for field in ["whenDeleted", "whenScaled"] {
        let path = "spec.persistentVolumeClaimRetentionPolicy";
        checks::one_of(&spec["persistentVolumeClaimRetentionPolicy"], path, field, &["Retain", "Delete"], errors);
    }
    checks::non_negative(spec, "spec", &["ordinals.start"], errors);
    if old.is_none() {
        checks::named(spec, "spec", "serviceName", names::label, errors);
    }
    validate_workload(&with_claims(new), "statefulset", "StatefulSet", errors);
    let Some(old) = old else { return };
    let mut evened = spec.clone();
    for field in [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ] {
        keep(&mut evened, &old["spec"], field);
    }
    if evened != old["spec"] {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                      'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(Invalid::forbidden("spec", detail));
    }
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let ready = object["status"]["readyReplicas"].as_i64().unwrap_or(0);
    let mut row = vec![
        object["metadata"]["name"].clone(),
        format!("{ready}/{}", object["spec"]["replicas"].as_i64().unwrap_or(0)).into(),
        age::since(&object["metadata"]["creationTimestamp"], now).into(),
    ];
    row.extend(cells::workload(object).into_iter().take(2));
    row
}
