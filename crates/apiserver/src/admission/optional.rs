//! Small plugins that run only where they are asked for: AlwaysDeny, AlwaysPullImages, DenyServiceExternalIPs.

use object::{Invalid, Status};
use serde_json::Value;

use super::Attributes;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    pod["spec"][list].as_array().into_iter().flatten()
}

fn pulls(at: &Attributes<'_>, pod: &Value, old: &Value) -> bool {
    if !at.is("", "pods") || !at.subresource.is_empty() || !at.writes() {
        return false;
    }
    let images = |pod| LISTS.into_iter().flat_map(move |list| containers(pod, list)).map(|c| &c["image"]);
    old.is_null() || images(pod).any(|image| !images(old).any(|before| before == image))
}

/// AlwaysPullImages: whoever uses an image may pull it.
pub(super) fn pull(at: &Attributes<'_>, pod: &mut Value, old: &Value) {
    if !pulls(at, pod, old) {
        return;
    }
    for list in LISTS {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container["imagePullPolicy"] = "Always".into();
        }
    }
    for volume in pod["spec"].get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(image) = volume.get_mut("image").filter(|i| i.is_object()) {
            image["pullPolicy"] = "Always".into();
        }
    }
}

/// See `pull`.
pub(super) fn pulled(at: &Attributes<'_>, pod: &Value, old: &Value) -> Result<(), Status> {
    if !pulls(at, pod, old) {
        return Ok(());
    }
    let in_containers = LISTS.into_iter().flat_map(|list| {
        let paths = containers(pod, list).enumerate();
        paths.map(move |(i, c)| (format!("spec.{list}[{i}].imagePullPolicy"), &c["imagePullPolicy"]))
    });
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten().enumerate();
    let in_volumes = volumes
        .filter(|(_, v)| v["image"].is_object())
        .map(|(i, v)| (format!("spec.volumes[{i}].image.pullPolicy"), &v["image"]["pullPolicy"]));
    let mut bad = in_containers.chain(in_volumes).filter(|(_, policy)| **policy != "Always");
    match bad.next() {
        Some((path, policy)) => Err(at.forbidden(&Invalid::not_supported(&path, policy, &["Always"]).to_string())),
        None => Ok(()),
    }
}

/// DenyServiceExternalIPs: no new ones (CVE-2020-8554).
pub(super) fn external_ips(at: &Attributes<'_>, new: &Value, old: &Value) -> Result<(), Status> {
    if !at.is("", "services") || !at.subresource.is_empty() || !at.writes() {
        return Ok(());
    }
    let list = |of: &Value| of["spec"]["externalIPs"].as_array().cloned().unwrap_or_default();
    let before = list(old);
    if list(new).iter().all(|ip| before.contains(ip)) {
        return Ok(());
    }
    Err(at.forbidden("Use of external IPs is denied by admission control"))
}

/// AlwaysDeny.
pub(super) fn deny(at: &Attributes<'_>) -> Result<(), Status> {
    Err(at.forbidden("admission control is denying all modifications"))
}
