//! Questions about permission (`authorization.k8s.io/v1`): what they may ask about.

use object::Invalid;
use serde_json::Value;

use crate::names;
use crate::spot::{Errors, Spot};

/// Adds what is wrong with the resource that is asked about.
pub fn validate_attributes(resource: &Value, errors: &mut Vec<Invalid>) {
    let resource = Spot::new(resource, "spec.resourceAttributes");
    for field in ["fieldSelector", "labelSelector"] {
        selector(&resource.at(field), field == "labelSelector", errors);
    }
}

/// Operators that nobody knows are for the authorizer to pass over.
fn selector(selector: &Spot, of_labels: bool, errors: &mut Errors) {
    if !selector.is_set() {
        return;
    }
    let (raw, parts) = (selector.at("rawSelector"), selector.at("requirements"));
    match (raw.text().is_empty(), parts.len()) {
        (false, 1..) => raw.fail("may not specified at the same time as requirements", errors),
        (true, 0) => {
            let path = selector.path();
            parts.missing(format!("when {path} is specified, requirements or rawSelector is required"), errors);
        }
        _ => {}
    }
    for part in selector.list("requirements") {
        let (key, values) = (part.at("key"), part.at("values"));
        if !of_labels && key.text().is_empty() {
            key.missing("must be specified", errors);
        }
        match part.at("operator").text() {
            "In" | "NotIn" if values.len() == 0 => {
                values.missing("must be specified when `operator` is 'In' or 'NotIn'", errors);
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                values.forbid("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", errors);
            }
            _ => {}
        }
        if of_labels {
            key.obey(names::qualified, errors);
            part.list("values").for_each(|value| value.obey(names::label_value, errors));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors() {
        let mut errors = Vec::new();
        let resource =
            json!({"fieldSelector": {"rawSelector": "a=b", "requirements": [{"operator": "In"}]}, "labelSelector": {}});
        validate_attributes(&resource, &mut errors);
        let path = "spec.resourceAttributes";
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                format!(
                    "{path}.fieldSelector.rawSelector: Invalid value: \"a=b\": may not specified at the same time as requirements"
                ),
                format!("{path}.fieldSelector.requirements[0].key: Required value: must be specified"),
                format!(
                    "{path}.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
                ),
                format!(
                    "{path}.labelSelector.requirements: Required value: when {path}.labelSelector is specified, requirements or rawSelector is required"
                ),
            ]
        );
    }
}
