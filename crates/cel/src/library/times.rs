//! Times and durations.

use jiff::tz::TimeZone;

use super::{Answer, Outcome};
use crate::error::Failure;
use crate::value::Value;

const SECOND: i64 = 1_000_000_000;
/// Longer units first.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Reads `1h30m`, `-1.5s`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: f64 = 0.0;
    let mut exact: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (_, factor) = UNITS.iter().find(|(unit, _)| *unit == &after[..unit_end])?;
        match number.parse::<i64>() {
            Ok(n) => exact = exact.checked_add(n.checked_mul(*factor)?)?,
            Err(_) => total += number.parse::<f64>().ok()? * *factor as f64,
        }
        rest = &after[unit_end..];
    }
    let nanos = exact.checked_add(total as i64)?;
    Some(if negative { -nanos } else { nanos })
}

/// As CEL prints durations: seconds.
pub(crate) fn go_duration(nanos: i64) -> String {
    let (seconds, rest) = (nanos / SECOND, (nanos % SECOND).abs());
    let sign = if nanos < 0 && seconds == 0 { "-" } else { "" };
    match rest {
        0 => format!("{seconds}s"),
        rest => format!("{sign}{seconds}.{}s", format!("{rest:09}").trim_end_matches('0')),
    }
}

pub(super) fn call(method: bool, name: &str, args: &[&Value]) -> Answer {
    Some(match (name, args) {
        ("duration", [Value::String(text)]) => super::convert::duration(text),
        ("duration", [Value::Duration(n)]) => Ok(Value::Duration(*n)),
        ("timestamp", [Value::String(text)]) => text
            .parse()
            .map(Value::Timestamp)
            .map_err(|_| Failure::new(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse"))),
        ("timestamp", [Value::Timestamp(time)]) => Ok(Value::Timestamp(*time)),
        ("timestamp", [Value::Int(n)]) => {
            jiff::Timestamp::from_second(*n).map(Value::Timestamp).map_err(|_| Failure::new("timestamp overflow"))
        }
        (_, [Value::Duration(nanos)]) if method => match name {
            "getHours" => Ok(Value::Int(nanos / (3600 * SECOND))),
            "getMinutes" => Ok(Value::Int(nanos / (60 * SECOND))),
            "getSeconds" => Ok(Value::Int(nanos / SECOND)),
            "getMilliseconds" => Ok(Value::Int(nanos / 1_000_000 % 1000)),
            _ => return None,
        },
        (_, [Value::Timestamp(time)]) if method => part(*time, name, "UTC")?,
        (_, [Value::Timestamp(time), Value::String(zone)]) if method => part(*time, name, zone)?,
        _ => return None,
    })
}

fn zone(name: &str) -> Option<TimeZone> {
    if name == "UTC" || name.is_empty() {
        return Some(TimeZone::UTC);
    }
    let offset = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        Some(hours * 3600 + minutes * 60)
    };
    let seconds = match name.strip_prefix('-') {
        Some(rest) => offset(rest).map(|s| -s),
        None => offset(name.strip_prefix('+').unwrap_or(name)),
    };
    match seconds {
        Some(seconds) => jiff::tz::Offset::from_seconds(seconds).ok().map(TimeZone::fixed),
        None => TimeZone::get(name).ok(),
    }
}

fn part(time: jiff::Timestamp, name: &str, zone_name: &str) -> Answer {
    let Some(zone) = zone(zone_name) else {
        return Some(Err(Failure::new(format!("unknown time zone {zone_name}"))) as Outcome);
    };
    let local = time.to_zoned(zone);
    Some(Ok(Value::Int(match name {
        "getFullYear" => local.year().into(),
        "getMonth" => i64::from(local.month()) - 1,
        "getDate" => local.day().into(),
        "getDayOfMonth" => i64::from(local.day()) - 1,
        "getDayOfWeek" => local.weekday().to_sunday_zero_offset().into(),
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getHours" => local.hour().into(),
        "getMinutes" => local.minute().into(),
        "getSeconds" => local.second().into(),
        "getMilliseconds" => local.millisecond().into(),
        _ => return None,
    })))
}
