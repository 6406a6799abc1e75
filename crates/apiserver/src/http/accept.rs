//! What a client takes (`Accept`), and values in that form.

use bytes::Bytes;
use kinds::Kind;
use object::{Reason, Status};
use schema::protobuf;
use serde_json::Value;

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
            (Encoding::Json, _) => "application/json",
            (Encoding::Yaml, _) => "application/yaml",
            (Encoding::Protobuf, false) => "application/vnd.kubernetes.protobuf",
            (Encoding::Protobuf, true) => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// The first acceptable media type that there is; 406 when there is none.
pub(crate) fn negotiate(accept: &str, kind: &Kind, verb: &str) -> Result<Accepted, Status> {
    let (streams, lists) = (verb == "watch", matches!(verb, "watch" | "list"));
    if accept.trim().is_empty() {
        return Ok(Accepted::JSON);
    }
    let mut known_media = false;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let encoding = match parts.next().unwrap_or("") {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" if !streams => Encoding::Yaml,
            "application/vnd.kubernetes.protobuf" if has_protobuf(kind) => Encoding::Protobuf,
            _ => continue,
        };
        known_media = true;
        let parameter = |name: &str| {
            let mut all = range.split(';').map(str::trim).filter_map(|p| p.split_once('='));
            all.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let meta_version = match parameter("v") {
            Some("v1beta1") => "v1beta1",
            None | Some("v1") => "v1",
            Some(_) => "",
        };
        let ours = parameter("g").unwrap_or("meta.k8s.io") == "meta.k8s.io" && !meta_version.is_empty();
        let shape = match parameter("as") {
            None => return Ok(Accepted { shape: Shape::Whole, encoding, meta_version: "v1" }),
            Some("Table") if ours && encoding != Encoding::Protobuf => Shape::Table,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if ours => Shape::Metadata,
            Some(_) => continue,
        };
        return Ok(Accepted { shape, encoding, meta_version });
    }
    if known_media || kind.custom.is_some() {
        return Err(not_acceptable());
    }
    let streams = if lists { STREAMS } else { "" };
    let text = format!("406: Not Acceptable\n\nAvailable representations: {REPRESENTATIONS}{streams}");
    Err(Status::new(Reason::NotAcceptable, text))
}

/// The encoding of discovery in its old form, which has no shape but its own.
pub(crate) fn of_discovery(accept: &str) -> Result<Encoding, Status> {
    if accept.trim().is_empty() {
        return Ok(Encoding::Json);
    }
    let mut known_media = false;
    for range in accept.split(',') {
        let encoding = match range.split(';').next().unwrap_or("").trim() {
            "application/json" | "*/*" | "application/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
            _ => continue,
        };
        known_media = true;
        if !range.split(';').any(|p| p.trim().starts_with("as=")) {
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
        for refused in ["text/html", "application/json;as=Nope;v=v1;g=meta.k8s.io"] {
            assert_eq!(negotiate(refused, pods, "get").unwrap_err().code, 406, "{refused}");
        }
    }
}
