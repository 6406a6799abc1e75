#![no_main]
use libfuzzer_sys::fuzz_target;
use schema::protobuf;

fuzz_target!(|input: (u8, &[u8])| {
    let (which, raw) = input;
    let _ = protobuf::open(raw);
    let kinds = kinds::table().kinds();
    let Some(name) = kinds[usize::from(which) % kinds.len()].schema.as_deref() else { return };
    let Ok(read) = protobuf::decode(schema::table(), name, raw) else { return };
    let Ok(written) = protobuf::encode(schema::table(), name, &read) else { return };
    let again = protobuf::decode(schema::table(), name, &written).expect("what was written can be read");
    let Ok(twice) = protobuf::encode(schema::table(), name, &again) else { panic!("what was read can be written") };
    assert_eq!(written, twice, "{read} {again}");
});
