//! `/statusz`: since when this server runs, and what it is; for people, and as a `Statusz` of `config.k8s.io`.

use std::sync::LazyLock;

use http::StatusCode;
use http::header::{self, HeaderMap};
use object::{Reason, Status};
use serde_json::{Value, json};

use super::accept::{self, Encoding};
use super::{Handled, header_text, reply};
use crate::{discovery, media};

/// When the process began to serve, in seconds.
static STARTED: LazyLock<i64> = LazyLock::new(base::time::now_seconds);

/// Notes the time.
pub(crate) fn begin() {
    LazyLock::force(&STARTED);
}

pub(super) const NAME: &str = "apiserver";
pub(super) const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
const PATHS: [&str; 7] = ["/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"];
const GROUP: &str = "config.k8s.io";
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];
/// What there is, best first.
const FORMS: [(&str, Option<Encoding>); 3] =
    [("application/json", Some(Encoding::Json)), ("application/yaml", Some(Encoding::Yaml)), ("text/plain", None)];

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
    let found = media::ranges(&accept).into_iter().find_map(|range| {
        let form = |(media, encoding): &(&'static str, Option<Encoding>)| {
            range.takes(media).then(|| shape(&range, kind, *encoding)).flatten().map(|shape| (*media, shape))
        };
        FORMS.iter().find_map(form)
    });
    if let Some((media, shape)) = found {
        let (body, content_type) = match shape {
            Shape::Text => (text().into(), format!("{media}; charset=utf-8")),
            Shape::Object(encoding, version) => {
                let body = accept::encoded(&object(version), encoding, false)?;
                (body, format!("{media};g={GROUP};v={version};as={kind}"))
            }
        };
        return Ok(reply::bytes(StatusCode::OK, body, &content_type));
    }
    let text = "only the following media types are accepted: application/json, application/yaml, text/plain";
    Err(Status::new(Reason::NotAcceptable, text))
}

/// A page, or an object of a version.
enum Shape {
    Text,
    Object(Encoding, &'static str),
}

/// What the range asks for, if there is such a form: a text of nothing in particular, an object of a version that there is.
fn shape(range: &media::Range<'_>, kind: &str, encoding: Option<Encoding>) -> Option<Shape> {
    let wanted = ["g", "v", "as"].map(|name| range.parameter(name));
    match (encoding, wanted) {
        _ if range.parameter("stream").is_some() => None,
        (None, [None, None, None]) => Some(Shape::Text),
        (Some(encoding), [Some(GROUP), Some(version), Some(named)]) if named == kind => {
            let version = VERSIONS.iter().find(|known| **known == version)?;
            Some(Shape::Object(encoding, version))
        }
        _ => None,
    }
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
