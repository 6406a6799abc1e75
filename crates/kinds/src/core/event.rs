//! Events, core and events.k8s.io: one storage.

use object::{Gvk, Invalid};
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::text;
use crate::{age, convert, names};

pub(crate) const RULES: Rules = Rules { prepare_create: |_| {}, prepare_update: |_, _| {}, validate, row, ..NO_RULES };

/// The event in its core form, whichever it came in.
fn core(event: &Value) -> Value {
    let from = Gvk::from_api_version(text(&event["apiVersion"]), "Event");
    convert::convert(event.clone(), &from, &Gvk::new("", "v1", "Event"))
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let newer = new["apiVersion"] == "events.k8s.io/v1";
    let event = core(new);
    let (namespace, about) = (text(&event["metadata"]["namespace"]), text(&event["involvedObject"]["namespace"]));
    let timed = !event["eventTime"].is_null();
    // Events about cluster-wide objects live in the default namespace.
    let fits = match (about.is_empty(), timed) {
        (true, true) => matches!(namespace, "default" | "kube-system"),
        (true, false) => matches!(namespace, "" | "default"),
        (false, true) => true,
        (false, false) => about == namespace,
    };
    if !fits {
        let detail = "does not match event.namespace";
        errors.push(Invalid::invalid("involvedObject.namespace", &about.into(), detail));
    }
    if timed {
        validate_timed(&event, if newer { "reportingController" } else { "reportingComponent" }, errors);
    }
    match old.map(core) {
        _ if !newer => {}
        None => validate_new(&event, errors),
        Some(old) => {
            if event["series"] != old["series"] {
                validate_series(&event["series"], errors);
            }
            for field in FIXED.into_iter().filter(|field| event[*field] != old[*field]) {
                let at = if field == "reportingComponent" { "reportingController" } else { field };
                let shown = match &event[field] {
                    Value::Null if field == "reportingComponent" => Value::from(""),
                    given => given.clone(),
                };
                errors.push(Invalid::invalid(at, &shown, "field is immutable"));
            }
        }
    }
}

/// What an event of the new kind (with an event time) must say of its reporter.
fn validate_timed(event: &Value, controller: &str, errors: &mut Vec<Invalid>) {
    let reporter = text(&event["reportingComponent"]);
    if reporter.is_empty() {
        errors.push(Invalid::required(controller, ""));
    }
    for why in names::qualified(reporter) {
        errors.push(Invalid::invalid(controller, &reporter.into(), why));
    }
    for (field, most) in [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)] {
        let value = text(&event[field]);
        if value.is_empty() && field != "message" {
            errors.push(Invalid::required(field, ""));
        } else if value.len() > most {
            errors.push(Invalid::invalid(field, &"".into(), format!("can have at most {most} characters")));
        }
    }
}

/// What an update through `events.k8s.io/v1` leaves alone, in upstream's order; one of them it looks at twice.
const FIXED: [&str; 14] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "reason",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

/// A series is of at least two.
fn validate_series(series: &Value, errors: &mut Vec<Invalid>) {
    if series.is_object() {
        if series["count"].as_i64().unwrap_or(0) < 2 {
            errors.push(Invalid::invalid("series.count", &"".into(), "should be at least 2"));
        }
        if series["lastObservedTime"].is_null() {
            errors.push(Invalid::required("series.lastObservedTime", ""));
        }
    }
}

/// What a create through `events.k8s.io/v1` must and must not have.
fn validate_new(event: &Value, errors: &mut Vec<Invalid>) {
    validate_series(&event["series"], errors);
    if event["eventTime"].is_null() {
        errors.push(Invalid::required("eventTime", ""));
    }
    let kind = text(&event["type"]);
    if kind != "Normal" && kind != "Warning" {
        errors.push(Invalid::invalid("type", &"".into(), format!("has invalid value: {kind}")));
    }
    let source = &event["source"];
    for (field, set) in [
        ("firstTimestamp", !event["firstTimestamp"].is_null()),
        ("lastTimestamp", !event["lastTimestamp"].is_null()),
        ("count", event["count"].as_i64().is_some_and(|c| c != 0)),
        ("source", !text(&source["component"]).is_empty() || !text(&source["host"]).is_empty()),
    ] {
        if set {
            errors.push(Invalid::invalid(field, &"".into(), "needs to be unset"));
        }
    }
}

fn row(event: &Value, now: i64) -> Vec<Value> {
    let event = core(event);
    let first_of = |one: &Value, other: &Value| match text(one) {
        "" => text(other).to_owned(),
        given => given.to_owned(),
    };
    let involved = &event["involvedObject"];
    let first = if event["firstTimestamp"].is_null() { &event["eventTime"] } else { &event["firstTimestamp"] };
    let (last, count) = match &event["series"] {
        series if series.is_object() => (&series["lastObservedTime"], series["count"].as_i64().unwrap_or(0)),
        _ => {
            let last = &event["lastTimestamp"];
            let count = event["count"].as_i64().filter(|c| *c != 0).unwrap_or(1);
            (if last.is_null() { first } else { last }, count)
        }
    };
    let component = first_of(&event["source"]["component"], &event["reportingComponent"]);
    let source = match first_of(&event["source"]["host"], &event["reportingInstance"]).as_str() {
        "" => component,
        instance => format!("{component}, {instance}"),
    };
    let target = match (text(&involved["kind"]).to_lowercase(), text(&involved["name"])) {
        (kind, "") => kind,
        (kind, name) => format!("{kind}/{name}"),
    };
    vec![
        age::since(last, now).into(),
        text(&event["type"]).into(),
        text(&event["reason"]).into(),
        target.into(),
        text(&involved["fieldPath"]).into(),
        source.into(),
        text(&event["message"]).trim().into(),
        age::since(first, now).into(),
        count.into(),
        text(&event["metadata"]["name"]).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn rows_of_both_forms() {
        Case::new("v1", "Event").row(
            json!({"type": "Normal", "reason": "Pulled", "message": "Pulled image ", "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
                "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2023-11-14T22:13:20Z", "lastTimestamp": "2023-11-14T22:13:25Z", "count": 2}),
            json!(["5s", "Normal", "Pulled", "pod/p", "spec.containers{c}", "kubelet, n", "Pulled image", "10s", 2, "x"]),
        );
        Case::new("events.k8s.io/v1", "Event").row(
            json!({"type": "Normal", "reason": "Scheduled", "note": "done", "regarding": {"kind": "Pod", "name": "p"},
                "reportingController": "scheduler", "eventTime": "2023-11-14T22:13:21.000000Z"}),
            json!(["9s", "Normal", "Scheduled", "pod/p", "", "scheduler", "done", "9s", 1, "x"]),
        );
    }

    #[test]
    fn an_event_stays_with_its_object() {
        Case::new("v1", "Event").invalid(
            json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}}),
            &["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"],
        );
        Case::new("events.k8s.io/v1", "Event").invalid(
            json!({"metadata": {"namespace": "a"}, "regarding": {"namespace": "a"}, "eventTime": "2023-11-14T22:13:21.000000Z",
                "reportingController": "c", "reportingInstance": "i", "action": "a", "type": "Normal"}),
            &["reason: Required value"],
        );
    }
}
