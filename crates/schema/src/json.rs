//! JSON to a tree, with a note of every key that an object has twice, and a limit on depth.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Nesting deeper than this is refused. (serde_json's own limit, 128, is in force below it.)
pub(crate) const MOST_DEPTH: usize = 120;

/// Parses a document. The second value lists duplicate keys by path (`spec.replicas`); the last one won, as in Go.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Tree::new(&mut duplicates).deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, duplicates))
}

/// Reads what kind of object a document says it is: (`apiVersion`, `kind`), empty where it does not say.
/// `Err` has Go's words.
pub fn type_meta(bytes: &[u8]) -> Result<(String, String), String> {
    #[derive(serde::Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct TypeMeta {
        api_version: Option<String>,
        kind: Option<String>,
    }
    let meta: TypeMeta = serde_json::from_slice(bytes).map_err(|error| go_words(bytes, &error))?;
    Ok((meta.api_version.unwrap_or_default(), meta.kind.unwrap_or_default()))
}

/// What Go says about text that is not JSON.
pub fn go_words(bytes: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".into();
    }
    let text = error.to_string();
    let place = match text.split(" at line ").next().unwrap_or("") {
        "expected value" | "trailing comma" => "looking for beginning of value",
        "key must be a string" => "looking for beginning of object key string",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        "control character (\\u0000-\\u001F) found while parsing a string" => "in string literal",
        _ => return text,
    };
    let line = bytes.split(|b| *b == b'\n').nth(error.line().saturating_sub(1)).unwrap_or(&[]);
    let at = line.get(error.column().saturating_sub(1)..).unwrap_or(&[]);
    // Go looks at bytes, and shows each as if it were a character.
    match at.first().map(|byte| char::from(*byte)) {
        Some('}') if place.ends_with("of value") && text.starts_with("trailing") => {
            "invalid character '}' looking for beginning of object key string".into()
        }
        Some('\'') => format!("invalid character '\\'' {place}"),
        Some(c) if c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r') => {
            format!("invalid character '\\x{:02x}' {place}", u32::from(c))
        }
        Some(c) if c.is_control() && !c.is_ascii() => {
            format!("invalid character '\\u{:04x}' {place}", u32::from(c))
        }
        Some(c) if c.is_control() => format!("invalid character {c:?} {place}"),
        Some(c) => format!("invalid character '{c}' {place}"),
        None => text,
    }
}

/// A tree that is about to be read.
pub(crate) struct Tree<'a> {
    duplicates: &'a mut Vec<String>,
    path: String,
    depth: usize,
}

impl<'a> Tree<'a> {
    /// Duplicate keys are added to `duplicates`.
    pub(crate) fn new(duplicates: &'a mut Vec<String>) -> Self {
        Self { duplicates, path: String::new(), depth: 0 }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > MOST_DEPTH {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            let seed = Tree { duplicates: &mut *self.duplicates, path, depth: self.depth + 1 };
            match seq.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            if object.contains_key(&key) && !self.duplicates.contains(&path) {
                self.duplicates.push(path.clone());
            }
            let seed = Tree { duplicates: &mut *self.duplicates, path, depth: self.depth + 1 };
            let value = map.next_value_seed(seed)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        for text in
            ["8.888888888888889e55", "88888888888888888888888888888888888888888888888888888888", "5e-324", "0.3"]
        {
            let (value, _) = parse(text.as_bytes()).unwrap();
            assert_eq!(value.as_f64(), text.parse().ok(), "{text}");
            assert_eq!(parse(value.to_string().as_bytes()).unwrap().0, value, "{text}");
        }
    }

    #[test]
    fn duplicates_have_paths_and_depth_has_an_end() {
        let (value, duplicates) = parse(br#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#).unwrap();
        assert_eq!(value, serde_json::json!({"a": 3, "b": [{"c": 2}]}));
        assert_eq!(duplicates, ["b[0].c", "a"]);
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(parse(&deep).is_err());
        assert!(parse(b"{} x").is_err());
    }
}
