//! A tree as block-style YAML that every reader understands the same way: YAML 1.1 and 1.2, with or without schemas.

use serde_json::Value;

/// The document.
pub(super) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    node(&mut out, value, 0);
    out
}

fn node(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (nth, (key, value)) in map.iter().enumerate() {
                // The first key of a list's item stands beside its dash.
                if nth > 0 || !out.ends_with("- ") {
                    out.extend(std::iter::repeat_n(' ', indent));
                }
                out.push_str(&scalar(key));
                out.push(':');
                inner(out, value, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.extend(std::iter::repeat_n(' ', indent));
                out.push_str("- ");
                node(out, item, indent + 2);
            }
        }
        Value::Object(_) => out.push_str("{}\n"),
        Value::Array(_) => out.push_str("[]\n"),
        Value::String(text) => {
            out.push_str(&scalar(text));
            out.push('\n');
        }
        other => {
            out.push_str(&other.to_string());
            out.push('\n');
        }
    }
}

/// What follows a key.
fn inner(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            node(out, value, indent + 2);
        }
        // As kubectl writes: a list is not indented below its key.
        Value::Array(items) if !items.is_empty() && !items.iter().any(Value::is_array) => {
            out.push('\n');
            node(out, value, indent);
        }
        Value::Array(items) if !items.is_empty() => {
            // Lists in lists: no kubeconfig has them; JSON is YAML too.
            out.push(' ');
            out.push_str(&value.to_string());
            out.push('\n');
        }
        _ => {
            out.push(' ');
            node(out, value, indent);
        }
    }
}

/// Bare where nobody could take it for anything but this text, else quoted as JSON does.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 11] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"];
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let ends = !text.ends_with(':');
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=+@".contains(&b));
    if begins && ends && plain && !WORDS.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    Value::from(text).to_string()
}
