#![no_main]
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use object::patch::{FieldSet, MergeInfo, Shape, Write, apply, one_version};
use serde_json::Value;

/// True when an item of a list lacks what names it, perhaps: the API refuses that, and where it would be stored nobody can tell.
fn has_nameless_items(kind: &kinds::Kind, object: &Value) -> bool {
    let (mut object, mut errors) = (object.clone(), Vec::new());
    kind.default(&mut object);
    kind.validate(&object, None, &mut errors);
    errors.iter().any(|e| e.field.contains("]."))
}

/// True when an item says only a part of its name: what Go then writes into it changes the name.
fn is_partly_named(place: schema::Place<'_>, value: &Value) -> bool {
    match value {
        Value::Object(entries) => {
            entries.iter().any(|(key, entry)| place.field(key).is_some_and(|below| is_partly_named(below, entry)))
        }
        Value::Array(items) => {
            let keys = if place.shape(value) == Shape::Keyed { place.keys() } else { &[] };
            let lacks =
                |item: &Value, key: &String| item.get(key).is_none() && place.element().key_default(key).is_none();
            items.iter().any(|item| keys.iter().any(|key| lacks(item, key)) || is_partly_named(place.element(), item))
        }
        _ => false,
    }
}

fn run(data: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(data);
    let kind = fuzz::kind(u)?;
    let (version, ignored) = (kind.api_version(), FieldSet::default());
    let write = |manager| Write {
        manager,
        api_version: &version,
        subresource: "",
        time: "2020-01-01T00:00:00Z",
        ignored: &ignored,
    };
    let mut live = None;
    for manager in ["a", "b", "a"] {
        // As it comes from the API's decoder.
        let Ok(mut configuration) = kind.decode(fuzz::object_of(u, kind)?, &mut Vec::new()) else { continue };
        // Without a name there is nothing to apply to.
        let Some(metadata) = configuration["metadata"].as_object_mut() else { continue };
        metadata.remove("managedFields");
        let Ok(applied) =
            apply(kind.place(), live.as_ref(), &configuration, &write(manager), u.arbitrary()?, &one_version)
        else {
            continue;
        };
        // As it is stored: what has no value is null or absent, as the type wants it.
        let stored = |applied| {
            let mut value = kind.decode(applied, &mut Vec::new()).expect("what was applied is of the type");
            let (table, name) = (schema::table(), kind.schema.as_deref().unwrap_or(""));
            schema::complete(table, name, &mut value);
            schema::hollow(table, name, &mut value);
            value
        };
        let applied = stored(applied);
        // What nobody manages is taken for older than apply by the next one, as upstream does.
        let is_managed = applied["metadata"].get("managedFields").is_some();
        let again = apply(kind.place(), Some(&applied), &configuration, &write(manager), true, &one_version)
            .expect("it was applied before");
        if is_managed && !has_nameless_items(kind, &applied) && !is_partly_named(kind.place(), &configuration) {
            assert_eq!(applied, stored(again), "the same again changes nothing: {configuration}");
        }
        live = Some(applied);
    }
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
