#![no_main]
use libfuzzer_sys::arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok((kind, value)) = fuzz::object(&mut Unstructured::new(data)) else { return };
    let Some(mut object) = fuzz::typed(kind, value) else { return };
    kind.default(&mut object);
    let once = object.clone();
    kind.default(&mut object);
    assert_eq!(once, object, "defaults are idempotent");
    kind.prepare_create(&mut object);
    let mut errors = Vec::new();
    kinds::validate_metadata(kind, &object, None, &mut errors);
    kind.validate(&object, None, &mut errors);
    let _ = kind.row(&object, 1_600_000_000);
    let _ = kind.warnings(&object, None);
    let _ = kinds::fields(kind, &object);
    if let Some(name) = kind.schema.as_deref().filter(|name| schema::protobuf::is_known(name))
        && let Ok(raw) = schema::protobuf::encode(schema::table(), name, &object)
    {
        schema::protobuf::decode(schema::table(), name, &raw).expect("what was written can be read");
    }
});
