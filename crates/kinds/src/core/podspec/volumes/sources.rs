//! What each volume source must have.

use super::super::{containers, paths};
use super::is_negative;
use crate::names;
use crate::spot::{Errors, Spot};

pub(super) const LONG_PORTAL: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
const PARTITION: &str = "must be between 1 and 255, inclusive";

/// Texts and lists that a source must have, where that is most of what is asked of it.
const REQUIRED: [(&str, &[&str]); 15] = [
    ("persistentVolumeClaim", &["claimName"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("nfs", &["server", "path"]),
    ("glusterfs", &["endpoints", "path"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];

fn required(kind: &str, this: &Spot, errors: &mut Errors) {
    let fields = REQUIRED.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, fields)| fields);
    for field in fields {
        this.at(field).require(errors);
    }
}

/// A source of a pod's volume.
pub(super) fn pods(kind: &str, this: &Spot, errors: &mut Errors) {
    match kind {
        "emptyDir" => {
            if is_negative(&this.at("sizeLimit")) {
                this.at("sizeLimit").forbid("SizeLimit field must be a valid resource quantity", errors);
            }
        }
        "gitRepo" => {
            this.at("repository").require(errors);
            paths::descending(&this.at("directory"), errors);
        }
        "secret" | "configMap" => {
            this.at(if kind == "secret" { "secretName" } else { "name" }).require(errors);
            paths::mode(&this.at("defaultMode"), errors);
            this.list("items").for_each(|item| key_to_path(&item, errors));
        }
        "downwardAPI" => {
            paths::mode(&this.at("defaultMode"), errors);
            this.list("items").for_each(|item| containers::file(&item, this, errors));
        }
        "iscsi" => iscsi(this, None, errors),
        "cinder" | "storageos" => {
            shared(kind, this, errors);
            if this.at("secretRef").is_set() {
                this.at("secretRef").at("name").require(errors);
            }
        }
        "csi" => {
            validate_csi_driver(&this.at("driver"), errors);
            let secret = this.at("nodePublishSecretRef");
            let name = secret.at("name");
            if secret.is_set() && name.require(errors) {
                let shown = this.at("name");
                names::subdomain(name.text()).into_iter().for_each(|why| shown.fail_as(name.text(), why, errors));
            }
        }
        "image" => {
            this.at("reference").require(errors);
            this.at("pullPolicy").must_be_one_of(&["Always", "IfNotPresent", "Never"], errors);
        }
        kind => shared(kind, this, errors),
    }
}

/// What pods and persistent volumes have in common.
fn shared(kind: &str, this: &Spot, errors: &mut Errors) {
    required(kind, this, errors);
    match kind {
        "hostPath" if this.at("path").require(errors) => {
            paths::no_backsteps(&this.at("path"), errors);
            let types =
                ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            this.at("type").one_of(&types, errors);
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            let partition = this.at("partition");
            if partition.number().is_some_and(|n| !(0..=255).contains(&n)) {
                partition.fail(PARTITION, errors);
            }
        }
        "nfs" if !this.at("path").text().starts_with('/') => {
            this.at("path").fail_as(this.at("path").text(), "must be an absolute path", errors);
        }
        "flocker" => flocker(this, errors),
        "quobyte" => quobyte(this, errors),
        "fc" => fibre_channel(this, errors),
        "flexVolume" => {
            for (key, option) in this.map("options") {
                let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
                if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
                    option.fail_as(key.as_str(), "kubernetes.io and k8s.io namespaces are reserved", errors);
                }
            }
        }
        "azureDisk" => azure_disk(this, errors),
        "storageos" => {
            this.at("volumeName").must_obey(names::label, errors);
            this.at("volumeNamespace").named(names::label, errors);
        }
        _ => {}
    }
}

fn flocker(this: &Spot, errors: &mut Errors) {
    let (name, uuid) = (this.at("datasetName"), this.at("datasetUUID"));
    match (name.text().is_empty(), uuid.text().is_empty()) {
        (true, true) => this.missing("one of datasetName and datasetUUID is required", errors),
        (false, false) => {
            this.fail_as("resource", "datasetName and datasetUUID can not be specified simultaneously", errors);
        }
        _ => {}
    }
    if name.text().contains('/') {
        name.fail("must not contain '/'", errors);
    }
}

fn quobyte(this: &Spot, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = this.at("registry");
    if registry.text().is_empty() {
        registry.missing(PAIRS, errors);
    } else if this.at("tenant").text().len() >= 65 {
        this.at("tenant").missing("must be a UUID and may not exceed a length of 64 characters", errors);
    } else {
        let paired =
            |pair: &&str| pair.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.starts_with('['));
        registry.text().split(',').filter(|p| !paired(p)).for_each(|_| registry.fail(PAIRS, errors));
    }
    this.at("volume").require(errors);
}

fn fibre_channel(this: &Spot, errors: &mut Errors) {
    let (names, ids, lun) = (this.at("targetWWNs"), this.at("wwids"), this.at("lun"));
    match (names.len(), ids.len()) {
        (0, 0) => names.missing("must specify either targetWWNs or wwids, but not both", errors),
        (1.., 1..) => names.fail("targetWWNs and wwids can not be specified simultaneously", errors),
        _ => {}
    }
    if names.len() > 0 {
        match lun.is_set() {
            true => lun.within(0, 255, errors),
            false => lun.missing("lun is required if targetWWNs is specified", errors),
        }
    }
}

fn azure_disk(this: &Spot, errors: &mut Errors) {
    this.at("cachingMode").one_of(&["None", "ReadOnly", "ReadWrite"], errors);
    let (kind, uri) = (this.at("kind"), this.at("diskURI"));
    kind.one_of(&["Dedicated", "Managed", "Shared"], errors);
    let (prefix, example) = match kind.text() {
        "Managed" => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        _ => ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"),
    };
    if kind.is_set() && !uri.text().starts_with(prefix) {
        uri.unsupported(&[example], errors);
    }
}

/// A name of an iSCSI target or initiator.
fn is_iscsi_name(name: &str) -> bool {
    let hex =
        |text: &str, lengths: &[usize]| lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(rest) = name.strip_prefix("eui.") {
        return hex(rest, &[16]);
    }
    if let Some(rest) = name.strip_prefix("naa.") {
        return hex(rest, &[32]);
    }
    let Some(rest) = name.strip_prefix("iqn.") else { return false };
    let (date, domain) = rest.split_at_checked(7).unwrap_or(("", ""));
    let bytes = date.as_bytes();
    let dated =
        bytes.len() == 7 && bytes[4] == b'-' && bytes.iter().enumerate().all(|(i, b)| i == 4 || b.is_ascii_digit());
    let word = |c: char| c.is_ascii_alphanumeric();
    let domain = domain.split(':').next().unwrap_or("");
    let body = domain.strip_prefix('.').unwrap_or("");
    dated
        && body.contains('.')
        && body.split('.').all(|part| !part.is_empty() && part.chars().all(|c| word(c) || "-_$".contains(c)))
}

fn iscsi(this: &Spot, volume: Option<&str>, errors: &mut Errors) {
    this.at("targetPortal").require(errors);
    let initiator = this.at("initiatorName");
    if let Some(name) = volume {
        let portal = this.at("targetPortal");
        if initiator.is_set() && name.len() + 1 + portal.text().len() > 64 {
            this.at("targetportal").fail_as(portal.text(), LONG_PORTAL, errors);
        }
    }
    let prefixed = |text: &str| ["iqn", "eui", "naa"].iter().any(|p| text.starts_with(p));
    let bad_prefix = match volume {
        None => "must be valid format starting with iqn, eui, or naa",
        Some(_) => "must be valid format",
    };
    let name = this.at("iqn");
    if name.require(errors) {
        match (prefixed(name.text()), is_iscsi_name(name.text())) {
            (false, _) => name.fail(bad_prefix, errors),
            (true, false) => name.fail("must be valid format", errors),
            (true, true) => {}
        }
    }
    this.at("lun").within(0, 255, errors);
    let secret = this.at("secretRef");
    if (this.at("chapAuthDiscovery").is_true() || this.at("chapAuthSession").is_true()) && !secret.is_set() {
        secret.missing("", errors);
    }
    if volume.is_some() && secret.is_set() {
        secret.at("name").require(errors);
    }
    if initiator.is_set() {
        let shown = this.alias("initiatorname", initiator.value);
        match (prefixed(initiator.text()), is_iscsi_name(initiator.text())) {
            (false, _) => shown.fail(bad_prefix, errors),
            (true, false) => shown.fail("must be valid format", errors),
            (true, true) => {}
        }
    }
}

/// A key of a map, and the file that it becomes.
pub(super) fn key_to_path(item: &Spot, errors: &mut Errors) {
    item.at("key").require(errors);
    item.at("path").require(errors);
    paths::local(&item.at("path"), errors);
    paths::mode(&item.at("mode"), errors);
}

/// Names of CSI drivers.
pub(crate) fn validate_csi_driver(driver: &Spot, errors: &mut Errors) {
    if !driver.require(errors) {
        return;
    }
    if driver.text().len() > 63 {
        errors.push(object::Invalid::too_long(&driver.path(), 63));
    }
    driver.obey(names::caseless_subdomain, errors);
}

/// A source of a persistent volume.
pub(crate) fn persistent(kind: &str, this: &Spot, volume: &str, errors: &mut Errors) {
    let secret = this.at("secretRef");
    match kind {
        "local" => {
            if this.at("path").require(errors) {
                paths::no_backsteps(&this.at("path"), errors);
            }
        }
        "iscsi" => iscsi(this, Some(volume), errors),
        "cinder" | "storageos" => {
            shared(kind, this, errors);
            if secret.is_set() {
                secret.at("name").require(errors);
                secret.at("namespace").require(errors);
            }
        }
        "glusterfs" => {
            shared(kind, this, errors);
            let namespace = this.at("endpointsNamespace");
            match namespace.value.as_str() {
                Some("") => {
                    let detail = "if the endpointnamespace is set, it must be a valid namespace name";
                    namespace.fail(detail, errors);
                }
                Some(_) => namespace.obey(names::label, errors),
                None => {}
            }
        }
        "azureFile" => {
            shared(kind, this, errors);
            if this.at("secretNamespace").value == "" {
                this.at("secretNamespace").missing("", errors);
            }
        }
        "csi" => {
            validate_csi_driver(&this.at("driver"), errors);
            this.at("volumeHandle").require(errors);
            for field in [
                "controllerPublishSecretRef",
                "controllerExpandSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ] {
                let secret = this.at(field);
                if secret.is_set() {
                    secret.at("name").must_obey(names::subdomain, errors);
                    secret.at("namespace").must_obey(names::label, errors);
                }
            }
        }
        kind => shared(kind, this, errors),
    }
}
