//! Replies to objects, lists and errors.

use std::sync::Arc;

use bytes::Bytes;
use object::{Object, Reason, Status};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{List, Result};

/// An object, or a 500 that says that the server sent something else.
pub(super) fn object(body: Bytes) -> Result<Arc<Object>> {
    Object::from_bytes(body).map(Arc::new).map_err(|e| Status::internal(format!("the server's reply is {e}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListReply<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

/// A list. Upstream leaves `apiVersion` and `kind` out of the items; they are put in.
pub(super) fn list(body: &[u8]) -> Result<List> {
    let reply: ListReply =
        serde_json::from_slice(body).map_err(|e| Status::internal(format!("the server's reply is no list: {e}")))?;
    let kind = reply.kind.strip_suffix("List").unwrap_or(&reply.kind);
    let items = reply.items.unwrap_or_default();
    let items: Result<Vec<_>> = items.into_iter().map(|raw| item(raw.get(), &reply.api_version, kind)).collect();
    Ok(List {
        revision: reply.metadata.resource_version.parse().unwrap_or(0),
        items: items?,
        continue_token: Some(reply.metadata.continue_token).filter(|token| !token.is_empty()),
    })
}

fn item(raw: &str, api_version: &str, kind: &str) -> Result<Arc<Object>> {
    let parsed = object(Bytes::copy_from_slice(raw.as_bytes()))?;
    if !parsed.head.kind.is_empty() {
        return Ok(parsed);
    }
    let fields = raw.trim_start().strip_prefix('{').unwrap_or_default();
    let comma = if fields.trim_start().starts_with('}') { "" } else { "," };
    object(format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\"{comma}{fields}").into())
}

/// The error of a reply that is not 2xx: the `Status` in it, or one made of the code and the text.
pub(super) fn failure(code: u16, body: &[u8], retry_after: Option<u32>) -> Status {
    let sent = serde_json::from_slice::<Value>(body).ok().and_then(|value| Status::from_value(&value));
    let mut status = sent.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        let message = match text {
            "" => format!("the server answered {code}"),
            text => format!("the server answered {code}: {}", text.chars().take(500).collect::<String>()),
        };
        let reason = match code {
            400 => Reason::BadRequest,
            401 => Reason::Unauthorized,
            403 => Reason::Forbidden,
            404 => Reason::NotFound,
            405 => Reason::MethodNotAllowed,
            409 => Reason::Conflict,
            410 => Reason::Gone,
            429 => Reason::TooManyRequests,
            503 => Reason::ServiceUnavailable,
            504 => Reason::Timeout,
            _ => Reason::InternalError,
        };
        Status { code, ..Status::new(reason, message) }
    });
    if status.retry_after_seconds == 0 {
        status.retry_after_seconds = retry_after.unwrap_or(0);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_upstreams_lists_get_their_kind() {
        let body = br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"9","continue":"x"},
            "items":[{"metadata":{"name":"a"}},{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b"}}]}"#;
        let list = list(body).unwrap();
        assert_eq!((list.revision, list.continue_token.as_deref()), (9, Some("x")));
        for (object, name) in list.items.iter().zip(["a", "b"]) {
            assert_eq!((object.head.kind.as_str(), object.head.api_version.as_str()), ("Pod", "v1"));
            assert_eq!(object.head.name, name);
        }
        assert!(super::list(br#"{"kind":"PodList","items":null}"#).unwrap().items.is_empty());
    }

    #[test]
    fn failures_are_the_servers_status_or_made_up() {
        let sent = Status::not_found("", "pods", "x");
        assert_eq!(failure(404, sent.to_value().to_string().as_bytes(), None), sent);
        let made = failure(502, b"bad gateway\n", Some(3));
        assert_eq!((made.code, made.retry_after_seconds), (502, 3));
        assert_eq!(made.message, "the server answered 502: bad gateway");
        assert!(made.is_transient());
    }
}
