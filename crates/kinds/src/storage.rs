//! Rooms of the storage group.

pub(crate) mod class;
pub(crate) mod driver;

use object::Invalid;
use serde_json::{Value, json};

use crate::core::podspec::validate_csi_driver;
use crate::core::volume;
use crate::kind::{NO_RULES, Rules, keep};
use crate::spot::{Errors, Spot};
use crate::tree::child;
use crate::{checks, names};

/// `storage.k8s.io/v1 VolumeAttachment`: one volume on one node; its spec never changes.
pub(crate) const ATTACHMENT_RULES: Rules = Rules {
    default: default_attachment,
    prepare_create: |attachment| attachment["status"] = json!({"attached": false}),
    prepare_status: crate::kind::keep_most_metadata,
    validate: validate_attachment,
    validate_status: validate_attachment_status,
    ..NO_RULES
};
/// `storage.k8s.io/v1 CSINode`: drivers on a node.
pub(crate) const NODE_RULES: Rules = Rules { validate: validate_node, ..NO_RULES };
/// `storage.k8s.io/v1 CSIStorageCapacity`: how much room there is for a class's volumes.
pub(crate) const CAPACITY_RULES: Rules = Rules { validate: validate_capacity, ..NO_RULES };
/// `storage.k8s.io/v1 VolumeAttributesClass`: parameters that a volume may be given later.
pub(crate) const ATTRIBUTES_RULES: Rules = Rules { validate: validate_attributes, ..NO_RULES };

fn default_attachment(attachment: &mut Value) {
    if let Some(spec) = child(attachment, "spec.source.inlineVolumeSpec") {
        crate::core::podspec::default_source(spec);
    }
}

fn validate_attachment(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    validate_csi_driver(&spec.at("attacher"), errors);
    let source = spec.at("source");
    let (inline, volume) = (source.at("inlineVolumeSpec"), source.at("persistentVolumeName"));
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), volume.is_set()) {
        (false, false) => source.missing(detail, errors),
        (true, true) => source.forbid(detail, errors),
        (false, true) if volume.text().is_empty() => {
            volume.missing("must specify non empty persistentVolumeName", errors);
        }
        (false, true) => {}
        (true, false) => volume::validate_spec(&inline, "", true, errors),
    }
    spec.at("nodeName").obey(names::subdomain, errors);
    if volume.is_set() {
        volume.obey(names::subdomain, errors);
    }
    checks::immutable(new, old, &["spec"], errors);
}

fn validate_attachment_status(new: &Value, _: &Value, errors: &mut Errors) {
    let status = Spot::new(&new["status"], "status");
    for field in ["attachError", "detachError"] {
        status.at(field).at("errorCode").within(0, i32::MAX.into(), errors);
    }
}

fn validate_node(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let mut seen = Vec::new();
    for driver in Spot::new(&new["spec"], "spec").list("drivers") {
        let (name, id) = (driver.at("name"), driver.at("nodeID"));
        validate_csi_driver(&name, errors);
        id.require(errors);
        if id.text().len() > 256 {
            id.fail("must be 256 characters or less", errors);
        }
        driver.at("allocatable").at("count").not_negative(errors);
        match seen.contains(&name.text()) {
            true => name.duplicate(errors),
            false => seen.push(name.text()),
        }
        let mut keys = Vec::new();
        for key in driver.list("topologyKeys").map(|k| k.text()) {
            if key.is_empty() {
                driver.missing("", errors);
            }
            if keys.contains(&key) {
                errors.push(Invalid::duplicate(&driver.path(), &key.into()));
            }
            keys.push(key);
            names::qualified(key).into_iter().for_each(|why| driver.fail_as(key, why, errors));
        }
    }
    let drivers = |object: &Value| crate::tree::list(&object["spec"]["drivers"]).to_vec();
    for before in old.map(drivers).unwrap_or_default() {
        for now in drivers(new).into_iter().filter(|now| now["name"] == before["name"]) {
            let mut evened = now.clone();
            keep(&mut evened, &before, "allocatable");
            if evened != before {
                // As upstream, which compares them without what may change.
                crate::tree::remove(&mut evened, "allocatable");
                let shown = crate::checks::shown("storage.v1.CSINodeDriver", &evened);
                errors.push(Invalid::shown("spec.drivers", shown, "field is immutable"));
            }
        }
    }
}

fn validate_capacity(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let whole = Spot::new(new, "");
    whole.at("nodeTopology").selector(errors);
    whole.at("storageClassName").obey(names::subdomain, errors);
    let capacity = whole.at("capacity");
    if capacity.quantity().is_some_and(object::Quantity::is_negative) {
        capacity.fail("must be greater than or equal to 0", errors);
    }
    if let Some(old) = old {
        for field in ["nodeTopology", "storageClassName"].into_iter().filter(|f| new[*f] != old[*f]) {
            whole.at(field).fail("field is immutable", errors);
        }
    }
}

/// Name of a driver or provisioner, as messages have it: in lower case.
fn provisioner(name: &Spot, errors: &mut Errors) {
    if name.require(errors) {
        let lower = name.text().to_lowercase();
        names::qualified(&lower).into_iter().for_each(|why| name.fail_as(lower.as_str(), why, errors));
    }
}

/// Parameters of a class: not without names, and not too many.
fn parameters(whole: &Spot, errors: &mut Errors) {
    let all = whole.at("parameters");
    if all.len() > 512 {
        errors.push(Invalid::too_long("parameters", 512));
        return;
    }
    let mut size = 0;
    for (key, value) in whole.map("parameters") {
        if key.is_empty() {
            all.fail_as("", "field can not be empty.", errors);
        }
        size += key.len() + value.text().len();
    }
    if size > 256 * 1024 {
        errors.push(Invalid::too_long("parameters", 256 * 1024));
    }
}

fn validate_attributes(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    if let Some(old) = old {
        for field in ["driverName", "parameters"].into_iter().filter(|f| new[*f] != old[*f]) {
            errors.push(Invalid::forbidden(field, format!("updates to {field} are forbidden.")));
        }
    }
    let whole = Spot::new(new, "");
    provisioner(&whole.at("driverName"), errors);
    parameters(&whole, errors);
    if whole.at("parameters").len() == 0 {
        whole.at("parameters").missing("must contain at least one key/value pair", errors);
    }
}
