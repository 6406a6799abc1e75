//! `v1/ComponentStatus`: not stored; kept for `kubectl get cs`.

use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::tree::{list, text};

pub(crate) const RULES: Rules = Rules { row, ..NO_RULES };

fn row(component: &Value, _: i64) -> Vec<Value> {
    let healthy = list(&component["conditions"]).iter().find(|c| c["type"] == "Healthy");
    let state = match healthy.map(|c| c["status"] == "True") {
        None => "Unknown",
        Some(true) => "Healthy",
        Some(false) => "Unhealthy",
    };
    let said = |field: &str| Value::from(healthy.map_or("", |c| text(&c[field])));
    vec![component["metadata"]["name"].clone(), state.into(), said("message"), said("error")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn row() {
        Case::new("v1", "ComponentStatus").row(
            json!({"conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]}),
            json!(["x", "Healthy", "ok", ""]),
        );
    }
}
