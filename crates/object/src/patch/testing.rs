//! A small schema for the tests of this module.

use serde_json::Value;

use super::shape::{MergeInfo, PatchStrategy, Shape};

/// A type of the test schema.
#[derive(Debug)]
pub(crate) enum Kind {
    Text,
    Number,
    Atomic,
    Labels,
    Set,
    List,
    Struct(&'static [(&'static str, Kind)]),
    Keyed(Vec<String>, &'static str, &'static Kind),
}

/// A place in it.
pub(crate) type Place = &'static Kind;

static PORT: Kind = Kind::Struct(&[("containerPort", Kind::Number), ("protocol", Kind::Text), ("name", Kind::Text)]);
static CONTAINER: std::sync::LazyLock<Kind> = std::sync::LazyLock::new(|| {
    let keys = vec!["containerPort".into(), "protocol".into()];
    Kind::Struct(Box::leak(Box::new([
        ("name", Kind::Text),
        ("image", Kind::Text),
        ("args", Kind::List),
        ("ports", Kind::Keyed(keys, "containerPort", &PORT)),
    ])))
});
static METADATA: Kind = Kind::Struct(&[
    ("name", Kind::Text),
    ("labels", Kind::Labels),
    ("annotations", Kind::Labels),
    ("resourceVersion", Kind::Text),
]);
static OBJECT: std::sync::LazyLock<Kind> = std::sync::LazyLock::new(|| {
    let pod = Box::leak(Box::new([
        ("replicas", Kind::Number),
        ("name", Kind::Text),
        ("labels", Kind::Labels),
        ("atomic", Kind::Atomic),
        ("set", Kind::Set),
        ("list", Kind::List),
        ("template", Kind::Struct(&[("a", Kind::Text), ("b", Kind::Text), ("c", Kind::Text)])),
        ("containers", Kind::Keyed(vec!["name".into()], "name", &CONTAINER)),
    ]));
    Kind::Struct(Box::leak(Box::new([
        ("apiVersion", Kind::Text),
        ("kind", Kind::Text),
        ("metadata", Kind::Struct(fields(&METADATA))),
        ("spec", Kind::Struct(pod)),
        ("status", Kind::Labels),
    ])))
});

fn fields(kind: &'static Kind) -> &'static [(&'static str, Kind)] {
    match kind {
        Kind::Struct(fields) => fields,
        _ => &[],
    }
}

/// An object with metadata, spec and status.
pub(crate) fn object() -> Place {
    &OBJECT
}

/// Its spec.
pub(crate) fn pod() -> Place {
    fields(&OBJECT).iter().find(|(name, _)| *name == "spec").map_or(&OBJECT, |(_, kind)| kind)
}

impl MergeInfo for Place {
    fn shape(self, _value: &Value) -> Shape {
        match self {
            Kind::Struct(_) | Kind::Labels => Shape::Map,
            Kind::Set => Shape::Set,
            Kind::Keyed(..) => Shape::Keyed,
            _ => Shape::Leaf,
        }
    }
    fn field(self, name: &str) -> Option<Self> {
        match self {
            Kind::Labels | Kind::Atomic => Some(&Kind::Text),
            Kind::Struct(fields) => fields.iter().find(|(n, _)| *n == name).map(|(_, kind)| kind),
            _ => None,
        }
    }
    fn is_declared(self, name: &str) -> bool {
        matches!(self, Kind::Struct(fields) if fields.iter().any(|(n, _)| *n == name))
    }
    fn element(self) -> Self {
        match self {
            Kind::Keyed(_, _, element) => element,
            _ => &Kind::Text,
        }
    }
    fn keys(&self) -> &[String] {
        match self {
            Kind::Keyed(keys, ..) => keys,
            _ => &[],
        }
    }
    fn key_default(self, key: &str) -> Option<Value> {
        (key == "protocol").then(|| "TCP".into())
    }
    fn check(self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (_, Value::Null) | (Kind::Text, Value::String(_)) | (Kind::Number, Value::Number(_)) => Ok(()),
            (Kind::Text, _) => Err("expected string".into()),
            (Kind::Number, _) => Err("expected numeric".into()),
            (Kind::Set | Kind::List | Kind::Keyed(..), Value::Array(_)) => Ok(()),
            (Kind::Struct(_) | Kind::Labels | Kind::Atomic, Value::Object(_)) => Ok(()),
            _ => Err("expected something else".into()),
        }
    }
    fn strategy(&self) -> PatchStrategy<'_> {
        match self {
            Kind::Set => PatchStrategy { merge: true, ..PatchStrategy::default() },
            Kind::Keyed(_, key, _) => PatchStrategy { merge: true, merge_key: Some(key), replace: false },
            _ => PatchStrategy::default(),
        }
    }
}
