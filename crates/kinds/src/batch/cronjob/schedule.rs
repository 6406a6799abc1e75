//! Cron schedules: five fields, or a descriptor. Only what is wrong with one; when one is due is the controller's.

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Why a schedule cannot be read, in the words of the library that upstream parses it with.
pub(super) fn problem(schedule: &str) -> Option<String> {
    let rest = match schedule.strip_prefix("TZ=").or(schedule.strip_prefix("CRON_TZ=")) {
        Some(zoned) => zoned.split_once(' ').map_or("", |(_, rest)| rest).trim(),
        None => schedule,
    };
    if rest.starts_with('@') {
        let known = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
        let every = rest.strip_prefix("@every ").is_some_and(|d| !d.trim().is_empty());
        return (!every && !known.contains(&rest)).then(|| format!("unrecognized descriptor: {rest}"));
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let bounds: [(u32, u32, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, &MONTHS), (0, 6, &DAYS)];
    fields.iter().zip(bounds).find_map(|(field, bounds)| field.split(',').find_map(|part| range(part, bounds)))
}

fn number(text: &str, (least, _, names): (u32, u32, &[&str])) -> Result<u32, String> {
    if let Some(place) = names.iter().position(|n| n.eq_ignore_ascii_case(text)) {
        return Ok(least + u32::try_from(place).unwrap_or(0));
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
}

fn range(part: &str, bounds: (u32, u32, &[&str])) -> Option<String> {
    let (span, step) = part.split_once('/').map_or((part, None), |(span, step)| (span, Some(step)));
    let checked = || {
        let (first, last) = match span {
            "*" | "?" => (bounds.0, bounds.1),
            span => match span.split_once('-') {
                Some((first, last)) => (number(first, bounds)?, number(last, bounds)?),
                None => {
                    let first = number(span, bounds)?;
                    (first, if step.is_some() { bounds.1 } else { first })
                }
            },
        };
        let step = step.map_or(Ok(1), |s| number(s, (0, 0, &[])))?;
        if first < bounds.0 {
            return Err(format!("beginning of range ({first}) below minimum ({}): {part}", bounds.0));
        }
        if last > bounds.1 {
            return Err(format!("end of range ({last}) above maximum ({}): {part}", bounds.1));
        }
        if first > last {
            return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        Ok(())
    };
    checked().err()
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn schedules() {
        for good in ["* * * * *", "*/5 0-3,7 1 jan-MAR mon", "@every 1h", "@hourly", "0 0 ? * 6"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (bad, why) in [
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(problem(bad).as_deref(), Some(why), "{bad}");
        }
    }
}
