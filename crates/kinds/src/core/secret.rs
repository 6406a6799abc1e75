//! `v1/Secret`: `stringData` is folded into `data` on write; the type is fixed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object::Invalid;
use serde_json::Value;

use crate::core::configmap::frozen;
use crate::kind::{NO_RULES, Rules};
use crate::{cells, names};

pub(crate) const RULES: Rules = Rules { default, validate, row, warnings, ..NO_RULES };

const MOST_BYTES: usize = 1024 * 1024;

/// Types that must have a key.
const REQUIRED_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
];

fn default(secret: &mut Value) {
    if secret["type"].as_str().unwrap_or("").is_empty() {
        secret["type"] = "Opaque".into();
    }
    let Some(Value::Object(strings)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) else { return };
    for (key, value) in strings {
        secret["data"][key] = STANDARD.encode(value.as_str().unwrap_or("")).into();
    }
}

/// A pair of certificate and key that has no PEM in it.
fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    if new["type"] != "kubernetes.io/tls" {
        return Vec::new();
    }
    let has = |key: &str| {
        let data = STANDARD.decode(new["data"][key].as_str().unwrap_or("")).unwrap_or_default();
        String::from_utf8_lossy(&data).contains("-----BEGIN ")
    };
    match (has("tls.crt"), has("tls.key")) {
        (false, _) => vec!["tls: failed to find any PEM data in certificate input".into()],
        (true, false) => vec!["tls: failed to find any PEM data in key input".into()],
        (true, true) => Vec::new(),
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let mut bytes = 0;
    for (key, value) in new["data"].as_object().into_iter().flatten() {
        for why in names::config_key(key) {
            errors.push(Invalid::invalid(&format!("data[{key}]"), &key.as_str().into(), why));
        }
        bytes += value.as_str().map_or(0, str::len) / 4 * 3;
    }
    if bytes > MOST_BYTES {
        errors.push(Invalid::too_long("data", MOST_BYTES));
    }
    let kind = new["type"].as_str().unwrap_or("");
    for (_, keys) in REQUIRED_KEYS.iter().filter(|(t, _)| *t == kind) {
        for key in keys.iter().filter(|k| new["data"].get(**k).is_none()) {
            errors.push(Invalid::required(&format!("data[{key}]"), ""));
        }
    }
    let given = |key: &str| new["data"].get(key).is_some();
    match kind {
        "kubernetes.io/dockercfg" => well_formed(new, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => well_formed(new, ".dockerconfigjson", errors),
        "kubernetes.io/ssh-auth" if new["data"]["ssh-privatekey"] == "" => {
            errors.push(Invalid::required("data[ssh-privatekey]", ""));
        }
        "kubernetes.io/service-account-token" => {
            let account = &new["metadata"]["annotations"]["kubernetes.io/service-account.name"];
            if account.as_str().is_none_or(str::is_empty) {
                let at = "metadata.annotations[kubernetes.io/service-account.name]";
                errors.push(Invalid::required(at, ""));
            }
        }
        "kubernetes.io/basic-auth" if !given("username") && !given("password") => {
            errors.push(Invalid::required("data[username]", ""));
            errors.push(Invalid::required("data[password]", ""));
        }
        _ => {}
    }
    if let Some(old) = old
        && old["type"] != new["type"]
    {
        errors.push(Invalid::invalid("type", &new["type"], "field is immutable"));
    }
    frozen(new, old, &["data"], errors);
}

/// Credentials of registries are a JSON object.
fn well_formed(secret: &Value, key: &str, errors: &mut Vec<Invalid>) {
    let Some(bytes) = secret["data"][key].as_str().and_then(|text| STANDARD.decode(text).ok()) else { return };
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Err(error) => schema::json::go_words(&bytes, &error),
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let found = match other {
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                _ => "array",
            };
            format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}")
        }
    };
    errors.push(Invalid::invalid(&format!("data[{key}]"), &"<secret contents redacted>".into(), why));
}

fn row(object: &Value, now: i64) -> Vec<Value> {
    cells::row(object, now, &[".metadata.name", ".type", "#.data", "@age"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn secret() {
        let case = Case::new("v1", "Secret");
        case.defaulted(json!({"stringData": {"a": "b"}}), json!({"type": "Opaque", "data": {"a": "Yg=="}}));
        case.invalid(
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "YQ=="}}),
            &["data[tls.key]: Required value"],
        );
        case.invalid(
            json!({"type": "kubernetes.io/service-account-token"}),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        );
        case.invalid(
            json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "W10="}}),
            &[
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": json: cannot unmarshal array into Go value of type map[string]interface {}",
            ],
        );
        case.invalid(
            json!({"type": "kubernetes.io/dockercfg", "data": {".dockercfg": "YQ=="}}),
            &[
                "data[.dockercfg]: Invalid value: \"<secret contents redacted>\": invalid character 'a' looking for beginning of value",
            ],
        );
        case.invalid(
            json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}}),
            &["data[ssh-privatekey]: Required value"],
        );
        case.update(json!({"type": "a"}), json!({"type": "b"}), &["type: Invalid value: \"b\": field is immutable"]);
        case.row(json!({"type": "Opaque", "data": {"a": "YQ=="}}), json!(["x", "Opaque", 1, "10s"]));
    }
}
