//! Bodies of writes: JSON, YAML or protobuf, laid along the kind's type.

use std::borrow::Cow;

use kinds::Kind;
use object::{Gvk, Reason, Status};
use schema::Problem;
use serde_json::Value;

use crate::warned;

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
    /// As the query parameter has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ignore => "Ignore",
            Self::Warn => "Warn",
            Self::Strict => "Strict",
        }
    }

    /// Parses the query parameter.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::default()),
            "Ignore" => Some(Self::Ignore),
            "Warn" => Some(Self::Warn),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// A body's tree, and what strict decoding objects to before the tree is laid along a type.
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) problems: Vec<Problem>,
}

/// What a body is written in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Media {
    Json,
    Yaml,
    Protobuf,
}

fn media(content_type: &str) -> Result<Media, Status> {
    match content_type.split(';').next().unwrap_or("").trim() {
        "" | "application/json" | "*/*" => Ok(Media::Json),
        "application/yaml" | "application/apply-patch+yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        _ => Err(Status::new(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// As Go reads text that is no UTF-8: every bad byte is one U+FFFD.
fn text(body: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(body) {
        Ok(_) => Cow::Borrowed(body),
        Err(_) => Cow::Owned(String::from_utf8_lossy(body).into_owned().into_bytes()),
    }
}

/// Parses a body by its content type, without a type to lay it along.
pub(crate) fn parse(body: &[u8], content_type: &str) -> Result<Parsed, Status> {
    match media(content_type)? {
        Media::Json => {
            let body = text(body);
            let (value, duplicates) = schema::json::parse(&body).map_err(|error| {
                let words = schema::json::go_words(&body, &error);
                Status::bad_request(format!("couldn't get version/kind; json parse error: {words}"))
            })?;
            Ok(Parsed { value, problems: duplicates.into_iter().map(Problem::Duplicate).collect() })
        }
        Media::Yaml => yaml(body).map_err(|words| {
            Status::bad_request(format!("error decoding YAML: error converting YAML to JSON: {words}"))
        }),
        Media::Protobuf => protobuf(body),
    }
}

/// The same for what should be of a kind: what cannot be read is shown.
pub(crate) fn parse_as(kind: &str, body: &[u8], content_type: &str) -> Result<Parsed, Status> {
    if media(content_type)? == Media::Json {
        json_meta(&text(body)).map_err(|words| {
            unrecognized(kind, body, &format!("couldn't get version/kind; json parse error: {words}"))
        })?;
    }
    parse(body, content_type).map_err(|status| unrecognized(kind, body, &status.message))
}

fn unrecognized(kind: &str, body: &[u8], words: &str) -> Status {
    let shown = summary(body);
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {words} ({shown})"))
}

/// `apiVersion` and `kind` of what a delete sends; `None` where it sends nothing but `null`.
pub(crate) fn meta_of_options(body: &[u8], content_type: &str) -> Result<Option<(String, String)>, Status> {
    if media(content_type)? != Media::Json {
        let value = parse(body, content_type)?.value;
        let text = |field: &str| value[field].as_str().unwrap_or("").to_owned();
        return Ok((!value.is_null()).then(|| (text("apiVersion"), text("kind"))));
    }
    let body = text(body);
    let meta = json_meta(&body)
        .map_err(|words| Status::bad_request(format!("couldn't get version/kind; json parse error: {words}")))?;
    Ok((body.trim_ascii() != b"null").then_some(meta))
}

fn yaml(body: &[u8]) -> Result<Parsed, String> {
    let parsed = schema::yaml::parse(body).map_err(|words| go_yaml(&words))?;
    Ok(Parsed { value: parsed.value, problems: parsed.duplicates.into_iter().map(Problem::Yaml).collect() })
}

/// The parser's words as Go's have it: the line first, without the place in it.
fn go_yaml(words: &str) -> String {
    let Some((_, rest)) = words.split_once(" line ") else { return words.into() };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (line, rest) = rest.split_at(digits);
    // `column 5: what`, or what first and the place after it.
    let what = match rest.split_once("column ").and_then(|(_, rest)| rest.split_once(": ")) {
        Some((_, what)) => what,
        None => words.split(" at line ").next().unwrap_or(words).trim_start_matches("yaml: "),
    };
    if line == "1" { format!("yaml: {what}") } else { format!("yaml: line {line}: {what}") }
}

/// What a body says.
pub(crate) struct Read {
    pub(crate) value: Value,
    /// Lists and maps that the body has empty, where that is as if it had none: see [`schema::Decoded`].
    pub(crate) empties: Vec<(String, Value)>,
}

/// Reads the body of a write as the kind. Warnings are added for the client to see.
pub(crate) fn object(
    body: &[u8],
    content_type: &str,
    kind: &Kind,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Read, Status> {
    let unrecognized = |words: &str| unrecognized(&kind.kind, body, words);
    let media = media(content_type)?;
    if media == Media::Protobuf && kind.custom.is_some() {
        let text = "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml";
        return Err(Status::new(Reason::UnsupportedMediaType, text));
    }
    if let (Media::Json, Some(name), None) = (media, kind.schema.as_deref(), &kind.custom) {
        let body = text(body);
        let meta = json_meta(&body)
            .map_err(|words| unrecognized(&format!("couldn't get version/kind; json parse error: {words}")))?;
        if meta.0.matches('/').count() > 1 {
            return Err(unrecognized(&format!("unexpected GroupVersion string: {}", meta.0)));
        }
        check_meta(&meta.0, &meta.1, &kind.gvk())?;
        let decoded = schema::decode_json(schema::table(), name, &body).map_err(|error| unfit(kind, &error))?;
        let value = kind.settle(decoded.value).map_err(|error| unfit(kind, &error))?;
        let value = judged(value, decoded.problems, kind, validation, warnings)?;
        return Ok(Read { value, empties: decoded.empties });
    }
    if kind.custom.is_some() {
        let parsed = match media {
            Media::Yaml => yaml(body).map_err(|words| unrecognized(&words))?,
            _ => {
                let text = text(body);
                let (version, name) = json_meta(&text)
                    .map_err(|words| unrecognized(&format!("couldn't get version/kind; json parse error: {words}")))?;
                if name.is_empty() {
                    let shown = String::from_utf8_lossy(&text).into_owned();
                    return Err(unrecognized(&format!("Object 'Kind' is missing in '{shown}'")));
                }
                check_version(&version, kind)?;
                parse(body, content_type)?
            }
        };
        check_custom(&parsed.value, kind)?;
        let value = typed(parsed, kind, validation, warnings)?;
        return Ok(Read { value, empties: Vec::new() });
    }
    let parsed = match media {
        Media::Yaml => yaml(body).map_err(|words| unrecognized(&words))?,
        _ => parse(body, content_type).map_err(|status| unrecognized(&status.message))?,
    };
    check_kind(&parsed.value, kind)?;
    let value = typed(parsed, kind, validation, warnings)?;
    Ok(Read { value, empties: Vec::new() })
}

fn json_meta(body: &[u8]) -> Result<(String, String), String> {
    let first = body.iter().find(|b| !b.is_ascii_whitespace());
    let found = match first {
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'-' | b'0'..=b'9') => "number",
        // A null is an object without fields.
        Some(b'n') if body.trim_ascii() == b"null" => return Ok(Default::default()),
        _ => return schema::json::type_meta(body),
    };
    serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(|e| schema::json::go_words(body, &e))?;
    Err(not_an_object(found))
}

/// Whether what a webhook answers is an object at all; what is wrong with it as Go's client has it, which takes what is no JSON for YAML.
pub(crate) fn is_object(body: &[u8], code: u16) -> Result<(), String> {
    if body.is_empty() {
        return Err(format!("0-length response with status code: {code} and content type: application/json"));
    }
    let words = match serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        Ok(_) => json_meta(body).map(drop),
        Err(error) => match yaml(body).map(|parsed| parsed.value) {
            Ok(Value::String(_)) => Err(not_an_object("string")),
            _ => Err(schema::json::go_words(body, &error)),
        },
    };
    words.map_err(|words| format!("couldn't get version/kind; json parse error: {words}"))
}

fn not_an_object(found: &str) -> String {
    format!(
        "json: cannot unmarshal {found} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
    )
}

/// What of a body upstream shows: text when it begins as an object does, else hexadecimal digits.
fn summary(body: &[u8]) -> String {
    const MOST: usize = 30;
    let (shown, more) = if body.len() > MOST { (&body[..MOST], " ...") } else { (body, "") };
    match body.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => shown.iter().map(|b| format!("{b:02x}")).collect::<String>() + more,
    }
}

/// An enveloped message, as the tree that it would be in JSON.
fn protobuf(body: &[u8]) -> Result<Parsed, Status> {
    let bad = |error: schema::protobuf::ProtobufError| Status::bad_request(error.to_string());
    let envelope = schema::protobuf::open(body).map_err(bad)?;
    let gvk = object::Gvk::from_api_version(&envelope.api_version, &envelope.kind);
    let name = schema_of(&gvk).ok_or_else(|| {
        Status::bad_request(format!("no kind {:?} is registered for version {:?}", gvk.kind, gvk.api_version()))
    })?;
    let mut value = schema::protobuf::decode(schema::table(), &name, envelope.raw).map_err(bad)?;
    value["apiVersion"] = envelope.api_version.into();
    value["kind"] = envelope.kind.into();
    Ok(Parsed { value, problems: Vec::new() })
}

/// The type of a built-in kind, or of a body that is no resource of its own.
pub(crate) fn schema_of(gvk: &Gvk) -> Option<String> {
    kinds::table().by_gvk(gvk).and_then(|kind| kind.schema.clone()).or_else(|| body_schema(gvk))
}

/// Types of bodies that are no resources of their own.
pub(crate) fn body_schema(gvk: &object::Gvk) -> Option<String> {
    let name = match (gvk.kind.as_str(), gvk.group.as_str()) {
        ("DeleteOptions", _) => "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions",
        ("Status", "") => "io.k8s.apimachinery.pkg.apis.meta.v1.Status",
        ("APIVersions", "") => "io.k8s.apimachinery.pkg.apis.meta.v1.APIVersions",
        ("APIGroup", "") => "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroup",
        ("APIGroupList", "") => "io.k8s.apimachinery.pkg.apis.meta.v1.APIGroupList",
        ("APIResourceList", "") => "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList",
        ("Eviction", "policy") => "io.k8s.api.policy.v1.Eviction",
        ("Scale", "autoscaling") => "io.k8s.api.autoscaling.v1.Scale",
        ("TokenRequest", "authentication.k8s.io") => "io.k8s.api.authentication.v1.TokenRequest",
        _ => return None,
    };
    Some(name.into())
}

/// The version of a custom resource's body is that of its URL.
fn check_version(api_version: &str, kind: &Kind) -> Result<(), Status> {
    let own = kind.api_version();
    if api_version == own {
        return Ok(());
    }
    let text = format!("the API version in the data ({api_version}) does not match the expected API version ({own})");
    Err(Status::bad_request(text))
}

/// A custom resource is of the definition's kind.
pub(crate) fn check_custom(value: &Value, kind: &Kind) -> Result<(), Status> {
    let own = kind.api_version();
    for (field, wanted) in [("kind", &kind.kind), ("apiVersion", &own)] {
        let Some(given) = value[field].as_str().filter(|given| given != wanted) else { continue };
        let error = object::Invalid::invalid(field, &given.into(), format!("must be {wanted}"));
        let name = value["metadata"]["name"].as_str().unwrap_or("");
        let shown = if field == "kind" { given } else { &kind.kind };
        let group =
            value["apiVersion"].as_str().and_then(|given| given.rsplit_once('/')).map_or("", |(group, _)| group);
        return Err(Status::invalid(group, shown, name, &[error]));
    }
    Ok(())
}

/// Checks that the tree is an object, and of the kind where it says so.
pub(crate) fn check_kind(value: &Value, kind: &Kind) -> Result<(), Status> {
    check_body(value, &kind.gvk())
}

/// The same for a body that is no resource of its own: a scale, a binding.
pub(crate) fn check_body(value: &Value, kind: &Gvk) -> Result<(), Status> {
    if !value.is_object() && !value.is_null() {
        let words = not_an_object(type_name(value));
        return Err(Status::bad_request(format!("couldn't get version/kind; json parse error: {words}")));
    }
    let text = |field: &str| value[field].as_str().unwrap_or("");
    check_meta(text("apiVersion"), text("kind"), kind)
}

/// What the object does not say is what the URL says.
fn check_meta(api_version: &str, name: &str, kind: &Gvk) -> Result<(), Status> {
    let own = kind.api_version();
    let (api_version, name) =
        (if api_version.is_empty() { &own } else { api_version }, if name.is_empty() { &kind.kind } else { name });
    if name == kind.kind && api_version == own {
        return Ok(());
    }
    let given = object::Gvk::from_api_version(api_version, name);
    if name == kind.kind && (given.group == kind.group && REMOVED_VERSIONS.contains(&given.version.as_str())) {
        let text =
            format!("the API version in the data ({api_version}) does not match the expected API version ({own})");
        return Err(Status::bad_request(text));
    }
    let scheme = match kind.group.as_str() {
        "apiregistration.k8s.io" => "pkg/apiserver/scheme/scheme.go:28",
        _ => "pkg/api/legacyscheme/scheme.go:30",
    };
    let known = |gvk: &object::Gvk| kinds::table().by_gvk(gvk).is_some();
    let of_list = given.kind.strip_suffix("List").map(|item| object::Gvk { kind: item.into(), ..given.clone() });
    let why = if known(&given) || of_list.is_some_and(|of| known(&of)) {
        let internal = match kind.group.split('.').next().unwrap_or("") {
            "" => "core",
            group => group,
        };
        format!("converting ({}.{name}) to ({internal}.{}): unknown conversion", given.version, kind.kind)
    } else {
        format!("no kind {name:?} is registered for version {api_version:?} in scheme {scheme:?}")
    };
    Err(Status::bad_request(format!(
        "{name} in version {:?} cannot be handled as a {}: {why}",
        given.version, kind.kind
    )))
}

/// Versions that upstream still knows the types of, but does not serve.
const REMOVED_VERSIONS: [&str; 6] = ["v1alpha1", "v1beta1", "v1beta2", "v1beta3", "v2beta1", "v2beta2"];

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

pub(crate) fn unfit(kind: &Kind, error: &schema::DecodeError) -> Status {
    unfit_as(&kind.gvk(), error)
}

fn unfit_as(Gvk { kind: name, version, .. }: &Gvk, error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!("{name} in version {version:?} cannot be handled as a {name}: {error}"))
}

/// Decodes a tree into the kind's type. Warnings are added for the client to see.
pub(crate) fn typed(
    parsed: Parsed,
    kind: &Kind,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let mut problems = parsed.problems;
    let decoded = kind.decode(parsed.value, &mut problems).map_err(|e| unfit(kind, &e))?;
    judged(decoded, problems, kind, validation, warnings)
}

fn judged(
    mut value: Value,
    problems: Vec<Problem>,
    kind: &Kind,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.kind.as_str().into();
    tell(&problems, &kind.gvk(), validation, warnings)?;
    Ok(value)
}

/// Says what is odd about a body, or refuses it for that.
pub(crate) fn tell(
    problems: &[Problem],
    of: &Gvk,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if problems.is_empty() {
        return Ok(());
    }
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => {
            let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
            warned::tell(said, warnings);
        }
        FieldValidation::Strict => return Err(unfit_as(of, &schema::strict_error(problems))),
    }
    Ok(())
}

/// Reads what is sent to a subresource, which is no object of the resource. Warnings are added for the client to see.
pub(crate) fn part(
    body: &[u8],
    content_type: &str,
    of: &Gvk,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Value, Status> {
    let parsed = parse_as(&of.kind, body, content_type)?;
    check_body(&parsed.value, of)?;
    let schema = schema_of(of).filter(|_| !parsed.value.is_null());
    let Some(name) = schema else { return Ok(parsed.value) };
    let mut problems = parsed.problems;
    let decoded = schema::decode(schema::table(), &name, parsed.value, &mut problems);
    let mut value = decoded.map_err(|error| unfit_as(of, &error))?;
    value["apiVersion"] = of.api_version().into();
    value["kind"] = of.kind.as_str().into();
    tell(&problems, of, validation, warnings)?;
    Ok(value)
}
