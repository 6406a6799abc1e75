//! Makes `data/documents.json`, `data/parameters.json` and `data/descriptions.json.z` say what upstream's own document says, beyond
//! what the table of types knows: the words, the order of required fields, the values of list items, the parameters of requests.
//!
//! `cargo run -p schema --features generate --example documents -- crates/schema/data openapi-v2.json v3/*.json`, where the files are
//! what a server of upstream answers to `GET /openapi/v2` and to all that `/openapi/v3` lists. Run it after `generate`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

type Descriptions = BTreeMap<String, BTreeMap<String, String>>;

/// What only documents say of a type.
fn extras(definition: &Value) -> Map<String, Value> {
    let mut extras = Map::new();
    let required: Vec<&str> =
        definition["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !required.is_sorted() {
        extras.insert("required".into(), json!(required));
    }
    if let Some(unions) = definition.get("x-kubernetes-unions") {
        extras.insert("unions".into(), unions.clone());
    }
    let (mut enums, mut maps) = (Map::new(), Map::new());
    for (field, property) in definition["properties"].as_object().into_iter().flatten() {
        for inner in ["items", "additionalProperties"] {
            if let Some(allowed) = property[inner].get("enum") {
                enums.insert(field.clone(), allowed.clone());
            }
        }
        if property["x-kubernetes-map-type"] == "granular" {
            maps.insert(field.clone(), "granular".into());
        }
    }
    for (name, found) in [("enums", enums), ("maps", maps)] {
        if !found.is_empty() {
            extras.insert(name.into(), found.into());
        }
    }
    extras
}

fn describe(descriptions: &mut Descriptions, name: &str, definition: &Value) {
    let own = descriptions.entry(name.into()).or_default();
    let properties = definition["properties"].as_object().into_iter().flatten().map(|(field, p)| (field.as_str(), p));
    for (field, described) in std::iter::once(("", definition)).chain(properties) {
        match described["description"].as_str() {
            Some(text) => drop(own.insert(field.into(), text.into())),
            None => drop(own.remove(field)),
        }
    }
}

/// Parameters by the names that they have in v2; the two that v2 repeats everywhere under their own.
fn parameters(document: &Value) -> BTreeMap<String, Value> {
    let entry = |p: &Value| json!([p["name"], p["in"], p["type"], p["description"]]);
    let mut found = BTreeMap::new();
    for (id, parameter) in document["parameters"].as_object().into_iter().flatten() {
        if parameter["in"] != "body" {
            found.insert(id.clone(), entry(parameter));
        }
    }
    let methods = document["paths"].as_object().into_iter().flatten().flat_map(|(_, item)| item.as_object());
    for parameter in
        methods.flat_map(|item| item.values()).filter_map(|operation| operation["parameters"].as_array()).flatten()
    {
        if let Some(name) = parameter["name"].as_str().filter(|_| parameter["in"] == "query") {
            found.insert(name.into(), entry(parameter));
        }
    }
    found
}

/// A JSON map with one entry on each line.
fn lines<T: serde::Serialize>(map: &BTreeMap<String, T>) -> Result<String> {
    let lines: Result<Vec<String>> =
        map.iter().map(|(name, value)| Ok(format!("{}:{}", json!(name), serde_json::to_string(value)?))).collect();
    Ok(format!("{{\n{}\n}}\n", lines?.join(",\n")))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(arguments.len() > 2, "arguments: the folder to write to, the v2 document, the v3 documents");
    let folder = Path::new(&arguments[0]);
    let read = |path: &String| -> Result<Value> {
        Ok(serde_json::from_slice(&std::fs::read(path).with_context(|| format!("reading {path}"))?)?)
    };
    let document = read(&arguments[1])?;
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(std::fs::File::open(folder.join("descriptions.json.z"))?)
        .read_to_string(&mut text)?;
    let mut descriptions: Descriptions = serde_json::from_str(&text)?;
    let mut documents: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (name, definition) in document["definitions"].as_object().into_iter().flatten() {
        if !name.starts_with("io.k8s.") {
            continue;
        }
        describe(&mut descriptions, name, definition);
        let found = extras(definition);
        if !found.is_empty() {
            documents.insert(name.clone(), found);
        }
    }
    for path in &arguments[2..] {
        for (name, definition) in read(path)?["components"]["schemas"].as_object().into_iter().flatten() {
            let properties = definition["properties"].as_object().into_iter().flatten();
            let defaults: Map<String, Value> =
                properties.filter_map(|(field, p)| Some((field.clone(), p.get("default")?.clone()))).collect();
            if name.starts_with("io.k8s.") && !defaults.is_empty() {
                documents.entry(name.clone()).or_default().insert("defaults".into(), defaults.into());
            }
        }
    }
    std::fs::write(folder.join("documents.json"), lines(&documents)?)?;
    std::fs::write(folder.join("parameters.json"), lines(&parameters(&document))?)?;
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(lines(&descriptions)?.as_bytes())?;
    std::fs::write(folder.join("descriptions.json.z"), packed.finish()?)?;
    Ok(())
}
