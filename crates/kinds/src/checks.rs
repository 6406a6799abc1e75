//! Checks that many rooms share, with upstream's words (`apimachinery` and `pkg/apis/core/validation`).

use object::Invalid;
use serde_json::Value;

use crate::spot::{Errors, Spot};
use crate::tree::{list, text};
use crate::{cells, metadata, names};

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
const PORT: &str = "must be between 1 and 65535, inclusive";

/// `path.field`, or `field` at the top.
pub(crate) fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.into() } else { format!("{path}.{field}") }
}

/// Numbers that must not be negative.
pub(crate) fn non_negative(object: &Value, path: &str, fields: &[&str], errors: &mut Vec<Invalid>) {
    for field in fields {
        let value = cells::at(object, field);
        if value.as_i64().is_some_and(|n| n < 0) {
            errors.push(Invalid::invalid(&join(path, field), value, "must be greater than or equal to 0"));
        }
    }
}

/// A text that must be there.
pub(crate) fn required(object: &Value, path: &str, field: &str, errors: &mut Vec<Invalid>) {
    if text(cells::at(object, field)).is_empty() {
        errors.push(Invalid::required(&join(path, field), ""));
    }
}

/// A text that, where it is there, is one of these.
pub(crate) fn one_of(object: &Value, path: &str, field: &str, allowed: &[&str], errors: &mut Vec<Invalid>) {
    let value = cells::at(object, field);
    if value.as_str().is_some_and(|v| !allowed.contains(&v)) {
        errors.push(Invalid::unsupported(&join(path, field), value, allowed));
    }
}

/// A text that must be one of these; `Unsupported value: ""` when it is absent.
pub(crate) fn exactly_one_of(object: &Value, path: &str, field: &str, allowed: &[&str], errors: &mut Vec<Invalid>) {
    let value = text(cells::at(object, field));
    if !allowed.contains(&value) {
        errors.push(Invalid::not_supported(&join(path, field), &value.into(), allowed));
    }
}

/// A name that, where it is there, follows a rule of [`names`].
pub(crate) fn named(object: &Value, path: &str, field: &str, rule: names::Rule, errors: &mut Vec<Invalid>) {
    let value = cells::at(object, field);
    for why in value.as_str().filter(|v| !v.is_empty()).map(rule).unwrap_or_default() {
        errors.push(Invalid::invalid(&join(path, field), value, why));
    }
}

/// Dotted fields that an update may not change.
pub(crate) fn immutable(new: &Value, old: Option<&Value>, fields: &[&str], errors: &mut Vec<Invalid>) {
    let Some(old) = old else { return };
    for field in fields {
        let value = cells::at(new, field);
        if value != cells::at(old, field) {
            errors.push(Invalid::invalid(field, value, "field is immutable"));
        }
    }
}

/// A number of at least 0, or a percentage.
pub(crate) fn number_or_percent(value: &Value, path: &str, errors: &mut Vec<Invalid>) {
    match value {
        Value::String(text) => {
            let digits = text.strip_suffix('%').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
            if digits.is_none() {
                errors.push(Invalid::invalid(path, value, PERCENT));
            }
        }
        value if value.as_i64().is_some_and(|n| n < 0) => {
            errors.push(Invalid::invalid(path, value, "must be greater than or equal to 0"));
        }
        _ => {}
    }
}

/// A percentage, where it is one, of at most a hundred.
pub(crate) fn at_most_all(value: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let percent = value.as_str().and_then(|t| t.strip_suffix('%')).and_then(|d| d.parse::<u64>().ok());
    if percent.is_some_and(|p| p > 100) {
        errors.push(Invalid::invalid(path, value, "must not be greater than 100%"));
    }
}

/// The number in a number or percentage; 0 for none.
pub(crate) fn amount(value: &Value) -> i64 {
    let number = |text: &str| text.trim_end_matches('%').parse::<u32>().ok().map(i64::from);
    value.as_i64().unwrap_or_else(|| number(text(value)).unwrap_or(0))
}

/// A port number, or the name of a port.
pub(crate) fn port(value: &Value, path: &str, errors: &mut Vec<Invalid>) {
    match value.as_str() {
        Some(name) => {
            for why in names::port_name(name) {
                errors.push(Invalid::invalid(path, value, why));
            }
        }
        None if !value.as_i64().is_some_and(|p| (1..=65_535).contains(&p)) => {
            let shown = if value.is_null() { 0.into() } else { value.clone() };
            errors.push(Invalid::invalid(path, &shown, PORT));
        }
        None => {}
    }
}

/// A `metav1.LabelSelector`.
pub(crate) fn selector(selector: &Value, path: &str, errors: &mut Vec<Invalid>) {
    metadata::labels(&selector["matchLabels"], &format!("{path}.matchLabels"), errors);
    for (index, expression) in list(&selector["matchExpressions"]).iter().enumerate() {
        let at = format!("{path}.matchExpressions[{index}]");
        let values = list(&expression["values"]);
        match text(&expression["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(Invalid::required(&format!("{at}.values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(Invalid::forbidden(&format!("{at}.values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let detail = "not a valid selector operator";
                errors.push(Invalid::invalid(&format!("{at}.operator"), &other.into(), detail));
            }
        }
        for why in names::qualified(text(&expression["key"])) {
            errors.push(Invalid::invalid(&format!("{at}.key"), &text(&expression["key"]).into(), why));
        }
        for (place, value) in values.iter().enumerate() {
            for why in names::label_value(text(value)) {
                errors.push(Invalid::invalid(&format!("{at}.values[{place}]"), value, why));
            }
        }
    }
}

/// `acme.io/foo`
pub(crate) fn domain_path(name: &Spot, errors: &mut Errors) {
    let Some((domain, path)) = name.text().split_once('/').filter(|(d, p)| !d.is_empty() && !p.is_empty()) else {
        return match name.text() {
            "" => name.missing("", errors),
            _ => name.fail("must be a domain-prefixed path (such as \"acme.io/foo\")", errors),
        };
    };
    names::subdomain(domain).into_iter().for_each(|why| name.fail_as(domain, why, errors));
    let fits = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.chars().all(fits) {
        name.fail_as(path, "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')", errors);
    }
}

/// Conditions of the common form (`metav1.Condition`).
pub(crate) fn conditions(above: &Spot, errors: &mut Errors) {
    let mut seen = Vec::new();
    for condition in above.list("conditions") {
        let (kind, reason) = (condition.at("type"), condition.at("reason"));
        match seen.contains(&kind.text()) {
            true => kind.duplicate(errors),
            false => seen.push(kind.text()),
        }
        kind.obey(names::qualified, errors);
        condition.at("status").exactly_one_of(&["False", "True", "Unknown"], errors);
        if condition.at("observedGeneration").count() < 0 {
            condition.at("observedGeneration").fail("must be greater than or equal to zero", errors);
        }
        if !condition.at("lastTransitionTime").is_set() {
            condition.at("lastTransitionTime").missing("", errors);
        }
        if reason.require(errors) {
            reason.obey(names::reason, errors);
            if reason.text().len() > 1024 {
                errors.push(Invalid::too_long(&reason.path(), 1024));
            }
        }
        if condition.at("message").text().len() > 32 * 1024 {
            errors.push(Invalid::too_long(&condition.at("message").path(), 32 * 1024));
        }
    }
}

/// A value of a type of the API, in short form (`core.v1.Taint`), as messages show it.
pub(crate) fn shown(name: &str, value: &Value) -> String {
    schema::go::shown(schema::table(), &format!("io.k8s.api.{name}"), value)
}

/// True for a selector without rules.
pub(crate) fn is_empty_selector(selector: &Value) -> bool {
    selector["matchLabels"].as_object().is_none_or(serde_json::Map::is_empty)
        && list(&selector["matchExpressions"]).is_empty()
}
