#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (which, body) = input;
    let kinds = kinds::table().kinds();
    let name = kinds[usize::from(which) % kinds.len()].schema.as_deref().unwrap_or("");
    let _ = schema::decode_json(schema::table(), name, body);
    let _ = schema::decode_yaml(schema::table(), name, body);
    let _ = schema::json::type_meta(body);
    let _ = schema::yaml::parse(body);
});
