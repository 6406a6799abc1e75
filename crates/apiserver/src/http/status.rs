//! `/statusz`: since when this server runs, and what it is; for people, and as a `Statusz` of `config.k8s.io`.

use std::sync::LazyLock;

use http::StatusCode;
use http::header::{self, HeaderMap};
use object::{Reason, Status};
use serde_json::{Value, json};

use super::accept::{self, Encoding};
use super::{Handled, header_text, reply};
use crate::discovery;

/// When the process began to serve, in seconds.
static STARTED: LazyLock<i64> = LazyLock::new(base::time::now_seconds);

/// Notes the time.
pub(crate) fn begin() {
    LazyLock::force(&STARTED);
}

pub(super) const NAME: &str = "apiserver";
pub(super) const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
const PATHS: [&str; 7] = ["/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"];
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];

/// Answers in the first form of the client's that there is.
pub(super) fn answer(headers: &HeaderMap) -> Handled {
    negotiated(headers, "Statusz", plain, structured)
}

/// Answers with a page in the first form of the client's that there is: a text, or an object of a version of `config.k8s.io`.
pub(super) fn negotiated(
    headers: &HeaderMap,
    kind: &str,
    text: impl FnOnce() -> String,
    object: impl FnOnce(&str) -> Value,
) -> Handled {
    let accept = header_text(headers, header::ACCEPT);
    let ranges = if accept.trim().is_empty() { "*/*" } else { &accept };
    for range in ranges.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        let parameters: Vec<&str> = parts.collect();
        let version = parameters.iter().find_map(|p| p.strip_prefix("v=")).filter(|v| VERSIONS.contains(v));
        let is_of_kind = parameters.contains(&"g=config.k8s.io") && parameters.contains(&format!("as={kind}").as_str());
        match (media, version.filter(|_| is_of_kind)) {
            ("application/json" | "application/yaml", Some(version)) => {
                let content_type = format!("{media};g=config.k8s.io;v={version};as={kind}");
                let encoding = if media == "application/yaml" { Encoding::Yaml } else { Encoding::Json };
                let body = accept::encoded(&object(version), encoding, false)?;
                return Ok(reply::bytes(StatusCode::OK, body, &content_type));
            }
            ("*/*" | "text/*" | "text/plain", _) if !parameters.iter().any(|p| p.starts_with("as=")) => {
                return Ok(reply::bytes(StatusCode::OK, text().into(), "text/plain; charset=utf-8"));
            }
            _ => {}
        }
    }
    let text = "only the following media types are accepted: application/json, application/yaml, text/plain";
    Err(Status::new(Reason::NotAcceptable, text))
}

fn versions() -> [String; 3] {
    let version = discovery::version();
    let text = |field: &str| version[field].as_str().unwrap_or("").to_owned();
    let binary = text("gitVersion");
    [text("goVersion"), binary.trim_start_matches('v').to_owned(), format!("{}.{}", text("major"), text("minor"))]
}

fn plain() -> String {
    let up = base::time::now_seconds() - *STARTED;
    let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
    let [go, binary, emulation] = versions();
    let (started, paths) = (unix_date(*STARTED), PATHS.join(" "));
    format!(
        "\n{NAME} statusz\n{WARNING}\n\nStarted: {started}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: {go}\nBinary version: {binary}\nEmulation version: {emulation}\nPaths: {paths}\n"
    )
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

fn structured(version: &str) -> Value {
    let [go, binary, emulation] = versions();
    json!({"kind": "Statusz", "apiVersion": format!("config.k8s.io/{version}"), "metadata": {"name": NAME},
        "startTime": base::time::format_seconds(*STARTED), "uptimeSeconds": base::time::now_seconds() - *STARTED,
        "goVersion": go, "binaryVersion": binary, "emulationVersion": emulation, "paths": PATHS})
}
