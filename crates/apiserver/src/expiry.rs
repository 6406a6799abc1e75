//! Events live for an hour after they were last seen (upstream's `--event-ttl`); without that they would fill the store.

use std::sync::Arc;
use std::time::Duration;

use object::Object;
use serde::Deserialize;
use store::{Compare, Op, Txn, Versioned};
use tokio_util::sync::CancellationToken;

use crate::api::Api;

const EVENTS: &str = "/registry/events/";
const LIFE_SECONDS: i64 = 3600;
const EVERY: Duration = Duration::from_secs(60);
/// Keys read at a time.
const CHUNK: usize = 500;

/// The times in either of an event's forms.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Times {
    event_time: Option<String>,
    last_timestamp: Option<String>,
    deprecated_last_timestamp: Option<String>,
    series: Option<Series>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    last_observed_time: Option<String>,
}

/// True when the event was last seen too long ago; never when it does not say when.
fn is_over(event: &Object, now: i64) -> bool {
    let times: Times = event.view().unwrap_or_default();
    let created = event.head.creation_timestamp.as_ref().map(ToString::to_string);
    let series = times.series.and_then(|s| s.last_observed_time);
    let all = [created, times.event_time, times.last_timestamp, times.deprecated_last_timestamp, series];
    let last = all.into_iter().flatten().filter_map(|t| base::time::parse_seconds(&t)).max();
    last.is_some_and(|last| now - last >= LIFE_SECONDS)
}

/// Removes what is over, every minute, until the token is cancelled.
pub(crate) async fn run(api: Arc<Api>, token: CancellationToken) {
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let mut after: Option<Arc<str>> = None;
        while let Ok(page) = api.store.range(EVENTS, after.as_deref(), CHUNK, 0) {
            let now = base::time::now_seconds();
            after = page.items.last().map(|v| v.key.clone());
            for Versioned { key, mod_revision, .. } in page.items.into_iter().filter(|v| is_over(&v.object, now)) {
                let compares = vec![Compare::ModRevision(key.clone(), mod_revision)];
                // Seen again or removed by another server: both are well.
                let _ = api.store.commit(Txn { compares, ops: vec![Op::Delete(key)] }).await;
            }
            if !page.more || token.is_cancelled() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_lives_an_hour_after_it_was_last_seen() {
        let now = base::time::parse_seconds("2026-01-01T12:00:00Z").unwrap();
        let check = |times: serde_json::Value, over: bool| {
            let mut event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "creationTimestamp": "2026-01-01T10:00:00Z"}});
            event.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
            assert_eq!(is_over(&Object::from_value(&event).unwrap(), now), over, "{event}");
        };
        check(json!({}), true);
        check(json!({"lastTimestamp": null, "eventTime": "2026-01-01T10:59:00.000000Z"}), true);
        check(json!({"lastTimestamp": "2026-01-01T11:30:00Z"}), false);
        check(json!({"deprecatedLastTimestamp": "2026-01-01T11:30:00Z"}), false);
        check(json!({"series": {"count": 3, "lastObservedTime": "2026-01-01T11:30:00.000000Z"}}), false);
        let timeless = Object::from_value(&json!({"metadata": {"name": "e"}})).unwrap();
        assert!(!is_over(&timeless, now));
    }
}
