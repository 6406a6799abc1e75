//! Events, core and events.k8s.io: one storage.

use serde_json::Value;

use crate::age;
use crate::kind::{NO_RULES, Rules};

pub(crate) const RULES: Rules = Rules { row, ..NO_RULES };

fn row(event: &Value, now: i64) -> Vec<Value> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let involved = if event.get("involvedObject").is_some() { &event["involvedObject"] } else { &event["regarding"] };
    let either = |a: &Value, b: &Value| if a.is_null() { b.clone() } else { a.clone() };
    let micro = &event["eventTime"];
    let first = either(&either(&event["firstTimestamp"], &event["deprecatedFirstTimestamp"]), micro);
    let last = either(&either(&event["lastTimestamp"], &event["deprecatedLastTimestamp"]), &first);
    let last = either(&event["series"]["lastObservedTime"], &last);
    let count = event["series"]["count"]
        .as_i64()
        .or(event["count"].as_i64())
        .or(event["deprecatedCount"].as_i64())
        .unwrap_or(1);
    let source = either(&event["source"], &event["deprecatedSource"]);
    let component = match (text(&source["component"]), text(&source["host"])) {
        (component, host) if !component.is_empty() && !host.is_empty() => format!("{component}, {host}"),
        (component, _) if !component.is_empty() => component,
        _ => text(&either(&event["reportingComponent"], &event["reportingController"])),
    };
    let object = format!("{}/{}", text(&involved["kind"]).to_lowercase(), text(&involved["name"]));
    let message = text(&either(&event["message"], &event["note"]));
    vec![
        age::since(&last, now).into(),
        text(&event["type"]).into(),
        text(&event["reason"]).into(),
        object.into(),
        text(&involved["fieldPath"]).into(),
        component.into(),
        message.trim().into(),
        age::since(&first, now).into(),
        count.into(),
        text(&event["metadata"]["name"]).into(),
    ]
}
