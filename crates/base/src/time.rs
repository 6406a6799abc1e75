//! Wall-clock time stamps in the API's forms. Intervals are measured with tokio's clock, never with this one.

use jiff::{Timestamp, Unit};

/// Now, as `metav1.Time` prints it: `2026-11-21T01:02:03Z`.
pub fn now() -> String {
    format_seconds(now_seconds())
}

/// Now, as `metav1.MicroTime` prints it: `2026-11-21T01:02:03.000004Z`.
pub fn now_micros() -> String {
    let now = Timestamp::now().round(Unit::Microsecond).unwrap_or_else(|_| Timestamp::now());
    format!("{now:.6}")
}

/// Seconds since the epoch.
pub fn now_seconds() -> i64 {
    Timestamp::now().as_second()
}

/// `metav1.Time` of seconds since the epoch; the epoch itself when out of range.
pub fn format_seconds(seconds: i64) -> String {
    format!("{:.0}", Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Seconds since the epoch of an RFC 3339 time; `None` when it is none.
pub fn parse_seconds(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// A time as HTTP headers have it: `Tue, 14 Nov 2023 22:13:20 GMT`.
pub fn http_date(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    #[test]
    fn forms() {
        assert_eq!(super::format_seconds(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(super::parse_seconds("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        assert_eq!(super::http_date(1_700_000_000), "Tue, 14 Nov 2023 22:13:20 GMT");
        assert!(super::now_micros().len() == "2023-11-14T22:13:20.000000Z".len());
    }
}
