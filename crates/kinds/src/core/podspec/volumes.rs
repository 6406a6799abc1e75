//! Volumes: defaults and checks.

mod projected;
mod sources;

use object::Quantity;
use serde_json::{Value, json};

use super::Pod;
use crate::core::claim;
use crate::names;
use crate::spot::{Errors, Spot};
use crate::tree::{child, each, set};

pub(crate) use sources::{persistent, validate_csi_driver};

/// All volume sources of pods, in the order in which upstream looks at them.
const SOURCES: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// 0644 as JSON has it.
const FILE_MODE: i64 = 420;

pub(crate) fn default(volume: &mut Value) {
    if !SOURCES.iter().any(|s| volume.get(*s).is_some_and(|v| !v.is_null())) {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child(volume, source) {
            set(source, "defaultMode", FILE_MODE);
        }
    }
    default_source(volume);
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

/// Defaults of sources that pods and persistent volumes share.
pub(crate) fn default_source(volume: &mut Value) {
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
    if let Some(disk) = child(volume, "azureDisk") {
        set(disk, "readOnly", false);
    }
}

/// Adds what is wrong with the volumes of a pod; the good ones, by name.
pub(super) fn validate<'v>(
    spec: &Spot<'v, '_>,
    pod_name: Option<&str>,
    errors: &mut Errors,
) -> Vec<(&'v str, &'v Value)> {
    let mut good: Vec<(&str, &Value)> = Vec::new();
    for volume in spec.list("volumes") {
        let before = errors.len();
        source(&volume, pod_name, errors);
        let name = volume.at("name");
        name.must_obey(names::label, errors);
        if good.iter().any(|(seen, _)| *seen == name.text()) {
            name.duplicate(errors);
        }
        if errors.len() == before {
            good.push((name.text(), volume.value));
        }
        let pvc = volume.at("persistentVolumeClaim");
        let claimed = pvc.at("claimName");
        let made = |other: Spot| {
            other.at("ephemeral").is_set()
                && pod_name.is_some_and(|pod| claimed.text() == format!("{pod}-{}", other.at("name").text()))
        };
        if claimed.is_set() && spec.list("volumes").any(made) {
            claimed.fail("must not reference a PVC that gets created for an ephemeral volume", errors);
        }
    }
    good
}

fn source(volume: &Spot, pod_name: Option<&str>, errors: &mut Errors) {
    let mut count = 0;
    for kind in SOURCES.into_iter().filter(|kind| volume.at(kind).is_set()) {
        let this = volume.at(kind);
        if count > 0 {
            let said = match kind {
                "cephfs" => "cephFS",
                "downwardAPI" => "downwarAPI",
                kind => kind,
            };
            volume.at(said).forbid("may not specify more than 1 volume type", errors);
        } else {
            count += 1;
            match kind {
                "ephemeral" => ephemeral(volume, &this, pod_name, errors),
                "projected" => projected::validate(&this, errors),
                "gcePersistentDisk" => sources::pods(kind, &volume.alias("persistentDisk", this.value), errors),
                _ => sources::pods(kind, &this, errors),
            }
        }
        let portal = this.at("targetPortal");
        let length = volume.at("name").text().len() + 1 + portal.text().len();
        if kind == "iscsi" && this.at("initiatorName").is_set() && length > 64 {
            volume.at("name").fail(sources::LONG_PORTAL, errors);
        }
    }
    if count == 0 {
        volume.missing("must specify a volume type", errors);
    }
}

fn ephemeral(volume: &Spot, this: &Spot, pod_name: Option<&str>, errors: &mut Errors) {
    let template = this.at("volumeClaimTemplate");
    if template.is_set() {
        let metadata = template.at("metadata");
        crate::metadata::annotations(metadata.at("annotations").value, &metadata.at("annotations").path(), errors);
        metadata.at("labels").labels(errors);
        for (field, _) in metadata.value.as_object().into_iter().flatten() {
            if field != "labels" && field != "annotations" {
                // As upstream spells it.
                metadata.at(if field == "uid" { "uID" } else { field }).forbid("cannot be set", errors);
            }
        }
        claim::validate_spec(&template.at("spec"), errors);
    } else {
        template.missing("", errors);
    }
    let name = volume.at("name");
    if let Some(pod) = pod_name.filter(|pod| !pod.is_empty() && !name.text().is_empty()) {
        let made = format!("{pod}-{}", name.text());
        for why in names::subdomain(&made) {
            name.fail(format!("PVC name {}: {why}", object::quoted(&made)), errors);
        }
    }
}

/// True for an amount below nothing.
fn is_negative(amount: &Spot) -> bool {
    amount.quantity().is_some_and(Quantity::is_negative)
}

impl Pod<'_> {
    /// A volume of the pod that is good.
    pub(super) fn volume(&self, name: &str) -> Option<&Value> {
        self.volumes.iter().find(|(known, _)| *known == name).map(|(_, volume)| *volume)
    }
    pub(super) fn has_volume(&self, name: &str) -> bool {
        self.volume(name).is_some()
    }
}
