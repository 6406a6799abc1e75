//! Environment variables: where their values come from.

use crate::core::podspec::paths;
use crate::names;
use crate::spot::{Errors, Spot};

const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

/// Fields of the pod that a variable may have.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that a file may have.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const HUGE: [&str; 2] = ["limits.hugepages-", "requests.hugepages-"];
/// Fields that the downward API can name, whether or not they are of use at a place.
const KNOWN: [&str; 13] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn validate(container: &Spot, errors: &mut Errors) {
    for variable in container.list("env") {
        variable.at("name").must_obey(names::variable, errors);
        let from = variable.at("valueFrom");
        if from.is_set() {
            value_from(&variable, &from, errors);
        }
    }
    let all = container.at("envFrom");
    for source in container.list("envFrom") {
        source.at("prefix").named(names::variable, errors);
        let mut count = 0;
        for field in ["configMapRef", "secretRef"].into_iter().filter(|f| source.at(f).is_set()) {
            count += 1;
            source.at(field).at("name").must_obey(names::subdomain, errors);
        }
        match count {
            0 => all.fail_as("", "must specify one of: `configMapRef` or `secretRef`", errors),
            1 => {}
            _ => all.fail_as("", "may not have more than one field specified at a time", errors),
        }
    }
}

fn value_from(variable: &Spot, from: &Spot, errors: &mut Errors) {
    let mut count = 0;
    for source in SOURCES.into_iter().filter(|s| from.at(s).is_set()) {
        count += 1;
        let reference = from.at(source);
        match source {
            "fieldRef" => field(&reference, &FIELDS, errors),
            "resourceFieldRef" => resource(&reference, false, errors),
            "fileKeyRef" => {
                reference.at("key").must_obey(names::variable, errors);
                reference.at("volumeName").must_obey(names::label, errors);
                if reference.at("path").require(errors) {
                    paths::no_backsteps(&reference.at("path"), errors);
                }
            }
            _ => {
                reference.at("name").obey(names::subdomain, errors);
                reference.at("key").must_obey(names::config_key, errors);
            }
        }
    }
    let one_of =
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
    match count {
        0 => from.fail_as("", one_of, errors),
        _ if !variable.at("value").text().is_empty() => {
            from.fail_as("", "may not be specified when `value` is not empty", errors);
        }
        1 => {}
        _ => from.fail_as("", "may not have more than one field specified at a time", errors),
    }
}

/// A file with a field of the pod or a resource of a container.
pub(in crate::core::podspec) fn file(file: &Spot, at: &Spot, errors: &mut Errors) {
    let (fields, resources) = (file.at("fieldRef"), file.at("resourceFieldRef"));
    // Upstream leaves out which file it is.
    let here = |name: &'static str| at.alias(name, file.at(name).value);
    here("path").require(errors);
    paths::local(&here("path"), errors);
    if fields.is_set() {
        field(&here("fieldRef"), &FILE_FIELDS, errors);
        if resources.is_set() {
            at.fail_as("resource", "fieldRef and resourceFieldRef can not be specified simultaneously", errors);
        }
    } else if resources.is_set() {
        resource(&here("resourceFieldRef"), true, errors);
    } else {
        at.missing("one of fieldRef and resourceFieldRef is required", errors);
    }
    paths::mode(&here("mode"), errors);
}

fn field(reference: &Spot, allowed: &[&str], errors: &mut Errors) {
    if !reference.at("apiVersion").require(errors) || !reference.at("fieldPath").require(errors) {
        return;
    }
    let (version, path) = (reference.at("apiVersion"), reference.at("fieldPath"));
    let said = path.text();
    let (name, subscript) = match said.strip_suffix("']").and_then(|s| s.split_once("['")) {
        Some((name, subscript)) if !name.is_empty() => (name, Some(subscript)),
        _ => (said, None),
    };
    let host_ip = version.text() == "v1" && name == "spec.host";
    let known = version.text() == "v1" && (KNOWN.contains(&name) || host_ip);
    if version.text() != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {}", version.text());
        path.fail(detail, errors);
    } else if subscript.is_some() && !matches!(name, "metadata.annotations" | "metadata.labels") {
        path.fail(format!("error converting fieldPath: field label does not support subscript: {said}"), errors);
    } else if !known {
        path.fail(format!("error converting fieldPath: field label not supported: {said}"), errors);
    } else if let Some(subscript) = subscript {
        let key = if name == "metadata.labels" { subscript.to_owned() } else { subscript.to_lowercase() };
        names::qualified(&key).into_iter().for_each(|why| reference.fail_as(key.as_str(), why, errors));
    } else if !allowed.contains(&name) {
        path.unsupported(allowed, errors);
    }
}

fn resource(reference: &Spot, in_file: bool, errors: &mut Errors) {
    let resource = reference.at("resource");
    let name = resource.text();
    if in_file && reference.at("containerName").text().is_empty() {
        reference.at("containerName").missing("", errors);
    } else if name.is_empty() {
        resource.missing("", errors);
    } else if !RESOURCES.contains(&name) && !HUGE.iter().any(|h| name.starts_with(h)) {
        resource.unsupported(&RESOURCES, errors);
    }
    let divisor = reference.at("divisor");
    if divisor.quantity().is_none_or(object::Quantity::is_zero) {
        return;
    }
    let sizes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (allowed, called) = match name.split_once('.').map_or("", |(_, n)| n) {
        "cpu" => (&["1m", "1"][..], "cpu"),
        "memory" => (&sizes[..], "memory"),
        "ephemeral-storage" => (&sizes[..], "local ephemeral storage"),
        _ if HUGE.iter().any(|h| name.starts_with(h)) => (&sizes[..], "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.text()) {
        let listed = if called == "cpu" { "1m and 1".to_owned() } else { sizes.join(", ") };
        let detail = format!("only divisor's values {listed} are supported with the {called} resource");
        divisor.fail_as(name, detail, errors);
    }
}

/// Variables from files: the files are in volumes of the pod's own.
pub(in crate::core::podspec) fn file_volumes(spec: &Spot, errors: &mut Errors) {
    for list in super::super::LISTS {
        for container in spec.list(list) {
            for variable in container.list("env") {
                let from = variable.at("valueFrom");
                let file = from.at("fileKeyRef");
                let wanted = file.at("volumeName");
                if !file.is_set() {
                    continue;
                }
                match spec.list("volumes").find(|v| v.at("name").text() == wanted.text()) {
                    None => errors.push(object::Invalid::not_found(&wanted.path(), &wanted.text().into())),
                    Some(volume) if !volume.at("emptyDir").is_set() => {
                        wanted.fail("referenced volume must be of type emptyDir", errors);
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
