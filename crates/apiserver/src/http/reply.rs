//! Replies.

use std::convert::Infallible;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use object::Status;
use serde_json::Value;

use super::accept::{self, Accepted, Encoding, encoded};
use super::sealed::Sealed;
use super::splice::{Gzipped, Splice};
use crate::discovery::Document;

/// Bodies of requests and responses.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How far a body goes that is sent piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It is there, or is made as fast as it is taken.
    Finite,
    /// It goes on whenever there is something to tell.
    Lasting,
}

/// Upstream compresses from this size on.
const GZIP_FROM: usize = 128 * 1024;

pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed_unsync()
}

pub(super) fn bytes(code: StatusCode, body: Bytes, content_type: &str) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = code;
    if let Ok(media) = content_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, media);
    }
    response
}

pub(super) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    bytes(code, Bytes::from(value.to_string()), "application/json")
}

pub(super) fn ok_json(value: &Value) -> Response<Body> {
    json(StatusCode::OK, value)
}

pub(super) fn typed(value: &Value, content_type: &'static str) -> Response<Body> {
    bytes(StatusCode::OK, Bytes::from(value.to_string()), content_type)
}

pub(super) fn text(code: u16, text: String) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = bytes(code, text.into(), "text/plain; charset=utf-8");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Words that are no Status.
pub(crate) fn plain(code: u16, words: &str) -> Response<Body> {
    text(code, words.into())
}

/// Nothing but a code.
pub(crate) fn bare(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = code;
    response
}

/// The same for everybody, and for an hour.
pub(super) fn public(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

/// A path that nothing stands behind.
pub(super) fn page_not_found() -> Response<Body> {
    text(404, "404 page not found\n".into())
}

/// A warning as its header has it.
fn warning(words: &str) -> Option<header::HeaderValue> {
    // As upstream: what cannot stand in a header is not said.
    if words.chars().any(char::is_control) {
        return None;
    }
    let text = format!("299 - \"{}\"", words.replace('\\', "\\\\").replace('"', "\\\""));
    header::HeaderValue::from_bytes(text.as_bytes()).ok()
}

/// So many characters of warnings a response has at most, and of one when they are too many.
const MOST_WARNED: usize = 4096;
const MOST_OF_ONE: usize = 256;

/// Adds warnings for the client's user to see: each once, and where they are too many the first ones, cut.
pub(super) fn warn<'a>(response: &mut Response<Body>, warnings: impl IntoIterator<Item = &'a str>) {
    let mut distinct: Vec<&str> = Vec::new();
    for words in warnings {
        if !distinct.contains(&words) {
            distinct.push(words);
        }
    }
    let too_many = distinct.iter().map(|words| words.chars().count()).sum::<usize>() > MOST_WARNED;
    let mut written = 0;
    for words in distinct {
        if written >= MOST_WARNED {
            return;
        }
        let words: String = words.chars().take(if too_many { MOST_OF_ONE } else { MOST_WARNED }).collect();
        written += words.chars().count();
        if let Some(value) = warning(&words) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

/// Adds a warning before those that are there.
pub(super) fn warn_first(response: &mut Response<Body>, words: &str) {
    let Some(first) = warning(words) else { return };
    let others: Vec<_> = response.headers().get_all(header::WARNING).iter().cloned().collect();
    response.headers_mut().insert(header::WARNING, first);
    for other in others {
        response.headers_mut().append(header::WARNING, other);
    }
}

/// A failure in JSON.
pub(crate) fn failure(status: &Status, pretty: bool) -> Response<Body> {
    failure_as(status, pretty, "")
}

/// A failure as the API words it, in the first of the client's encodings that there is.
pub(super) fn failure_as(status: &Status, pretty: bool, accept: &str) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let encoding = accept::plain(accept).unwrap_or(Encoding::Json);
    let media = Accepted { encoding, ..Accepted::JSON }.content_type(false);
    let body = match encoding {
        Encoding::Json if !pretty => Ok(status.to_text().into()),
        _ => encoded(&status.to_value(), encoding, pretty),
    };
    let body = body.unwrap_or_else(|_| status.to_text().into());
    let mut response = bytes(code, body, media);
    if status.code == 403 && status.message.contains("forbidden: User ") {
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    if status.retry_after_seconds > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, status.retry_after_seconds.into());
    }
    warn(&mut response, status.warnings.iter().map(String::as_str));
    response
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|e| e.to_str().ok()).unwrap_or("");
    accepted.split(',').any(|e| e.split(';').next().unwrap_or("").trim() == "gzip")
}

/// A body, gzipped when it is large and the client can read that.
pub(super) fn compressed(body: Bytes, headers: &HeaderMap, content_type: &str) -> Response<Body> {
    if body.len() < GZIP_FROM || !accepts_gzip(headers) {
        return bytes(StatusCode::OK, body, content_type);
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(packed) => {
            let mut response = bytes(StatusCode::OK, packed.into(), content_type);
            mark_gzipped(&mut response);
            response
        }
        Err(_) => bytes(StatusCode::OK, body, content_type),
    }
}

/// A list, spliced while it is sent; gzipped when it is large and the client can read that.
pub(super) fn list(mut splice: Splice, headers: &HeaderMap, content_type: &'static str) -> Response<Body> {
    if let Some(short) = splice.short() {
        return bytes(StatusCode::OK, short, content_type);
    }
    let gzip = splice.is_large(GZIP_FROM) && accepts_gzip(headers);
    let body = if gzip { Gzipped::new(splice).boxed_unsync() } else { splice.boxed_unsync() };
    let mut response = Response::new(body);
    response.extensions_mut().insert(Extent::Finite);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if gzip {
        mark_gzipped(&mut response);
    }
    response
}

/// A list in protobuf, the same way.
pub(super) fn sealed_list(sealed: Sealed, headers: &HeaderMap, content_type: &'static str) -> Response<Body> {
    let gzip = sealed.left() >= GZIP_FROM && accepts_gzip(headers);
    let body = if gzip { Gzipped::new(sealed).boxed_unsync() } else { sealed.boxed_unsync() };
    let mut response = Response::new(body);
    response.extensions_mut().insert(Extent::Finite);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if gzip {
        mark_gzipped(&mut response);
    }
    response
}

fn mark_gzipped(response: &mut Response<Body>) {
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// A document with its ETag; 304 when the client has it.
pub(super) fn document(document: &Document, headers: &HeaderMap) -> Response<Body> {
    let etag = format!("\"{}\"", document.etag);
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == etag.as_bytes());
    let mut response = if known {
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        compressed(document.body.clone(), headers, document.content_type)
    };
    if let Ok(value) = etag.parse() {
        response.headers_mut().insert(header::ETAG, value);
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
