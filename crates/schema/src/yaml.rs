//! YAML to a tree, as `sigs.k8s.io/yaml` reads it: the last of two equal keys wins, and strict readers are told of it.

use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::options::DuplicateKeyPolicy;

use crate::json::Tree;

/// A document's tree, and upstream's words for each key that stands twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The tree.
    pub value: Value,
    /// `yaml: unmarshal errors:\n  line 5: key "replicas" already set in map`; at most one entry.
    pub duplicates: Vec<String>,
}

/// Parses one document. `Err` has words that begin with `yaml: `.
pub fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "yaml: invalid UTF-8 sequence".to_owned())?;
    match read(text, DuplicateKeyPolicy::Error) {
        Ok(value) => Ok(Parsed { value, duplicates: Vec::new() }),
        Err(serde_saphyr::Error::DuplicateMappingKey { key, location, .. }) => {
            let value = read(text, DuplicateKeyPolicy::LastWins).map_err(words)?;
            let (line, key) = (location.line(), key.unwrap_or_default());
            let words = format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map");
            Ok(Parsed { value, duplicates: vec![words] })
        }
        Err(error) => Err(words(error)),
    }
}

fn read(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<Value, serde_saphyr::Error> {
    let options = serde_saphyr::options! { duplicate_keys: duplicate_keys, with_snippet: false };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Tree::new(&mut Vec::new()).deserialize(reader)
    })
}

fn words(error: serde_saphyr::Error) -> String {
    format!("yaml: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_keys_and_anchors() {
        let check = |text: &str, wanted: Value| assert_eq!(parse(text.as_bytes()).unwrap().value, wanted, "{text}");
        check(
            "a: 1\nb: true\nc: 'x'\nd: 1.5\ne:\nf: ~\ng: \"1\"",
            json!({"a": 1, "b": true, "c": "x", "d": 1.5, "e": null, "f": null, "g": "1"}),
        );
        check("1: a\ntrue: b", json!({"1": "a", "true": "b"}));
        check(
            "a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2",
            json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}),
        );
        check("a: |\n  x\n  y\n", json!({"a": "x\ny\n"}));
        check("{\"a\": [1, 2]}", json!({"a": [1, 2]}));
        check("", Value::Null);
    }

    #[test]
    fn malformed_documents_are_refused() {
        for text in ["a: [", "a: b: c", "a: 1\n---\nb: 2", "- *x"] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.starts_with("yaml: "), "{text}: {error}");
        }
        assert!(parse(&[0xff, 0xfe, 0xfd]).is_err());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        assert!(parse(bomb.as_bytes()).is_err(), "expansion has a limit");
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        assert!(parse(deep.as_bytes()).is_err());
    }
}
