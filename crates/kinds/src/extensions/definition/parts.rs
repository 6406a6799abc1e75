//! What a version has besides its schema: columns, subresources, selectable fields; and how versions convert.

use object::{Invalid, JsonPath};
use serde_json::Value;

use crate::checks;
use crate::tree::{list, text};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "password", "binary"];
/// Columns that are too many for a definition.
const MOST_SELECTABLE: usize = 8;

/// Adds what is wrong with a part of a version at `path`.
pub(super) fn validate(version: &Value, part: &str, path: &str, errors: &mut Vec<Invalid>) {
    match part {
        "additionalPrinterColumns" => {
            for (index, column) in list(&version[part]).iter().enumerate() {
                printed(column, &format!("{path}.{part}[{index}]"), errors);
            }
        }
        "subresources" => scale(&version[part]["scale"], &format!("{path}.{part}.scale"), errors),
        _ => selectable(version, path, errors),
    }
}

/// Adds what is wrong with the deprecation of a version at `path`.
pub(super) fn deprecation(version: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let warning = &version["deprecationWarning"];
    if warning.is_string() && version["deprecated"] != true {
        let why = "can only be set for deprecated versions";
        errors.push(Invalid::invalid(&format!("{path}.deprecationWarning"), warning, why));
    } else if warning == "" {
        errors.push(Invalid::invalid(&format!("{path}.deprecationWarning"), warning, "must not be empty"));
    } else if text(warning).len() > 256 {
        let why = "must be 256 or fewer bytes";
        errors.push(Invalid::invalid(&format!("{path}.deprecationWarning"), warning, why));
    }
}

fn printed(column: &Value, path: &str, errors: &mut Vec<Invalid>) {
    if text(&column["name"]).is_empty() {
        errors.push(Invalid::required(&format!("{path}.name"), ""));
    }
    match text(&column["type"]) {
        "" => {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(Invalid::required(&format!("{path}.type"), why));
        }
        kind if !COLUMN_TYPES.contains(&kind) => {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(Invalid::invalid(&format!("{path}.type"), &kind.into(), why));
        }
        _ => {}
    }
    let format = text(&column["format"]);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
        errors.push(Invalid::invalid(&format!("{path}.format"), &format.into(), why));
    }
    // The field's name is upstream's internal one.
    match text(&column["jsonPath"]) {
        "" => errors.push(Invalid::required(&format!("{path}.JSONPath"), "")),
        given => simple_path(given, &format!("{path}.JSONPath"), errors),
    }
}

fn simple_path(given: &str, path: &str, errors: &mut Vec<Invalid>) {
    if !given.starts_with('.') {
        errors.push(Invalid::invalid(path, &given.into(), "must be a simple json path starting with ."));
    } else if let Err(why) = JsonPath::parse(given) {
        errors.push(Invalid::invalid(path, &given.into(), why));
    }
}

fn scale(scale: &Value, path: &str, errors: &mut Vec<Invalid>) {
    if !scale.is_object() {
        return;
    }
    for (field, below, wanted) in [
        ("specReplicasPath", &[".spec."][..], "should be a json path under .spec"),
        ("statusReplicasPath", &[".status."], "should be a json path under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "should be a json path under either .spec or .status"),
    ] {
        let (given, at) = (text(&scale[field]), format!("{path}.{field}"));
        if given.is_empty() {
            if field != "labelSelectorPath" {
                errors.push(Invalid::required(&at, ""));
            }
        } else if JsonPath::parse(given).ok().is_none_or(|p| p.keys().is_none()) || given.contains('[') {
            errors.push(Invalid::invalid(&at, &given.into(), "[] syntax is not supported"));
        } else if !below.iter().any(|b| given.starts_with(b)) {
            errors.push(Invalid::invalid(&at, &given.into(), wanted));
        }
    }
}

fn selectable(version: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let fields = list(&version["selectableFields"]);
    let at = format!("{path}.selectableFields");
    if fields.len() > MOST_SELECTABLE {
        errors.push(Invalid::too_many(&at, fields.len(), MOST_SELECTABLE));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let (given, at) = (text(&field["jsonPath"]), format!("{at}[{index}].jsonPath"));
        let keys = JsonPath::parse(given)
            .ok()
            .and_then(|p| p.keys().map(|k| k.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>()));
        if given.is_empty() {
            errors.push(Invalid::required(&at, ""));
            continue;
        }
        let Some(keys) = keys.filter(|_| given.starts_with('.')) else {
            errors.push(Invalid::invalid(&at, &given.into(), "must be a simple json path starting with ."));
            continue;
        };
        let root = &version["schema"]["openAPIV3Schema"];
        let target = keys.iter().fold(root, |schema, key| &schema["properties"][key.as_str()]);
        if target.is_null() || keys.first().is_some_and(|k| k == "metadata") {
            let why = "is an invalid path: does not refer to a valid field";
            errors.push(Invalid::invalid(&at, &given.into(), why));
        } else if !matches!(text(&target["type"]), "string" | "integer" | "boolean") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Invalid::invalid(&at, &given.into(), why));
        }
        if seen.contains(&given) {
            errors.push(Invalid::duplicate(&at, &given.into()));
        }
        seen.push(given);
    }
}

/// Adds what is wrong with `spec.conversion`.
pub(super) fn conversion(spec: &Value, errors: &mut Vec<Invalid>) {
    let conversion = &spec["conversion"];
    const PATH: &str = "spec.conversion";
    match text(&conversion["strategy"]) {
        "" => errors.push(Invalid::required("spec.conversion.strategy", "")),
        _ => checks::one_of(conversion, PATH, "strategy", &["None", "Webhook"], errors),
    }
    let webhook = &conversion["webhook"];
    if conversion["strategy"] != "Webhook" {
        if webhook.is_object() {
            let why = "should not be set when strategy is not set to Webhook";
            errors.push(Invalid::forbidden("spec.conversion.webhook", why));
        }
        return;
    }
    let client = &webhook["clientConfig"];
    if !client.is_object() {
        let why = "required when strategy is set to Webhook";
        errors.push(Invalid::required("spec.conversion.webhookClientConfig", why));
    } else {
        client_config(client, "spec.conversion.webhookClientConfig", errors);
    }
    review_versions(list(&webhook["conversionReviewVersions"]), "spec.conversion.conversionReviewVersions", errors);
}

fn client_config(client: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let (url, service) = (&client["url"], &client["service"]);
    if url.is_string() == service.is_object() {
        errors.push(Invalid::required(&format!("{path}.url"), "exactly one of url or service is required"));
    }
    if let Some(url) = url.as_str()
        && !url.starts_with("https://")
    {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        errors.push(Invalid::invalid(
            &format!("{path}.url"),
            &scheme.into(),
            "'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ));
    }
    if service.is_object() {
        for field in ["namespace", "name"] {
            if text(&service[field]).is_empty() {
                errors.push(Invalid::required(
                    &format!("{path}.service.{field}"),
                    format!("service {field} is required"),
                ));
            }
        }
        if let Some(way) = service["path"].as_str()
            && !way.starts_with('/')
        {
            errors.push(Invalid::invalid(&format!("{path}.service.path"), &way.into(), "must start with a '/'"));
        }
        if service["port"].as_i64().is_some_and(|p| !(1..=65_535).contains(&p)) {
            let why = "port is not valid: must be between 1 and 65535, inclusive";
            errors.push(Invalid::invalid(&format!("{path}.service.port"), &service["port"], why));
        }
    }
}

fn review_versions(versions: &[Value], path: &str, errors: &mut Vec<Invalid>) {
    if versions.is_empty() {
        errors.push(Invalid::required(path, ""));
        return;
    }
    if !versions.iter().any(|v| matches!(text(v), "v1" | "v1beta1")) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(Invalid::invalid(path, &versions.into(), why));
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.push(Invalid::invalid(&format!("{path}[{index}]"), version, "duplicate version"));
        }
    }
}
