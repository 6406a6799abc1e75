//! One operation: a method on a path, as v2 and as v3 write it.

use object::Gvk;
use serde_json::{Map, Value, json};

use super::parameters::{self, Parameter};
use super::{Dialect, META};

/// What a request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// An object of this type.
    Object(String),
    Patch,
    DeleteOptions,
}

/// What the answer is made of.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// An object of this type.
    Object(String),
    Text,
}

/// A method on a path.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) words: String,
    pub(super) tag: String,
    /// `x-kubernetes-action` and `x-kubernetes-group-version-kind`, for what is done to resources.
    pub(super) action: Option<(&'static str, Gvk)>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Body,
    pub(super) consumes: Vec<&'static str>,
    pub(super) produces: Vec<&'static str>,
    pub(super) answer: Answer,
    /// Status codes besides 401.
    pub(super) codes: &'static [u16],
}

/// The item of a path: its operations, with what they have in common taken out.
pub(super) fn item(mut operations: Vec<Operation>, dialect: Dialect) -> Value {
    let mut common: Vec<Parameter> = operations.first().map(|o| o.parameters.clone()).unwrap_or_default();
    common.retain(|p| operations.iter().all(|o| o.parameters.contains(p)));
    let mut item = Map::new();
    for operation in &mut operations {
        operation.parameters.retain(|p| !common.contains(p));
        item.insert(operation.method.into(), operation.render(dialect));
    }
    let common = rendered(common, dialect);
    if !common.is_empty() {
        item.insert("parameters".into(), common.into_iter().map(|(_, p)| p).collect());
    }
    Value::Object(item)
}

/// Parameters in order, each with its name.
fn rendered(mut parameters: Vec<Parameter>, dialect: Dialect) -> Vec<(String, Value)> {
    parameters.sort_by(|a, b| a.key().cmp(&b.key()));
    parameters.iter().map(|p| (p.key().0.to_owned(), p.render(dialect))).collect()
}

impl Operation {
    fn render(&self, dialect: Dialect) -> Value {
        let mut operation = json!({"tags": [self.tag], "description": self.words, "operationId": self.id});
        if let Some((action, gvk)) = &self.action {
            operation["x-kubernetes-action"] = (*action).into();
            operation["x-kubernetes-group-version-kind"] =
                json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
        }
        let mut parameters = rendered(self.parameters.clone(), dialect);
        let answer = match &self.answer {
            Answer::Object(name) => dialect.reference(name),
            Answer::Text => json!({"type": "string"}),
        };
        let mut responses = Map::new();
        for code in self.codes {
            let words = match code {
                201 => "Created",
                202 => "Accepted",
                _ => "OK",
            };
            let response = match dialect {
                Dialect::V2 => json!({"description": words, "schema": answer}),
                Dialect::V3 => json!({"description": words, "content": content(&self.produces, &answer)}),
            };
            responses.insert(code.to_string(), response);
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        operation["responses"] = responses.into();
        match dialect {
            Dialect::V2 => {
                if let Some(body) = self.body_v2() {
                    let at = parameters.partition_point(|(name, _)| name.as_str() < "body");
                    parameters.insert(at, ("body".into(), body));
                }
                operation["schemes"] = json!(["https"]);
                if !self.consumes.is_empty() {
                    operation["consumes"] = json!(self.consumes);
                }
                operation["produces"] = json!(self.produces);
            }
            Dialect::V3 => {
                if let Some(body) = self.body_v3() {
                    operation["requestBody"] = body;
                }
            }
        }
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into_iter().map(|(_, p)| p).collect();
        }
        operation
    }

    fn body_v2(&self) -> Option<Value> {
        match &self.body {
            Body::None => None,
            Body::Object(name) => {
                Some(json!({"name": "body", "in": "body", "required": true, "schema": Dialect::V2.reference(name)}))
            }
            Body::Patch => Some(parameters::shared_body(true)),
            Body::DeleteOptions => Some(parameters::shared_body(false)),
        }
    }

    fn body_v3(&self) -> Option<Value> {
        let name = match &self.body {
            Body::None => return None,
            Body::Object(name) => name.clone(),
            Body::Patch => format!("{META}.Patch"),
            Body::DeleteOptions => format!("{META}.DeleteOptions"),
        };
        let mut body = json!({"content": content(&self.consumes, &Dialect::V3.reference(&name))});
        if self.body != Body::DeleteOptions {
            body["required"] = true.into();
        }
        Some(body)
    }
}

fn content(media: &[&str], schema: &Value) -> Map<String, Value> {
    media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect()
}
