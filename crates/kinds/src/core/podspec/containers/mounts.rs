//! Volumes in containers, as directories and as devices.

use crate::core::podspec::{Pod, paths};
use crate::spot::{Errors, Spot};

pub(super) fn validate(container: &Spot, pod: &Pod, errors: &mut Errors) {
    mounts(container, pod, errors);
    devices(container, pod, errors);
}

fn mounts(container: &Spot, pod: &Pod, errors: &mut Errors) {
    let all = container.at("volumeMounts");
    let mut paths_seen = Vec::new();
    for mount in container.list("volumeMounts") {
        let (name, path) = (mount.at("name"), mount.at("mountPath"));
        name.require(errors);
        if !pod.has_volume(name.text()) {
            errors.push(object::Invalid::not_found(&name.path(), &name.text().into()));
        }
        path.require(errors);
        if paths_seen.contains(&path.text()) {
            path.fail_as(path.text(), "must be unique", errors);
        }
        paths_seen.push(path.text());
        if container.list("volumeDevices").any(|d| d.at("name").text() == name.text()) {
            name.fail_as(name.text(), "must not already exist in volumeDevices", errors);
        }
        if container.list("volumeDevices").any(|d| d.at("devicePath").text() == path.text()) {
            path.fail_as(path.text(), "must not already exist as a path in volumeDevices", errors);
        }
        // From here on upstream leaves out which mount it is.
        let here = |name: &'static str| all.alias(name, mount.at(name).value);
        let (sub, expression) = (mount.at("subPath"), mount.at("subPathExpr"));
        if !sub.text().is_empty() {
            paths::descending(&here("subPath"), errors);
        }
        if !expression.text().is_empty() {
            if !sub.text().is_empty() {
                expression.fail("subPathExpr and subPath are mutually exclusive", errors);
            }
            paths::descending(&here("subPathExpr"), errors);
        }
        propagation(container, &here("mountPropagation"), errors);
        recursive(&mount, &here("recursiveReadOnly"), errors);
    }
}

fn propagation(container: &Spot, mode: &Spot, errors: &mut Errors) {
    mode.one_of(&["Bidirectional", "HostToContainer", "None"], errors);
    if mode.text() == "Bidirectional" && !container.at("securityContext").at("privileged").is_true() {
        mode.forbid("Bidirectional mount propagation is available only to privileged containers", errors);
    }
}

fn recursive(mount: &Spot, mode: &Spot, errors: &mut Errors) {
    if matches!(mode.text(), "Enabled" | "IfPossible") {
        if !mount.at("readOnly").is_true() {
            mode.forbid("may only be specified when readOnly is true", errors);
        }
        if !matches!(mount.at("mountPropagation").text(), "" | "None") {
            mode.forbid("may only be specified when mountPropagation is None or not specified", errors);
        }
    } else {
        mode.one_of(&["Disabled", "Enabled", "IfPossible"], errors);
    }
}

fn devices(container: &Spot, pod: &Pod, errors: &mut Errors) {
    let (mut names_seen, mut paths_seen) = (Vec::new(), Vec::new());
    for device in container.list("volumeDevices") {
        let (name, path) = (device.at("name"), device.at("devicePath"));
        name.require(errors);
        if names_seen.contains(&name.text()) {
            name.fail("must be unique", errors);
        }
        match pod.volume(name.text()) {
            Some(volume) if !volume["persistentVolumeClaim"].is_object() && !volume["ephemeral"].is_object() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                name.fail(detail, errors);
            }
            Some(_) => {}
            None => errors.push(object::Invalid::not_found(&name.path(), &name.text().into())),
        }
        path.require(errors);
        if paths_seen.contains(&path.text()) {
            path.fail_as(path.text(), "must be unique", errors);
        }
        match path.text().split('/').any(|part| part == "..") {
            true => path.fail("can not contain backsteps ('..')", errors),
            false => paths_seen.push(path.text()),
        }
        if container.list("volumeMounts").any(|m| m.at("name").text() == name.text()) {
            name.fail_as(name.text(), "must not already exist in volumeMounts", errors);
        }
        if container.list("volumeMounts").any(|m| m.at("mountPath").text() == path.text()) {
            path.fail_as(path.text(), "must not already exist as a path in volumeMounts", errors);
        }
        if !name.text().is_empty() {
            names_seen.push(name.text());
        }
    }
}
