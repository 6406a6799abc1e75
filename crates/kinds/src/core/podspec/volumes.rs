//! Volumes: defaults and checks.

use object::{Invalid, Quantity};
use serde_json::{Value, json};

use crate::core::claim;
use crate::names;
use crate::tree::{child, each, list, set, text};

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
        if let Some(source) = child(volume, source) {
            set(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(path) = child(volume, "hostPath")
        && path["type"].is_null()
    {
        path["type"] = "".into();
    }
    for (source, field, value) in [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("azureDisk", "cachingMode", "ReadWrite"),
        ("azureDisk", "fsType", "ext4"),
        ("azureDisk", "kind", "Shared"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
    ] {
        if let Some(source) = child(volume, source) {
            set(source, field, value);
        }
    }
    if let Some(image) = child(volume, "image") {
        let latest = super::containers::is_latest(image["reference"].as_str().unwrap_or(""));
        set(image, "pullPolicy", if latest { "Always" } else { "IfNotPresent" });
    }
    if let Some(spec) = child(volume, "ephemeral.volumeClaimTemplate.spec") {
        claim::default_spec(spec);
    }
    let field = |item: &mut Value| {
        if let Some(reference) = child(item, "fieldRef") {
            set(reference, "apiVersion", "v1");
        }
    };
    each(volume, "downwardAPI.items", field);
    each(volume, "projected.sources", |source| {
        each(source, "downwardAPI.items", field);
        if let Some(token) = child(source, "serviceAccountToken") {
            set(token, "expirationSeconds", 3600);
        }
    });
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
    items(volume, at, errors);
    projected(&volume["projected"], &format!("{at}.projected"), errors);
    let size = &volume["emptyDir"]["sizeLimit"];
    if size.as_str().and_then(Quantity::parse).is_some_and(Quantity::is_negative) {
        errors.push(Invalid::forbidden(
            &format!("{at}.emptyDir.sizeLimit"),
            "SizeLimit field must be a valid resource quantity",
        ));
    }
    let template = &volume["ephemeral"]["volumeClaimTemplate"];
    if volume["ephemeral"].is_object() {
        match template.is_object() {
            true => {
                claim::validate_spec(&template["spec"], &format!("{at}.ephemeral.volumeClaimTemplate.spec"), errors)
            }
            false => errors.push(Invalid::required(&format!("{at}.ephemeral.volumeClaimTemplate"), "")),
        }
    }
}

/// A file of a volume has a relative path inside it.
fn relative(path: &Value, at: &str, errors: &mut Vec<Invalid>) {
    if text(path).starts_with('/') {
        errors.push(Invalid::invalid(at, path, "must be a relative path"));
    } else if text(path).split('/').any(|part| part == "..") {
        errors.push(Invalid::invalid(at, path, "must not contain '..'"));
    } else if text(path).starts_with("..") {
        errors.push(Invalid::invalid(at, path, "must not start with '..'"));
    }
}

fn items(volume: &Value, at: &str, errors: &mut Vec<Invalid>) {
    for source in ["secret", "configMap", "downwardAPI"] {
        for (index, item) in list(&volume[source]["items"]).iter().enumerate() {
            let at = format!("{at}.{source}.items[{index}]");
            if source != "downwardAPI" && text(&item["key"]).is_empty() {
                errors.push(Invalid::required(&format!("{at}.key"), ""));
            }
            if text(&item["path"]).is_empty() {
                errors.push(Invalid::required(&format!("{at}.path"), ""));
            }
            relative(&item["path"], &format!("{at}.path"), errors);
            if let Some(mode) = item["mode"].as_i64().filter(|m| !(0..=0o777).contains(m)) {
                let detail = "must be a number between 0 and 0777 (octal), both inclusive";
                errors.push(Invalid::invalid(&format!("{at}.mode"), &mode.into(), detail));
            }
            if source == "downwardAPI" && !item["fieldRef"].is_object() && !item["resourceFieldRef"].is_object() {
                errors.push(Invalid::required(&at, "one of fieldRef and resourceFieldRef is required"));
            }
        }
    }
}

fn projected(projected: &Value, at: &str, errors: &mut Vec<Invalid>) {
    let kinds = ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
    for (index, source) in list(&projected["sources"]).iter().enumerate() {
        let at = format!("{at}.sources[{index}]");
        let set: Vec<&&str> = kinds.iter().filter(|k| source[**k].is_object()).collect();
        for extra in set.iter().skip(1) {
            errors.push(Invalid::forbidden(
                &format!("{at}.{extra}"),
                "may not specify more than 1 volume type per source",
            ));
        }
        for named in ["secret", "configMap"] {
            if source[named].is_object() && text(&source[named]["name"]).is_empty() {
                errors.push(Invalid::required(&format!("{at}.{named}.name"), ""));
            }
        }
        let token = &source["serviceAccountToken"];
        if token.is_object() {
            let seconds = token["expirationSeconds"].as_i64().unwrap_or(0);
            if seconds < 600 {
                let detail = "may not specify a duration less than 10 minutes";
                errors.push(Invalid::invalid(
                    &format!("{at}.serviceAccountToken.expirationSeconds"),
                    &seconds.into(),
                    detail,
                ));
            }
            if text(&token["path"]).is_empty() {
                errors.push(Invalid::required(&format!("{at}.serviceAccountToken.path"), ""));
            }
            relative(&token["path"], &format!("{at}.serviceAccountToken.path"), errors);
        }
        items(source, &at, errors);
    }
}
