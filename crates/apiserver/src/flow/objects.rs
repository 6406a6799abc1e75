//! The default schemas and levels are kept in being, and schemas say whether their level exists.

use object::{Object, Status};
use serde_json::{Value, json};

use super::{LEVELS, SCHEMAS};
use crate::api::Api;
use crate::bootstrap;
use crate::user::User;
use crate::write::{Part, WriteQuery};

/// `"true"`: the server keeps the specification as it is by default; `"false"`: it is left alone.
const AUTO: &str = "apf.kubernetes.io/autoupdate-spec";
/// Always as they are by default, whatever their annotation says.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// The specification that a default object is to have; `None`: it may stay as it is.
fn wanted_spec(default: &Value, present: &Value) -> Option<Value> {
    let name = default["metadata"]["name"].as_str().unwrap_or("");
    let auto = match present["metadata"]["annotations"][AUTO].as_str() {
        Some(said) => said == "true",
        // As upstream: nobody has touched it.
        None => present["metadata"]["generation"] == 1,
    };
    if !auto && !MANDATORY.contains(&name) {
        return None;
    }
    let mut wanted = default["spec"].clone();
    // How much the exempt level holds and lends is the administrator's to say.
    if default["kind"] == "PriorityLevelConfiguration"
        && wanted["type"] == "Exempt"
        && present["spec"]["exempt"].is_object()
    {
        wanted["exempt"] = present["spec"]["exempt"].clone();
    }
    (wanted != present["spec"]).then_some(wanted)
}

/// The condition of a schema whose level is there or not.
fn dangling(level: &str, exists: bool) -> Value {
    let (status, reason, what) = match exists {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    json!({"type": "Dangling", "status": status, "reason": reason,
        "message": format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {what}")})
}

impl Api {
    /// Makes and mends what must be there. What fails is tried again with the next change, or in a minute.
    pub(super) async fn keep_flows(&self) {
        for default in bootstrap::flow_objects() {
            if let Err(error) = self.keep_flow(&default).await {
                tracing::warn!(error = %error.message, "a default object of priority and fairness cannot be kept");
            }
        }
        let Ok(schemas) = self.store.range(SCHEMAS, None, 0, 0) else { return };
        for schema in schemas.items {
            if let Err(error) = self.tell_dangling(&schema.object).await {
                tracing::debug!(error = %error.message, "the condition of a flow schema cannot be written");
            }
        }
    }

    async fn keep_flow(&self, default: &Value) -> Result<(), Status> {
        let at = bootstrap::place(default)?;
        let Ok(present) = self.get(&at) else {
            return bootstrap::ensure(self, default.clone()).await;
        };
        let mut default = default.clone();
        let kind = &*self.stored_kind_of(&at.gvr)?;
        kind.default(&mut default);
        let present = present.value().map_err(Status::internal)?;
        if wanted_spec(&default, &present).is_none() {
            return Ok(());
        }
        let change = |old: &Value| {
            let mut new = old.clone();
            if let Some(spec) = wanted_spec(&default, old) {
                new["spec"] = spec;
            }
            Ok(new)
        };
        let query = WriteQuery {
            manager: Some("api-priority-and-fairness-config-producer-v1".into()),
            ..WriteQuery::default()
        };
        self.change(&User::superuser(), kind, &at, Part::Main, &query, change).await.map(drop)
    }

    async fn tell_dangling(&self, schema: &Object) -> Result<(), Status> {
        let schema = schema.value().map_err(Status::internal)?;
        let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or("").to_owned();
        let wanted = dangling(&level, self.store.get(&format!("{LEVELS}{level}")).is_some());
        let said = |of: &Value| {
            let conditions = of["status"]["conditions"].as_array()?;
            conditions.iter().find(|c| c["type"] == "Dangling").cloned()
        };
        let is_told = |of: &Value| {
            said(of).is_some_and(|c| ["status", "reason", "message"].iter().all(|field| c[field] == wanted[field]))
        };
        if is_told(&schema) {
            return Ok(());
        }
        let at = bootstrap::place(&schema)?;
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let change = |old: &Value| {
            let mut new = old.clone();
            let mut condition = wanted.clone();
            let since = said(old).filter(|c| c["status"] == wanted["status"]).map(|c| c["lastTransitionTime"].clone());
            condition["lastTransitionTime"] = since.unwrap_or_else(|| base::time::now().into());
            let others = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let others = others.into_iter().filter(|c| c["type"] != "Dangling");
            new["status"]["conditions"] = others.chain([condition]).collect::<Vec<_>>().into();
            Ok(new)
        };
        let query = WriteQuery {
            manager: Some("api-priority-and-fairness-config-consumer-v1".into()),
            ..WriteQuery::default()
        };
        self.change(&User::superuser(), kind, &at, Part::Status, &query, change).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_owns_a_default() {
        let default = json!({"kind": "FlowSchema", "metadata": {"name": "probes"}, "spec": {"matchingPrecedence": 2}});
        let present = |annotation: Option<&str>, generation: i64, precedence: i64| {
            let mut present =
                json!({"metadata": {"generation": generation}, "spec": {"matchingPrecedence": precedence}});
            if let Some(said) = annotation {
                present["metadata"]["annotations"] = json!({AUTO: said});
            }
            present
        };
        let is_mended = |default: &Value, present: &Value| wanted_spec(default, present).is_some();
        assert!(is_mended(&default, &present(Some("true"), 3, 9)));
        assert!(!is_mended(&default, &present(Some("true"), 3, 2)), "it is as it should be");
        assert!(!is_mended(&default, &present(Some("false"), 1, 9)));
        assert!(is_mended(&default, &present(None, 1, 9)));
        assert!(!is_mended(&default, &present(None, 2, 9)));
        let mandatory =
            json!({"kind": "FlowSchema", "metadata": {"name": "exempt"}, "spec": {"matchingPrecedence": 1}});
        assert!(is_mended(&mandatory, &present(Some("false"), 2, 9)));
    }
}
