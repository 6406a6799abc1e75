//! Which event is new, which counts up an older one, and which is one too many.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::{ObjectReference, Recorded, Severity};

/// Entries that each table remembers; then it begins anew (upstream forgets the least recently used of as many).
const REMEMBERED: usize = 4096;
/// Different messages of one reason within the interval before they are combined.
const SIMILAR: usize = 10;
/// Seconds after which similar events no longer belong together.
const SIMILAR_SECONDS: i64 = 600;
/// Events per source and object at once, and seconds until one more is allowed.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// What becomes of an event.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is created with this message.
    New { message: String },
    /// The event `name` in the namespace `at` is counted up.
    Count { at: String, name: String, count: u32, message: String },
}

type Kind = (ObjectReference, Severity, String);

#[derive(Default)]
pub(super) struct Correlator {
    similar: HashMap<Kind, (HashSet<String>, i64)>,
    written: HashMap<(Kind, String), (String, String, u32)>,
    buckets: HashMap<ObjectReference, (f64, i64)>,
}

fn room<K: Hash + Eq, V>(table: &mut HashMap<K, V>) {
    if table.len() >= REMEMBERED {
        table.clear();
    }
}

impl Correlator {
    /// What to do with an event; `None`: its object has had too many.
    pub(super) fn judge(&mut self, event: &Recorded) -> Option<Verdict> {
        let now = event.at.as_second();
        let about = ObjectReference { resource_version: String::new(), ..event.about.clone() };
        let (message, key) = self.combine(event, &about, now);
        if !self.allow(&about, now) {
            tracing::debug!(object = about.name, reason = event.reason, "too many events of one object");
            return None;
        }
        Some(match self.written.get_mut(&key) {
            None => Verdict::New { message },
            Some((at, name, count)) => {
                *count += 1;
                Verdict::Count { at: at.clone(), name: name.clone(), count: *count, message }
            }
        })
    }

    /// The event was created under this name.
    pub(super) fn created(&mut self, event: &Recorded, namespace: &str, name: &str) {
        let about = ObjectReference { resource_version: String::new(), ..event.about.clone() };
        let key = self.key(event, &about);
        room(&mut self.written);
        self.written.insert(key, (namespace.into(), name.into(), 1));
    }

    fn combine(&mut self, event: &Recorded, about: &ObjectReference, now: i64) -> (String, (Kind, String)) {
        room(&mut self.similar);
        let kind = (about.clone(), event.severity, event.reason.clone());
        let (messages, last) = self.similar.entry(kind).or_default();
        if now - *last > SIMILAR_SECONDS {
            messages.clear();
        }
        *last = now;
        messages.insert(event.message.clone());
        let many = messages.len() > SIMILAR;
        if many {
            // The set only has to tell that there are too many; it need not grow with each message.
            messages.remove(&event.message);
            messages.insert(String::new());
        }
        let message =
            if many { format!("(combined from similar events): {}", event.message) } else { event.message.clone() };
        (message, self.key(event, about))
    }

    fn key(&self, event: &Recorded, about: &ObjectReference) -> (Kind, String) {
        let kind = (about.clone(), event.severity, event.reason.clone());
        let combined = self.similar.get(&kind).is_some_and(|(messages, _)| messages.len() > SIMILAR);
        let message = if combined { String::new() } else { event.message.clone() };
        (kind, message)
    }

    fn allow(&mut self, about: &ObjectReference, now: i64) -> bool {
        room(&mut self.buckets);
        let (tokens, last) = self.buckets.entry(about.clone()).or_insert((BURST, now));
        *tokens = (*tokens + (now - *last).max(0) as f64 / REFILL_SECONDS).min(BURST);
        *last = now;
        let allowed = *tokens >= 1.0;
        if allowed {
            *tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str, second: i64) -> Recorded {
        Recorded {
            about: ObjectReference { name: "p".into(), resource_version: second.to_string(), ..Default::default() },
            severity: Severity::Normal,
            reason: "Pulled".into(),
            message: message.into(),
            at: jiff::Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn the_same_again_is_counted() {
        let mut correlator = Correlator::default();
        assert_eq!(correlator.judge(&event("m", 1)), Some(Verdict::New { message: "m".into() }));
        correlator.created(&event("m", 1), "ns", "p.1");
        for wanted in [2, 3] {
            let Some(Verdict::Count { count, name, .. }) = correlator.judge(&event("m", wanted.into())) else {
                panic!()
            };
            assert_eq!((count, name.as_str()), (wanted, "p.1"));
        }
    }

    #[test]
    fn similar_events_are_combined() {
        let mut correlator = Correlator::default();
        for i in 0..10 {
            assert!(matches!(correlator.judge(&event(&format!("m{i}"), 1)), Some(Verdict::New { .. })));
            correlator.created(&event(&format!("m{i}"), 1), "ns", &format!("p.{i}"));
        }
        let combined = correlator.judge(&event("m10", 1)).unwrap();
        assert_eq!(combined, Verdict::New { message: "(combined from similar events): m10".into() });
        correlator.created(&event("m10", 1), "ns", "p.10");
        assert!(matches!(correlator.judge(&event("m11", 1)), Some(Verdict::Count { count: 2, .. })));
        // Quiet for long enough: they no longer belong together.
        assert_eq!(correlator.judge(&event("m12", 1000)), Some(Verdict::New { message: "m12".into() }));
    }

    #[test]
    fn floods_are_cut_and_allowed_again_later() {
        let mut correlator = Correlator::default();
        let passed = (0..40).filter(|_| correlator.judge(&event("m", 1)).is_some()).count();
        assert_eq!(passed, 25);
        assert!(correlator.judge(&event("m", 302)).is_some());
        assert!(correlator.judge(&event("m", 303)).is_none());
    }
}
