//! `v1/ResourceQuota`.

use serde_json::Value;

use crate::age;
use crate::kind::{NO_RULES, Rules};

pub(crate) const RULES: Rules = Rules { row, ..NO_RULES };

fn row(quota: &Value, now: i64) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in quota["status"]["hard"].as_object().into_iter().flatten() {
        let used = quota["status"]["used"][resource].as_str().unwrap_or("0");
        let text = format!("{resource}: {used}/{}", hard.as_str().unwrap_or(""));
        if resource.starts_with("limits.") { limits.push(text) } else { requests.push(text) }
    }
    vec![
        quota["metadata"]["name"].clone(),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age::since(&quota["metadata"]["creationTimestamp"], now).into(),
    ]
}
