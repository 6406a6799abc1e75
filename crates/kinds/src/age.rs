//! Ages and durations as `kubectl get` prints them (`duration.HumanDuration`).

use serde_json::Value;

/// `5d2h`, `3m10s`, `42s`: at most two units, the second only while it matters.
pub fn human(seconds: i64) -> String {
    let (minute, hour, day, year) = (60, 3600, 86_400, 86_400 * 365);
    if seconds < -1 {
        return "<invalid>".into();
    }
    let two = |a: i64, unit: &str, b: i64, rest: &str| {
        if b == 0 { format!("{a}{unit}") } else { format!("{a}{unit}{b}{rest}") }
    };
    match seconds {
        s if s < 0 => "0s".into(),
        s if s < 2 * minute => format!("{s}s"),
        s if s < 10 * minute => two(s / minute, "m", s % minute, "s"),
        s if s < 3 * hour => format!("{}m", s / minute),
        s if s < 8 * hour => two(s / hour, "h", s % hour / minute, "m"),
        s if s < 2 * day => format!("{}h", s / hour),
        s if s < 8 * day => two(s / day, "d", s % day / hour, "h"),
        s if s < 2 * year => format!("{}d", s / day),
        s if s < 8 * year => two(s / year, "y", s % year / day, "d"),
        s => format!("{}y", s / year),
    }
}

/// The age of an RFC 3339 time at `now` (seconds since the epoch); `<unknown>` for none.
pub fn since(time: &Value, now: i64) -> String {
    match time.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()) {
        Some(then) => human(now - then.as_second()),
        None => "<unknown>".into(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn forms() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (190, "3m10s"),
            (600, "10m"),
            (10_800, "3h"),
            (11_400, "3h10m"),
            (28_800, "8h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (-5, "<invalid>"),
        ] {
            assert_eq!(super::human(seconds), text, "{seconds}");
        }
    }
}
