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
    if kind.custom.is_none() {
        is_offered(accept, if lists { &REPRESENTATIONS_AND_STREAMS } else { &REPRESENTATIONS })?;
    }
    for range in media::ranges(accept) {
        let Some(encoding) = range.first(&OFFERED) else { continue };
        let Some(shape) = shape(&range, encoding).filter(|_| is_allowed(&range, encoding)) else { continue };
        if encoding == Encoding::Protobuf && !has_protobuf(kind) && shape == Shape::Whole {
            continue;
        }
        if streams && encoding == Encoding::Yaml {
            return Err(only(&REPRESENTATIONS_AND_STREAMS[REPRESENTATIONS.len()..]));
        }
        let list = range.parameter("as") == Some("PartialObjectMetadataList");
        if shape == Shape::Metadata && list != lists && matches!(verb, "get" | "list") {
            return Err(misfit(kind, list));
        }
        let meta_version = if range.parameter("v") == Some("v1beta1") { "v1beta1" } else { "v1" };
        return Ok(Accepted { shape, encoding, meta_version });
    }
    Err(only(&REPRESENTATIONS))
}

/// 406 for who takes none of these, by upstream's first look: it knows no `application/*`, and no weights.
pub(crate) fn is_offered(accept: &str, offered: &[&str]) -> Result<(), Status> {
    let mut taken = accept.split(',').map(|range| range.split(';').next().unwrap_or("").trim());
    if accept.is_empty() || taken.any(|media| media == "*/*" || offered.contains(&media)) {
        return Ok(());
    }
    let text = format!("406: Not Acceptable\n\nAvailable representations: {}", offered.join(", "));
    Err(Status::new(Reason::NotAcceptable, text))
}

/// There are only these.
pub(crate) fn only(media: &[&str]) -> Status {
    let text = format!("only the following media types are accepted: {}", media.join(", "));
    Status::new(Reason::NotAcceptable, text)
}

/// Metadata of a list was asked for where there is one object, or the other way round.
fn misfit(kind: &Kind, list: bool) -> Status {
    let group = kind.gvr().group;
    let package = match group.split('.').next().unwrap_or("") {
        "" | "events" => "core",
        package => package,
    };
    let (asked, is, suffix) = match list {
        true => ("PartialObjectMetadataList", "not a list", ""),
        false => ("PartialObjectMetadata", "a list", "List"),
    };
    let name = match kind.custom.is_some() {
        true => format!("unstructured.Unstructured{suffix}"),
        false => format!("{package}.{}{suffix}", kind.kind),
    };
    let text = format!("you requested {asked}, but the requested object is {is} (*{name})");
    Status::new(Reason::NotAcceptable, text)
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

/// The encoding of what has no shape but its own: discovery in its old form, failures.
pub(crate) fn plain(accept: &str) -> Result<Encoding, Status> {
    let plain = media::ranges(accept).into_iter().find_map(|range| {
        let encoding = range.first(&OFFERED)?;
        let is_plain = range.parameter("sv").is_none() && shape(&range, encoding) == Some(Shape::Whole);
        (is_plain && is_allowed(&range, encoding)).then_some(encoding)
    });
    plain.ok_or_else(|| only(&REPRESENTATIONS))
}

/// What there is of most things.
pub(crate) const REPRESENTATIONS: [&str; 3] = [JSON, YAML, PROTOBUF];
const REPRESENTATIONS_AND_STREAMS: [&str; 5] =
    [JSON, YAML, PROTOBUF, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

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
    let name = crate::decode::schema_of(&gvk).ok_or_else(|| Status::internal(format!("{gvk} has no protobuf form")))?;
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
