//! Schedules in cron's form: minute, hour, day of month, month, day of week; `@daily` and the like.

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

/// Bit sets of what matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days of month and of week are both restricted: either may match.
    either_day: bool,
    /// `@every`: seconds between times.
    every: Option<i64>,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// A time that does not come within these years never does.
const YEARS: i32 = 5;

impl Schedule {
    /// Reads a schedule; says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(duration) = text.strip_prefix("@every ") {
            let every: jiff::SignedDuration = duration.trim().parse().map_err(|e| format!("{e}"))?;
            return Ok(Self { every: Some(every.as_secs().max(1)), ..Self::parse("* * * * *")? });
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(format!("unrecognized descriptor: {other}")),
            other => other,
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: {fields:?}", fields.len()));
        };
        let mut weekdays = field(weekday, 0, 7, &WEEKDAYS, 0)?;
        if weekdays & (1 << 7) != 0 {
            weekdays |= 1;
        }
        let open = |text: &str| text.starts_with('*') || text.starts_with('?');
        Ok(Self {
            minutes: field(minute, 0, 59, &[], 0)?,
            hours: field(hour, 0, 23, &[], 0)?,
            days: field(day, 1, 31, &[], 0)?,
            months: field(month, 1, 12, &MONTHS, 1)?,
            weekdays,
            either_day: !open(day) && !open(weekday),
            every: None,
        })
    }

    /// The first time after `after`.
    pub fn next_after(&self, after: i64, zone: &TimeZone) -> Option<i64> {
        if let Some(every) = self.every {
            return Some(after + every);
        }
        let start = Timestamp::from_second(after - after.rem_euclid(60) + 60).ok()?;
        let mut at: Zoned = start.to_zoned(zone.clone());
        let last_year = i32::from(at.year()) + YEARS;
        while i32::from(at.year()) <= last_year {
            let has = |bits: u64, value: i8| bits & (1 << value) != 0;
            // Steps over what cannot match, the largest unit first.
            if !has(self.months, at.month()) {
                at = at.first_of_month().ok()?.start_of_day().ok()?.checked_add(Span::new().months(1)).ok()?;
            } else if !self.day_matches(&at) {
                at = at.start_of_day().ok()?.checked_add(Span::new().days(1)).ok()?.start_of_day().ok()?;
            } else if !has(self.hours, at.hour()) {
                let minutes = 60 - i64::from(at.minute());
                at = at.checked_add(Span::new().minutes(minutes)).ok()?;
            } else if !has(self.minutes, at.minute()) {
                at = at.checked_add(Span::new().minutes(1)).ok()?;
            } else {
                return Some(at.timestamp().as_second());
            }
        }
        None
    }

    fn day_matches(&self, at: &Zoned) -> bool {
        let day = self.days & (1 << at.day()) != 0;
        let weekday = self.weekdays & (1 << at.weekday().to_sunday_zero_offset()) != 0;
        if self.either_day { day || weekday } else { day && weekday }
    }

    /// The last time after `from` and not after `to`.
    pub fn last_in(&self, from: i64, to: i64, zone: &TimeZone) -> Option<i64> {
        if let Some(every) = self.every {
            let times = (to - from) / every;
            return (times > 0).then(|| from + times * every);
        }
        // Looks back in growing windows: the last one is near as a rule, and many may have been missed.
        let mut window = 3600;
        loop {
            let start = from.max(to - window);
            let mut last = None;
            let mut at = start;
            while let Some(next) = self.next_after(at, zone).filter(|next| *next <= to) {
                last = Some(next);
                at = next;
            }
            if last.is_some() || start == from {
                return last;
            }
            window *= 24;
        }
    }
}

fn field(text: &str, least: u32, most: u32, names: &[&str], first: u32) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',') {
        bits |= range(part, least, most, names, first)?;
    }
    Ok(bits)
}

fn range(text: &str, least: u32, most: u32, names: &[&str], first: u32) -> Result<u64, String> {
    let number = |text: &str| -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(at) = names.iter().position(|name| *name == lower) {
            return Ok(at as u32 + first);
        }
        text.parse().map_err(|_| format!("failed to parse int from {text}"))
    };
    let (span, step) = match text.split_once('/') {
        Some((span, step)) => (span, Some(number(step)?)),
        None => (text, None),
    };
    let (from, to) = match span.split_once('-') {
        _ if span == "*" || span == "?" => (least, if most == 7 { 6 } else { most }),
        Some((from, to)) => (number(from)?, number(to)?),
        // `5/15` goes on to the end.
        None => (number(span)?, if step.is_some() { most } else { number(span)? }),
    };
    let step = step.unwrap_or(1);
    if from < least || to > most || from > to || step == 0 {
        return Err(format!("out of range: {text}"));
    }
    Ok((from..=to).step_by(step as usize).fold(0, |bits, value| bits | 1 << value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn check(schedule: &str, after: &str, wanted: &str) {
        let next = Schedule::parse(schedule).unwrap().next_after(at(after), &TimeZone::UTC);
        assert_eq!(
            next.map(base::time::format_seconds).as_deref().unwrap_or("never"),
            wanted,
            "{schedule} after {after}"
        );
    }

    #[test]
    fn next_times() {
        let now = "2026-02-01T10:20:30Z"; // a Sunday
        check("* * * * *", now, "2026-02-01T10:21:00Z");
        check("*/15 * * * *", now, "2026-02-01T10:30:00Z");
        check("0 9-17/4 * * mon-fri", now, "2026-02-02T09:00:00Z");
        check("30 4 1,15 * 5", now, "2026-02-06T04:30:00Z");
        check("0 0 29 2 *", now, "2028-02-29T00:00:00Z");
        check("0 0 31 2 *", now, "never");
        check("0 0 * * 7", now, "2026-02-08T00:00:00Z");
        check("@hourly", now, "2026-02-01T11:00:00Z");
        check("@every 90s", now, "2026-02-01T10:22:00Z");
        check("0 0 1 jan *", now, "2027-01-01T00:00:00Z");
    }

    #[test]
    fn the_last_time_of_a_span() {
        let schedule = Schedule::parse("0 3 * * *").unwrap();
        let last =
            |from: &str, to: &str| schedule.last_in(at(from), at(to), &TimeZone::UTC).map(base::time::format_seconds);
        assert_eq!(last("2026-01-01T00:00:00Z", "2026-02-01T02:00:00Z").as_deref(), Some("2026-01-31T03:00:00Z"));
        assert_eq!(last("2026-02-01T00:00:00Z", "2026-02-01T02:00:00Z"), None);
        assert_eq!(last("2026-02-01T02:59:59Z", "2026-02-01T03:00:00Z").as_deref(), Some("2026-02-01T03:00:00Z"));
    }

    #[test]
    fn bad_schedules_are_refused() {
        for text in ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "@never", "5-1 * * * *", "*/0 * * * *"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
