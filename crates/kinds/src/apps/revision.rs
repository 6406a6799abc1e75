//! `apps/v1 ControllerRevision`: a past template of a DaemonSet or StatefulSet; its data never changes.

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{list, text};
use crate::{age, checks};

pub(crate) const RULES: Rules = Rules { validate, row, ..NO_RULES };

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    checks::non_negative(new, "", &["revision"], errors);
    match (&new["data"], old) {
        (_, Some(_)) => checks::immutable(new, old, &["data"], errors),
        (Value::Null, None) => errors.push(Invalid::required("data", "data is mandatory")),
        (Value::Object(_), None) => {}
        (_, None) => errors.push(Invalid::required("data", "data must be a valid JSON object")),
    }
}

fn row(revision: &Value, now: i64) -> Vec<Value> {
    let owners = list(&revision["metadata"]["ownerReferences"]);
    let owner = owners.iter().find(|o| o["controller"] == true).map(|o| {
        let (group, _) = object::names::split_api_version(text(&o["apiVersion"]));
        format!("{}/{}", object::names::group_resource(group, text(&o["kind"])).to_lowercase(), text(&o["name"]))
    });
    vec![
        revision["metadata"]["name"].clone(),
        owner.unwrap_or("<none>".into()).into(),
        revision["revision"].as_i64().unwrap_or(0).into(),
        age::since(&revision["metadata"]["creationTimestamp"], now).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn revision() {
        let case = Case::new("apps/v1", "ControllerRevision");
        case.invalid(json!({"revision": 1}), &["data: Required value: data is mandatory"]);
        case.row(
            json!({"revision": 2, "metadata": {"ownerReferences": [{"controller": true, "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d"}]}}),
            json!(["x", "daemonset.apps/d", 2, "10s"]),
        );
    }
}
