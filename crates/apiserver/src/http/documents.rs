//! Discovery and OpenAPI documents on the wire: in the encoding that the client takes, for as long as it may keep them.

use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::accept::{self, Encoding};
use super::reply::{self, Body};
use super::route::Query;
use super::{Handled, header_text};
use crate::discovery::{self, Document};

/// In seconds.
const YEAR: i64 = 365 * 24 * 3600;

/// True for paths that are served for GET alone; the others do not look at the method.
pub(super) fn is_rest(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let version = path.strip_prefix("/apis/").is_some_and(|rest| rest.contains('/'));
    path == "/api" || path.starts_with("/api/") || version || path == "/version" || path.starts_with("/version/")
}

/// What is no document whatever the one without the slash at its end is.
pub(super) fn missing(path: &str) -> Option<Response<Body>> {
    let is_v3 = path.starts_with("/openapi/v3/") && path.ends_with('/');
    match path {
        "/openapi/v2/" => Some(reply::page_not_found()),
        _ if is_v3 => Some(reply::bare(StatusCode::NOT_FOUND)),
        _ => None,
    }
}

/// Answers with a document.
pub(super) fn answer(path: &str, document: &Document, query: &Query, headers: &HeaderMap) -> Handled {
    let accept = header_text(headers, header::ACCEPT);
    if path.starts_with("/openapi/") {
        return Ok(openapi(path, document, query, headers, &accept));
    }
    let (is_version, in_short) = (path.starts_with("/version"), path.trim_end_matches('/') == "/apis");
    if is_version {
        accept::is_offered(&accept, &accept::REPRESENTATIONS[..1])?;
    } else if path.starts_with("/api") && !in_short {
        // The aggregator does not look twice.
        accept::is_offered(&accept, &accept::REPRESENTATIONS)?;
    }
    let mut response = if document.content_type == discovery::AGGREGATED {
        aggregated(document, &accept, headers)?
    } else if path.starts_with("/api") {
        match accept::plain(&accept)? {
            Encoding::Json => reply::document(document, headers),
            encoding => {
                let value: Value = serde_json::from_slice(&document.body).map_err(object::Status::internal)?;
                let media = accept::Accepted { encoding, ..accept::Accepted::JSON }.content_type(false);
                reply::bytes(StatusCode::OK, accept::encoded(&value, encoding, false)?, media)
            }
        }
    } else {
        reply::document(document, headers)
    };
    if document.content_type == discovery::AGGREGATED {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    }
    Ok(response)
}

/// Aggregated discovery in the first encoding that is asked for with it.
fn aggregated(document: &Document, accept: &str, headers: &HeaderMap) -> Handled {
    let media = discovery::aggregated_media(accept).unwrap_or(discovery::AGGREGATED);
    if media == discovery::AGGREGATED {
        return Ok(reply::document(document, headers));
    }
    let value: Value = serde_json::from_slice(&document.body).map_err(object::Status::internal)?;
    let body = match media {
        discovery::AGGREGATED_YAML => accept::encoded(&value, Encoding::Yaml, false)?,
        _ => {
            let raw = schema::protobuf::encode_discovery(&value);
            schema::protobuf::seal("apidiscovery.k8s.io/v2", "APIGroupDiscoveryList", &raw).into()
        }
    };
    Ok(reply::document(&Document::of(body, media), headers))
}

/// A document that is named by its hash is good for ever; a client that has an old hash is sent to the new one.
fn openapi(path: &str, document: &Document, query: &Query, headers: &HeaderMap, accept: &str) -> Response<Body> {
    let version = if path.starts_with("/openapi/v2") { "v2" } else { "v3" };
    let takes = discovery::is_openapi_protobuf(accept, version).is_some();
    if path.trim_end_matches('/') != "/openapi/v3" && !takes {
        return reply::bare(StatusCode::NOT_ACCEPTABLE);
    }
    let mut response = reply::document(document, headers);
    let Some(hash) = query.get("hash").filter(|_| path.starts_with("/openapi/v3/")) else { return response };
    if hash == document.etag {
        let cached = response.headers_mut();
        cached.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let expires = base::time::http_date(base::time::now_seconds() + YEAR);
        if let Ok(expires) = expires.parse() {
            cached.insert(header::EXPIRES, expires);
        }
        return response;
    }
    let mut moved = reply::bare(StatusCode::MOVED_PERMANENTLY);
    if let Ok(place) = format!("{path}?hash={}", document.etag).parse() {
        moved.headers_mut().insert(header::LOCATION, place);
    }
    moved
}
