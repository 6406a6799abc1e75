//! EventRateLimit: so many events by second and no more, of the server, of a namespace, of a user, of a source about an object. Runs
//! only where it is asked for.

use std::collections::{BTreeMap, HashMap};

use object::{Reason, Status};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Attributes;

const CACHE: usize = 4096;

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    limits: Vec<Limit>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limit {
    #[serde(rename = "type")]
    kind: Kind,
    qps: i32,
    burst: i32,
    #[serde(default)]
    cache_size: i32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

/// One limit, and who has used how much of it.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: Limit,
    buckets: Mutex<Buckets>,
}

/// A bucket per key; of too many the one that was not asked for the longest goes.
#[derive(Debug, Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
    /// Keys by when they were asked for.
    order: BTreeMap<u64, String>,
    turn: u64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    turn: u64,
}

/// `eventratelimit.admission.k8s.io/v1alpha1 Configuration`.
pub(super) fn parse(configuration: &Value) -> Result<Vec<Limiter>, String> {
    let read: Configuration =
        serde_json::from_value(configuration.clone()).map_err(|e| format!("EventRateLimit: {e}"))?;
    if read.limits.is_empty() {
        return Err("limits: Invalid value: null: must not be empty".into());
    }
    for (index, limit) in read.limits.iter().enumerate() {
        for (field, value) in [("burst", limit.burst), ("qps", limit.qps)] {
            if value <= 0 {
                return Err(format!("limits[{index}].{field}: Invalid value: {value}: must be positive"));
            }
        }
        if limit.cache_size < 0 && !matches!(limit.kind, Kind::Server) {
            let value = limit.cache_size;
            return Err(format!("limits[{index}].cacheSize: Invalid value: {value}: must not be negative"));
        }
    }
    Ok(read.limits.into_iter().map(|limit| Limiter { limit, buckets: Mutex::default() }).collect())
}

impl Limiter {
    fn accept(&self, key: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        let Buckets { by_key, order, turn } = &mut *buckets;
        *turn += 1;
        let burst = f64::from(self.limit.burst);
        let bucket = by_key.entry(key.to_owned()).or_insert_with(|| Bucket { tokens: burst, filled: now, turn: *turn });
        order.remove(&bucket.turn);
        order.insert(*turn, key.to_owned());
        bucket.turn = *turn;
        let elapsed = now.duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * f64::from(self.limit.qps)).min(burst);
        bucket.filled = now;
        let accepted = bucket.tokens >= 1.0;
        if accepted {
            bucket.tokens -= 1.0;
        }
        let most = usize::try_from(self.limit.cache_size).ok().filter(|size| *size > 0).unwrap_or(CACHE);
        while by_key.len() > most {
            let Some((_, oldest)) = order.pop_first() else { break };
            by_key.remove(&oldest);
        }
        accepted
    }

    fn key(&self, at: &Attributes<'_>, event: &Value) -> String {
        match self.limit.kind {
            Kind::Server => String::new(),
            Kind::Namespace => at.namespace.to_owned(),
            Kind::User => at.user.name.clone(),
            Kind::SourceAndObject => {
                let text = |of: &str, field: &str| event[of][field].as_str().unwrap_or("").to_owned();
                let about =
                    ["kind", "namespace", "name", "uid", "apiVersion"].map(|field| text("involvedObject", field));
                [text("source", "component"), text("source", "host")].into_iter().chain(about).collect()
            }
        }
    }
}

/// 429 when one of the limits is reached.
pub(super) fn check(limiters: &[Limiter], at: &Attributes<'_>, event: &Value) -> Result<(), Status> {
    if !at.is("", "events") || !at.writes() || at.dry_run {
        return Ok(());
    }
    let now = Instant::now();
    let mut reached = Vec::new();
    for limiter in limiters {
        let key = limiter.key(at, event);
        if !limiter.accept(&key, now) {
            reached.push(format!("limit reached on type {:?} for key {key}", limiter.limit.kind));
        }
    }
    match &reached[..] {
        [] => Ok(()),
        [one] => Err(Status::new(Reason::TooManyRequests, one)),
        many => Err(Status::new(Reason::TooManyRequests, format!("[{}]", many.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn buckets_fill_again_and_the_oldest_goes() {
        let limits = json!({"limits": [{"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 2}]});
        let limiter = parse(&limits).unwrap().remove(0);
        let now = Instant::now();
        let taken: Vec<bool> = (0..3).map(|_| limiter.accept("a", now)).collect();
        assert_eq!(taken, [true, true, false]);
        assert!(limiter.accept("a", now + Duration::from_secs(1)));
        assert!(limiter.accept("b", now) && limiter.accept("c", now));
        assert_eq!(limiter.buckets.lock().by_key.len(), 2);
        assert!(limiter.accept("a", now) && limiter.accept("a", now), "it was forgotten");
        let zero = parse(&json!({"limits": [{"type": "Server", "qps": 0, "burst": 1}]}));
        assert_eq!(zero.unwrap_err(), "limits[0].qps: Invalid value: 0: must be positive");
    }
}
