//! What claims for devices, their templates and the classes of devices must be like.

use cel::{Environment, Type};
use object::Invalid;
use serde_json::Value;

use crate::core::podspec::containers::resources;
use crate::spot::{Errors, Spot};
use crate::tree::text;
use crate::{checks, metadata, names};

const MOST: usize = 32;
const NO_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

pub(super) fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    match old {
        Some(_) => checks::immutable(new, old, &["spec"], errors),
        None => claim(&Spot::new(&new["spec"], "spec"), errors),
    }
}

pub(super) fn validate_template(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let own = spec.at("metadata");
    for (field, _) in own.value.as_object().into_iter().flatten() {
        if field != "labels" && field != "annotations" {
            // As upstream spells it.
            own.at(if field == "uid" { "uID" } else { field }).forbid("cannot be set", errors);
        }
    }
    metadata::labels(own.at("labels").value, &own.at("labels").path(), errors);
    metadata::annotations(own.at("annotations").value, &own.at("annotations").path(), errors);
    claim(&spec.at("spec"), errors);
    checks::immutable(new, old, &["spec"], errors);
}

pub(super) fn validate_class(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let known = old.is_some_and(|old| old["spec"]["selectors"] == new["spec"]["selectors"]);
    selectors(&spec, known, errors);
    if at_most(&spec, "config", MOST, errors) {
        spec.list("config").for_each(|config| configuration(&config, errors));
    }
    let name = spec.at("extendedResourceName");
    if name.is_set() && !resources::is_extended(name.text()) {
        name.fail("must be a valid extended resource name", errors);
    }
}

/// Adds an error when a list has too many items; true when it has not: then its items are looked at.
pub(super) fn at_most(above: &Spot, field: &str, most: usize, errors: &mut Errors) -> bool {
    let list = above.at(field);
    if list.len() > most {
        errors.push(Invalid::too_many(&list.path(), list.len(), most));
    }
    list.len() <= most
}

/// No two items of a list have the same key.
pub(super) fn unique<'v>(above: &Spot<'v, '_>, field: &str, key: fn(&'v Value) -> &'v str, errors: &mut Errors) {
    let mut seen = Vec::new();
    for item in above.list(field) {
        let key = key(item.value);
        match seen.contains(&key) {
            true => errors.push(Invalid::duplicate(&item.path(), &key.into())),
            false => seen.push(key),
        }
    }
}

fn claim(spec: &Spot, errors: &mut Errors) {
    let devices = spec.at("devices");
    if at_most(&devices, "requests", MOST, errors) {
        devices.list("requests").for_each(|one| request(&one, errors));
        unique(&devices, "requests", |request| text(&request["name"]), errors);
    }
    if at_most(&devices, "constraints", MOST, errors) {
        for constraint in devices.list("constraints") {
            references(&constraint, devices.value, errors);
            let (same, distinct) = (constraint.at("matchAttribute"), constraint.at("distinctAttribute"));
            match (same.is_set(), distinct.is_set()) {
                (true, _) => fully_qualified(&same, errors),
                (false, true) => fully_qualified(&distinct, errors),
                (false, false) => constraint.missing(
                    "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
                    errors,
                ),
            }
        }
    }
    if at_most(&devices, "config", MOST, errors) {
        for config in devices.list("config") {
            references(&config, devices.value, errors);
            configuration(&config, errors);
        }
    }
}

fn request(request: &Spot, errors: &mut Errors) {
    request.at("name").obey(names::label, errors);
    let (exactly, several) = (request.at("exactly"), request.at("firstAvailable"));
    match (exactly.is_set(), several.len() > 0) {
        (false, false) => request.missing("exactly one of `exactly` or `firstAvailable` is required", errors),
        (true, true) => {
            let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            request.fail_as(Value::Null, detail, errors);
        }
        (true, false) => wanted(&exactly, errors),
        (false, true) if at_most(request, "firstAvailable", 8, errors) => {
            for one in request.list("firstAvailable") {
                one.at("name").obey(names::label, errors);
                wanted(&one, errors);
            }
            unique(request, "firstAvailable", |one| text(&one["name"]), errors);
        }
        (false, true) => {}
    }
}

fn wanted(request: &Spot, errors: &mut Errors) {
    request.at("deviceClassName").must_obey(names::subdomain, errors);
    selectors(request, false, errors);
    let (mode, count) = (request.at("allocationMode"), request.at("count"));
    match mode.text() {
        "All" if count.count() != 0 => count.fail("must not be specified when allocationMode is 'All'", errors),
        "ExactCount" if count.count() <= 0 => count.fail_as(count.count(), "must be greater than zero", errors),
        "All" | "ExactCount" => {}
        _ => mode.unsupported(&["All", "ExactCount"], errors),
    }
    for toleration in request.list("tolerations") {
        toleration.at("key").named(names::qualified, errors);
        let (operator, value) = (toleration.at("operator"), toleration.at("value"));
        match operator.text() {
            "Exists" if !value.text().is_empty() => value.fail("must be empty for operator `Exists`", errors),
            "Exists" => {}
            "Equal" => value.obey(names::label_value, errors),
            _ => operator.must_be_one_of(&["Equal", "Exists"], errors),
        }
        if !toleration.at("effect").text().is_empty() {
            toleration.at("effect").exactly_one_of(&["NoExecute", "NoSchedule", "None"], errors);
        }
    }
}

/// What a selector may cost at most.
const MOST_COST: u64 = 1_000_000;

/// Selectors are expressions on a device. What was accepted once is not looked at again.
fn selectors(above: &Spot, known: bool, errors: &mut Errors) {
    if !at_most(above, "selectors", MOST, errors) || known {
        return;
    }
    let environment = Environment::from([("device".to_owned(), cel::device_type())]);
    for selector in above.list("selectors") {
        let cel = selector.at("cel");
        if !cel.is_set() {
            cel.missing("", errors);
            continue;
        }
        let source = cel.at("expression");
        if source.text().len() > 10 * 1024 {
            errors.push(Invalid::too_long(&source.path(), 10 * 1024));
            continue;
        }
        let checked = cel::parse_binding(source.text()).and_then(|expr| {
            let (found, types) = cel::check_typed(&expr, source.text(), &environment)?;
            let cost = cel::most_cost_with(&expr, &types, "device", &cel::device_sizes());
            Ok((found, cost, expr))
        });
        match checked {
            Err(why) => source.fail_as(source.text(), format!("compilation failed: {why}"), errors),
            Ok((found, cost, expr)) if matches!(found, Type::Bool | Type::Dyn) || found == cel::ANY => {
                if let Err(why) = cel::instantiate(&expr) {
                    let why = format!("program instantiation failed: {why}");
                    errors.push(Invalid::internal(&source.path(), why));
                } else if cost > MOST_COST {
                    errors.push(Invalid::forbidden(&source.path(), "too complex, exceeds cost limit"));
                }
            }
            Ok((other, ..)) => source.fail(format!("must evaluate to bool or the unknown type, not {other}"), errors),
        }
    }
}

/// The requests that something is for.
pub(super) fn references(above: &Spot, devices: &Value, errors: &mut Errors) {
    if !at_most(above, "requests", MOST, errors) {
        return;
    }
    above.list("requests").for_each(|name| request_name(&name, devices, errors));
    unique(above, "requests", text, errors);
}

/// The name of a request, or of one of its alternatives.
pub(super) fn request_name(name: &Spot, devices: &Value, errors: &mut Errors) {
    let steps: Vec<&str> = name.text().split('/').collect();
    if steps.len() > 2 {
        return name.fail_as(name.text(), NO_REQUEST, errors);
    }
    for step in &steps {
        names::label(step).into_iter().for_each(|why| name.fail_as(*step, why, errors));
    }
    if !has_request(devices, &steps) {
        name.fail_as(name.text(), NO_REQUEST, errors);
    }
}

fn has_request(devices: &Value, steps: &[&str]) -> bool {
    let named = |list: &Value, name: &str| -> Option<usize> {
        list.as_array()?.iter().rposition(|request| text(&request["name"]) == name)
    };
    let Some(index) = named(&devices["requests"], steps[0]) else { return false };
    match steps.get(1) {
        None => true,
        Some(inner) => named(&devices["requests"][index]["firstAvailable"], inner).is_some(),
    }
}

pub(super) fn configuration(config: &Spot, errors: &mut Errors) {
    let opaque = config.at("opaque");
    if !opaque.is_set() {
        return opaque.missing("", errors);
    }
    driver(&opaque.at("driver"), errors);
    let parameters = opaque.at("parameters");
    match parameters.value {
        Value::Null => parameters.missing("", errors),
        Value::Object(_) if parameters.value.to_string().len() > 10 * 1024 => {
            errors.push(Invalid::too_long(&parameters.path(), 10 * 1024));
        }
        Value::Object(_) => {}
        _ => parameters.fail_as("<value omitted>", "must be a valid JSON object", errors),
    }
}

/// The name of a driver.
pub(super) fn driver(name: &Spot, errors: &mut Errors) {
    if name.require(errors) {
        driver_shape(name, name.text(), errors);
    }
}

fn driver_shape(at: &Spot, name: &str, errors: &mut Errors) {
    if name.len() > 63 {
        errors.push(Invalid::too_long(&at.path(), 63));
    }
    names::subdomain(&name.to_lowercase()).into_iter().for_each(|why| at.fail_as(name, why, errors));
}

/// The name of an attribute or a capacity: `domain/identifier`, or the identifier alone.
pub(super) fn qualified(at: &Spot, name: &str, errors: &mut Errors) {
    let steps: Vec<&str> = name.split('/').collect();
    let identifier = match steps[..] {
        [identifier] => identifier,
        [domain, identifier] => {
            match domain.is_empty() {
                true => at.fail_as("", "the domain must not be empty", errors),
                false => driver_shape(at, domain, errors),
            }
            if identifier.is_empty() {
                return at.fail_as("", "the name must not be empty", errors);
            }
            identifier
        }
        _ => return,
    };
    if identifier.len() > 32 {
        errors.push(Invalid::too_long(&at.path(), 32));
    }
    let good = |(index, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || (index > 0 && b.is_ascii_digit());
    if identifier.is_empty() || !identifier.bytes().enumerate().all(good) {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
        at.fail_as(identifier, why, errors);
    }
}

fn fully_qualified(name: &Spot, errors: &mut Errors) {
    qualified(name, name.text(), errors);
    if !name.text().contains('/') {
        name.fail("a fully qualified name must be a domain and a name separated by a slash", errors);
    }
}
