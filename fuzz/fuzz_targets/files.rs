#![no_main]
//! Files that people write, and credentials that they show.
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &[u8])| {
    let (text, token, stored) = input;
    let path = std::env::temp_dir().join(format!("navarch-fuzz-{}", std::process::id()));
    std::fs::write(&path, text).expect("a file");
    apiserver::fuzzing::files(&path, text, stored);
    let _ = images::Registries::load(&path);
    if let Ok(config) = client::Kubeconfig::load(&path) {
        let _ = config.resolve(None);
    }
    let _ = pki::csr::parse(text);
    let _ = pki::csr::ends(text);
    let _ = pki::client_config(text, None);
    let _ = pki::jwt::peek(token);
    let keys: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    let _ = pki::jwt::verify(token, &keys, &["RS256".into(), "ES256".into(), "EdDSA".into()]);
});
