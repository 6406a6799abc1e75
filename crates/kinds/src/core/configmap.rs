//! `v1/ConfigMap`: plain data; frozen once `immutable` is set.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::{cells, names};

pub(crate) const RULES: Rules = Rules { validate, row, ..NO_RULES };

/// Data and binary data together.
const MOST_BYTES: usize = 1024 * 1024;

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    frozen(new, old, &["data", "binaryData"], errors);
    let mut bytes = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in new[field].as_object().into_iter().flatten() {
            for why in names::config_key(key) {
                errors.push(Invalid::invalid(&format!("{field}[{key}]"), &key.as_str().into(), why));
            }
            if field == "binaryData" && new["data"].get(key).is_some() {
                errors.push(Invalid::invalid(
                    &format!("data[{key}]"),
                    &key.as_str().into(),
                    "duplicate of key present in binaryData",
                ));
            }
            let length = value.as_str().map_or(0, str::len);
            bytes += if field == "data" { length } else { length / 4 * 3 };
        }
    }
    if bytes > MOST_BYTES {
        // Upstream names the whole object so.
        errors.push(Invalid::too_long("[]", MOST_BYTES));
    }
}

/// Once `immutable` is set, neither it nor the data may change.
pub(crate) fn frozen(new: &Value, old: Option<&Value>, fields: &[&str], errors: &mut Vec<Invalid>) {
    let Some(old) = old.filter(|o| o["immutable"] == true) else { return };
    for field in ["immutable"].iter().chain(fields) {
        if new[field] != old[field] {
            errors.push(Invalid::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
    let mut row = cells::row(object, now, &[".metadata.name", "@age"]);
    row.insert(1, (count("data") + count("binaryData")).into());
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn config_map() {
        let case = Case::new("v1", "ConfigMap");
        case.invalid(json!({"data": {"a": "x".repeat(1 << 20)}}), &[]);
        case.invalid(
            json!({"data": {"a": "x".repeat(1 << 20), "b": "y"}}),
            &["[]: Too long: may not be more than 1048576 bytes"],
        );
        case.update(
            json!({"immutable": true, "data": {"a": "b"}}),
            json!({"immutable": true, "data": {"a": "c"}}),
            &["data: Forbidden: field is immutable when `immutable` is set"],
        );
        case.row(json!({"data": {"a": "b"}, "binaryData": {"c": "ZA=="}}), json!(["x", 2, "10s"]));
    }
}
