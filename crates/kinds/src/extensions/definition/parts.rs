//! What a version has besides its schema: columns, subresources, selectable fields; and how versions convert.

use object::Invalid;
use schema::structural::Node;
use serde_json::Value;

use crate::custom::field_path;
use crate::tree::{list, text};
use crate::{checks, names};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// Selectable fields that a version may have.
const MOST_SELECTABLE: usize = 8;

/// Adds what is wrong with the columns at `path`.
pub(super) fn columns(columns: &Value, path: &str, errors: &mut Vec<Invalid>) {
    for (index, column) in list(columns).iter().enumerate() {
        printed(column, &format!("{path}.additionalPrinterColumns[{index}]"), errors);
    }
}

/// Adds what is wrong with the subresources at `path`.
pub(super) fn subresources(declared: &Value, path: &str, errors: &mut Vec<Invalid>) {
    scale(&declared["scale"], &format!("{path}.subresources.scale"), errors);
}

/// Adds what is wrong with the deprecation of a version at `path`.
pub(super) fn deprecation(version: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let warning = &version["deprecationWarning"];
    let Some(given) = warning.as_str() else { return };
    let mut wrong = |why: String| errors.push(Invalid::invalid(&format!("{path}.deprecationWarning"), warning, why));
    if version["deprecated"] != true {
        return wrong("can only be set for deprecated versions".into());
    }
    if given.len() > 256 {
        wrong("must be <= 256 characters long".into());
    }
    if given.is_empty() {
        wrong("must not be an empty string".into());
    }
    if let Some((at, _)) = given.char_indices().find(|(_, c)| c.is_control()) {
        wrong(format!("must only contain printable UTF-8 characters; non-printable character found at index {at}"));
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
        } else if !given.starts_with('.') {
            simple_path(given, &at, errors);
        } else if !below.iter().any(|b| given.starts_with(b)) {
            errors.push(Invalid::invalid(&at, &given.into(), wanted));
        }
    }
}

/// Adds what is wrong with selectable fields at `path`, over the schema that they are of.
pub(super) fn selectable(fields: &[Value], schema: &Value, path: &str, errors: &mut Vec<Invalid>) {
    let root = Node::parse(schema);
    let mut seen: Vec<String> = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let (given, at) = (text(&field["jsonPath"]), format!("{path}.selectableFields[{index}].jsonPath"));
        if given.is_empty() {
            errors.push(Invalid::required(&at, ""));
            continue;
        }
        let (shown, target) = match field_path::follow(given, &root, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(Invalid::invalid(&at, &given.into(), format!("is an invalid path: {why}")));
                continue;
            }
        };
        if shown.split(['.', '[']).next() == Some("metadata") {
            errors.push(Invalid::invalid(&at, &given.into(), "must not point to fields in metadata"));
        }
        use schema::structural::Kind::{Boolean, Integer, String};
        if !matches!(target.kind, Some(String | Boolean | Integer)) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Invalid::invalid(&at, &given.into(), why));
        }
        match seen.contains(&shown) {
            true => errors.push(Invalid::duplicate(&at, &given.into())),
            false => seen.push(shown),
        }
    }
    if seen.len() > MOST_SELECTABLE {
        errors.push(Invalid::too_many(&format!("{path}.selectableFields"), seen.len(), MOST_SELECTABLE));
    }
}

/// Adds what is wrong with `spec.conversion`. `lenient`: authorities that nobody can read are let pass.
pub(super) fn conversion(spec: &Value, lenient: bool, errors: &mut Vec<Invalid>) {
    let conversion = &spec["conversion"];
    const PATH: &str = "spec.conversion";
    match text(&conversion["strategy"]) {
        "" => errors.push(Invalid::required("spec.conversion.strategy", "")),
        _ => checks::one_of(conversion, PATH, "strategy", &["None", "Webhook"], errors),
    }
    let webhook = &conversion["webhook"];
    let (client, versions) = (&webhook["clientConfig"], list(&webhook["conversionReviewVersions"]));
    // The fields' names are upstream's internal ones.
    const CLIENT: &str = "spec.conversion.webhookClientConfig";
    const VERSIONS: &str = "spec.conversion.conversionReviewVersions";
    if conversion["strategy"] != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_object() {
            errors.push(Invalid::forbidden(CLIENT, why));
        }
        if !versions.is_empty() {
            errors.push(Invalid::forbidden(VERSIONS, why));
        }
        return;
    }
    match client.is_object() {
        true => client_config(client, CLIENT, lenient, errors),
        false => errors.push(Invalid::required(CLIENT, "required when strategy is set to Webhook")),
    }
    review_versions(versions, VERSIONS, errors);
}

fn client_config(client: &Value, path: &str, lenient: bool, errors: &mut Vec<Invalid>) {
    let (url, service) = (&client["url"], &client["service"]);
    if url.is_string() == service.is_object() {
        errors.push(Invalid::required(path, "exactly one of url or service is required"));
    } else if let Some(url) = url.as_str() {
        webhook_url(url, &format!("{path}.url"), errors);
    } else {
        webhook_service(service, &format!("{path}.service"), errors);
    }
    let bundle = text(&client["caBundle"]);
    if !lenient && !bundle.is_empty() && !is_bundle(bundle) {
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        errors.push(Invalid::invalid(&format!("{path}.caBundle"), &client["caBundle"], why));
    }
}

/// True for base64 of certificates in PEM.
pub(super) fn is_bundle(bundle: &str) -> bool {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(bundle).unwrap_or_default();
    String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE-----")
}

fn webhook_url(url: &str, path: &str, errors: &mut Vec<Invalid>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut wrong = |value: &str, why: String| errors.push(Invalid::invalid(path, &value.into(), why));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        wrong(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or("");
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if host.is_empty() || scheme.is_empty() {
        wrong("", format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        wrong(user, "user information is not permitted in the URL".into());
    }
    if !fragment.is_empty() {
        wrong(fragment, "fragments are not permitted in the URL".into());
    }
    if !query.is_empty() {
        wrong(query, "query parameters are not permitted in the URL".into());
    }
}

fn webhook_service(service: &Value, path: &str, errors: &mut Vec<Invalid>) {
    // As upstream, which takes the one for the other.
    for (field, told) in [("namespace", "name"), ("name", "namespace")] {
        if text(&service[field]).is_empty() {
            errors.push(Invalid::required(&format!("{path}.{told}"), ""));
        }
    }
    if service["port"].as_i64().is_some_and(|p| !(1..=65_535).contains(&p)) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(Invalid::invalid(&format!("{path}.port"), &service["port"], why));
    }
    let way = text(&service["path"]);
    let mut wrong = |why: String| errors.push(Invalid::invalid(&format!("{path}.path"), &way.into(), why));
    match way {
        "" | "/" => return,
        "//" => return wrong("segment[0] may not be empty".into()),
        way if !way.starts_with('/') => wrong("must start with a '/'".into()),
        _ => {}
    }
    let mut letters = way.chars();
    letters.next();
    let inner = letters.as_str();
    for (index, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        match names::joined(names::subdomain(step)) {
            _ if step.is_empty() => wrong(format!("segment[{index}] may not be empty")),
            Some(why) => wrong(format!("segment[{index}]: {why}")),
            None => {}
        }
    }
}

fn review_versions(versions: &[Value], path: &str, errors: &mut Vec<Invalid>) {
    if versions.is_empty() {
        errors.push(Invalid::required(path, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.push(Invalid::invalid(&format!("{path}[{index}]"), version, "duplicate version"));
        } else if let Some(why) = names::joined(names::label_1035(text(version))) {
            errors.push(Invalid::invalid(&format!("{path}[{index}]"), version, why));
        }
    }
    if !versions.iter().any(|v| matches!(text(v), "v1" | "v1beta1")) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(Invalid::invalid(path, &versions.into(), why));
    }
}
