//! `apps/v1 StatefulSet`.

use object::Invalid;
use serde_json::{Value, json};

use crate::apps::{validate_collisions, validate_counts, validate_selected_template, validate_selector};
use crate::core::podtemplate::default_template;
use crate::core::{claim, podspec};
use crate::kind::{NO_RULES, Rules, drop_status, keep};
use crate::spot::{Errors, Spot};
use crate::tree::{child, each, list, made, remove, set, text};
use crate::{age, cells, names};

pub(crate) const RULES: Rules = Rules {
    default,
    prepare_create,
    prepare_update,
    validate,
    validate_status,
    name: names::label,
    row,
    warnings,
    ..NO_RULES
};

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
        if let Some(status) = made(template, "status") {
            set(status, "phase", "Pending");
        }
    });
    if let Some(template) = spec.get_mut("template") {
        default_template(template);
    }
}

/// The template with a volume per claim template, as the controller gives it to the pods.
fn with_claims(new: &Value) -> Value {
    let claims = list(&new["spec"]["volumeClaimTemplates"]);
    let mut whole = new.clone();
    // The controller gives these to each pod.
    for field in ["hostname", "subdomain"] {
        if let Some(spec) = child(&mut whole, "spec.template.spec") {
            remove(spec, field);
        }
    }
    if claims.is_empty() {
        return whole;
    }
    let mut names: Vec<&str> = Vec::new();
    for name in claims.iter().map(|c| text(&c["metadata"]["name"])) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let own = list(&new["spec"]["template"]["spec"]["volumes"]).iter().filter(|v| !names.contains(&text(&v["name"])));
    let made = names.iter().map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}}));
    whole["spec"]["template"]["spec"]["volumes"] = made.chain(own.cloned()).collect();
    whole
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let whole = with_claims(new);
    let spec = Spot::new(&whole["spec"], "spec");
    let policy = spec.at("podManagementPolicy");
    if policy.require(errors) && !matches!(policy.text(), "OrderedReady" | "Parallel") {
        policy.fail("must be 'OrderedReady' or 'Parallel'", errors);
    }
    update_strategy(&spec.at("updateStrategy"), errors);
    let retention = spec.at("persistentVolumeClaimRetentionPolicy");
    if retention.is_set() {
        retention.at("whenDeleted").exactly_one_of(&["Retain", "Delete"], errors);
        retention.at("whenScaled").exactly_one_of(&["Retain", "Delete"], errors);
    }
    if old.is_none() {
        spec.list("volumeClaimTemplates").for_each(|claim| claim::validate_spec(&claim.at("spec"), errors));
    }
    spec.at("replicas").not_negative(errors);
    spec.at("minReadySeconds").not_negative(errors);
    spec.at("ordinals").at("start").not_negative(errors);
    if old.is_none() {
        spec.at("serviceName").named(names::label, errors);
    }
    validate_selector(&spec, "statefulset", errors);
    validate_selected_template(&spec, "StatefulSet", errors);
    let Some(old) = old else { return };
    let mut evened = new["spec"].clone();
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

fn update_strategy(strategy: &Spot, errors: &mut Errors) {
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "" => strategy.missing("", errors),
        "OnDelete" if rolling.is_set() => {
            rolling.fail("only allowed for updateStrategy 'RollingUpdate'", errors);
        }
        "OnDelete" => {}
        "RollingUpdate" => rolling.at("partition").not_negative(errors),
        _ => strategy.fail("must be 'RollingUpdate' or 'OnDelete'", errors),
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let status = Spot::new(&new["status"], "status");
    let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    let counts = [&["replicas"][..], &parts, &["observedGeneration", "collisionCount"]].concat();
    validate_counts(&status, &counts, &parts, errors);
    let available = status.at("availableReplicas");
    if available.count() > status.at("readyReplicas").count() {
        available.fail("cannot be greater than status.readyReplicas", errors);
    }
    validate_collisions(new, old, errors);
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = match podspec::warnings::is_changed(new, old) {
        true => podspec::warnings::warnings(&new["spec"]["template"], "spec.template"),
        false => Vec::new(),
    };
    podspec::warnings::claims(new, &mut found);
    if new["spec"]["revisionHistoryLimit"].as_i64().is_some_and(|n| n < 0) {
        found.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .into(),
        );
    }
    found
}

/// Keeps what is not yet offered out of a new object.
fn prepare_create(new: &mut Value) {
    drop_status(new);
    drop_disabled(new);
}

fn prepare_update(new: &mut Value, old: &Value) {
    crate::kind::keep_status(new, old);
    drop_disabled(new);
}

fn drop_disabled(new: &mut Value) {
    if let Some(rolling) = child(new, "spec.updateStrategy.rollingUpdate") {
        remove(rolling, "maxUnavailable");
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
