//! The protobuf form of a v3 document: `application/com.github.proto-openapi.spec.v3.v1.0+protobuf`. Field numbers are those of the
//! public OpenAPIv3.proto.

use serde_json::Value;

use super::gnostic::{Message, any};

/// Encodes a v3 document.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut m = Message::default();
    m.text(1, &document["openapi"]);
    m.message(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["description"]);
        info.text(6, &document["info"]["version"]);
    });
    m.message(4, |paths| paths.named(1, &document["paths"], path_item));
    let components = &document["components"];
    if components.is_object() {
        m.message(5, |m| {
            if components["schemas"].is_object() {
                m.message(1, |m| m.named(1, &components["schemas"], schema_or_reference));
            }
            if components["securitySchemes"].is_object() {
                m.message(7, |m| {
                    m.named(1, &components["securitySchemes"], |m, scheme| {
                        m.message(1, |m| {
                            m.text(1, &scheme["type"]);
                            m.text(2, &scheme["description"]);
                            m.text(3, &scheme["name"]);
                            m.text(4, &scheme["in"]);
                            m.text(5, &scheme["scheme"]);
                        });
                    });
                });
            }
        });
    }
    for requirement in document["security"].as_array().into_iter().flatten() {
        m.message(6, |m| m.named(1, requirement, |m, scopes| m.texts(1, scopes)));
    }
    m.into_bytes()
}

fn path_item(m: &mut Message, item: &Value) {
    let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
    for (field, method) in (4..).zip(methods) {
        if let Some(found) = item.get(method) {
            m.message(field, |m| operation(m, found));
        }
    }
    parameters(m, 13, &item["parameters"]);
    m.extensions(14, item);
}

fn operation(m: &mut Message, operation: &Value) {
    m.texts(1, &operation["tags"]);
    m.text(2, &operation["summary"]);
    m.text(3, &operation["description"]);
    m.text(5, &operation["operationId"]);
    parameters(m, 6, &operation["parameters"]);
    if let Some(body) = operation.get("requestBody") {
        m.message(7, |m| {
            referred(m, body, |m, body| {
                m.text(1, &body["description"]);
                media(m, 2, &body["content"]);
                m.truth(3, &body["required"]);
            });
        });
    }
    m.message(8, |m| {
        let response = |m: &mut Message, response: &Value| {
            referred(m, response, |m, response| {
                m.text(1, &response["description"]);
                media(m, 3, &response["content"]);
            });
        };
        let responses = operation["responses"].as_object().into_iter().flatten();
        for (code, value) in responses {
            match code.as_str() {
                "default" => m.message(1, |m| response(m, value)),
                code => m.message(2, |entry| {
                    entry.bytes(1, code.as_bytes());
                    entry.message(2, |m| response(m, value));
                }),
            }
        }
    });
    m.truth(10, &operation["deprecated"]);
    m.extensions(13, operation);
}

/// A reference, or what stands in its place.
fn referred(m: &mut Message, value: &Value, write: impl FnOnce(&mut Message, &Value)) {
    match value.get("$ref") {
        Some(target) => m.message(2, |m| m.text(1, target)),
        None => m.message(1, |m| write(m, value)),
    }
}

fn parameters(m: &mut Message, field: u64, parameters: &Value) {
    for parameter in parameters.as_array().into_iter().flatten() {
        m.message(field, |m| {
            referred(m, parameter, |m, parameter| {
                m.text(1, &parameter["name"]);
                m.text(2, &parameter["in"]);
                m.text(3, &parameter["description"]);
                m.truth(4, &parameter["required"]);
                if let Some(found) = parameter.get("schema") {
                    m.message(10, |m| schema_or_reference(m, found));
                }
            });
        });
    }
}

fn media(m: &mut Message, field: u64, content: &Value) {
    if content.is_object() {
        m.message(field, |m| {
            m.named(1, content, |m, media| {
                if let Some(found) = media.get("schema") {
                    m.message(1, |m| schema_or_reference(m, found));
                }
            });
        });
    }
}

fn schema_or_reference(m: &mut Message, value: &Value) {
    referred(m, value, schema);
}

fn schema(m: &mut Message, value: &Value) {
    m.truth(1, &value["nullable"]);
    m.truth(8, &value["deprecated"]);
    m.text(9, &value["title"]);
    m.number(10, &value["multipleOf"]);
    m.number(11, &value["maximum"]);
    m.truth(12, &value["exclusiveMaximum"]);
    m.number(13, &value["minimum"]);
    m.truth(14, &value["exclusiveMinimum"]);
    m.integer(15, &value["maxLength"]);
    m.integer(16, &value["minLength"]);
    m.text(17, &value["pattern"]);
    m.integer(18, &value["maxItems"]);
    m.integer(19, &value["minItems"]);
    m.truth(20, &value["uniqueItems"]);
    m.integer(21, &value["maxProperties"]);
    m.integer(22, &value["minProperties"]);
    m.texts(23, &value["required"]);
    for allowed in value["enum"].as_array().into_iter().flatten() {
        m.message(24, |m| any(m, allowed));
    }
    m.text(25, &value["type"]);
    for (field, some) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for found in value[some].as_array().into_iter().flatten() {
            m.message(field, |m| schema_or_reference(m, found));
        }
    }
    if let Some(found) = value.get("not") {
        m.message(29, |m| schema(m, found));
    }
    if let Some(items) = value.get("items") {
        m.message(30, |m| m.message(1, |m| schema_or_reference(m, items)));
    }
    if value["properties"].is_object() {
        m.message(31, |m| m.named(1, &value["properties"], schema_or_reference));
    }
    match value.get("additionalProperties") {
        Some(Value::Bool(open)) => m.message(32, |m| m.either(2, *open)),
        Some(found) => m.message(32, |m| m.message(1, |m| schema_or_reference(m, found))),
        None => {}
    }
    // Structures as defaults have no form in it but that there is one.
    if let Some(default) = value.get("default") {
        m.message(33, |m| match default {
            Value::Number(_) => m.number(1, default),
            Value::Bool(truth) => m.either(2, *truth),
            Value::String(text) => m.bytes(3, text.as_bytes()),
            _ => {}
        });
    }
    m.text(34, &value["description"]);
    m.text(35, &value["format"]);
    m.extensions(36, value);
}
