//! Rooms of the storage group.

pub(crate) mod class;
pub(crate) mod driver;

use object::Invalid;
use serde_json::Value;

use crate::checks;
use crate::kind::{NO_RULES, Rules};
use crate::tree::text;

/// `storage.k8s.io/v1 VolumeAttachment`: one volume on one node; its spec never changes.
pub(crate) const ATTACHMENT_RULES: Rules = Rules { validate: validate_attachment, ..NO_RULES };

fn validate_attachment(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = &new["spec"];
    for field in ["attacher", "nodeName"] {
        checks::required(spec, "spec", field, errors);
    }
    let volume = &spec["source"]["persistentVolumeName"];
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (spec["source"]["inlineVolumeSpec"].is_object(), volume.is_string()) {
        (false, false) => errors.push(Invalid::required("spec.source", detail)),
        (true, true) => errors.push(Invalid::forbidden("spec.source", detail)),
        (false, true) if text(volume).is_empty() => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(Invalid::required("spec.source.persistentVolumeName", detail));
        }
        _ => {}
    }
    checks::immutable(new, old, &["spec"], errors);
}
