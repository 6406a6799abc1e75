//! `v1/PersistentVolume`, and what it shares with claims.

use object::Invalid;
use serde_json::{Value, json};

use crate::core::podspec;
use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, list, made, set, text};
use crate::{age, names};

pub(crate) const RULES: Rules = Rules { default, prepare_create, validate, row, warnings, ..NO_RULES };

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Volume types that a persistent volume may have.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, instead) in [
        (
            "volume.beta.kubernetes.io/storage-class",
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        ("volume.beta.kubernetes.io/mount-options", "deprecated since v1.31; use \"mountOptions\" attribute instead"),
    ] {
        if new["metadata"]["annotations"].get(key).is_some() {
            found.push(format!("metadata.annotations[{key}]: {instead}"));
        }
    }
    let spec = Spot::new(&new["spec"], "spec");
    if spec.at("persistentVolumeReclaimPolicy").text() == "Recycle" {
        found.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".into());
    }
    let affinity = spec.at("nodeAffinity");
    let required = affinity.at("required");
    required.list("nodeSelectorTerms").for_each(|term| podspec::warnings::node_term(&term, false, &mut found));
    for kind in ["cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"] {
        let known = podspec::warnings::VOLUMES.iter().find(|(field, ..)| *field == kind);
        if let Some((_, called, message)) = known.filter(|_| spec.at(kind).is_set()) {
            found.push(format!("spec.{called}: {message}"));
        }
    }
    found
}

fn default(volume: &mut Value) {
    if let Some(status) = made(volume, "status") {
        set(status, "phase", "Pending");
    }
    if let Some(spec) = child(volume, "spec") {
        set(spec, "persistentVolumeReclaimPolicy", "Retain");
        default_spec(spec);
    }
}

/// Also of volumes that stand in attachments.
pub(crate) fn default_spec(spec: &mut Value) {
    set(spec, "volumeMode", "Filesystem");
    podspec::default_source(spec);
}

fn prepare_create(volume: &mut Value) {
    volume["status"] = json!({"phase": "Pending"});
}

/// Access modes, for volumes and claims.
pub(crate) fn validate_modes(spec: &Spot, none: &str, errors: &mut Errors) {
    let all = spec.at("accessModes");
    if all.len() == 0 {
        all.missing(none, errors);
    }
    let (mut single, mut others) = (false, false);
    for mode in spec.list("accessModes") {
        if !MODES.contains(&mode.text()) {
            errors.push(Invalid::unsupported(&all.path(), mode.value, &MODES));
        } else if mode.text() == "ReadWriteOncePod" {
            single = true;
        } else {
            others = true;
        }
    }
    if single && others {
        all.forbid("may not use ReadWriteOncePod with other access modes", errors);
    }
}

const INLINE: &str = "in the context of inline volumes";

/// Adds what is wrong with the spec of a volume; `inline` for one that stands in an attachment.
pub(crate) fn validate_spec(spec: &Spot, name: &str, inline: bool, errors: &mut Errors) {
    if inline {
        for field in ["claimRef", "capacity"].into_iter().filter(|f| spec.at(f).is_set()) {
            spec.at(field).forbid(format!("may not be specified {INLINE}"), errors);
        }
        if !spec.at("csi").is_set() {
            spec.at("csi").missing(format!("has to be specified {INLINE}"), errors);
        }
    }
    validate_modes(spec, "", errors);
    if !inline {
        capacity(spec, errors);
    }
    let policy = spec.at("persistentVolumeReclaimPolicy");
    match inline {
        true if !matches!(policy.text(), "" | "Retain") => {
            policy.forbid(format!("may only be Retain {INLINE}"), errors);
        }
        true => {}
        false => policy.one_of(&["Delete", "Recycle", "Retain"], errors),
    }
    let affinity = spec.at("nodeAffinity");
    let placed = affinity.at("required").is_set();
    if affinity.is_set() {
        match (inline, placed) {
            (true, _) => affinity.forbid(format!("may not be specified {INLINE}"), errors),
            (false, true) => podspec::node_selector(&affinity.at("required"), errors),
            (false, false) => affinity.at("required").missing("must specify required node constraints", errors),
        }
    }
    source(spec, name, affinity.is_set(), errors);
    if policy.text() == "Recycle" && is_root(spec.at("hostPath").at("path").text()) {
        policy.forbid("may not be 'recycle' for a hostPath mount of '/'", errors);
    }
    let class = spec.at("storageClassName");
    match inline && !class.text().is_empty() {
        true => class.forbid(format!("may not be specified {INLINE}"), errors),
        false => class.named(names::subdomain, errors),
    }
    let mode = spec.at("volumeMode");
    match inline {
        true if !matches!(mode.text(), "" | "Filesystem") => {
            mode.forbid(format!("may not specify volumeMode other than Filesystem {INLINE}"), errors);
        }
        true => {}
        false => mode.one_of(&["Block", "Filesystem"], errors),
    }
    let attributes = spec.at("volumeAttributesClassName");
    if attributes.is_set() {
        match attributes.text() {
            "" => attributes.missing("an empty string is disallowed", errors),
            _ => attributes.obey(names::subdomain, errors),
        }
        if !spec.at("csi").is_set() {
            spec.at("csi").missing("has to be specified when using volumeAttributesClassName", errors);
        }
    }
}

fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| matches!(part, "" | "." | ".."))
}

fn capacity(spec: &Spot, errors: &mut Errors) {
    let all = spec.at("capacity");
    if all.len() == 0 {
        all.missing("", errors);
    }
    if !all.at("storage").is_set() || all.len() > 1 {
        errors.push(Invalid::unsupported(&all.path(), all.value, &["storage"]));
    }
    for (_, amount) in spec.map("capacity") {
        let Some(quantity) = amount.quantity() else { continue };
        if quantity.is_negative() {
            amount.fail_as(quantity.units(), "must be a valid resource quantity", errors);
        }
        if quantity.is_negative() || quantity.is_zero() {
            amount.fail("must be greater than zero", errors);
        }
    }
}

fn source(spec: &Spot, name: &str, placed: bool, errors: &mut Errors) {
    let mut count = 0;
    for kind in SOURCES.into_iter().filter(|kind| spec.at(kind).is_set()) {
        if count > 0 && kind != "flexVolume" {
            let said = if kind == "cephfs" { "cephFS" } else { kind };
            spec.at(said).forbid("may not specify more than 1 volume type", errors);
            continue;
        }
        count += 1;
        match kind {
            "gcePersistentDisk" => {
                podspec::persistent(kind, &spec.alias("persistentDisk", spec.at(kind).value), name, errors);
            }
            _ => podspec::persistent(kind, &spec.at(kind), name, errors),
        }
        if kind == "local" && !placed {
            spec.at("nodeAffinity").missing("Local volume requires node affinity", errors);
        }
    }
    if count == 0 {
        spec.missing("must specify a volume type", errors);
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    // As upstream, which looks at all of an update twice.
    for _ in 0..if old.is_some() { 2 } else { 1 } {
        validate_spec(&Spot::new(&new["spec"], "spec"), text(&new["metadata"]["name"]), false, errors);
    }
    let Some(old) = old else { return };
    let (spec, before) = (&new["spec"], &old["spec"]);
    let added_secret = before["csi"].is_object() && before["csi"]["controllerExpandSecretRef"].is_null();
    let changed = |source: &&str| {
        let mut now = spec[*source].clone();
        if added_secret && *source == "csi" {
            crate::tree::remove(&mut now, "controllerExpandSecretRef");
        }
        now != before[*source]
    };
    if SOURCES.iter().any(changed) {
        let mut now = spec.clone();
        if let Some(csi) = now.get_mut("csi").filter(|_| added_secret) {
            crate::tree::remove(csi, "controllerExpandSecretRef");
        }
        let changes = crate::diff::diff("io.k8s.api.core.v1.PersistentVolumeSpec/source", before, &now);
        let detail = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
        errors.push(Invalid::forbidden("spec.persistentvolumesource", detail));
    }
    if spec["volumeMode"] != before["volumeMode"] {
        errors.push(Invalid::invalid("volumeMode", &spec["volumeMode"], "field is immutable"));
    }
    let (mut now, was) = (renamed(&spec["nodeAffinity"]), renamed(&before["nodeAffinity"]));
    forgive_no_key(&mut now, &was);
    if was.is_object() && was != now {
        let detail = "field is immutable, except for updating from beta label to GA";
        let shown = match &spec["nodeAffinity"] {
            Value::Null => "null".into(),
            affinity => crate::checks::shown("core.v1.VolumeNodeAffinity", affinity),
        };
        errors.push(Invalid::shown("nodeAffinity", shown, detail));
    }
    if before["volumeAttributesClassName"].is_string() && spec["volumeAttributesClassName"].is_null() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(Invalid::forbidden("spec.volumeAttributesClassName", detail));
    }
}

/// As upstream, which takes no key for the present name of any label.
fn forgive_no_key(now: &mut Value, was: &Value) {
    match (now, was) {
        (Value::Array(now), Value::Array(was)) => {
            now.iter_mut().zip(was).for_each(|(now, was)| forgive_no_key(now, was));
        }
        (Value::Object(now), Value::Object(was)) => {
            if let Some(key) = was.get("key").filter(|_| now.get("key").is_none_or(|key| key == "")) {
                now.insert("key".into(), key.clone());
            }
            now.iter_mut().filter_map(|(key, now)| Some((now, was.get(key)?))).for_each(|(n, w)| forgive_no_key(n, w));
        }
        _ => {}
    }
}

/// Node affinity with labels of old under their present names.
fn renamed(affinity: &Value) -> Value {
    let mut text = affinity.to_string();
    for (beta, stable) in [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ] {
        text = text.replace(&format!("\"key\":\"{beta}\""), &format!("\"key\":\"{stable}\""));
    }
    serde_json::from_str(&text).unwrap_or_default()
}

/// `RWO,ROX`, in upstream's order.
pub(crate) fn access_modes(modes: &Value) -> String {
    let known =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let found = known.iter().filter(|(name, _)| list(modes).iter().any(|m| m == name));
    found.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The storage class, by the old annotation or by the field.
pub(crate) fn class(object: &Value) -> &str {
    let old = object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    old.unwrap_or(text(&object["spec"]["storageClassName"]))
}

fn row(volume: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&volume["spec"], &volume["status"]);
    let claim = &spec["claimRef"];
    let claim = match claim.is_object() {
        true => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])),
        false => String::new(),
    };
    let terminating = volume["metadata"]["deletionTimestamp"].is_string();
    let or = |value: &Value, none: &str| Value::from(value.as_str().unwrap_or(none));
    vec![
        volume["metadata"]["name"].clone(),
        or(&spec["capacity"]["storage"], "0"),
        access_modes(&spec["accessModes"]).into(),
        or(&spec["persistentVolumeReclaimPolicy"], ""),
        if terminating { "Terminating".into() } else { or(&status["phase"], "") },
        claim.into(),
        class(volume).into(),
        or(&spec["volumeAttributesClassName"], "<unset>"),
        or(&status["reason"], ""),
        age::since(&volume["metadata"]["creationTimestamp"], now).into(),
        or(&spec["volumeMode"], "<unset>"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn volume() {
        let case = Case::new("v1", "PersistentVolume");
        let spec =
            json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}});
        case.invalid(json!({"spec": spec}), &[]);
        case.invalid(
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
            &["spec: Required value: must specify a volume type"],
        );
        let mut other = spec.clone();
        other["hostPath"]["path"] = "/else".into();
        case.update(
            json!({"spec": spec}),
            json!({"spec": other}),
            &["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n@@ -2,7 +2,7 @@\n  \"GCEPersistentDisk\": null,\n  \"AWSElasticBlockStore\": null,\n  \"HostPath\": {\n-  \"Path\": \"/data\",\n+  \"Path\": \"/else\",\n   \"Type\": \"\"\n  },\n  \"Glusterfs\": null,\n"],
        );
        case.row(
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "s", "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}}),
            json!(["x", "1Gi", "RWX", "Retain", "Bound", "n/c", "s", "<unset>", "", "10s", "Filesystem"]),
        );
    }
}
