//! The administrator's kubeconfig, written by the server.

use std::path::Path;

use anyhow::Context;
use serde_json::json;

/// What a kubeconfig needs.
pub(crate) struct Access<'a> {
    pub(crate) server: &'a str,
    pub(crate) ca: &'a str,
    pub(crate) pair: &'a pki::Pair,
}

fn encoded(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The document, as JSON (which is YAML).
pub(crate) fn document(name: &str, access: &Access<'_>) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "preferences": {}, "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": access.server, "certificate-authority-data": encoded(access.ca)}}],
        "users": [{"name": name, "user": {
            "client-certificate-data": encoded(&access.pair.certificate), "client-key-data": encoded(&access.pair.key)}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    })
}

/// Writes it with this mode, replacing the file whole.
pub(crate) fn write(path: &Path, document: &serde_json::Value, mode: u32) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let text = serde_json::to_string_pretty(document)?;
    let context = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(context)?;
    }
    let beside = path.with_extension("new");
    // Created anew, so that the mode holds from the first byte on.
    let _ = std::fs::remove_file(&beside);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).with_context(context)?;
    file.write_all(text.as_bytes()).with_context(context)?;
    std::fs::rename(&beside, path).with_context(context)
}
