//! `metav1.Status`: the shape of every error that the API returns, with upstream's codes, reasons and messages.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Machine-readable cause of a failure (`metav1.StatusReason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
}

impl Reason {
    /// The HTTP code that goes with the reason.
    pub fn code(self) -> u16 {
        match self {
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::Invalid => 422,
            Self::ServerTimeout | Self::InternalError => 500,
            Self::Timeout => 504,
            Self::TooManyRequests => 429,
            Self::BadRequest => 400,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// `metav1.Status` as an error. `Display` is its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// Machine-readable reason, if one applies.
    pub reason: Option<Reason>,
    /// For people.
    pub message: String,
    /// `details`: group, kind (the *resource* name for lookups, the kind for validation, as upstream), name, uid.
    pub group: String,
    /// See `group`.
    pub kind: String,
    /// See `group`.
    pub name: String,
    /// Field causes.
    pub causes: Vec<Cause>,
    /// Seconds after which to try again; 0 for unset.
    pub retry_after_seconds: u32,
    /// `metadata.continue`: where an expired list may go on, if not consistently; empty for unset.
    pub continue_token: String,
    /// What the client's user is warned of besides, in headers: no part of the object.
    pub warnings: Vec<String>,
}

/// One entry of `details.causes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// `FieldValueRequired`, `FieldValueInvalid`, `FieldManagerConflict` ...
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Field path: `spec.containers[0].image`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Status {
    /// A status of this reason and text, without details.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason: Some(reason),
            message: message.into(),
            group: String::new(),
            kind: String::new(),
            name: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
            continue_token: String::new(),
            warnings: Vec::new(),
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        (self.group, self.kind, self.name) = (group.into(), kind.into(), name.into());
        self
    }

    /// `pods "x" not found`. `resource` is plural.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let text = format!("{} {} not found", crate::names::group_resource(group, resource), quoted(name));
        Self::new(Reason::NotFound, text).about(group, resource, name)
    }

    /// `pods "x" already exists`.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let text = format!("{} {} already exists", crate::names::group_resource(group, resource), quoted(name));
        Self::new(Reason::AlreadyExists, text).about(group, resource, name)
    }

    /// `Operation cannot be fulfilled on pods "x": why`.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let resource_name = crate::names::group_resource(group, resource);
        let text = format!("Operation cannot be fulfilled on {resource_name} {}: {why}", quoted(name));
        Self::new(Reason::Conflict, text).about(group, resource, name)
    }

    /// An error that upstream has no reason for: its words, and code 500.
    pub fn unexpected(why: &str) -> Self {
        Self { code: 500, reason: None, ..Self::bad_request(why) }
    }

    /// The conflict that a stale resourceVersion gets.
    pub fn stale(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// `pods "x" is forbidden: why`, or `pods is forbidden: why` without a name.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let resource_name = crate::names::group_resource(group, resource);
        let text = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource_name} is forbidden: {why}"),
            (false, false) => format!("{resource_name} {} is forbidden: {why}", quoted(name)),
        };
        Self::new(Reason::Forbidden, text).about(group, resource, name)
    }

    /// 400 with this text.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    /// 500 with this text.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(Reason::InternalError, format!("Internal error occurred: {message}"))
    }

    /// 422: `Pod "x" is invalid: ...` with a cause per field error, as `field.ErrorList.ToAggregate` words it.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[Invalid]) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for error in errors {
            let line = error.to_string();
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        let whole = format!("{} {} is invalid", crate::names::group_resource(group, kind), quoted(name));
        let text = match lines.as_slice() {
            [] => whole,
            [one] => format!("{whole}: {one}"),
            many => format!("{whole}: [{}]", many.join(", ")),
        };
        let mut status = Self::new(Reason::Invalid, text).about(group, kind, name);
        status.causes = errors.iter().map(Invalid::cause).collect();
        status
    }

    /// The JSON that goes over the wire, as a value.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(Wire::from(self)).unwrap_or_default()
    }

    /// The JSON that goes over the wire: fields in upstream's order, and a line end.
    pub fn to_text(&self) -> String {
        serde_json::to_string(&Wire::from(self)).unwrap_or_default() + "\n"
    }

    /// Reads a `Status` that a server sent; `None` when the value is no failure status.
    pub fn from_value(value: &Value) -> Option<Self> {
        if value["kind"] != "Status" || value["status"] == "Success" {
            return None;
        }
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let details = &value["details"];
        Some(Self {
            code: value["code"].as_u64().and_then(|c| c.try_into().ok()).unwrap_or(500),
            reason: serde_json::from_value(value["reason"].clone()).ok(),
            message: text(&value["message"]),
            group: text(&details["group"]),
            kind: text(&details["kind"]),
            name: text(&details["name"]),
            causes: serde_json::from_value(details["causes"].clone()).unwrap_or_default(),
            retry_after_seconds: details["retryAfterSeconds"].as_u64().and_then(|c| c.try_into().ok()).unwrap_or(0),
            continue_token: text(&value["metadata"]["continue"]),
            warnings: Vec::new(),
        })
    }

    /// True for 404.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }
    /// True when a create met an existing object.
    pub fn is_already_exists(&self) -> bool {
        self.reason == Some(Reason::AlreadyExists)
    }
    /// True when an update or patch met a newer object.
    pub fn is_conflict(&self) -> bool {
        self.reason == Some(Reason::Conflict)
    }
    /// True when a watch or a continued list must start over.
    pub fn is_expired(&self) -> bool {
        self.code == 410
    }
    /// True when the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self.code, 429 | 500 | 502 | 503 | 504)
    }
}

/// A failure as `metav1.Status` serializes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: ListMeta<'a>,
    status: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details<'a>>,
    code: u16,
}

#[derive(Serialize)]
struct ListMeta<'a> {
    #[serde(rename = "continue", skip_serializing_if = "str::is_empty")]
    continue_token: &'a str,
}

#[derive(Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    group: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    causes: &'a [Cause],
    #[serde(skip_serializing_if = "is_zero")]
    retry_after_seconds: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

impl<'a> From<&'a Status> for Wire<'a> {
    fn from(status: &'a Status) -> Self {
        let details = Details {
            name: &status.name,
            group: &status.group,
            kind: &status.kind,
            causes: &status.causes,
            retry_after_seconds: status.retry_after_seconds,
        };
        let nothing = Details { name: "", group: "", kind: "", causes: &[], retry_after_seconds: 0 };
        // Replies that are about a path, not an object, have details without content.
        let about_nothing =
            matches!(status.reason, Some(Reason::NotFound | Reason::MethodNotAllowed | Reason::Forbidden));
        // What a webhook refuses has the details that it gave.
        let bare = (about_nothing && !status.message.starts_with("admission webhook "))
            || status.message.starts_with("406: ")
            || status.message.starts_with("415: ");
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: ListMeta { continue_token: &status.continue_token },
            status: "Failure",
            message: &status.message,
            reason: status.reason,
            details: (bare || details != nothing).then_some(details),
            code: status.code,
        }
    }
}

/// Text as Go's `%q` prints it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// One field error (`field.Error`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong with the field.
    pub kind: InvalidKind,
    /// Field path: `spec.containers[0].image`.
    pub field: String,
    /// The offending value as Go's `%v`/`%q` prints it in messages (strings quoted); empty where upstream prints none.
    pub value: String,
    /// What would be right.
    pub detail: String,
    /// True when `value` is as it is shown, whatever is known of the field's type.
    pub shown: bool,
}

/// `field.ErrorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum InvalidKind {
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    NotFound,
    TypeInvalid,
    Internal,
}

impl Invalid {
    fn of(kind: InvalidKind, field: &str, value: Option<&Value>, detail: impl Into<String>) -> Self {
        let value = match value {
            None => String::new(),
            Some(Value::String(s)) => quoted(s),
            Some(Value::Null) => "null".into(),
            Some(other) => other.to_string(),
        };
        Self { kind, field: field.into(), value, detail: detail.into(), shown: false }
    }
    /// `spec.x: Required value: detail`.
    pub fn required(field: &str, detail: impl Into<String>) -> Self {
        Self::of(InvalidKind::Required, field, None, detail)
    }
    /// `spec.x: Invalid value: "v": detail`.
    pub fn invalid(field: &str, value: &Value, detail: impl Into<String>) -> Self {
        Self::of(InvalidKind::Invalid, field, Some(value), detail)
    }
    /// `spec.x: Invalid value: detail`: the value is too large to be shown.
    pub fn unshown(field: &str, detail: impl Into<String>) -> Self {
        Self::of(InvalidKind::Invalid, field, None, detail)
    }
    /// `spec.x: Invalid value: {...}: detail`, with the value as it is shown.
    pub fn shown(field: &str, shown: String, detail: impl Into<String>) -> Self {
        Self { kind: InvalidKind::Invalid, field: field.into(), value: shown, detail: detail.into(), shown: true }
    }
    /// `spec.x: Duplicate value: "v"`.
    pub fn duplicate(field: &str, value: &Value) -> Self {
        Self::of(InvalidKind::Duplicate, field, Some(value), "")
    }
    /// `spec.x: Unsupported value: "v": supported values: "a", "b"`.
    pub fn not_supported(field: &str, value: &Value, supported: &[&str]) -> Self {
        let mut supported: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        supported.sort();
        let detail = format!("supported values: {}", supported.join(", "));
        Self::of(InvalidKind::NotSupported, field, Some(value), detail)
    }
    /// The same with the values in the order given.
    pub fn unsupported(field: &str, value: &Value, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let detail = format!("supported values: {}", supported.join(", "));
        Self::of(InvalidKind::NotSupported, field, Some(value), detail)
    }
    /// `spec.x: Forbidden: detail`.
    pub fn forbidden(field: &str, detail: impl Into<String>) -> Self {
        Self::of(InvalidKind::Forbidden, field, None, detail)
    }
    /// `spec.x: Internal error: detail`.
    pub fn internal(field: &str, detail: impl Into<String>) -> Self {
        Self::of(InvalidKind::Internal, field, None, detail)
    }
    /// `spec.x: Not found: "v"`.
    pub fn not_found(field: &str, value: &Value) -> Self {
        Self::of(InvalidKind::NotFound, field, Some(value), "")
    }
    /// `spec.x: Too long: may not be more than n bytes`.
    pub fn too_long(field: &str, max_bytes: usize) -> Self {
        let unit = if max_bytes == 1 { "byte" } else { "bytes" };
        Self::of(InvalidKind::TooLong, field, None, format!("may not be more than {max_bytes} {unit}"))
    }
    /// `spec.x: Too many: n: must have at most m items`.
    pub fn too_many(field: &str, actual: usize, max: usize) -> Self {
        Self::of(
            InvalidKind::TooMany,
            field,
            Some(&actual.into()),
            format!("must have at most {max} {}", if max == 1 { "item" } else { "items" }),
        )
    }

    fn words(&self) -> (&'static str, &'static str) {
        match self.kind {
            InvalidKind::Required => ("Required value", "FieldValueRequired"),
            InvalidKind::Duplicate => ("Duplicate value", "FieldValueDuplicate"),
            InvalidKind::Invalid => ("Invalid value", "FieldValueInvalid"),
            InvalidKind::NotSupported => ("Unsupported value", "FieldValueNotSupported"),
            InvalidKind::Forbidden => ("Forbidden", "FieldValueForbidden"),
            InvalidKind::TooLong => ("Too long", "FieldValueTooLong"),
            InvalidKind::TooMany => ("Too many", "FieldValueTooMany"),
            InvalidKind::NotFound => ("Not found", "FieldValueNotFound"),
            InvalidKind::TypeInvalid => ("Invalid value", "FieldValueTypeInvalid"),
            InvalidKind::Internal => ("Internal error", "InternalError"),
        }
    }

    fn body(&self) -> String {
        let mut text = self.words().0.to_owned();
        for part in [&self.value, &self.detail] {
            if !part.is_empty() {
                text.push_str(": ");
                text.push_str(part);
            }
        }
        text
    }

    fn cause(&self) -> Cause {
        Cause { reason: self.words().1.into(), message: self.body(), field: self.field.clone() }
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording_is_upstreams() {
        let status = Status::invalid(
            "apps",
            "Deployment",
            "web",
            &[
                Invalid::required("spec.selector", ""),
                Invalid::not_supported("spec.strategy.type", &"Roll".into(), &["Recreate", "RollingUpdate"]),
            ],
        );
        assert_eq!(
            status.message,
            "Deployment.apps \"web\" is invalid: [spec.selector: Required value, spec.strategy.type: Unsupported value: \
             \"Roll\": supported values: \"Recreate\", \"RollingUpdate\"]"
        );
        assert_eq!(Status::from_value(&status.to_value()), Some(status));
    }
}
