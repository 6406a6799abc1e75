//! Volumes: defaults and checks.

use object::Invalid;
use serde_json::{Value, json};

use super::{remove_if_null, set};
use crate::names;

/// All volume sources of the API.
const SOURCES: &[&str] = &[
    "hostPath",
    "emptyDir",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "persistentVolumeClaim",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "downwardAPI",
    "fc",
    "azureFile",
    "configMap",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "projected",
    "portworxVolume",
    "scaleIO",
    "storageos",
    "csi",
    "ephemeral",
    "image",
];

/// 0644 as JSON has it.
const FILE_MODE: i64 = 420;

pub(super) fn default(volume: &mut Value) {
    if !SOURCES.iter().any(|s| volume.get(*s).is_some_and(|v| !v.is_null())) {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if volume[source].is_object() && volume[source].get("defaultMode").is_none() {
            volume[source]["defaultMode"] = FILE_MODE.into();
        }
        remove_if_null(volume, source);
    }
    if volume.get("hostPath").is_some_and(Value::is_object) && volume["hostPath"].get("type").is_none() {
        volume["hostPath"]["type"] = "".into();
    }
    let field = |items: &mut Value| {
        for item in items.as_array_mut().into_iter().flatten() {
            if item.get("fieldRef").is_some_and(Value::is_object) {
                set(&mut item["fieldRef"], "apiVersion", "v1");
            }
        }
    };
    if volume["downwardAPI"]["items"].is_array() {
        field(&mut volume["downwardAPI"]["items"]);
    }
    remove_if_null(volume, "downwardAPI");
    if let Some(sources) = volume.get_mut("projected").and_then(|p| p["sources"].as_array_mut()) {
        for source in sources {
            if source.get("downwardAPI").is_some_and(Value::is_object) {
                field(&mut source["downwardAPI"]["items"]);
            }
            if source.get("serviceAccountToken").is_some_and(Value::is_object)
                && source["serviceAccountToken"].get("expirationSeconds").is_none()
            {
                source["serviceAccountToken"]["expirationSeconds"] = 3600.into();
            }
        }
    }
}

/// Adds the field errors; the names of the volumes.
pub(super) fn validate<'a>(spec: &'a Value, path: &str, errors: &mut Vec<Invalid>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for (index, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let at = format!("{path}.volumes[{index}]");
        let name = volume["name"].as_str().unwrap_or("");
        if name.is_empty() {
            errors.push(Invalid::required(&format!("{at}.name"), ""));
        } else if let Some(why) = names::label(name) {
            errors.push(Invalid::invalid(&format!("{at}.name"), &volume["name"], why));
        } else if seen.contains(&name) {
            errors.push(Invalid::duplicate(&format!("{at}.name"), &volume["name"]));
        }
        seen.push(name);
        let sources: Vec<&&str> = SOURCES.iter().filter(|s| volume[**s].is_object()).collect();
        if sources.is_empty() {
            errors.push(Invalid::required(&at, "must specify a volume type"));
        }
        for extra in sources.iter().skip(1) {
            errors.push(Invalid::forbidden(&format!("{at}.{extra}"), "may not specify more than 1 volume type"));
        }
        required(volume, &at, errors);
    }
    seen
}

/// Fields that a source must have, and host path types.
fn required(volume: &Value, at: &str, errors: &mut Vec<Invalid>) {
    for (source, field) in [
        ("hostPath", "path"),
        ("secret", "secretName"),
        ("configMap", "name"),
        ("persistentVolumeClaim", "claimName"),
        ("nfs", "server"),
        ("nfs", "path"),
        ("gitRepo", "repository"),
        ("csi", "driver"),
    ] {
        if volume[source].is_object() && volume[source][field].as_str().is_none_or(str::is_empty) {
            errors.push(Invalid::required(&format!("{at}.{source}.{field}"), ""));
        }
    }
    let kinds = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if let Some(kind) = volume["hostPath"]["type"].as_str().filter(|k| !kinds.contains(k)) {
        errors.push(Invalid::not_supported(&format!("{at}.hostPath.type"), &kind.into(), &kinds));
    }
    if volume["hostPath"]["path"].as_str().is_some_and(|p| p.split('/').any(|part| part == "..")) {
        errors.push(Invalid::invalid(
            &format!("{at}.hostPath.path"),
            &volume["hostPath"]["path"],
            "must not contain '..'",
        ));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(mode) = volume[source]["defaultMode"].as_i64().filter(|m| !(0..=0o777).contains(m)) {
            let detail = "must be a number between 0 and 0777 (octal), both inclusive";
            errors.push(Invalid::invalid(&format!("{at}.{source}.defaultMode"), &mode.into(), detail));
        }
    }
}
