//! How long a request may take: what its `timeout` says, and never longer than the server allows.

use std::time::Duration;

use object::Status;

use super::route::Query;

/// Go's units of time.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("\u{b5}s", 1e-6),
    ("\u{3bc}s", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// The time that a request has: `most`, unless it asks for less.
pub(super) fn of(query: &Query, most: Duration) -> Result<Duration, Status> {
    let Some(text) = query.get("timeout").filter(|text| !text.is_empty()) else { return Ok(most) };
    let seconds = parse(&text).map_err(|why| {
        Status::bad_request(format!("invalid timeout specified in the request URL - time: {why} {text:?}"))
    })?;
    let wanted = Duration::try_from_secs_f64(seconds).unwrap_or(most);
    Ok(if wanted.is_zero() && seconds <= 0.0 { most } else { wanted.min(most) })
}

/// The seconds of `1m30.5s`, as Go's `time.ParseDuration`; the error is its words for what is wrong.
pub fn parse(text: &str) -> Result<f64, String> {
    let invalid = || "invalid duration".to_owned();
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        if end == 0 {
            return Err("missing unit in duration".into());
        }
        let unit = &rest[..end];
        let known = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, seconds) = known.ok_or_else(|| format!("unknown unit {unit:?} in duration"))?;
        total += number * seconds;
        rest = &rest[end..];
    }
    Ok(sign * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_go_reads_them() {
        let check = |query: &str, wanted: Result<u64, &str>| {
            let got = of(&Query::of(Some(query)), Duration::from_secs(60));
            let got = got.map(|d| d.as_millis() as u64).map_err(|status| status.message);
            let prefix = "invalid timeout specified in the request URL - time: ";
            assert_eq!(got, wanted.map_err(|why| format!("{prefix}{why}")), "{query}");
        };
        check("", Ok(60_000));
        check("timeout=", Ok(60_000));
        check("timeout=0", Ok(60_000));
        check("timeout=-1s", Ok(60_000));
        check("timeout=1h", Ok(60_000));
        check("timeout=1.5s", Ok(1500));
        check("timeout=1s500ms", Ok(1500));
        check("timeout=1ns", Ok(0));
        check("timeout=abc", Err("invalid duration \"abc\""));
        check("timeout=5", Err("missing unit in duration \"5\""));
        check("timeout=5d", Err("unknown unit \"d\" in duration \"5d\""));
    }
}
