//! `apidiscovery.k8s.io/v2 APIGroupDiscoveryList` in protobuf. Its types are no part of the table: nobody stores or explains them.

use serde_json::Value;

use super::encode::bytes;

/// The message, without its envelope.
pub fn encode_discovery(list: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    // `selfLink`, `resourceVersion`, `continue`.
    let mut metadata = Vec::new();
    (1..=3).for_each(|field| text(field, &Value::Null, &mut metadata));
    bytes(1, &metadata, &mut out);
    messages(2, &list["items"], &mut out, |group, out| {
        let mut metadata = Vec::new();
        text(1, &group["metadata"]["name"], &mut metadata);
        // From `generateName` to `resourceVersion`; then `generation` and `creationTimestamp`.
        (2..=6).for_each(|field| text(field, &Value::Null, &mut metadata));
        metadata.extend([7 << 3, 0]);
        bytes(8, &[], &mut metadata);
        bytes(1, &metadata, out);
        messages(2, &group["versions"], out, version);
    });
    out
}

/// What Go holds by value is written when it is empty, too.
fn text(field: u32, value: &Value, out: &mut Vec<u8>) {
    bytes(field, value.as_str().unwrap_or("").as_bytes(), out);
}

fn texts(field: u32, value: &Value, out: &mut Vec<u8>) {
    value.as_array().into_iter().flatten().for_each(|item| text(field, item, out));
}

fn messages(field: u32, value: &Value, out: &mut Vec<u8>, write: fn(&Value, &mut Vec<u8>)) {
    for item in value.as_array().into_iter().flatten() {
        let mut m = Vec::new();
        write(item, &mut m);
        bytes(field, &m, out);
    }
}

fn version(value: &Value, out: &mut Vec<u8>) {
    text(1, &value["version"], out);
    messages(2, &value["resources"], out, resource);
    text(3, &value["freshness"], out);
}

fn resource(value: &Value, out: &mut Vec<u8>) {
    text(1, &value["resource"], out);
    kind(2, &value["responseKind"], out);
    text(3, &value["scope"], out);
    text(4, &value["singularResource"], out);
    texts(5, &value["verbs"], out);
    texts(6, &value["shortNames"], out);
    texts(7, &value["categories"], out);
    messages(8, &value["subresources"], out, |value, out| {
        text(1, &value["subresource"], out);
        kind(2, &value["responseKind"], out);
        texts(4, &value["verbs"], out);
    });
}

fn kind(field: u32, value: &Value, out: &mut Vec<u8>) {
    if !value.is_object() {
        return;
    }
    let mut m = Vec::new();
    for (field, name) in [(1, "group"), (2, "version"), (3, "kind")] {
        text(field, &value[name], &mut m);
    }
    bytes(field, &m, out);
}
