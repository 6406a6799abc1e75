//! The parameters that requests take, under the names that upstream's v2 document gives them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::Dialect;
use super::definitions::DATA;

/// Name, place (`query` or `path`), type, description.
type Row = (String, String, String, String);

static TABLE: LazyLock<BTreeMap<String, Row>> = LazyLock::new(|| {
    serde_json::from_str(DATA[1]).expect("data/parameters.json is part of the source and covered by a test")
});

/// The body of a patch, in v2.
const PATCH: &str = "body-78PwaGsr";
/// The body of a delete, in v2.
const DELETE: &str = "body-2Y1dVQaQ";

/// A parameter of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Parameter {
    /// One of the table.
    Known(&'static str),
    /// The name in the path, of this kind.
    Name(String),
}

impl Parameter {
    fn row(id: &str) -> Option<&'static Row> {
        TABLE.get(id)
    }

    /// What upstream sorts by.
    pub(super) fn key(&self) -> (&str, &str) {
        match self {
            Self::Known(id) => Self::row(id).map_or((*id, ""), |row| (&row.0, &row.1)),
            Self::Name(_) => ("name", "path"),
        }
    }

    pub(super) fn render(&self, dialect: Dialect) -> Value {
        match self {
            // These two stand where they are used.
            Self::Known(id @ ("dryRun" | "fieldValidation")) => {
                Self::row(id).map_or(Value::Null, |r| written(r, dialect))
            }
            Self::Known(id) if dialect == Dialect::V2 => json!({"$ref": format!("#/parameters/{id}")}),
            Self::Known(id) => Self::row(id).map_or(Value::Null, |row| written(row, dialect)),
            Self::Name(kind) => {
                let row = ("name", "path", "string", format!("name of the {kind}"));
                written(&(row.0.into(), row.1.into(), row.2.into(), row.3), dialect)
            }
        }
    }
}

fn written((name, place, kind, text): &Row, dialect: Dialect) -> Value {
    let mut parameter = json!({"name": name, "in": place, "description": text});
    match dialect {
        Dialect::V2 => {
            parameter["type"] = kind.as_str().into();
            parameter["uniqueItems"] = true.into();
        }
        Dialect::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
    }
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

/// A reference to the body of a patch or a delete, in v2.
pub(super) fn shared_body(patch: bool) -> Value {
    json!({"$ref": format!("#/parameters/{}", if patch { PATCH } else { DELETE })})
}

/// What the references in a v2 document point at.
pub(super) fn shared() -> Map<String, Value> {
    let known =
        TABLE.iter().filter(|(id, _)| id.contains('-')).map(|(id, row)| (id.clone(), written(row, Dialect::V2)));
    let body = |kind: &str| json!({"name": "body", "in": "body", "schema": Dialect::V2.reference(&format!("{}.{kind}", super::META))});
    let mut patch = body("Patch");
    patch["required"] = true.into();
    known.chain([(PATCH.to_owned(), patch), (DELETE.to_owned(), body("DeleteOptions"))]).collect()
}
