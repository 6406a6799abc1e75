#![no_main]
//! What webhooks answer.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fn mess(u: &mut Unstructured<'_>, value: Value) -> Result<Value> {
    Ok(if u.ratio(1, 12)? { fuzz::any(u, 3)? } else { value })
}

fn run(data: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(data);
    let (_, object) = fuzz::object(u)?;
    let mut operations = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        let path = *u.choose(&[
            "",
            "/",
            "/metadata",
            "/metadata/labels/a",
            "/spec/-",
            "/spec/containers/0",
            "/spec/containers/99999999999999999999",
            "/a~1b",
            "/~2",
            "x",
        ])?;
        let operation = json!({"op": *u.choose(&["add", "remove", "replace", "move", "copy", "test"])?, "path": path, "from": *u.choose(&["/metadata", "/spec", "", "/x"])?, "value": fuzz::any(u, 3)?});
        operations.push(mess(u, operation)?);
    }
    let patch = mess(u, STANDARD.encode(Value::from(operations).to_string()).into())?;
    let converted = mess(u, json!([object]))?;
    let plain = json!({"code": fuzz::any(u, 1)?, "message": fuzz::any(u, 1)?, "reason": fuzz::any(u, 1)?, "details": {"causes": fuzz::any(u, 3)?}});
    let status = mess(u, plain)?;
    let response = json!({"uid": "", "allowed": u.arbitrary::<bool>()?, "patchType": mess(u, "JSONPatch".into())?, "patch": patch, "status": status,
        "warnings": fuzz::any(u, 2)?, "auditAnnotations": fuzz::any(u, 2)?, "result": {"status": mess(u, "Success".into())?}, "convertedObjects": converted});
    let answer =
        mess(u, json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))?;
    apiserver::fuzzing::answers(answer, object);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
