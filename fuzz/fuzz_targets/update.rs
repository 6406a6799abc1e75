#![no_main]
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn read(kind: &kinds::Kind, u: &mut Unstructured<'_>) -> Result<Option<Value>> {
    let value = fuzz::object_of(u, kind)?;
    let Some(mut object) = fuzz::typed(kind, value) else { return Ok(None) };
    kind.default(&mut object);
    Ok(Some(object))
}

fuzz_target!(|data: &[u8]| {
    let u = &mut Unstructured::new(data);
    let Ok(kind) = fuzz::kind(u) else { return };
    let (Ok(Some(old)), Ok(Some(mut new))) = (read(kind, u), read(kind, u)) else { return };
    let mut status = new.clone();
    kind.prepare_update(&mut new, &old);
    let mut errors = Vec::new();
    kinds::validate_metadata(kind, &new, Some(&old), &mut errors);
    kind.validate(&new, Some(&old), &mut errors);
    let _ = kind.warnings(&new, Some(&old));
    kind.prepare_status(&mut status, &old);
    kind.validate_status(&status, &old, &mut errors);
});
