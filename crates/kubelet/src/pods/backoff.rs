//! Back-offs by key: crash loops and failed pulls. Pure over a clock that the caller reads.
//!
//! A key's wait doubles with every failure up to a most; it is forgotten when nothing failed for twice the most.

use std::collections::HashMap;
use std::time::Duration;

/// Waits by key. Times are nanoseconds since the epoch, because failures are dated by the runtime.
#[derive(Debug)]
pub(crate) struct Backoffs {
    first: Duration,
    most: Duration,
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    wait: Duration,
    updated: i64,
}

impl Backoffs {
    /// Waits from `first`, doubling up to `most`.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, entries: HashMap::new() }
    }

    /// The time until which `key` waits after a failure at `since`; `None` when it may go on at `now`.
    pub(crate) fn waits_since(&self, key: &str, since: i64, now: i64) -> Option<i64> {
        let entry = self.entries.get(key)?;
        if self.is_forgotten(entry, since) {
            return None;
        }
        let until = since.saturating_add(nanos(entry.wait));
        (now < until).then_some(until)
    }

    /// Drops the key: what failed is gone.
    pub(crate) fn forget(&mut self, prefix: &str) {
        self.entries.retain(|key, _| !key.starts_with(prefix));
    }

    /// The same, counted from the last failure.
    pub(crate) fn waits(&self, key: &str, now: i64) -> Option<i64> {
        self.waits_since(key, self.entries.get(key)?.updated, now)
    }

    /// The present wait of `key`.
    pub(crate) fn wait(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |e| e.wait)
    }

    /// Notes a failure that happened at `at`: the next wait is longer.
    pub(crate) fn next(&mut self, key: &str, at: i64, now: i64) {
        let (first, most) = (self.first, self.most);
        let known = self.entries.get(key).filter(|e| !self.is_forgotten(e, at)).map(|e| e.wait);
        let wait = known.map_or(first, |wait| (wait * 2).min(most));
        self.entries.insert(key.to_owned(), Entry { wait, updated: now });
    }

    fn is_forgotten(&self, entry: &Entry, now: i64) -> bool {
        now.saturating_sub(entry.updated) > nanos(self.most * 2)
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn doubles_up_to_the_most_and_forgets() {
        let mut backoffs = Backoffs::new(Duration::from_secs(10), Duration::from_secs(300));
        assert_eq!(backoffs.waits("a", 0), None);
        let mut waits = Vec::new();
        let mut at = 0;
        for _ in 0..7 {
            backoffs.next("a", at, at);
            waits.push(backoffs.wait("a").as_secs());
            assert!(backoffs.waits_since("a", at, at + 9 * SECOND).is_some());
            at = at + nanos(backoffs.wait("a")) + SECOND;
            assert_eq!(backoffs.waits("a", at), None);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        let later = at + 901 * SECOND;
        backoffs.next("a", later, later);
        assert_eq!(backoffs.wait("a").as_secs(), 10);
    }
}
