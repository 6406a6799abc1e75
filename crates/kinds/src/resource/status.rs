//! What may be said of a claim that is served: which devices it has, who uses it, how the devices are.

use object::Invalid;
use serde_json::Value;

use super::claims::{at_most, configuration, driver, references, request_name, unique};
use super::slices::pool_name;
use crate::core::podspec;
use crate::spot::{Errors, Spot};
use crate::tree::{list, text};
use crate::{addresses, checks, names};

/// A device that is no longer the claim's is not spoken of any more.
pub(super) fn prepare(new: &mut Value, old: &Value) {
    crate::kind::keep_most_metadata(new, old);
    let of = |claim: &Value| -> Vec<Value> {
        let results = list(&claim["status"]["allocation"]["devices"]["results"]).iter();
        results.map(identity).collect()
    };
    let (now, was) = (of(new), of(old));
    if let Some(devices) = new["status"].get_mut("devices").and_then(Value::as_array_mut) {
        devices.retain(|device| !was.contains(&identity(device)) || now.contains(&identity(device)));
    }
}

/// What makes a device this one.
fn identity(device: &Value) -> Value {
    ["driver", "pool", "device", "shareID"].iter().map(|field| device[*field].clone()).collect()
}

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let status = Spot::new(&new["status"], "status");
    consumers(&status, new, old, errors);
    let allocation = status.at("allocation");
    let allocated: Vec<Value> = list(&allocation.value["devices"]["results"]).iter().map(identity).collect();
    let mut seen = Vec::new();
    for one in status.list("devices") {
        device(&one, &allocated, errors);
    }
    for one in status.list("devices") {
        let identity = identity(one.value);
        match seen.contains(&identity) {
            true => errors.push(shared(Invalid::duplicate(&one.path(), &Value::Null), one.value)),
            false => seen.push(identity),
        }
    }
    if status.at("reservedFor").len() > 0 && !allocation.is_set() {
        status.at("reservedFor").forbid("may not be specified when `allocated` is not set", errors);
    }
    match (allocation.is_set(), &old["status"]["allocation"]) {
        (true, was) if was.is_object() => {
            if was != allocation.value {
                allocation.fail("field is immutable", errors);
            }
        }
        (true, _) => allocate(&allocation, &new["spec"]["devices"], errors),
        (false, _) => {}
    }
}

/// Who has the claim.
fn consumers(status: &Spot, new: &Value, old: &Value, errors: &mut Errors) {
    if !at_most(status, "reservedFor", 256, errors) {
        return;
    }
    for consumer in status.list("reservedFor") {
        for field in ["resource", "name", "uid"] {
            consumer.at(field).require(errors);
        }
    }
    unique(status, "reservedFor", |consumer| text(&consumer["uid"]), errors);
    let known = list(&old["status"]["reservedFor"]);
    let deleted = new["metadata"]["deletionTimestamp"].is_string() && status.at("allocation").is_set();
    if deleted && list(status.at("reservedFor").value).iter().any(|consumer| !known.contains(consumer)) {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        status.at("reservedFor").forbid(detail, errors);
    }
}

fn allocate(allocation: &Spot, requests: &Value, errors: &mut Errors) {
    let devices = allocation.at("devices");
    if at_most(&devices, "results", 32, errors) {
        for result in devices.list("results") {
            request_name(&result.at("request"), requests, errors);
            driver(&result.at("driver"), errors);
            pool_name(&result.at("pool"), errors);
            result.at("device").obey(names::label, errors);
            bindings(&result, errors);
            share(&result, errors);
        }
    }
    if at_most(&devices, "config", 64, errors) {
        for config in devices.list("config") {
            config.at("source").must_be_one_of(&["FromClaim", "FromClass"], errors);
            references(&config, requests, errors);
            configuration(&config, errors);
        }
    }
    if allocation.at("nodeSelector").is_set() {
        podspec::node_selector(&allocation.at("nodeSelector"), errors);
    }
}

/// Conditions on which a pod is bound, or given up.
pub(super) fn bindings(device: &Spot, errors: &mut Errors) {
    let fields = ["bindingConditions", "bindingFailureConditions"];
    for field in fields.into_iter().filter(|field| at_most(device, field, 4, &mut Vec::new())) {
        device.list(field).for_each(|name| name.obey(names::qualified, errors));
    }
    for field in fields {
        at_most(device, field, 4, errors);
        let mut seen = Vec::new();
        for name in device.list(field) {
            match seen.contains(&name.text()) {
                true => name.duplicate(errors),
                false => seen.push(name.text()),
            }
            let other = field == fields[1] && device.list(fields[0]).any(|good| good.text() == name.text());
            if other {
                name.fail("bindingFailureConditions must not overlap with bindingConditions", errors);
            }
        }
    }
    let (good, bad) = (device.at(fields[0]), device.at(fields[1]));
    if good.len() == 0 && bad.len() > 0 {
        good.fail("bindingConditions are required to use bindingFailureConditions", errors);
    }
    if bad.len() == 0 && good.len() > 0 {
        bad.fail("bindingFailureConditions are required to use bindingConditions", errors);
    }
}

/// The identifier of a share of a device.
fn share(device: &Spot, errors: &mut Errors) {
    let id = device.at("shareID");
    if !id.is_set() {
        return;
    }
    let bytes = id.text().as_bytes();
    let fits = |(index, b): (usize, &u8)| match index {
        8 | 13 | 18 | 23 => *b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    if bytes.len() != 36 {
        id.fail(format!("error validating uid: invalid UUID length: {}", bytes.len()), errors);
    } else if !bytes.iter().enumerate().all(fits) {
        id.fail("error validating uid: invalid UUID format", errors);
    } else if bytes.iter().any(u8::is_ascii_uppercase) {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        id.fail(detail, errors);
    }
}

/// An error that shows which share of which device it is about.
fn shared(mut error: Invalid, device: &Value) -> Invalid {
    let part = |field: &str| Value::from(text(&device[field]));
    error.value = format!(
        "{{\"Driver\":{},\"Pool\":{},\"Device\":{},\"ShareID\":{}}}",
        part("driver"),
        part("pool"),
        part("device"),
        part("shareID")
    );
    error.shown = true;
    error
}

/// What a driver says of a device.
fn device(device: &Spot, allocated: &[Value], errors: &mut Errors) {
    driver(&device.at("driver"), errors);
    pool_name(&device.at("pool"), errors);
    device.at("device").obey(names::label, errors);
    share(device, errors);
    if !allocated.contains(&identity(device.value)) {
        let error = Invalid::invalid(&device.path(), &Value::Null, "must be an allocated device in the claim");
        errors.push(shared(error, device.value));
    }
    at_most(device, "conditions", 8, errors);
    checks::conditions(device, errors);
    let data = device.at("data");
    match data.value {
        Value::Null => {}
        Value::Object(_) if data.value.to_string().len() > 10 * 1024 => {
            errors.push(Invalid::too_long(&data.path(), 10 * 1024));
        }
        Value::Object(_) => {}
        _ => data.fail_as("<value omitted>", "must be a valid JSON object", errors),
    }
    let network = device.at("networkData");
    for (field, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if network.at(field).text().len() > most {
            errors.push(Invalid::too_long(&network.at(field).path(), most));
        }
    }
    if at_most(&network, "ips", 16, errors) {
        network.list("ips").for_each(|address| address.obey(addresses::interface, errors));
        unique(&network, "ips", text, errors);
    }
}
