#![no_main]
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// Puts directives of strategic merge patches here and there.
fn direct(u: &mut Unstructured<'_>, value: &mut Value) -> Result<()> {
    match value {
        Value::Array(items) => {
            for item in items.iter_mut() {
                direct(u, item)?;
            }
            if u.ratio(1, 6)? {
                items.push(json!({"$patch": u.choose(&["replace", "delete", "merge", "x"])?}));
            }
        }
        Value::Object(fields) => {
            for (_, field) in fields.iter_mut() {
                direct(u, field)?;
            }
            let names: Vec<String> = fields.keys().cloned().collect();
            if names.is_empty() || u.ratio(3, 4)? {
                return Ok(());
            }
            let name = u.choose(&names)?.clone();
            match u.int_in_range(0..=4)? {
                0 => fields.insert("$patch".into(), (*u.choose(&["replace", "delete", "merge"])?).into()),
                1 => fields.insert(format!("$setElementOrder/{name}"), fuzz::any(u, 3)?),
                2 => fields.insert(format!("$deleteFromPrimitiveList/{name}"), fuzz::any(u, 2)?),
                3 => fields.insert("$retainKeys".into(), json!([name])),
                _ => fields.insert(name, Value::Null),
            };
        }
        _ => {}
    }
    Ok(())
}

fn run(data: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(data);
    let kind = fuzz::kind(u)?;
    let target = fuzz::object_of(u, kind)?;
    let mut patch = fuzz::object_of(u, kind)?;
    let mut once = target.clone();
    object::patch::merge(&mut once, &patch);
    let mut twice = once.clone();
    object::patch::merge(&mut twice, &patch);
    assert_eq!(once, twice, "a merge patch twice is as once");
    direct(u, &mut patch)?;
    let mut merged = target.clone();
    let _ = schema::strategic_merge(schema::table(), kind.schema.as_deref().unwrap_or(""), &mut merged, &patch);
    let operations = u.int_in_range(0..=4)?;
    let operations: Vec<Value> = (0..operations)
        .map(|_| {
            let path = *u.choose(&["", "/", "/metadata", "/metadata/labels/a", "/spec/-", "/spec/0", "/a~1b", "/~2", "x", "/spec/containers/0"])?;
            let op = *u.choose(&["add", "remove", "replace", "move", "copy", "test", "x"])?;
            Ok(json!({"op": op, "path": path, "from": *u.choose(&["/metadata", "/spec", "", "/x"])?, "value": fuzz::any(u, 3)?}))
        })
        .collect::<Result<_>>()?;
    let mut patched = target;
    let _ = object::patch::json::apply(&mut patched, &operations.into());
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
