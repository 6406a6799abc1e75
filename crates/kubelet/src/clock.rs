//! The wall clock as the kubelet reads it, replaceable in tests, and durations as Go prints them.

use std::sync::Arc;
use std::time::Duration;

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;

/// Reads the time: nanoseconds since the epoch.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub(crate) fn system() -> Self {
        Self(Arc::new(|| i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)))
    }
    /// Another source of time.
    #[cfg(test)]
    pub(crate) fn new(read: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
    /// Now.
    pub(crate) fn nanos(&self) -> i64 {
        (self.0)()
    }
    /// Now, in whole seconds.
    pub(crate) fn seconds(&self) -> i64 {
        self.nanos() / SECOND
    }
    /// How long until `nanos`; zero when that is past.
    pub(crate) fn until(&self, nanos: i64) -> Duration {
        Duration::from_nanos(u64::try_from(nanos.saturating_sub(self.nanos())).unwrap_or(0))
    }
}

/// `1m20s`, `5m0s`, `1.234s`, `12ms`: how Go prints a duration of whole milliseconds.
pub(crate) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes, seconds, rest) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60, millis % 1000);
    let mut fraction = format!(".{rest:03}");
    while fraction.ends_with('0') || fraction == "." {
        fraction.pop();
    }
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_prints_them() {
        for (millis, text) in [
            (0, "0s"),
            (12, "12ms"),
            (1000, "1s"),
            (1230, "1.23s"),
            (80_000, "1m20s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
    }
}
