//! What is for those who look into a running server: `/flagz`, its flags; `/debug/flags/v`, how much it logs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::reply::{self, Body};
use super::{Handled, status};

/// Sets how much is logged, in klog's numbers.
pub type Verbosity = Arc<dyn Fn(u32) -> Result<(), String> + Send + Sync>;

/// What a server tells of itself to those who look into it.
#[derive(Clone, Default)]
pub struct Debug {
    /// The flags that it was started with, none of them secret.
    pub flags: BTreeMap<String, String>,
    /// Sets how much is logged; nobody may where it is absent.
    pub verbosity: Option<Verbosity>,
}

const INDEX: &str = "<html>\n<head>\n<title>/debug/flags/</title>\n</head>\n<body>\n/debug/flags/<br>\n<br>\nflags:<br>\n<table>\n<tr>v<br>\n</table>\n<br>\nfull flags configurable<br>\n</body>\n</html>\n";

/// True for paths that are answered whatever the method.
pub(super) fn is_settable(path: &str) -> bool {
    path == "/debug/flags/v"
}

impl Debug {
    /// Answers `/flagz`.
    pub(super) fn flagz(&self, headers: &HeaderMap) -> Handled {
        let structured = |version: &str| {
            json!({"kind": "Flagz", "apiVersion": format!("config.k8s.io/{version}"),
                "metadata": {"name": status::NAME}, "flags": self.flags})
        };
        let mut text = format!("\n{} flagz\n{}\n", status::NAME, status::WARNING);
        for (name, value) in &self.flags {
            // Text is never too long for memory.
            let _ = writeln!(text, "{name}:{value}");
        }
        text.push('\n');
        status::negotiated(headers, "Flagz", || text, structured)
    }

    /// Answers what is below `/debug/flags`; `None` for other paths.
    pub(super) fn page(&self, path: &str) -> Option<Response<Body>> {
        let is_index = path == "/debug/flags" || path.starts_with("/debug/flags/");
        (self.verbosity.is_some() && is_index)
            .then(|| reply::bytes(StatusCode::OK, INDEX.into(), "text/html; charset=utf-8"))
    }

    /// Answers `/debug/flags/v`.
    pub(super) fn set(&self, method: &Method, body: &Bytes) -> Response<Body> {
        let Some(verbosity) = &self.verbosity else { return reply::page_not_found() };
        let (code, words) = match *method {
            Method::PUT => {
                match parsed(&String::from_utf8_lossy(body)).and_then(|level| Ok((level, verbosity(level)?))) {
                    Ok((level, ())) => (200, format!("successfully set klog.logging.verbosity to {level}\n")),
                    Err(why) => (400, format!("{why}\n")),
                }
            }
            _ => (406, "unsupported http method\n".into()),
        };
        let mut response = reply::text(code, words);
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
        response
    }
}

/// A number as Go reads it.
fn parsed(text: &str) -> Result<u32, String> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok()).filter(|_| is_number);
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    number.ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: {why}"))
}
