//! The protobuf form of a v2 document, for clients that know no v3. Its media type is
//! `application/com.github.proto-openapi.spec.v2.v1.0+protobuf`; clients ask for it with `v2@v1.0`, which is no valid type to answer
//! with. Field numbers are those of the public OpenAPIv2.proto.

use serde_json::Value;

use crate::protobuf::varint;

/// A message that is being written.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, value: u64) {
        varint(value, &mut self.0);
    }

    pub(super) fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, field: u64, value: &Value) {
        if let Some(text) = value.as_str().filter(|t| !t.is_empty()) {
            self.bytes(field, text.as_bytes());
        }
    }

    pub(super) fn texts(&mut self, field: u64, value: &Value) {
        for text in value.as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    pub(super) fn truth(&mut self, field: u64, value: &Value) {
        if value == true {
            self.varint(field << 3);
            self.varint(1);
        }
    }

    /// What is one of several is written when it is false, too.
    pub(super) fn either(&mut self, field: u64, value: bool) {
        self.varint(field << 3);
        self.varint(u64::from(value));
    }

    pub(super) fn integer(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_u64().filter(|n| *n != 0) {
            self.varint(field << 3);
            self.varint(number);
        }
    }

    pub(super) fn number(&mut self, field: u64, value: &Value) {
        if let Some(number) = value.as_f64() {
            self.varint(field << 3 | 1);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn message(&mut self, field: u64, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// A map's entries: (name, message) each.
    pub(super) fn named(&mut self, field: u64, value: &Value, write: fn(&mut Message, &Value)) {
        for (name, value) in value.as_object().into_iter().flatten() {
            self.message(field, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.message(2, |m| write(m, value));
            });
        }
    }

    /// Extensions; values as YAML, of which JSON is a part.
    pub(super) fn extensions(&mut self, field: u64, value: &Value) {
        for (name, value) in value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
            self.message(field, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.message(2, |m| any(m, value));
            });
        }
    }
}

pub(super) fn any(m: &mut Message, value: &Value) {
    m.bytes(2, format!("{value}\n").as_bytes());
}

/// Encodes a document that [`super::document_v2`] made.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut m = Message::default();
    m.text(1, &document["swagger"]);
    m.message(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    m.message(8, |paths| paths.named(2, &document["paths"], path_item));
    m.message(9, |definitions| definitions.named(1, &document["definitions"], schema));
    // Parameters that paths refer to.
    m.message(10, |m| {
        for (name, parameter) in document["parameters"].as_object().into_iter().flatten() {
            m.message(1, |entry| {
                entry.bytes(1, name.as_bytes());
                entry.message(2, |one| one_parameter(one, parameter));
            });
        }
    });
    for requirement in document["security"].as_array().into_iter().flatten() {
        m.message(12, |m| m.named(1, requirement, |m, scopes| m.texts(1, scopes)));
    }
    m.message(13, |m| {
        m.named(1, &document["securityDefinitions"], |m, definition| {
            // SecurityDefinitionsItem.api_key_security
            m.message(2, |key| {
                key.text(1, &definition["type"]);
                key.text(2, &definition["name"]);
                key.text(3, &definition["in"]);
                key.text(4, &definition["description"]);
            });
        });
    });
    m.0
}

fn path_item(m: &mut Message, item: &Value) {
    for (field, method) in
        [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (6, "options"), (7, "head"), (8, "patch")]
    {
        if let Some(found) = item.get(method) {
            m.message(field, |m| operation(m, found));
        }
    }
    parameters(m, 9, &item["parameters"]);
    m.extensions(10, item);
}

fn operation(m: &mut Message, operation: &Value) {
    m.texts(1, &operation["tags"]);
    m.text(3, &operation["description"]);
    m.text(5, &operation["operationId"]);
    m.texts(6, &operation["produces"]);
    m.texts(7, &operation["consumes"]);
    parameters(m, 8, &operation["parameters"]);
    m.message(9, |responses| {
        responses.named(1, &operation["responses"], |m, response| {
            m.message(1, |m| {
                m.text(1, &response["description"]);
                if let Some(found) = response.get("schema") {
                    m.message(2, |item| item.message(1, |m| schema(m, found)));
                }
            });
        });
    });
    m.texts(10, &operation["schemes"]);
    m.extensions(13, operation);
}

fn parameters(m: &mut Message, field: u64, parameters: &Value) {
    for parameter in parameters.as_array().into_iter().flatten() {
        // ParametersItem { parameter | json_reference }
        m.message(field, |item| match parameter.get("$ref") {
            Some(target) => item.message(2, |reference| reference.text(1, target)),
            None => item.message(1, |one| one_parameter(one, parameter)),
        });
    }
}

/// Parameter { body_parameter | non_body_parameter }
fn one_parameter(one: &mut Message, parameter: &Value) {
    match parameter["in"].as_str().unwrap_or("") {
        "body" => one.message(1, |m| {
            m.text(2, &parameter["name"]);
            m.text(3, &parameter["in"]);
            m.truth(4, &parameter["required"]);
            m.message(5, |m| schema(m, &parameter["schema"]));
        }),
        place => {
            let (variant, kind, unique) = if place == "path" { (4, 5, 18) } else { (3, 6, 20) };
            one.message(2, |m| {
                m.message(variant, |m| {
                    m.truth(1, &parameter["required"]);
                    m.text(2, &parameter["in"]);
                    m.text(3, &parameter["description"]);
                    m.text(4, &parameter["name"]);
                    m.text(kind, &parameter["type"]);
                    m.truth(unique, &parameter["uniqueItems"]);
                });
            });
        }
    }
}

fn schema(m: &mut Message, value: &Value) {
    m.text(1, &value["$ref"]);
    m.text(2, &value["format"]);
    m.text(4, &value["description"]);
    if let Some(default) = value.get("default") {
        m.message(5, |m| any(m, default));
    }
    m.texts(19, &value["required"]);
    for allowed in value["enum"].as_array().into_iter().flatten() {
        m.message(20, |m| any(m, allowed));
    }
    if let Some(additional) = value.get("additionalProperties") {
        m.message(21, |m| m.message(1, |m| schema(m, additional)));
    }
    if let Some(kind) = value["type"].as_str() {
        m.message(22, |m| m.bytes(1, kind.as_bytes()));
    }
    if let Some(items) = value.get("items") {
        m.message(23, |m| m.message(1, |m| schema(m, items)));
    }
    if let Some(properties) = value.get("properties") {
        m.message(25, |m| m.named(1, properties, schema));
    }
    m.extensions(31, value);
}
