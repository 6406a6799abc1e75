//! What upstream says of a patched object that does not fit its type. Trees of strategic patches and of applies go through another converter
//! there than bodies do, with words of its own.

use object::{Invalid, Reason, Status, patch};
use serde_json::Value;

use crate::subresources::Change;

/// The words of typed decoding, without what was decoded.
fn why<'s>(status: &'s Status, kind: &str) -> &'s str {
    let why = status.message.split_once(&format!("cannot be handled as a {kind}: "));
    why.map_or(status.message.as_str(), |(_, why)| why)
}

/// The refusal of a patch whose result, shown as JSON, is not of its kind.
pub(crate) fn unfit(change: &Change, kind: &str, status: &Status, shown: &str) -> Status {
    let why = why(status, kind);
    let error = match change {
        Change::Strategic(given) => Invalid::invalid("patch", &patch::strategic::go(given).into(), words(why)),
        _ => Invalid::invalid("patch", &shown.into(), why),
    };
    Status::invalid("", "", "", &[error])
}

/// The refusal of an applied configuration that its type's schema does not object to, but the type does.
pub(crate) fn unconverted(config: &Value, kind: &str, status: &Status) -> Status {
    let text = |field: &str| config["metadata"][field].as_str().unwrap_or("");
    let (shown, why) = (patch::shown_kind(config), words(why(status, kind)));
    let message = format!(
        "failed to convert new object ({}/{}; {shown}) to proper version: unable to convert unstructured object to {shown}: {why}",
        text("namespace"),
        text("name"),
    );
    Status { reason: None, ..Status::new(Reason::InternalError, message) }
}

/// The converter's words for those of the JSON decoder; what neither says alone stays.
fn words(why: &str) -> String {
    if why.starts_with("illegal base64 data") {
        return format!("error decoding from json: {why}");
    }
    let parts = why.strip_prefix("json: cannot unmarshal ").and_then(|rest| rest.split_once(" into Go struct field "));
    let Some((found, wanted)) = parts.and_then(|(found, rest)| Some((found, rest.rsplit_once(" of type ")?.1))) else {
        return why.to_owned();
    };
    let (found, number) = found.split_once(' ').unwrap_or((found, ""));
    let found = match found {
        "number" if number.contains(['.', 'e', 'E']) => "float64",
        "number" => "int64",
        "array" => "slice",
        "object" => "map",
        other => other,
    };
    let is_number = |kind: &str| kind.starts_with("int") || kind.starts_with("uint") || kind.starts_with("float");
    match wanted {
        _ if wanted.starts_with("[]") => format!("cannot restore slice from {found}"),
        _ if wanted.starts_with("map[") => format!("cannot restore map from {found}"),
        _ if wanted.contains('.') => format!("cannot restore struct from: {found}"),
        // Go would make a letter of a whole number.
        _ if is_number(found) && (is_number(wanted) || (wanted == "string" && found == "int64")) => {
            format!("cannot convert {found} to {wanted}")
        }
        _ => format!("unrecognized type: {wanted}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_converter_has_words_of_its_own() {
        let check = |found: &str, wanted: &str, words_: &str| {
            let why = format!("json: cannot unmarshal {found} into Go struct field A.b.c of type {wanted}");
            assert_eq!(words(&why), words_, "{why}");
        };
        check("string", "int32", "unrecognized type: int32");
        check("bool", "int32", "unrecognized type: int32");
        check("number 1.5", "int32", "cannot convert float64 to int32");
        check("number", "string", "cannot convert int64 to string");
        check("string", "bool", "unrecognized type: bool");
        check("string", "[]v1.Container", "cannot restore slice from string");
        check("array", "map[string]string", "cannot restore map from slice");
        check("string", "v1.ObjectMeta", "cannot restore struct from: string");
        assert_eq!(words("parsing time \"x\""), "parsing time \"x\"");
    }
}
