//! Which wire a client asks for, and the answer to it.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Bodies of requests and responses.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// The protocols that are spoken for a kind of request.
pub(crate) struct Offer {
    pub(crate) spdy: &'static [&'static str],
    /// The first one is taken whenever a client offers it; else it is the client's order that counts.
    pub(crate) websocket: &'static [&'static str],
}

/// The kinds of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Spdy,
    WebSocket,
}

/// What was agreed on, and the answer that says so.
pub(crate) struct Agreed {
    pub(crate) wire: Wire,
    /// Empty when a WebSocket client named none.
    pub(crate) protocol: &'static str,
    pub(crate) response: Response<Body>,
}

/// True when a request asks for another protocol.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    contains(headers, header::CONNECTION, "upgrade")
}

fn contains(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    headers.get_all(name).iter().any(|value| value.to_str().unwrap_or("").to_ascii_lowercase().contains(word))
}

/// The values of a list that may be in one header or in several.
fn listed(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim).filter(|v| !v.is_empty()).collect()
}

/// A request for a WebSocket, set aside until there is something to send over it.
pub struct Asked {
    pub(crate) headers: HeaderMap,
    pub(crate) upgrade: hyper::upgrade::OnUpgrade,
}

/// Takes the wish for a WebSocket out of a request, which is then a plain one; `None` when it has none.
pub fn take_websocket<B>(request: &mut Request<B>) -> Option<Asked> {
    let headers = request.headers();
    if !is_upgrade(headers) || !contains(headers, header::UPGRADE, "websocket") {
        return None;
    }
    let headers = headers.clone();
    let upgrade = hyper::upgrade::on(&mut *request);
    for name in [header::CONNECTION, header::UPGRADE] {
        request.headers_mut().remove(name);
    }
    Some(Asked { headers, upgrade })
}

/// A plain text answer.
pub(crate) fn plain(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::from(text.into()).boxed_unsync());
    *response.status_mut() = code;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn switching(upgrade: &'static str) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(upgrade));
    response
}

/// Agrees on one of `offer`, or says why not.
pub(crate) fn agree(headers: &HeaderMap, offer: &Offer) -> Result<Agreed, Response<Body>> {
    if is_upgrade(headers) && contains(headers, header::UPGRADE, "websocket") {
        return websocket(headers, offer.websocket);
    }
    spdy(headers, offer.spdy)
}

fn spdy(headers: &HeaderMap, spoken: &'static [&'static str]) -> Result<Agreed, Response<Body>> {
    let refuse = |code, text: String| Err(plain(code, format!("unable to upgrade: {text}")));
    if !headers.contains_key(PROTOCOL_VERSION) {
        let count = headers.len();
        let text = format!("header X-Stream-Protocol-Version does not exist in request with {count} headers");
        return refuse(StatusCode::BAD_REQUEST, text);
    }
    let wanted = listed(headers, PROTOCOL_VERSION);
    let Some(protocol) = wanted.iter().find_map(|w| spoken.iter().find(|s| *s == w)) else {
        let text = format!(
            "unable to negotiate protocol: client supports [{}], server accepts [{}]",
            wanted.join(" "),
            spoken.join(" ")
        );
        return refuse(StatusCode::FORBIDDEN, text).map_err(|mut response| {
            for protocol in spoken {
                response.headers_mut().append(ACCEPTED_VERSIONS, HeaderValue::from_static(protocol));
            }
            response
        });
    };
    if !is_upgrade(headers) || !contains(headers, header::UPGRADE, "spdy/3.1") {
        return refuse(StatusCode::BAD_REQUEST, "missing upgrade headers in request".into());
    }
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    Ok(Agreed { wire: Wire::Spdy, protocol, response })
}

fn websocket(headers: &HeaderMap, spoken: &'static [&'static str]) -> Result<Agreed, Response<Body>> {
    let wanted = listed(headers, header::SEC_WEBSOCKET_PROTOCOL);
    let first = spoken.first().filter(|s| wanted.contains(s));
    let found = first.or_else(|| wanted.iter().find_map(|w| spoken.iter().find(|s| *s == w)));
    let protocol = match found {
        Some(protocol) => protocol,
        None if wanted.is_empty() => "",
        None => return Err(plain(StatusCode::FORBIDDEN, "none of the offered stream protocols is spoken here")),
    };
    if !contains(headers, header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(plain(StatusCode::BAD_REQUEST, "missing or bad WebSocket version"));
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return Err(plain(StatusCode::BAD_REQUEST, "a WebSocket request needs a key"));
    };
    let mut response = switching("websocket");
    if !protocol.is_empty() {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(Agreed { wire: Wire::WebSocket, protocol, response })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer { spdy: &["v4", "v3"], websocket: &["v5", "v4", "base64.v4"] };

    fn check(pairs: &[(&'static str, &'static str)], wanted: Result<(Wire, &str), u16>) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let agreed = agree(&headers, &OFFER);
        let found = agreed.map(|a| (a.wire, a.protocol)).map_err(|r| r.status().as_u16());
        assert_eq!(found, wanted, "{pairs:?}");
    }

    #[test]
    fn agreements() {
        let spdy = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        let web = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |base: &[(&'static str, &'static str)], more: &[(&'static str, &'static str)]| {
            base.iter().chain(more).copied().collect::<Vec<_>>()
        };
        let (version, protocol) = ("x-stream-protocol-version", "sec-websocket-protocol");
        check(&with(&spdy, &[(version, "v9"), (version, "v3, v4")]), Ok((Wire::Spdy, "v3")));
        check(&with(&spdy, &[(version, "v9")]), Err(403));
        check(&spdy, Err(400));
        check(&[(version, "v4")], Err(400));
        check(&with(&web, &[(protocol, "v4, v5")]), Ok((Wire::WebSocket, "v5")));
        check(&with(&web, &[(protocol, "v9,base64.v4,v4")]), Ok((Wire::WebSocket, "base64.v4")));
        check(&web, Ok((Wire::WebSocket, "")));
        check(&with(&web, &[(protocol, "v9")]), Err(403));
        check(&with(&web[..2], &[(protocol, "v4")]), Err(400));
    }
}
