//! `/statusz`: since when this server runs, and what it is; for people, and as `config.k8s.io/v1alpha1 Statusz`.

use std::sync::LazyLock;

use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use object::{Reason, Status};
use serde_json::json;

use super::reply::{self, Body};
use super::{Handled, header_text};
use crate::discovery;

/// When the process began to serve, in seconds.
static STARTED: LazyLock<i64> = LazyLock::new(base::time::now_seconds);

/// Notes the time.
pub(crate) fn begin() {
    LazyLock::force(&STARTED);
}

const NAME: &str = "apiserver";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
const PATHS: [&str; 6] = ["/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"];
const STRUCTURED: &str = "application/json;g=config.k8s.io;v=v1alpha1;as=Statusz";

/// Answers in the first form of the client's that there is.
pub(super) fn answer(headers: &HeaderMap) -> Handled {
    let accept = header_text(headers, header::ACCEPT);
    let ranges = if accept.trim().is_empty() { "*/*" } else { &accept };
    for range in ranges.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        let parameters: Vec<&str> = parts.collect();
        let is_structured = ["g=config.k8s.io", "v=v1alpha1", "as=Statusz"].iter().all(|p| parameters.contains(p));
        match media {
            "application/json" if is_structured => return Ok(structured()),
            "*/*" | "text/*" | "text/plain" if !parameters.iter().any(|p| p.starts_with("as=")) => return Ok(plain()),
            _ => {}
        }
    }
    let text = "only the following media types are accepted: application/json, text/plain";
    Err(Status::new(Reason::NotAcceptable, text))
}

fn versions() -> [String; 3] {
    let version = discovery::version();
    let text = |field: &str| version[field].as_str().unwrap_or("").to_owned();
    let binary = text("gitVersion");
    [text("goVersion"), binary.trim_start_matches('v').to_owned(), format!("{}.{}", text("major"), text("minor"))]
}

fn plain() -> Response<Body> {
    let up = base::time::now_seconds() - *STARTED;
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    let [go, binary, emulation] = versions();
    let (started, paths) = (unix_date(*STARTED), PATHS.join(" "));
    let text = format!(
        "\n{NAME} statusz\n{WARNING}\n\nStarted: {started}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: {go}\nBinary version: {binary}\nEmulation version: {emulation}\nPaths: {paths}\n"
    );
    reply::bytes(StatusCode::OK, text.into(), "text/plain; charset=utf-8")
}

/// `Thu Nov 26 04:20:53 UTC 2026`.
fn unix_date(seconds: i64) -> String {
    let date = base::time::http_date(seconds);
    match date.split_whitespace().collect::<Vec<_>>().as_slice() {
        [weekday, day, month, year, time, _] => {
            format!("{} {month} {:>2} {time} UTC {year}", weekday.trim_end_matches(','), day.trim_start_matches('0'))
        }
        _ => date,
    }
}

fn structured() -> Response<Body> {
    let [go, binary, emulation] = versions();
    let status = json!({"kind": "Statusz", "apiVersion": "config.k8s.io/v1alpha1", "metadata": {"name": NAME},
        "startTime": base::time::format_seconds(*STARTED), "uptimeSeconds": base::time::now_seconds() - *STARTED,
        "goVersion": go, "binaryVersion": binary, "emulationVersion": emulation, "paths": PATHS});
    reply::bytes(StatusCode::OK, status.to_string().into(), STRUCTURED)
}
