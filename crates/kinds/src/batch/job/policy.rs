//! Policies of jobs: what a pod's failure means, and when enough has succeeded.

use object::Invalid;
use serde_json::{Value, json};

use crate::names;
use crate::spot::{Errors, Spot};
use crate::tree::list;

/// What failures of pods mean.
pub(super) fn failure(spec: &Spot, errors: &mut Errors) {
    let policy = spec.at("podFailurePolicy");
    if !policy.is_set() {
        return;
    }
    let template = spec.at("template");
    let pod = template.at("spec");
    let containers: Vec<&str> =
        ["containers", "initContainers"].iter().flat_map(|l| pod.list(l)).map(|c| c.at("name").text()).collect();
    let rules = policy.at("rules");
    if rules.len() > 20 {
        errors.push(Invalid::too_many(&rules.path(), rules.len(), 20));
    }
    for rule in policy.list("rules") {
        let action = rule.at("action");
        match action.text() {
            "" => action.missing("valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]", errors),
            "FailIndex" if !spec.at("backoffLimitPerIndex").is_set() => {
                action.fail("requires the backoffLimitPerIndex to be set", errors);
            }
            _ => action.exactly_one_of(&["Count", "FailIndex", "FailJob", "Ignore"], errors),
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.at("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, &containers, errors);
        }
        if conditions.len() > 20 {
            errors.push(Invalid::too_many(&conditions.path(), conditions.len(), 20));
        }
        for condition in rule.list("onPodConditions") {
            condition.at("type").obey(names::qualified, errors);
            let status = condition.at("status");
            match status.text() {
                "" => status.missing("valid values: [\"False\" \"True\" \"Unknown\"]", errors),
                _ => status.exactly_one_of(&["False", "True", "Unknown"], errors),
            }
        }
        let why = match (codes.is_set(), conditions.len() > 0) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(Invalid::unshown(&rule.path(), why));
    }
}

fn exit_codes(codes: &Spot, containers: &[&str], errors: &mut Errors) {
    let (operator, name, values) = (codes.at("operator"), codes.at("containerName"), codes.at("values"));
    match operator.text() {
        "" => operator.missing("valid values: [\"In\" \"NotIn\"]", errors),
        _ => operator.exactly_one_of(&["In", "NotIn"], errors),
    }
    if name.is_set() && !containers.contains(&name.text()) {
        name.fail("must be one of the container or initContainer names in the pod template", errors);
    }
    match values.len() {
        0 => values.fail_as(
            if values.is_set() { json!([]) } else { Value::Null },
            "at least one value is required",
            errors,
        ),
        256.. => errors.push(Invalid::too_many(&values.path(), values.len(), 255)),
        _ => {}
    }
    let mut seen = Vec::new();
    for value in codes.list("values") {
        if operator.text() == "In" && value.count() == 0 {
            value.fail("must not be 0 for the In operator", errors);
        }
        match seen.contains(&value.count()) {
            true => value.duplicate(errors),
            false => seen.push(value.count()),
        }
    }
    if !list(values.value).is_sorted_by_key(|v| v.as_i64().unwrap_or(0)) {
        values.fail("must be ordered", errors);
    }
}

/// When enough has succeeded.
pub(super) fn success(spec: &Spot, errors: &mut Errors) {
    let policy = spec.at("successPolicy");
    let (rules, completions) = (policy.at("rules"), spec.at("completions").count());
    match rules.len() {
        0 => rules.missing("at least one rules must be specified when the successPolicy is specified", errors),
        21.. => errors.push(Invalid::too_many(&rules.path(), rules.len(), 20)),
        _ => {}
    }
    for rule in policy.list("rules") {
        let (indices, count) = (rule.at("succeededIndexes"), rule.at("succeededCount"));
        if !indices.is_set() && !count.is_set() {
            rule.missing("at least one of succeededCount or succeededIndexes must be specified", errors);
        }
        let mut total = 0;
        if indices.is_set() {
            if indices.text().len() > 65_536 {
                errors.push(Invalid::too_long(&indices.path(), 65_536));
            }
            match count_indices(indices.text(), completions) {
                Ok(found) => total = found,
                Err(why) => indices.fail(format!("error parsing succeededIndexes: {why}"), errors),
            }
        }
        if count.is_set() {
            count.not_negative(errors);
            if count.count() > completions {
                let detail =
                    format!("must be less than or equal to {completions} (the number of specified completions)");
                count.fail(detail, errors);
            }
            if indices.is_set() && count.count() > total {
                let detail = format!(
                    "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                );
                count.fail(detail, errors);
            }
        }
    }
}

/// The indices that `1,3-5` names, as far as it can be read.
pub(super) fn indices(text: &str, completions: i64) -> Vec<i64> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n < completions);
    let parts = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(number(first)?..=number(last)?)
    });
    parts.flatten().collect()
}

/// How many indices `1,3-5` names.
pub(super) fn count_indices(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = |text: &str| {
        text.parse::<i64>()
            .ok()
            .filter(|_| !text.starts_with('+'))
            .ok_or_else(|| format!("cannot convert string to integer for index: {}", object::quoted(text)))
    };
    let (mut last, mut total) = (None::<i64>, 0);
    for part in text.split(',') {
        let bounds: Vec<&str> = part.split('-').collect();
        if bounds.len() > 2 {
            return Err(format!(
                "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
                object::quoted(part)
            ));
        }
        let first = number(bounds[0])?;
        if first >= completions {
            return Err(format!("too large index: {}", object::quoted(bounds[0])));
        }
        let end = match bounds.get(1) {
            None => first,
            Some(text) => {
                let end = number(text)?;
                if end >= completions {
                    return Err(format!("too large index: {}", object::quoted(text)));
                }
                if first >= end {
                    return Err(format!("non-increasing order, previous: {first}, current: {end}"));
                }
                end
            }
        };
        if last.is_some_and(|last| first <= last) {
            return Err(format!("non-increasing order, previous: {}, current: {first}", last.unwrap_or(0)));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::count_indices;

    #[test]
    fn indices() {
        assert_eq!(count_indices("0,2-4", 5), Ok(4));
        assert_eq!(count_indices("", 5), Ok(0));
        assert!(count_indices("5", 5).is_err_and(|e| e.starts_with("too large index")));
        assert!(count_indices("3,1", 5).is_err_and(|e| e.starts_with("non-increasing order")));
    }
}
