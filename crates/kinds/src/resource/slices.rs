//! What drivers may say of their devices (`resource.k8s.io/v1 ResourceSlice`).

use object::Invalid;
use serde_json::Value;

use super::claims::{at_most, driver, qualified, unique};
use super::policy;
use super::status::bindings;
use crate::core::podspec;
use crate::spot::{Errors, Spot};
use crate::tree::{list, text};
use crate::{checks, names};

/// Most of each: devices, those with taints or counters, attributes and capacities of one, values of its attributes.
const MOST_DEVICES: usize = 128;
const MOST_ADVANCED_DEVICES: usize = 64;
const MOST_ENTRIES: usize = 32;
const MOST_VALUES: usize = 48;

const PLACES: &str = "`nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection`";

pub(super) fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    driver(&spec.at("driver"), errors);
    pool(&spec.at("pool"), errors);
    checks::immutable(new, old, &["spec.pool.name", "spec.driver", "spec.nodeName"], errors);
    let mut places = Vec::new();
    let node = spec.at("nodeName");
    if node.is_set() {
        node_name(&node, "must be either unset or set to a non-empty string", errors);
        places.extend((!node.text().is_empty()).then_some("`nodeName`"));
    }
    let selector = spec.at("nodeSelector");
    if selector.is_set() {
        places.push("`nodeSelector`");
        podspec::node_selector(&selector, errors);
        if selector.at("nodeSelectorTerms").len() != 1 {
            selector.at("nodeSelectorTerms").fail("must have exactly one node selector term", errors);
        }
    }
    for (field, named) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        let flag = spec.at(field);
        places.extend(flag.is_true().then_some(named));
        if flag.is_set() && !flag.is_true() {
            flag.fail("must be either unset or set to true", errors);
        }
    }
    match places.len() {
        0 => spec.missing(format!("exactly one of {PLACES} is required"), errors),
        1 => {}
        _ => {
            let detail = format!("exactly one of {PLACES} is required, but multiple fields are set");
            spec.fail_as(format!("{{{}}}", places.join(", ")), detail, errors);
        }
    }
    if spec.at("sharedCounters").len() > 0 && spec.at("devices").len() > 0 {
        spec.fail_as("", "only one of `sharedCounters` or `devices` is allowed", errors);
    }
    let advanced = |one: Spot| one.at("taints").len() + one.at("consumesCounters").len() > 0;
    let most = if spec.list("devices").any(advanced) { MOST_ADVANCED_DEVICES } else { MOST_DEVICES };
    if at_most(&spec, "devices", most, errors) {
        let apart = spec.at("perDeviceNodeSelection").is_true();
        let before = old.map_or(&[][..], |old| list(&old["spec"]["devices"]));
        for one in spec.list("devices") {
            device(&one, before.iter().find(|b| b["name"] == one.at("name").text()), errors);
            place(&one, apart, errors);
            bindings(&one, errors);
        }
        unique(&spec, "devices", |device| text(&device["name"]), errors);
    }
    if at_most(&spec, "sharedCounters", 8, errors) {
        for set in spec.list("sharedCounters") {
            set.at("name").must_obey(names::label, errors);
            counters(&set, errors);
        }
        unique(&spec, "sharedCounters", |set| text(&set["name"]), errors);
    }
}

pub(super) fn warnings(new: &Value, _: Option<&Value>) -> Vec<String> {
    let driver = text(&new["spec"]["driver"]);
    match driver.chars().any(|c| c.is_ascii_uppercase()) {
        true => {
            vec![format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters")]
        }
        false => Vec::new(),
    }
}

fn node_name(name: &Spot, empty: &str, errors: &mut Errors) {
    match name.text().is_empty() {
        true => name.fail(empty, errors),
        false => name.obey(names::subdomain, errors),
    }
}

/// The name of a pool: subdomains with slashes between.
pub(super) fn pool_name(name: &Spot, errors: &mut Errors) {
    if name.require(errors) {
        if name.text().len() > 253 {
            errors.push(Invalid::too_long(&name.path(), 253));
        }
        for part in name.text().split('/') {
            names::subdomain(part).into_iter().for_each(|why| name.fail_as(part, why, errors));
        }
    }
}

fn pool(pool: &Spot, errors: &mut Errors) {
    let (name, count, generation) = (pool.at("name"), pool.at("resourceSliceCount"), pool.at("generation"));
    pool_name(&name, errors);
    count.positive(errors);
    if generation.count() < 0 {
        generation.fail("must be greater than or equal to zero", errors);
    }
}

fn device(device: &Spot, old: Option<&Value>, errors: &mut Errors) {
    device.at("name").obey(names::label, errors);
    let (attributes, capacities) = (device.at("attributes").len(), device.at("capacity").len());
    for (count, most, of) in [
        (attributes + capacities, MOST_ENTRIES, "attributes and capacities"),
        (attributes, MOST_VALUES, "attribute values"),
    ] {
        if count > most {
            device.fail_as(count, format!("the total number of {of} must not exceed {most}"), errors);
        }
    }
    for (key, attribute) in device.map("attributes") {
        qualified(&device.at("attributes"), key, errors);
        value(&attribute, errors);
    }
    for (key, capacity) in device.map("capacity") {
        qualified(&device.at("capacity"), key, errors);
        match (capacity.at("requestPolicy").is_set(), device.at("allowMultipleAllocations").is_true()) {
            (true, true) => policy::validate(&capacity, errors),
            (true, false) => capacity.at("requestPolicy").forbid("allowMultipleAllocations must be true", errors),
            (false, _) => {}
        }
    }
    let tainted = old.is_none_or(|old| list(&old["taints"]) != list(device.at("taints").value));
    if tainted && at_most(device, "taints", 16, errors) {
        for taint in device.list("taints") {
            taint.at("key").obey(names::qualified, errors);
            taint.at("value").named(names::label_value, errors);
            taint.at("effect").must_be_one_of(&["NoExecute", "NoSchedule", "None"], errors);
        }
    }
    if at_most(device, "consumesCounters", 2, errors) {
        for set in device.list("consumesCounters") {
            set.at("counterSet").must_obey(names::label, errors);
            counters(&set, errors);
        }
        unique(device, "consumesCounters", |set| text(&set["counterSet"]), errors);
    }
}

/// Where a device is, when each of a slice says so itself.
fn place(device: &Spot, apart: bool, errors: &mut Errors) {
    let (node, selector, all) = (device.at("nodeName"), device.at("nodeSelector"), device.at("allNodes"));
    if !apart {
        if [node, selector, all].iter().any(Spot::is_set) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            device.fail_as(Value::Null, detail, errors);
        }
        return;
    }
    let mut places = Vec::new();
    if node.is_set() {
        places.extend((!node.text().is_empty()).then_some("`nodeName`"));
        node_name(&node, "must not be empty", errors);
    }
    if selector.is_set() {
        places.push("`nodeSelector`");
        podspec::node_selector(&selector, errors);
    }
    if all.is_set() {
        match all.is_true() {
            true => places.push("`allNodes`"),
            false => all.fail("must be either unset or set to true", errors),
        }
    }
    let detail = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match places.len() {
        0 => device.missing(detail, errors),
        1 => {}
        _ => device.fail_as(format!("{{{}}}", places.join(", ")), detail, errors),
    }
}

fn value(attribute: &Spot, errors: &mut Errors) {
    let kinds = ["int", "bool", "string", "version"];
    let (text, version) = (attribute.at("string"), attribute.at("version"));
    if version.is_set() && !is_semantic(version.text()) {
        version.fail("must be a string compatible with semver.org spec 2.0.0", errors);
    }
    for long in [text, version].iter().filter(|value| value.text().len() > 64) {
        errors.push(Invalid::too_long(&long.path(), 64));
    }
    match kinds.into_iter().filter(|field| attribute.at(field).is_set()).count() {
        0 => attribute.fail_as("", "exactly one value must be specified", errors),
        1 => {}
        _ => attribute.fail("exactly one value must be specified", errors),
    }
}

/// `1.2.3-rc.1+build`
fn is_semantic(version: &str) -> bool {
    let (rest, build) = version.split_once('+').map_or((version, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|b| b.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|b| b.split('.').all(word))
}

/// Attributes with several values are not offered yet.
pub(super) fn drop_lists(slice: &mut Value) {
    crate::tree::each(slice, "spec.devices", |device| {
        let attributes = device.get_mut("attributes").and_then(Value::as_object_mut);
        for (_, attribute) in attributes.into_iter().flatten() {
            for field in ["ints", "bools", "strings", "versions"] {
                crate::tree::remove(attribute, field);
            }
        }
    });
}

fn counters(set: &Spot, errors: &mut Errors) {
    if !set.at("counters").require(errors) {
        return;
    }
    for key in set.at("counters").value.as_object().into_iter().flatten().map(|(key, _)| key) {
        names::label(key).into_iter().for_each(|why| set.at("counters").fail_as(key.as_str(), why, errors));
    }
}
