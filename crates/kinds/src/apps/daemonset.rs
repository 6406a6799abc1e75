//! `apps/v1 DaemonSet`.

use object::Invalid;
use serde_json::{Value, json};

use crate::apps::{validate_collisions, validate_counts, validate_match, validate_template};
use crate::core::podspec::{self, set};
use crate::core::podtemplate::default_template;
use crate::kind::{NO_RULES, Rules, drop_status, keep_status};
use crate::spot::{Errors, Spot};
use crate::{age, cells, checks};

pub(crate) const RULES: Rules =
    Rules { default, prepare_create, prepare_update, validate, validate_status, row, warnings, ..NO_RULES };

/// Counts changes of the template, for clients of old.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn prepare_create(new: &mut Value) {
    drop_status(new);
    new["metadata"]["annotations"][TEMPLATE_GENERATION] = "1".into();
}

/// The count of templates is a number, which upstream reads with the object.
pub(crate) fn decode(daemons: Value) -> Result<Value, schema::DecodeError> {
    match daemons["metadata"]["annotations"][TEMPLATE_GENERATION].as_str() {
        Some(text) if text.parse::<i64>().is_err() => {
            let words = format!("strconv.ParseInt: parsing {}: invalid syntax", object::quoted(text));
            Err(schema::DecodeError::Type(words))
        }
        _ => Ok(daemons),
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    keep_status(new, old);
    let before = old["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().and_then(|n| n.parse::<i64>().ok());
    let Some(before) = before else { return };
    let changed = new["spec"]["template"] != old["spec"]["template"];
    let count = before + i64::from(changed);
    new["metadata"]["annotations"][TEMPLATE_GENERATION] = count.to_string().into();
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    match podspec::warnings::is_changed(new, old) {
        true => podspec::warnings::warnings(&new["spec"]["template"], "spec.template"),
        false => Vec::new(),
    }
}

fn default(object: &mut Value) {
    // As upstream, which has it from the conversion: so the writer comes to own it.
    let annotations = &mut object["metadata"]["annotations"];
    if annotations[TEMPLATE_GENERATION].is_null() && (annotations.is_object() || annotations.is_null()) {
        annotations[TEMPLATE_GENERATION] = "0".into();
    }
    let spec = &mut object["spec"];
    if spec.get("revisionHistoryLimit").is_none() {
        spec["revisionHistoryLimit"] = 10.into();
    }
    if !spec["updateStrategy"].is_object() {
        spec["updateStrategy"] = json!({});
    }
    let strategy = &mut spec["updateStrategy"];
    set(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        for (field, value) in [("maxUnavailable", 1), ("maxSurge", 0)] {
            if strategy["rollingUpdate"].get(field).is_none() {
                strategy["rollingUpdate"][field] = value.into();
            }
        }
    }
    default_template(&mut spec["template"]);
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    checks::immutable(new, old, &["spec.selector"], errors);
    let spec = Spot::new(&new["spec"], "spec");
    let (selector, template) = (spec.at("selector"), spec.at("template"));
    selector.selector(errors);
    validate_match(&spec, errors);
    if selector.is_set() && checks::is_empty_selector(selector.value) {
        selector.fail("empty selector is invalid for daemonset", errors);
    }
    validate_template(&template, "DaemonSet", errors);
    spec.at("minReadySeconds").not_negative(errors);
    let strategy = spec.at("updateStrategy");
    let rolling = strategy.at("rollingUpdate");
    match strategy.at("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => rolling.missing("", errors),
        "RollingUpdate" => validate_rolling(&rolling, errors),
        _ => errors.push(Invalid::unsupported(&strategy.path(), strategy.value, &["RollingUpdate", "OnDelete"])),
    }
    spec.at("revisionHistoryLimit").not_negative(errors);
}

fn validate_rolling(rolling: &Spot, errors: &mut Errors) {
    let fields = ["maxUnavailable", "maxSurge"];
    for check in [checks::number_or_percent, checks::at_most_all] {
        for field in fields {
            check(rolling.at(field).value, &rolling.at(field).path(), errors);
        }
    }
    match fields.map(|f| checks::amount(rolling.at(f).value) != 0) {
        [true, true] => rolling.at("maxSurge").fail("may not be set when maxUnavailable is non-zero", errors),
        [false, false] => rolling.at("maxUnavailable").missing("cannot be 0 when maxSurge is 0", errors),
        _ => {}
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let status = Spot::new(&new["status"], "status");
    let counts = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    validate_counts(&status, &counts, &[], errors);
    validate_collisions(new, old, errors);
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let number = |field: &str| Value::from(object["status"][field].as_i64().unwrap_or(0));
    let mut row = vec![
        object["metadata"]["name"].clone(),
        number("desiredNumberScheduled"),
        number("currentNumberScheduled"),
        number("numberReady"),
        number("updatedNumberScheduled"),
        number("numberAvailable"),
        cells::selector(&object["spec"]["template"]["spec"]["nodeSelector"]).into(),
        age::since(&object["metadata"]["creationTimestamp"], now).into(),
    ];
    row.extend(cells::workload(object));
    row
}
