//! Scalars: what fits, what becomes canonical, and Go's words for what does not fit.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object::Quantity;
use serde_json::Value;

use super::walk::Place;
use crate::types::Scalar;

/// Go's name of a scalar's type.
pub(super) fn go_type(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Int32 => "int32",
        Scalar::Int64 => "int64",
        Scalar::Bool => "bool",
        Scalar::Double => "float64",
        Scalar::Bytes => "[]uint8",
        Scalar::Quantity => "resource.Quantity",
        _ => "string",
    }
}

/// What Go calls a value that it found.
pub(super) fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The words for a list or map where a scalar belongs.
pub(super) fn no_scalar(scalar: Scalar, found: &str, place: &Place<'_>) -> String {
    match scalar {
        Scalar::Quantity => bad_quantity(),
        // These read themselves, without knowing where they are.
        Scalar::IntOrString => format!("json: cannot unmarshal {found} into Go value of type int32"),
        Scalar::Time | Scalar::MicroTime | Scalar::Duration => {
            format!("json: cannot unmarshal {found} into Go value of type string")
        }
        scalar => place.mismatch(found, go_type(scalar)),
    }
}

fn bad_quantity() -> String {
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".into()
}

/// Reads a scalar; `Err` has Go's words. A `null` result is an absent value.
pub(super) fn read(scalar: Scalar, value: Value, place: &Place<'_>) -> Result<Value, String> {
    let int32 = |value: &Value| value.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
    let text = |value: &Value| match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(no_scalar(scalar, found(value), place)),
    };
    let fits = match scalar {
        Scalar::String => value.is_string(),
        Scalar::Bool => value.is_boolean(),
        Scalar::Double => value.is_number(),
        Scalar::Int64 => value.is_i64(),
        Scalar::Int32 => int32(&value),
        Scalar::IntOrString if value.is_string() || int32(&value) => true,
        Scalar::IntOrString => return Err(no_scalar(scalar, &described(scalar, &value), place)),
        Scalar::Bytes => return bytes(&text(&value)?).map(Value::from),
        Scalar::Quantity => return quantity(&value),
        Scalar::Time => return time(&text(&value)?).map(Value::from),
        Scalar::MicroTime => return micro_time(&text(&value)?).map(Value::from),
        Scalar::Duration => return text(&value).map(Value::from),
    };
    if fits { Ok(value) } else { Err(place.mismatch(&described(scalar, &value), go_type(scalar))) }
}

/// Numbers that do not fit an integer are quoted.
fn described(scalar: Scalar, value: &Value) -> String {
    match (scalar, value) {
        (Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString, Value::Number(n)) => format!("number {n}"),
        _ => found(value).into(),
    }
}

fn bytes(text: &str) -> Result<String, String> {
    let packed: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(&packed) {
        Ok(_) => Ok(packed),
        Err(_) => Err(format!("illegal base64 data at input byte {}", corrupt_at(text.as_bytes()))),
    }
}

/// Where Go finds that base64 is none: at the first byte that does not belong there, or at the start of what is cut short.
fn corrupt_at(text: &[u8]) -> usize {
    let line = |b: u8| matches!(b, b'\r' | b'\n');
    let (mut at, mut within) = (0, 0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            byte if line(byte) => {}
            b'=' if within < 2 => return at - 1,
            b'=' => {
                let skip = |from: usize| (from..text.len()).find(|i| !line(text[*i])).unwrap_or(text.len());
                if within == 2 {
                    at = skip(at);
                    if text.get(at) != Some(&b'=') {
                        return if at == text.len() { at } else { at - 1 };
                    }
                    at += 1;
                }
                return skip(at);
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => within = (within + 1) % 4,
            _ => return at - 1,
        }
    }
    at - within
}

fn quantity(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return Err(bad_quantity()),
    };
    Quantity::canonical(&text).map(Value::from).ok_or_else(bad_quantity)
}

const TIME: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_TIME: &str = "2006-01-02T15:04:05.000000Z07:00";

fn time(text: &str) -> Result<String, String> {
    layout(text, TIME)?;
    let stamp: jiff::Timestamp = text.parse().map_err(|_| out_of_range(text, TIME))?;
    // Fractions are cut, not rounded.
    let whole = jiff::Timestamp::from_second(stamp.as_nanosecond().div_euclid(1_000_000_000) as i64);
    Ok(format!("{:.0}", whole.unwrap_or(stamp)))
}

fn micro_time(text: &str) -> Result<String, String> {
    layout(text, MICRO_TIME)?;
    let stamp: jiff::Timestamp = text.parse().map_err(|_| out_of_range(text, MICRO_TIME))?;
    Ok(format!("{stamp:.6}"))
}

fn out_of_range(text: &str, layout: &str) -> String {
    format!("parsing time {} as {layout:?}: day out of range", quoted(text))
}

/// Text as Go's clock quotes it: all but printable ASCII by its bytes.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// Checks a time's form, with Go's words for the first part that is wrong.
fn layout(text: &str, layout: &str) -> Result<(), String> {
    const PARTS: [(&str, usize, u32, &str); 6] = [
        ("2006", 4, 9999, "year"),
        ("01", 2, 12, "month"),
        ("02", 2, 31, "day"),
        ("15", 2, 23, "hour"),
        ("04", 2, 59, "minute"),
        ("05", 2, 59, "second"),
    ];
    let fail = |rest: &str, part: &str| {
        Err(format!("parsing time {} as {layout:?}: cannot parse {} as {part:?}", quoted(text), quoted(rest)))
    };
    let mut rest = text;
    for (index, (part, digits, most, name)) in PARTS.into_iter().enumerate() {
        let Some(number) = rest.get(..digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit())) else {
            return fail(rest, part);
        };
        let value: u32 = number.parse().unwrap_or(u32::MAX);
        if value > most || (value == 0 && matches!(part, "01" | "02")) {
            return Err(format!("parsing time {}: {name} out of range", quoted(text)));
        }
        rest = &rest[digits..];
        if let Some(separator) = ["-", "-", "T", ":", ":"].get(index) {
            rest = match rest.strip_prefix(separator) {
                Some(after) => after,
                None => return fail(rest, separator),
            };
        }
    }
    let fraction = rest.strip_prefix('.').map(|r| r.bytes().take_while(u8::is_ascii_digit).count());
    match fraction {
        Some(digits) if digits == 6 || (digits > 0 && layout == TIME) => rest = &rest[1 + digits..],
        _ if layout == MICRO_TIME => return fail(rest, ".000000"),
        _ => {}
    }
    let offset = rest.as_bytes();
    let is_offset =
        matches!(offset, [b'+' | b'-', a, b, b':', c, d] if [a, b, c, d].iter().all(|x| x.is_ascii_digit()));
    match rest {
        "Z" => Ok(()),
        _ if is_offset => Ok(()),
        _ => match rest.strip_prefix('Z') {
            Some(extra) => Err(format!("parsing time {}: extra text: {}", quoted(text), quoted(extra))),
            None => fail(rest, "Z07:00"),
        },
    }
}
