//! Bodies of writes: JSON or YAML, checked against the kind's type.

use kinds::Kind;
use object::{Reason, Status};
use schema::Problem;
use serde_json::Value;

/// What to do with fields that the type does not have (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Drop them without a word.
    Ignore,
    /// Drop them with a warning: the server's default.
    #[default]
    Warn,
    /// Refuse the object.
    Strict,
}

impl FieldValidation {
    /// Parses the query parameter.
    pub(crate) fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" => Ok(Self::default()),
            "Ignore" => Ok(Self::Ignore),
            "Warn" => Ok(Self::Warn),
            "Strict" => Ok(Self::Strict),
            other => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))),
        }
    }
}

/// A body's tree, and the keys that it has twice.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// Parses a body by its content type.
pub(crate) fn parse(body: &[u8], content_type: &str) -> Result<Parsed, Status> {
    let media = content_type.split(';').next().unwrap_or("").trim();
    match media {
        "" | "application/json" | "*/*" => {
            let (value, duplicates) = schema::json::parse(body).map_err(|e| malformed(body, &e.to_string()))?;
            Ok(Parsed { value, duplicates })
        }
        "application/yaml" | "application/apply-patch+yaml" => {
            let text = std::str::from_utf8(body).map_err(|e| Status::bad_request(format!("yaml: {e}")))?;
            let value = serde_saphyr::from_str::<Value>(text)
                .map_err(|e| Status::bad_request(format!("error converting YAML to JSON: yaml: {e}")))?;
            Ok(Parsed { value, duplicates: Vec::new() })
        }
        "application/vnd.kubernetes.protobuf" => protobuf(body),
        other => Err(Status::new(
            Reason::UnsupportedMediaType,
            format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml (got {other:?})"
            ),
        )),
    }
}

/// An enveloped message, as the tree that it would be in JSON.
fn protobuf(body: &[u8]) -> Result<Parsed, Status> {
    let bad = |error: schema::protobuf::ProtobufError| Status::bad_request(error.to_string());
    let envelope = schema::protobuf::open(body).map_err(bad)?;
    let gvk = object::Gvk::from_api_version(&envelope.api_version, &envelope.kind);
    let name = match kinds::table().by_gvk(&gvk).and_then(|k| k.schema.as_deref()) {
        Some(name) => name.to_owned(),
        None => body_schema(&gvk).ok_or_else(|| {
            Status::bad_request(format!("no kind {:?} is registered for version {:?}", gvk.kind, gvk.api_version()))
        })?,
    };
    let mut value = schema::protobuf::decode(schema::table(), &name, envelope.raw).map_err(bad)?;
    value["apiVersion"] = envelope.api_version.into();
    value["kind"] = envelope.kind.into();
    Ok(Parsed { value, duplicates: Vec::new() })
}

/// Types of bodies that are no resources of their own.
fn body_schema(gvk: &object::Gvk) -> Option<String> {
    let name = match (gvk.kind.as_str(), gvk.group.as_str()) {
        ("DeleteOptions", _) => "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        ("Eviction", "policy") => "io.k8s.api.policy.v1.Eviction",
        ("Scale", "autoscaling") => "io.k8s.api.autoscaling.v1.Scale",
        ("TokenRequest", "authentication.k8s.io") => "io.k8s.api.authentication.v1.TokenRequest",
        _ => return None,
    };
    Some(name.into())
}

fn malformed(body: &[u8], error: &str) -> Status {
    let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
    Status::bad_request(format!("couldn't get version/kind; json parse error: {error}; the body starts with {shown:?}"))
}

/// Checks that the tree says it is of the kind.
pub(crate) fn check_kind(value: &Value, kind: &Kind) -> Result<(), Status> {
    if !value.is_object() {
        let text = format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            type_name(value)
        );
        return Err(Status::bad_request(text));
    }
    let text = |field: &str| value[field].as_str().unwrap_or("");
    if text("kind").is_empty() {
        return Err(Status::bad_request(format!("Object 'Kind' is missing in '{value}'")));
    }
    if text("kind") != kind.kind {
        let given = object::Gvk::from_api_version(text("apiVersion"), text("kind"));
        return Err(Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: converting ({}).{} to ({}).{}: unknown conversion",
            given.kind, given.version, kind.kind, given.group, given.kind, kind.group, kind.kind
        )));
    }
    if !text("apiVersion").is_empty() && text("apiVersion") != kind.api_version() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            text("apiVersion"),
            kind.api_version()
        )));
    }
    Ok(())
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Decodes a tree into the kind's type. Warnings are added for the client to see.
pub(crate) fn typed(
    parsed: Parsed,
    kind: &Kind,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let mut problems: Vec<Problem> = Vec::new();
    let api_version = kind.api_version();
    let decoded = match &kind.schema {
        Some(name) => schema::decode(schema::table(), name, parsed.value, &mut problems).map_err(|error| {
            Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: {error}",
                kind.kind, kind.version, kind.kind
            ))
        })?,
        None => parsed.value,
    };
    let mut decoded = decoded;
    decoded["apiVersion"] = api_version.into();
    decoded["kind"] = kind.kind.as_str().into();
    // Duplicates come first, as in upstream's decoder, then unknown fields in order of appearance.
    let all: Vec<String> =
        parsed.duplicates.into_iter().map(Problem::Duplicate).chain(problems).map(|p| p.to_string()).collect();
    if all.is_empty() {
        return Ok(decoded);
    }
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => warnings.extend(all),
        FieldValidation::Strict => {
            return Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                kind.kind,
                kind.version,
                kind.kind,
                all.join(", ")
            )));
        }
    }
    Ok(decoded)
}
