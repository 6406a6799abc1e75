#![no_main]
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use schema::structural::{self, Node};
use serde_json::{Map, Value, json};

const NAMES: [&str; 6] = ["spec", "a", "b", "metadata", "kind", "apiVersion"];

fn schema(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    let mut node = Map::new();
    let kind = *u.choose(&["object", "array", "string", "integer", "number", "boolean", ""])?;
    if !kind.is_empty() {
        node.insert("type".into(), kind.into());
    }
    for (name, value) in [
        ("nullable", json!(true)),
        ("x-kubernetes-preserve-unknown-fields", json!(true)),
        ("x-kubernetes-int-or-string", json!(true)),
        ("x-kubernetes-embedded-resource", json!(true)),
        ("x-kubernetes-list-type", json!("set")),
        ("x-kubernetes-list-type", json!("map")),
        ("x-kubernetes-list-map-keys", json!(["a"])),
        ("pattern", json!("^a(b|c)*$")),
        ("format", json!("date-time")),
        ("required", json!(["a"])),
    ] {
        if u.ratio(1, 8)? {
            node.insert(name.into(), value);
        }
    }
    for name in ["minimum", "maxLength", "minItems", "maxProperties", "multipleOf"] {
        if u.ratio(1, 8)? {
            node.insert(name.into(), u.int_in_range(-1..=4)?.into());
        }
    }
    for name in ["default", "enum", "anyOf", "oneOf", "not"] {
        if u.ratio(1, 12)? {
            node.insert(name.into(), fuzz::any(u, 3)?);
        }
    }
    if depth > 0 {
        for name in ["items", "additionalProperties"] {
            if u.ratio(1, 3)? {
                node.insert(name.into(), schema(u, depth - 1)?);
            }
        }
        let count = u.int_in_range(0..=3)?;
        let below = (0..count)
            .map(|_| Ok(((*u.choose(&NAMES)?).to_owned(), schema(u, depth - 1)?)))
            .collect::<Result<Map<_, _>>>()?;
        if !below.is_empty() {
            node.insert("properties".into(), below.into());
        }
    }
    Ok(node.into())
}

/// A value whose fields have the schema's names.
fn value(u: &mut Unstructured<'_>, depth: usize) -> Result<Value> {
    if depth == 0 || u.ratio(1, 3)? {
        return fuzz::any(u, 2);
    }
    let count = u.int_in_range(0..=4)?;
    Ok(if u.arbitrary()? {
        (0..count).map(|_| value(u, depth - 1)).collect::<Result<Vec<_>>>()?.into()
    } else {
        (0..count)
            .map(|_| Ok(((*u.choose(&NAMES)?).to_owned(), value(u, depth - 1)?)))
            .collect::<Result<Map<_, _>>>()?
            .into()
    })
}

fn run(data: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(data);
    let mut document = schema(u, 4)?;
    document["type"] = "object".into();
    let root = Node::parse(&document);
    let mut object = value(u, 5)?;
    if !object.is_object() {
        return Ok(());
    }
    let _ = schema::decode_custom(schema::table(), &root, object.clone(), &mut Vec::new());
    structural::prune(&mut object, &root);
    let pruned = object.clone();
    assert!(structural::prune(&mut object, &root).is_empty(), "{pruned}");
    assert_eq!(pruned, object);
    structural::default(&mut object, &root);
    let once = object.clone();
    structural::default(&mut object, &root);
    assert_eq!(once, object, "defaults are idempotent: {document}");
    let _ = structural::check(&object, &root, None);
    let _ = structural::check(&object, &root, Some(&pruned));
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
