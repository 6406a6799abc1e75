//! Reading and writing what Secrets hold, and what bootstrap tokens are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A key of a secret's data, decoded.
pub(crate) fn data(secret: &Value, key: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str()?).ok()?).ok()
}

/// A text as a secret's data holds it.
pub(crate) fn encoded(text: &str) -> Value {
    STANDARD.encode(text).into()
}

/// True for a Secret that is a bootstrap token.
pub(crate) fn is_bootstrap_token(secret: &Value) -> bool {
    secret["metadata"]["namespace"] == "kube-system" && secret["type"] == "bootstrap.kubernetes.io/token"
}

/// The second when a bootstrap token ends; `None`: never. One that cannot be read has ended long ago.
pub(crate) fn expiration(secret: &Value) -> Option<i64> {
    let text = data(secret, "expiration").filter(|text| !text.is_empty())?;
    Some(base::time::parse_seconds(&text).unwrap_or(0))
}
