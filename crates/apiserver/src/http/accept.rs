//! What a client takes (`Accept`), and values in that form.

use bytes::Bytes;
use kinds::Kind;
use object::{Reason, Status};
use schema::protobuf;
use serde_json::Value;

use crate::media;
use crate::table::Shape;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) shape: Shape,
    pub(crate) encoding: Encoding,
    /// The version of tables and partial metadata: clients of old ask for `v1beta1`.
    pub(crate) meta_version: &'static str,
}

impl Accepted {
    /// Plain JSON.
    pub(crate) const JSON: Self = Self { shape: Shape::Whole, encoding: Encoding::Json, meta_version: "v1" };

    /// The media type of a reply.
    pub(crate) fn content_type(self, watching: bool) -> &'static str {
        match (self.encoding, watching) {
            (Encoding::Json, _) => JSON,
            (Encoding::Yaml, _) => YAML,
            (Encoding::Protobuf, false) => PROTOBUF,
            (Encoding::Protobuf, true) => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What there is of most things, in the order in which a client that takes all is given them.
const OFFERED: [(&str, Encoding); 3] = [(JSON, Encoding::Json), (YAML, Encoding::Yaml), (PROTOBUF, Encoding::Protobuf)];

/// The first acceptable media type that there is; 406 when there is none.
pub(crate) fn negotiate(accept: &str, kind: &Kind, verb: &str) -> Result<Accepted, Status> {
    let (streams, lists) = (verb == "watch", matches!(verb, "watch" | "list"));
    let mut known_media = false;
    for range in media::ranges(accept) {
        let Some(encoding) = range.first(&OFFERED) else { continue };
        let shape = shape(&range, encoding);
        if encoding == Encoding::Protobuf && !has_protobuf(kind) && shape == Some(Shape::Whole) {
            continue;
        }
        known_media = true;
        let Some(shape) = shape.filter(|_| is_allowed(&range, encoding)) else { continue };
        if streams && encoding == Encoding::Yaml {
            break;
        }
        let meta_version = if range.parameter("v") == Some("v1beta1") { "v1beta1" } else { "v1" };
        return Ok(Accepted { shape, encoding, meta_version });
    }
    if known_media || kind.custom.is_some() {
        return Err(not_acceptable());
    }
    let streams = if lists { STREAMS } else { "" };
    let text = format!("406: Not Acceptable\n\nAvailable representations: {REPRESENTATIONS}{streams}");
    Err(Status::new(Reason::NotAcceptable, text))
}

/// The shape that a range asks for; `None` when there is no such.
fn shape(range: &media::Range<'_>, encoding: Encoding) -> Option<Shape> {
    let asked = ["as", "g", "v"].map(|name| range.parameter(name));
    match asked {
        [None, None, None] => Some(Shape::Whole),
        [Some("Table"), Some("meta.k8s.io"), Some("v1" | "v1beta1")] => {
            (encoding != Encoding::Protobuf).then_some(Shape::Table)
        }
        [Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1" | "v1beta1")] => {
            Some(Shape::Metadata)
        }
        _ => None,
    }
}

/// A range may say that it is about streams, of which there are those of watches, and of which version of the API.
fn is_allowed(range: &media::Range<'_>, encoding: Encoding) -> bool {
    let streams = range.parameter("stream").is_none_or(|what| what == "watch" && encoding != Encoding::Yaml);
    streams && range.parameter("sv").is_none_or(|version| version == "v1")
}

/// The encoding of discovery in its old form, which has no shape but its own.
pub(crate) fn of_discovery(accept: &str) -> Result<Encoding, Status> {
    let mut known_media = false;
    for range in media::ranges(accept) {
        let Some(encoding) = range.first(&OFFERED) else { continue };
        known_media = true;
        let is_plain = ["stream", "sv"].iter().all(|name| range.parameter(name).is_none());
        if is_plain && shape(&range, encoding) == Some(Shape::Whole) {
            return Ok(encoding);
        }
    }
    if known_media {
        return Err(not_acceptable());
    }
    let text = format!("406: Not Acceptable\n\nAvailable representations: {REPRESENTATIONS}");
    Err(Status::new(Reason::NotAcceptable, text))
}

const REPRESENTATIONS: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAMS: &str = ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// There is no such shape of this.
pub(crate) fn not_acceptable() -> Status {
    let text = format!("only the following media types are accepted: {REPRESENTATIONS}");
    Status::new(Reason::NotAcceptable, text)
}

fn has_protobuf(kind: &Kind) -> bool {
    kind.schema.as_deref().is_some_and(protobuf::is_known)
}

/// A value in the encoding.
pub(crate) fn encoded(value: &Value, encoding: Encoding, pretty: bool) -> Result<Bytes, Status> {
    Ok(match encoding {
        Encoding::Json if pretty => {
            let mut text = serde_json::to_vec_pretty(value).map_err(Status::internal)?;
            text.push(b'\n');
            text.into()
        }
        Encoding::Json => serde_json::to_vec(value).map_err(Status::internal)?.into(),
        Encoding::Yaml => serde_saphyr::to_string(value).map_err(Status::internal)?.into(),
        Encoding::Protobuf => sealed(value)?.into(),
    })
}

/// A value as an enveloped protobuf message. Its own words say what it is.
pub(crate) fn sealed(value: &Value) -> Result<Vec<u8>, Status> {
    let text = |field: &str| value[field].as_str().unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    Ok(protobuf::seal(api_version, kind, &message(value, api_version, kind)?))
}

/// A stored object as an enveloped protobuf message.
pub(crate) fn sealed_object(kind: &Kind, object: &object::Object) -> Result<Vec<u8>, Status> {
    let mut raw = Vec::with_capacity(object.body.len());
    protobuf::transcode(kind.schema.as_deref().unwrap_or(""), &object.body, &mut raw).map_err(Status::internal)?;
    Ok(protobuf::seal(&object.head.api_version, &object.head.kind, &raw))
}

fn message(value: &Value, api_version: &str, kind: &str) -> Result<Vec<u8>, Status> {
    let table = schema::table();
    if let Some(items) = value["items"].as_array()
        && let Some(single) = kind.strip_suffix("List")
    {
        let items = items.iter().map(|item| message(item, api_version, single)).collect::<Result<Vec<_>, _>>()?;
        return protobuf::encode_list(table, &value["metadata"], &items).map_err(Status::internal);
    }
    if kind == "PartialObjectMetadata" {
        return protobuf::encode_metadata(table, value).map_err(Status::internal);
    }
    let gvk = object::Gvk::from_api_version(api_version, kind);
    let name = match kinds::table().by_gvk(&gvk).and_then(|k| k.schema.as_deref()) {
        Some(name) => name.to_owned(),
        None => {
            crate::decode::body_schema(&gvk).ok_or_else(|| Status::internal(format!("{gvk} has no protobuf form")))?
        }
    };
    protobuf::encode(table, &name, value).map_err(Status::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_ask_for() {
        let pods = kinds::table().by_gvk(&object::Gvk::new("", "v1", "Pod")).unwrap();
        let check = |accept: &str, shape: Shape, encoding: Encoding, version: &str| {
            let found = negotiate(accept, pods, "get").unwrap();
            assert_eq!((found.shape, found.encoding, found.meta_version), (shape, encoding, version), "{accept}");
        };
        check("", Shape::Whole, Encoding::Json, "v1");
        check("*/*", Shape::Whole, Encoding::Json, "v1");
        check("text/html,application/yaml", Shape::Whole, Encoding::Yaml, "v1");
        check("application/vnd.kubernetes.protobuf, */*", Shape::Whole, Encoding::Protobuf, "v1");
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        check(&format!("{table},application/json"), Shape::Table, Encoding::Json, "v1");
        check("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Shape::Whole, Encoding::Json, "v1");
        check("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Shape::Table, Encoding::Json, "v1beta1");
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            Shape::Metadata,
            Encoding::Protobuf,
            "v1",
        );
        check("application/yaml;q=0.5,application/json;q=0.9", Shape::Whole, Encoding::Json, "v1");
        let refused = ["text/html", "application/json;as=Nope;v=v1;g=meta.k8s.io", "application/json;as=Table"];
        for refused in refused.into_iter().chain(["application/json;stream=x", "application/yaml;stream=watch"]) {
            assert_eq!(negotiate(refused, pods, "get").unwrap_err().code, 406, "{refused}");
        }
    }
}
