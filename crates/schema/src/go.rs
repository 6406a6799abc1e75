//! Values as upstream's messages show them: its internal structures in JSON, with Go's names in Go's order, zeros and `null`s included.
//!
//! `data/go.txt` has a line per type: the field names in order, a `*` before what Go holds by a pointer, `=name` where the name in JSON
//! is not the same but for its first letter (`=^name`: it is a field of the structure above), `@` for the object's metadata. A line that
//! begins with `!` is of a type that has names for JSON, of which those with `?` are left out when empty. What stands after a `/` of a name
//! is a part that Go has a type of its own for.

use serde_json::Value;

use crate::types::{Scalar, Table, Type};

const FIELDS: &str = include_str!("../data/go.txt");
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The fields of a type in Go's order.
fn fields(name: &str) -> Option<&'static str> {
    FIELDS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

/// The type that a part belongs to.
fn whole(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// The value of a type as messages show it.
pub fn shown(table: &Table, name: &str, value: &Value) -> String {
    let mut out = String::new();
    write(table, &Type::Struct(name.into()), value, &Value::Null, false, &mut out);
    out
}

/// The value at a path of a type as messages show it; `None` where the type there is none that is shown so.
pub fn shown_at(table: &Table, root: &str, path: &str, value: &Value) -> Option<String> {
    let kind = at(table, root, path)?;
    if let (Type::Scalar(scalar), Value::Null) = (&kind, value) {
        return (!is_pointer(table, root, path)).then(|| scalar.zero().to_string());
    }
    let fits = match (&kind, value) {
        (Type::Struct(name), Value::Object(_)) => fields(name).is_some(),
        (Type::List(_), Value::Array(_)) | (Type::Map(_), Value::Object(_)) => true,
        _ => false,
    };
    let mut out = String::new();
    fits.then(|| write(table, &kind, value, &Value::Null, false, &mut out))?;
    Some(out)
}

/// True when Go holds the field at a path by a pointer, or is not known to hold it.
fn is_pointer(table: &Table, root: &str, path: &str) -> bool {
    let (above, field) = path.rsplit_once('.').unwrap_or(("", path));
    let Some(Type::Struct(name)) = at(table, root, above) else { return true };
    let Some(line) = fields(&name) else { return true };
    line.split(' ').all(|token| {
        let json = token.split_once('=').map_or_else(|| lower_first(token), |(_, json)| json.to_owned());
        json != field
    })
}

/// The type at a path: `spec.containers[0].ports`.
fn at(table: &Table, root: &str, path: &str) -> Option<Type> {
    let mut kind = Type::Struct(root.into());
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            rest = &inner[inner.find(']')? + 1..];
            kind = match kind {
                Type::List(item) | Type::Map(item) => *item,
                _ => return None,
            };
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let Type::Struct(name) = &kind else { return None };
        kind = table.get(&**name)?.fields.get(&rest[..end])?.kind.clone();
        rest = &rest[end..];
    }
    Some(kind)
}

fn write(table: &Table, kind: &Type, value: &Value, above: &Value, pointer: bool, out: &mut String) {
    match (kind, value) {
        (_, Value::Null) if pointer => out.push_str("null"),
        (Type::Struct(name), value) => match (fields(name), table.get(whole(name))) {
            (Some(line), Some(_)) => structure(table, name, line, value, above, out),
            _ => out.push_str(&value.to_string()),
        },
        (Type::List(item), Value::Array(items)) => {
            out.push('[');
            for (index, value) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write(table, item, value, &Value::Null, false, out);
            }
            out.push(']');
        }
        (Type::Map(item), Value::Object(entries)) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                text(key, out);
                out.push(':');
                write(table, item, value, &Value::Null, false, out);
            }
            out.push('}');
        }
        (Type::Scalar(scalar), Value::Null) => out.push_str(&scalar.zero().to_string()),
        (_, Value::String(string)) => text(string, out),
        (_, value) => out.push_str(&value.to_string()),
    }
}

fn structure(table: &Table, name: &str, line: &str, value: &Value, above: &Value, out: &mut String) {
    let declared = table.get(whole(name));
    out.push('{');
    let mut first = true;
    let mut comma = |out: &mut String| {
        out.push_str(if first { "" } else { "," });
        first = false;
    };
    for token in line.split(' ').filter(|token| *token != "!") {
        if token == "@" {
            let mut metadata = String::new();
            write(table, &Type::Struct(METADATA.into()), &value["metadata"], &Value::Null, false, &mut metadata);
            if metadata.len() > 2 {
                comma(out);
                out.push_str(&metadata[1..metadata.len() - 1]);
            }
            continue;
        }
        let (token, pointer) = token.strip_prefix('*').map_or((token, false), |token| (token, true));
        let (token, left_out) = token.strip_suffix('?').map_or((token, false), |token| (token, true));
        let (shown, json) = match token.split_once('=') {
            Some((shown, json)) => (shown, json.to_owned()),
            None => (token, lower_first(token)),
        };
        // What a structure shows of the one above it has that one's type.
        let (found, json, scalar) = match json.strip_prefix('^') {
            Some(json) => (&above[json], json.to_owned(), Some(Type::Scalar(Scalar::Bool))),
            None => (&value[&json], json, None),
        };
        let kind = scalar.or_else(|| declared?.fields.get(&json).map(|field| field.kind.clone()));
        if left_out && is_empty(found) {
            continue;
        }
        comma(out);
        text(shown, out);
        out.push(':');
        write(table, &kind.unwrap_or(Type::Any), found, value, pointer, out);
    }
    out.push('}');
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

fn lower_first(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// Go escapes what HTML takes for its own.
fn text(text: &str, out: &mut String) {
    let quoted = Value::from(text).to_string();
    out.push_str(&quoted.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"));
}

/// JSON in lines, each level one space deeper, as Go's `MarshalIndent` writes it.
pub fn indented(json: &str) -> String {
    let (mut out, mut depth, mut within, mut escaped) = (String::new(), 0_usize, false, false);
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    };
    while let Some(c) = chars.next() {
        if within {
            out.push(c);
            within = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' if chars.peek().is_some_and(|next| matches!(next, '}' | ']')) => {
                out.push(c);
                out.extend(chars.next());
            }
            '{' | '[' => {
                depth += 1;
                out.push(c);
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                within = c == '"';
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::table;

    #[test]
    fn values_have_gos_names_and_order() {
        let show = |root: &str, path: &str, value: Value| shown_at(table(), root, path, &value).unwrap_or_default();
        let pod = "io.k8s.api.core.v1.Pod";
        assert_eq!(
            show(pod, "spec.containers[0].securityContext.seccompProfile", json!({"type": "RuntimeDefault"})),
            r#"{"Type":"RuntimeDefault","LocalhostProfile":null}"#
        );
        assert_eq!(
            show(pod, "spec.topologySpreadConstraints[0].labelSelector", json!({"matchLabels": {"a": "<"}})),
            r#"{"matchLabels":{"a":"\u003c"}}"#
        );
        assert_eq!(show(pod, "spec.nodeSelector", json!({"b": "c", "a": "b"})), r#"{"a":"b","b":"c"}"#);
        assert_eq!(show(pod, "spec.hostname", json!({})), "");
        let spec = shown(table(), "io.k8s.api.core.v1.PodSpec", &json!({"hostNetwork": true, "securityContext": {}}));
        assert!(spec.starts_with(r#"{"Volumes":null,"InitContainers":null,"Containers":null"#), "{spec}");
        assert!(spec.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false"#), "{spec}");
        assert_eq!(
            indented(r#"{"a":[{"b:":"\"}"},1],"c":{},"d":[]}"#),
            "{\n \"a\": [\n  {\n   \"b:\": \"\\\"}\"\n  },\n  1\n ],\n \"c\": {},\n \"d\": []\n}"
        );
    }

    #[test]
    fn every_field_is_known() {
        for line in FIELDS.lines() {
            let (name, tokens) = line.split_once(' ').expect("a name and its fields");
            assert!(table().contains_key(whole(name)), "{name}");
            assert!(!tokens.is_empty(), "{name}");
        }
    }
}
