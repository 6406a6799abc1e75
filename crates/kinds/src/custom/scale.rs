//! The scale subresource of custom resources.

use object::{Invalid, JsonPath};
use serde_json::{Map, Value, json};

use crate::tree::text;

/// Where an object has its replicas, as keys from the top.
#[derive(Clone, Debug)]
pub struct Scale {
    spec: Vec<String>,
    status: Vec<String>,
    selector: Vec<String>,
}

fn keys(path: &Value) -> Vec<String> {
    let parsed = JsonPath::parse(text(path)).ok();
    parsed.as_ref().and_then(JsonPath::keys).unwrap_or_default().into_iter().map(Into::into).collect()
}

fn at<'v>(object: &'v Value, path: &[String]) -> &'v Value {
    path.iter().fold(object, |value, key| &value[key.as_str()])
}

impl Scale {
    pub(super) fn of(declared: &Value) -> Option<Self> {
        let path = |name: &str| keys(&declared[name]);
        declared.is_object().then(|| Self {
            spec: path("specReplicasPath"),
            status: path("statusReplicasPath"),
            selector: path("labelSelectorPath"),
        })
    }

    /// The replicas that are wanted; `None` when the object does not say.
    pub fn replicas(&self, object: &Value) -> Option<i64> {
        at(object, &self.spec).as_i64()
    }

    /// The dotted place of the wanted replicas.
    pub fn field(&self) -> String {
        format!(".{}", self.spec.join("."))
    }

    /// The object's `autoscaling/v1 Scale`, but for the metadata.
    pub fn show(&self, object: &Value) -> Value {
        let replicas = |path: &[String]| at(object, path).as_i64().unwrap_or(0);
        let mut scale =
            json!({"spec": {"replicas": replicas(&self.spec)}, "status": {"replicas": replicas(&self.status)}});
        if !self.selector.is_empty() {
            scale["status"]["selector"] = text(at(object, &self.selector)).into();
        }
        scale
    }

    /// Sets the wanted replicas.
    pub fn set(&self, object: &mut Value, replicas: i64) {
        let mut place = object;
        for key in &self.spec {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[key.as_str()];
        }
        *place = replicas.into();
    }

    pub(super) fn validate(&self, object: &Value, errors: &mut Vec<Invalid>) {
        for path in [&self.spec, &self.status] {
            let value = at(object, path);
            let field = path.join(".");
            match value.as_i64() {
                Some(n) if n < 0 => errors.push(Invalid::invalid(&field, value, "should be a non-negative integer")),
                Some(n) if n > i64::from(i32::MAX) => {
                    let detail = format!("should be less than or equal to {}", i32::MAX);
                    errors.push(Invalid::invalid(&field, value, detail));
                }
                None if !value.is_null() => {
                    let detail = format!(".{field} accessor error: {value} is not an integer");
                    errors.push(Invalid::invalid(&field, value, detail));
                }
                _ => {}
            }
        }
    }
}
