//! `networking.k8s.io/v1 NetworkPolicy`.

use serde_json::Value;

use crate::cells;
use crate::kind::{NO_RULES, Rules};

pub(crate) const RULES: Rules = Rules { default, row, ..NO_RULES };

fn default(policy: &mut Value) {
    if policy["spec"]["policyTypes"].as_array().is_none_or(Vec::is_empty) {
        let egress = policy["spec"]["egress"].as_array().is_some_and(|e| !e.is_empty());
        policy["spec"]["policyTypes"] = if egress { vec!["Ingress", "Egress"] } else { vec!["Ingress"] }.into();
    }
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    let mut row = cells::row(object, now, &[".metadata.name", "@age"]);
    row.insert(1, cells::selector(&object["spec"]["podSelector"]).into());
    row
}
