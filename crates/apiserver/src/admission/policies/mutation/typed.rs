//! An apply configuration that an expression made against the type of the object: upstream converts nothing, where JSON would.

use cel::{Key, Map, Value as Cel};
use object::patch::{MergeInfo, Shape};
use serde_json::{Value, json};

/// Structures are named by the fields that lead to them; what is wrong is joined.
pub(super) fn names(made: &Cel) -> Result<(), String> {
    let mut wrong = Vec::new();
    named(made, "Object", &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", wrong.join("\n"))) }
}

fn named(value: &Cel, wanted: &str, wrong: &mut Vec<String>) {
    match value {
        Cel::Map(map) => {
            if let Some(name) = map.name.as_deref().filter(|name| *name != wanted) {
                wrong.push(format!(
                    "unexpected type name {name:?}, expected {wanted:?}, which matches field name path from root Object type"
                ));
            }
            for (key, value) in &map.entries {
                match (&map.name, key) {
                    (Some(_), Key::String(field)) => named(value, &format!("{wanted}.{field}"), wrong),
                    _ => named(value, wanted, wrong),
                }
            }
        }
        Cel::List(list) => list.items.iter().for_each(|item| named(item, wanted, wrong)),
        _ => {}
    }
}

/// Why a value that JSON has no words for, or other ones, cannot stand at a place; the first such value is told of.
pub(super) fn values<M: MergeInfo>(value: &Cel, place: M, path: &str) -> Result<(), String> {
    match value {
        Cel::Map(map) => {
            keys(map, place, path)?;
            for (key, value) in &map.entries {
                let Key::String(name) = key else { continue };
                if let Some(below) = place.field(name) {
                    values(value, below, &format!("{path}.{name}"))?;
                }
            }
            Ok(())
        }
        Cel::List(list) => {
            let item = |(index, item): (usize, &Cel)| values(item, place.element(), &format!("{path}[{index}]"));
            list.items.iter().enumerate().try_for_each(item)
        }
        Cel::Null => misplaced(place, path, "structpb.NullValue", "NULL_VALUE"),
        Cel::Uint(n) => misplaced(place, path, "uint64", &n.to_string()),
        Cel::Bytes(bytes) => {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:#x}")).collect();
            misplaced(place, path, "[]uint8", &format!("[]uint8{{{}}}", bytes.join(", ")))
        }
        Cel::Duration(_) => misplaced(place, path, "time.Duration", &value.to_string()),
        Cel::Timestamp(_) => misplaced(place, path, "time.Time", &value.to_string()),
        _ => Ok(()),
    }
}

/// Maps have texts for keys; upstream tells of it at the structure that has the map.
fn keys<M: MergeInfo>(map: &Map, place: M, path: &str) -> Result<(), String> {
    if map.name.is_none() {
        return Ok(());
    }
    for (field, value) in &map.entries {
        let Cel::Map(below) = value else { continue };
        let (kind, key) = match below.entries.keys().find(|key| !matches!(key, Key::String(_))) {
            Some(Key::Int(n)) => ("types.Int", u32::try_from(*n).ok()),
            Some(Key::Uint(n)) => ("types.Uint", u32::try_from(*n).ok()),
            Some(Key::Bool(is_set)) => ("types.Bool", Some(u32::from(*is_set))),
            Some(Key::String(_)) | None => continue,
        };
        // Go shows a number as the character that it is of.
        let shown = match key.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER) {
            c if c.is_control() => format!("'\\x{:02x}'", u32::from(c)),
            c => format!("{c:?}"),
        };
        let field = field.value();
        let why = format!("fail to convert field \"{field}\": map key {shown} is of type {kind}, not string");
        if let Some(expected) = expected(place) {
            return Err(format!("{}: {expected}, got &{{{why}}}", if path.is_empty() { "." } else { path }));
        }
    }
    Ok(())
}

/// What a place takes, as messages have it; `None` where that is left open.
fn expected<M: MergeInfo>(place: M) -> Option<String> {
    // No place takes a text and a number, unless it takes anything.
    let why = [json!("x"), json!(1)].iter().find_map(|probe| place.check(probe).err())?;
    why.split(", got ").next().map(str::to_owned)
}

fn misplaced<M: MergeInfo>(place: M, path: &str, kind: &str, shown: &str) -> Result<(), String> {
    let Some(expected) = expected(place) else { return Ok(()) };
    let got = match expected.as_str() {
        "expected numeric (int or float)" => kind.to_owned(),
        "expected string" => format!("&value.valueUnstructured{{Value:{shown}}}"),
        _ => format!("&{{{shown}}}"),
    };
    Err(format!("{path}: {expected}, got {got}"))
}

/// Where a configuration has what is only replaced whole: a policy may not, as it would drop what it does not say.
pub(super) fn atomics<M: MergeInfo>(config: &Value, place: M) -> Result<(), String> {
    let mut found = Vec::new();
    atomic(config, place, "", &mut found);
    match found.is_empty() {
        true => Ok(()),
        false => {
            let all = found.join(", ");
            Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {all}"))
        }
    }
}

fn atomic<M: MergeInfo>(value: &Value, place: M, path: &str, found: &mut Vec<String>) {
    if !value.is_object() && !value.is_array() {
        return;
    }
    if place.shape(value) == Shape::Leaf {
        found.push(path.to_owned());
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| place.is_declared(name)) {
                if let Some(below) = place.field(name) {
                    atomic(value, below, &format!("{path}.{name}"), found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                atomic(item, place.element(), &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Numbers without a fraction are whole, as upstream reads them into whole fields.
pub(super) fn whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let exact = number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15);
            if let Some(exact) = exact {
                *value = (exact as i64).into();
            }
        }
        Value::Object(fields) => fields.values_mut().for_each(whole),
        Value::Array(items) => items.iter_mut().for_each(whole),
        _ => {}
    }
}
