//! Named formats (`format.dns1123Label().validate(x)`), and `"%d items".format([n])`.

use super::{Answer, Outcome};
use crate::error::Failure;
use crate::value::Value;

const NAMES: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub(super) fn call(method: bool, name: &str, args: &[&Value]) -> Answer {
    if let Some(format) = name.strip_prefix("format.") {
        return match (format, args) {
            ("named", [Value::String(text)]) => Some(Ok(match NAMES.contains(&&**text) {
                true => Value::some(Value::Format(text.clone())),
                false => Value::Optional(None),
            })),
            (format, []) if NAMES.contains(&format) => Some(Ok(Value::Format(format.into()))),
            _ => None,
        };
    }
    match (name, args) {
        ("validate", [Value::Format(format), Value::String(text)]) if method => {
            Some(Ok(match validate(format, text) {
                None => Value::Optional(None),
                Some(why) => Value::some(Value::list(vec![why.as_str().into()])),
            }))
        }
        _ => None,
    }
}

fn label(text: &str, first_digit: bool, prefix: bool) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(|c: char| c.is_ascii_lowercase() || (first_digit && c.is_ascii_digit()))
        && (prefix || text.ends_with(edge))
        && text.chars().all(|c| edge(c) || c == '-')
        && text.len() <= 63
}

fn validate(format: &str, text: &str) -> Option<String> {
    let schema_format = |name: &str| schema::structural::formats::fits(name, text);
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let named = |t: &str| {
        t.len() <= 63
            && t.starts_with(|c: char| c.is_ascii_alphanumeric())
            && t.ends_with(|c: char| c.is_ascii_alphanumeric())
            && t.chars().all(word)
    };
    let subdomain = |t: &str| t.len() <= 253 && t.split('.').all(|part| label(part, true, false));
    let fits = match format {
        "dns1123Label" => label(text, true, false),
        "dns1123LabelPrefix" => label(text, true, true),
        "dns1035Label" => label(text, false, false),
        "dns1035LabelPrefix" => label(text, false, true),
        "dns1123Subdomain" => subdomain(text),
        "dns1123SubdomainPrefix" => subdomain(text.trim_end_matches(['-', '.'])),
        "qualifiedName" => match text.split_once('/') {
            Some((prefix, name)) => subdomain(prefix) && named(name),
            None => named(text),
        },
        "labelValue" => text.is_empty() || named(text),
        "uri" => schema_format("uri"),
        "uuid" => schema_format("uuid"),
        "byte" => schema_format("byte"),
        "date" => schema_format("date"),
        "datetime" => schema_format("date-time"),
        _ => true,
    };
    (!fits).then(|| format!("invalid {format}"))
}

/// `%s %d %f %e %b %x %X %o %%`, with a precision before `f` and `e`.
pub(super) fn format(pattern: &str, args: &[Value]) -> Outcome {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        let verb = loop {
            match chars.next() {
                Some(c) if c == '.' || c.is_ascii_digit() => spec.push(c),
                Some(c) => break c,
                None => return Err(Failure::new("unexpected end of format string")),
            }
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let precision = spec.trim_start_matches('.').parse::<usize>().unwrap_or(6).min(100);
        let arg = args.next().ok_or_else(|| Failure::new("index out of bounds in format arguments"))?;
        out.push_str(&match (verb, arg) {
            ('s', value) => value.to_string(),
            ('d', Value::Int(_) | Value::Uint(_) | Value::Double(_)) => arg.to_string(),
            ('f', Value::Double(n)) => format!("{n:.precision$}"),
            ('f', Value::Int(n)) => format!("{:.precision$}", *n as f64),
            ('e', Value::Double(n)) => format!("{n:.precision$e}"),
            ('b', Value::Int(n)) => format!("{n:b}"),
            ('b', Value::Uint(n)) => format!("{n:b}"),
            ('b', Value::Bool(b)) => u8::from(*b).to_string(),
            ('o', Value::Int(n)) => format!("{n:o}"),
            ('x', Value::Int(n)) => format!("{n:x}"),
            ('X', Value::Int(n)) => format!("{n:X}"),
            ('x', Value::String(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
            ('X', Value::String(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
            (verb, value) => {
                return Err(Failure::new(format!(
                    "could not format argument: {} cannot be used with %{verb}",
                    value.type_name()
                )));
            }
        });
    }
    Ok(out.as_str().into())
}
