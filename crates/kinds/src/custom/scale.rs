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
        let mut scale = json!({"spec": {}, "status": {"replicas": replicas(&self.status)}});
        if replicas(&self.spec) != 0 {
            scale["spec"]["replicas"] = replicas(&self.spec).into();
        }
        if !self.selector.is_empty() {
            let selector = text(at(object, &self.selector));
            if !selector.is_empty() {
                scale["status"]["selector"] = selector.into();
            }
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
            let field = format!(".{}", path.join("."));
            match found(object, path) {
                Ok(Some(n)) if n < 0 => {
                    errors.push(Invalid::invalid(&field, &n.into(), "should be a non-negative integer"));
                }
                Ok(Some(n)) if n > i64::from(i32::MAX) => {
                    let detail = format!("should be less than or equal to {}", i32::MAX);
                    errors.push(Invalid::invalid(&field, &n.into(), detail));
                }
                Ok(_) => {}
                Err(why) => errors.push(Invalid::invalid(&field, &0.into(), format!("{field} accessor error: {why}"))),
            }
        }
    }
}

/// The number at a path; in Go's words why there is none.
fn found(object: &Value, path: &[String]) -> Result<Option<i64>, String> {
    let mut value = object;
    for key in path {
        match value {
            Value::Object(entries) => match entries.get(key) {
                None => return Ok(None),
                Some(below) => value = below,
            },
            other => return Err(format!("{}, expected map[string]interface{{}}", of_type(other))),
        }
    }
    match value.as_i64() {
        Some(n) => Ok(Some(n)),
        None if value.is_null() => Ok(None),
        None => Err(format!("{}, expected int64", of_type(value))),
    }
}

fn of_type(value: &Value) -> String {
    let (shown, of) = match value {
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Bool(_) => (value.to_string(), "bool"),
        Value::Number(n) if n.is_f64() => (value.to_string(), "float64"),
        Value::Number(_) => (value.to_string(), "int64"),
        Value::String(text) => (text.clone(), "string"),
        Value::Array(_) => (value.to_string().replace(',', " "), "[]interface {}"),
        Value::Object(_) => (value.to_string(), "map[string]interface {}"),
    };
    format!("{shown} is of the type {of}")
}
