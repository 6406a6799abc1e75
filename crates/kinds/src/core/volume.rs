//! `v1/PersistentVolume`, and what it shares with claims.

use object::{Invalid, Quantity};
use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules};
use crate::tree::{child, entries, list, made, set, text};
use crate::{age, checks, names};

pub(crate) const RULES: Rules = Rules { default, prepare_create, validate, row, ..NO_RULES };

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

fn default(volume: &mut Value) {
    if let Some(status) = made(volume, "status") {
        set(status, "phase", "Pending");
    }
    let Some(spec) = child(volume, "spec") else { return };
    set(spec, "persistentVolumeReclaimPolicy", "Retain");
    set(spec, "volumeMode", "Filesystem");
    if let Some(path) = child(spec, "hostPath")
        && path.get("type").is_none()
    {
        path["type"] = "".into();
    }
}

fn prepare_create(volume: &mut Value) {
    volume["status"] = json!({"phase": "Pending"});
}

/// Access modes, for volumes and claims.
pub(crate) fn validate_modes(spec: &Value, path: &str, none: &str, errors: &mut Vec<Invalid>) {
    let at = format!("{path}.accessModes");
    let modes = list(&spec["accessModes"]);
    if modes.is_empty() {
        errors.push(Invalid::required(&at, none));
    }
    for mode in modes.iter().filter(|m| !MODES.contains(&text(m))) {
        errors.push(Invalid::not_supported(&at, mode, &MODES));
    }
    let single = modes.iter().filter(|m| *m == "ReadWriteOncePod").count();
    if single > 0 && single < modes.len() {
        errors.push(Invalid::forbidden(&at, "may not use ReadWriteOncePod with other access modes"));
    }
}

fn validate(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    validate_modes(spec, "spec", "", errors);
    if entries(&spec["capacity"]).next().is_none() {
        errors.push(Invalid::required("spec.capacity", ""));
    } else if spec["capacity"].get("storage").is_none() || entries(&spec["capacity"]).count() > 1 {
        errors.push(Invalid::not_supported("spec.capacity", &spec["capacity"], &["storage"]));
    }
    for (resource, value) in entries(&spec["capacity"]) {
        if value.as_str().and_then(Quantity::parse).is_none_or(|q| q.is_zero() || q.is_negative()) {
            errors.push(Invalid::invalid(&format!("spec.capacity[{resource}]"), value, "must be greater than zero"));
        }
    }
    checks::one_of(spec, "spec", "persistentVolumeReclaimPolicy", &["Delete", "Recycle", "Retain"], errors);
    let sources: Vec<&&str> = SOURCES.iter().filter(|s| spec[**s].is_object()).collect();
    for extra in sources.iter().skip(1) {
        errors.push(Invalid::forbidden(&format!("spec.{extra}"), "may not specify more than 1 volume type"));
    }
    if sources.is_empty() {
        errors.push(Invalid::required("spec", "must specify a volume type"));
    }
    for source in ["hostPath", "local"] {
        if spec[source].is_object() {
            checks::required(&spec[source], &format!("spec.{source}"), "path", errors);
        }
    }
    if spec["local"].is_object() && spec["nodeAffinity"]["required"].is_null() {
        errors.push(Invalid::required("spec.nodeAffinity", "Local volume requires node affinity"));
    }
    checks::named(spec, "spec", "storageClassName", names::subdomain, errors);
    checks::one_of(spec, "spec", "volumeMode", &["Block", "Filesystem"], errors);
    let Some(old) = old else { return };
    if SOURCES.iter().any(|s| spec[*s] != old["spec"][*s]) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.push(Invalid::forbidden("spec.persistentvolumesource", detail));
    }
    if spec["volumeMode"] != old["spec"]["volumeMode"] {
        errors.push(Invalid::invalid("volumeMode", &spec["volumeMode"], "field is immutable"));
    }
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
            &["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
        );
        case.row(
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "s", "volumeMode": "Filesystem"}, "status": {"phase": "Bound"}}),
            json!(["x", "1Gi", "RWX", "Retain", "Bound", "n/c", "s", "<unset>", "", "10s", "Filesystem"]),
        );
    }
}
