//! How much of a device's capacity one request may take (`requestPolicy`).

use object::{Invalid, Quantity};

use crate::spot::{Errors, Spot};

const MOST_VALUES: usize = 10;

/// Adds what is wrong with the policy of a capacity.
pub(super) fn validate(capacity: &Spot, errors: &mut Errors) {
    let (most, policy) = (capacity.at("value"), capacity.at("requestPolicy"));
    let (values, range, usual) = (policy.at("validValues"), policy.at("validRange"), policy.at("default"));
    let needed = match (values.len() > 0, range.is_set()) {
        (false, false) => return,
        (true, true) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            return policy.forbid(why, errors);
        }
        (true, false) => "validValues",
        (false, true) => "validRange",
    };
    if !usual.is_set() {
        return usual.missing(format!("required when {needed} is defined"), errors);
    }
    match needed {
        "validValues" => one_of(&policy, &most, &usual, errors),
        _ => within(&range, &most, &usual, errors),
    }
}

fn one_of(policy: &Spot, most: &Spot, usual: &Spot, errors: &mut Errors) {
    let values: Vec<Spot> = policy.list("validValues").collect();
    let (all, amounts) = (policy.at("validValues"), values.iter().map(amount).collect::<Vec<_>>());
    for (index, _) in amounts.windows(2).enumerate().filter(|(_, pair)| pair[0] > pair[1]) {
        values[index + 1].fail("values must be sorted in ascending order", errors);
    }
    let mut known = false;
    if values.len() > MOST_VALUES {
        errors.push(Invalid::too_many(&all.path(), values.len(), MOST_VALUES));
    } else {
        for value in values.iter().filter(|value| amount(value) > amount(most)) {
            value.fail(format!("option is larger than capacity value: {}", shown(most)), errors);
        }
        let twice = |index: usize| amounts[..index].contains(&amounts[index]);
        (0..values.len()).filter(|index| twice(*index)).for_each(|index| values[index].duplicate(errors));
        known = amounts.contains(&amount(usual));
    }
    if !known {
        all.fail_as(shown(usual), "default value is not valid according to the requestPolicy", errors);
    }
}

fn within(range: &Spot, most: &Spot, usual: &Spot, errors: &mut Errors) {
    let (low, high, step) = (range.at("min"), range.at("max"), range.at("step"));
    if !low.is_set() {
        return low.missing("required when validRange is defined", errors);
    }
    if amount(&low) > amount(most) {
        low.fail(format!("min is larger than capacity value: {}", shown(most)), errors);
    }
    if amount(usual) < amount(&low) {
        low.fail_as(shown(usual), format!("default is less than min: {}", shown(&low)), errors);
    }
    if high.is_set() {
        if amount(&low) > amount(&high) {
            high.fail_as(shown(&low), format!("min is larger than max: {}", shown(&high)), errors);
        }
        if amount(&high) > amount(most) {
            high.fail(format!("max is larger than capacity value: {}", shown(most)), errors);
        }
        if amount(usual) > amount(&high) {
            high.fail_as(shown(usual), format!("default is more than max: {}", shown(&high)), errors);
        }
    }
    if step.is_set() {
        let one = amount(&low).plus(amount(&step));
        if one > amount(most) {
            let one = one.print_like(if amount(&low).is_zero() { step.text() } else { low.text() });
            step.fail(format!("one step {one} is larger than capacity value: {}", shown(most)), errors);
        }
        for value in [usual, &high].into_iter().filter(|value| value.is_set()) {
            let above = amount(value).units().saturating_sub(amount(&low).units());
            // Upstream divides by a step of nothing, and answers nothing.
            if above.checked_rem(amount(&step).units()).is_none_or(|rest| rest != 0) {
                let why = format!("value is not a multiple of a given step ({}) from ({})", shown(&step), shown(&low));
                step.fail_as(shown(value), why, errors);
            }
        }
    }
}

fn amount(spot: &Spot) -> Quantity {
    spot.quantity().unwrap_or_default()
}

/// As it is written; nothing is 0.
fn shown(spot: &Spot) -> String {
    Quantity::canonical(spot.text()).unwrap_or_else(|| "0".into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn policies_fit_the_capacity() {
        let check = |policy: Value, wanted: &[&str]| {
            let capacity = json!({"value": "10", "requestPolicy": policy});
            let mut errors = Vec::new();
            validate(&Spot::new(&capacity, "c"), &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted);
        };
        check(json!({"default": "2", "validRange": {"min": "1", "max": "8", "step": "1"}}), &[]);
        check(json!({"default": "2", "validValues": ["1", "2"]}), &[]);
        check(
            json!({"validValues": ["1"]}),
            &["c.requestPolicy.default: Required value: required when validValues is defined"],
        );
        check(
            json!({"default": "3", "validValues": ["2", "1", "20", "1"]}),
            &[
                "c.requestPolicy.validValues[1]: Invalid value: \"1\": values must be sorted in ascending order",
                "c.requestPolicy.validValues[3]: Invalid value: \"1\": values must be sorted in ascending order",
                "c.requestPolicy.validValues[2]: Invalid value: \"20\": option is larger than capacity value: 10",
                "c.requestPolicy.validValues[3]: Duplicate value: \"1\"",
                "c.requestPolicy.validValues: Invalid value: \"3\": default value is not valid according to the requestPolicy",
            ],
        );
        check(
            json!({"default": "0", "validRange": {"min": "1", "max": "12", "step": "5"}}),
            &[
                "c.requestPolicy.validRange.min: Invalid value: \"0\": default is less than min: 1",
                "c.requestPolicy.validRange.max: Invalid value: \"12\": max is larger than capacity value: 10",
                "c.requestPolicy.validRange.step: Invalid value: \"0\": value is not a multiple of a given step (5) from (1)",
                "c.requestPolicy.validRange.step: Invalid value: \"12\": value is not a multiple of a given step (5) from (1)",
            ],
        );
        check(
            json!({"default": "1", "validRange": {"min": "1", "step": "0"}}),
            &[
                "c.requestPolicy.validRange.step: Invalid value: \"1\": value is not a multiple of a given step (0) from (1)",
            ],
        );
    }
}
