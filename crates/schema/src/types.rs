//! The table of types.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use serde_json::Value;

const TYPES: &str = include_str!("../data/types.json");
/// What becomes of zero values, by type: names of fields whose zero is kept or written.
const ZEROS: &str = include_str!("../data/zeros.json");

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Box<Type>),
    /// A map from strings.
    Map(Box<Type>),
    /// A structure, by its full name (`io.k8s.api.core.v1.Container`).
    Struct(Arc<str>),
    /// Anything: raw extensions, JSON, field sets.
    Any,
}

/// Single values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scalar {
    String,
    Int32,
    Int64,
    Bool,
    Double,
    /// Base64 text.
    Bytes,
    /// RFC 3339.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
}

/// How server-side apply treats a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

/// What becomes of an empty text, list or map, of 0 and of `false`: Go's encoder leaves them out where a field is marked `omitempty`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zero {
    /// It is left out.
    #[default]
    Left,
    /// It is something else than no value (Go has a pointer).
    Kept,
    /// It stands in every object.
    Written,
    /// It is something else than no value, which stands as `null` in every object.
    Null,
}

/// A field of a structure.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its type.
    pub kind: Type,
    /// `x-kubernetes-list-type`.
    pub list: Option<ListType>,
    /// `x-kubernetes-list-map-keys`.
    pub keys: Vec<String>,
    /// `x-kubernetes-patch-merge-key`: strategic merge finds list elements by it.
    pub merge_key: Option<String>,
    /// `x-kubernetes-patch-strategy`: `merge`, `replace`, `retainKeys`, or two with a comma.
    pub strategy: Option<String>,
    /// `x-kubernetes-map-type`: apply replaces what is atomic whole. What the field says counts more than what its structure does.
    pub atomic: Option<bool>,
    /// The default that the schema declares.
    pub default: Option<Value>,
    /// Objects without it are refused by validation (documents list it as required).
    pub required: bool,
    /// A structure that Go holds by value: every object has it, if only empty, and nobody owns it as such.
    pub inline: bool,
    /// What becomes of its zero value.
    pub zero: Zero,
    /// The values allowed, if they are enumerated.
    pub allowed: Vec<Value>,
    /// What stands at [`Type::Any`] in the field's type.
    pub opaque: Opaque,
}

/// What free-form data is, where a field has some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opaque {
    /// Any JSON value.
    #[default]
    Json,
    /// An object of any kind; owned and replaced whole.
    Raw,
    /// A field set.
    Fields,
    /// A JSON schema or a list of them.
    SchemaOrList,
    /// A JSON schema or a boolean.
    SchemaOrBool,
    /// A JSON schema or a list of strings.
    SchemaOrStrings,
}

impl Opaque {
    const NAMES: [(&'static str, Opaque); 6] = [
        ("any", Opaque::Json),
        ("raw", Opaque::Raw),
        ("fields", Opaque::Fields),
        ("schema-or-list", Opaque::SchemaOrList),
        ("schema-or-bool", Opaque::SchemaOrBool),
        ("schema-or-strings", Opaque::SchemaOrStrings),
    ];

    /// What a type's text says of it.
    fn of(text: &str) -> Option<Self> {
        let inner = text.trim_start_matches("[]").trim_start_matches("{}");
        Self::NAMES.iter().find(|(name, _)| *name == inner).map(|(_, opaque)| *opaque)
    }
}

impl Scalar {
    /// The value that Go's type has when none is given; `null` for a time.
    pub fn zero(self) -> &'static Value {
        static ZEROS: LazyLock<[Value; 5]> =
            LazyLock::new(|| ["".into(), 0.into(), false.into(), Value::Null, "0".into()]);
        let [text, number, no, nothing, quantity] = &*ZEROS;
        match self {
            Self::String => text,
            Self::Int32 | Self::Int64 | Self::Double | Self::IntOrString => number,
            Self::Bool => no,
            Self::Quantity => quantity,
            Self::Bytes | Self::Time | Self::MicroTime | Self::Duration => nothing,
        }
    }
}

impl Field {
    /// The value that stands for none where zeros are written.
    pub fn written(&self) -> Option<&'static Value> {
        match &self.kind {
            _ if self.zero == Zero::Null => Some(&Value::Null),
            _ if self.zero != Zero::Written => None,
            Type::Scalar(scalar) => Some(scalar.zero()),
            Type::Struct(_) | Type::List(_) | Type::Map(_) | Type::Any => Some(&Value::Null),
        }
    }
    /// True for a value that Go's encoder leaves out.
    pub fn is_left_out(&self, value: &Value) -> bool {
        self.zero == Zero::Left
            && match (&self.kind, value) {
                (Type::List(_), Value::Array(items)) => items.is_empty(),
                (Type::Map(_), Value::Object(entries)) => entries.is_empty(),
                (Type::Scalar(Scalar::String | Scalar::Bytes), Value::String(text)) => text.is_empty(),
                (Type::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double), Value::Number(_)) => *value == 0,
                (Type::Scalar(Scalar::Bool), Value::Bool(yes)) => !yes,
                _ => false,
            }
    }
    /// A field of this type, without marks.
    pub fn new(kind: Type) -> Self {
        Self {
            kind,
            list: None,
            keys: Vec::new(),
            merge_key: None,
            strategy: None,
            atomic: None,
            default: None,
            required: false,
            inline: false,
            zero: Zero::Left,
            allowed: Vec::new(),
            opaque: Opaque::Json,
        }
    }
    /// True when strategic merge merges the list's elements instead of replacing the list.
    pub fn merges(&self) -> bool {
        self.strategy.as_deref().is_some_and(|s| s.split(',').any(|s| s == "merge"))
    }
    /// True when strategic merge drops the keys that a patch does not list.
    pub fn retains_keys(&self) -> bool {
        self.strategy.as_deref().is_some_and(|s| s.split(',').any(|s| s == "retainKeys"))
    }
}

/// A structure: its fields by their JSON names.
#[derive(Clone, Debug, Default)]
pub struct Struct {
    /// The full name.
    pub name: String,
    /// The fields.
    pub fields: BTreeMap<String, Field>,
    /// Apply replaces it whole.
    pub atomic: bool,
    /// Fields that it does not declare are kept (`x-kubernetes-preserve-unknown-fields`).
    pub open: bool,
}

impl Struct {
    /// `Container` of `io.k8s.api.core.v1.Container`.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// Types by full name.
pub type Table = BTreeMap<String, Arc<Struct>>;

#[derive(Deserialize)]
#[serde(untagged)]
enum RawField {
    Plain(String),
    Marked {
        #[serde(rename = "type")]
        kind: String,
        list: Option<ListType>,
        #[serde(default)]
        keys: Vec<String>,
        merge_key: Option<String>,
        strategy: Option<String>,
        map: Option<String>,
        default: Option<Value>,
        #[serde(default)]
        required: bool,
        #[serde(default)]
        inline: bool,
        #[serde(default, rename = "enum")]
        allowed: Vec<Value>,
    },
}

#[derive(Deserialize)]
struct RawZeros {
    #[serde(default)]
    kept: String,
    #[serde(default)]
    written: String,
    #[serde(default)]
    null: String,
}

fn parse_type(text: &str) -> Type {
    if let Some(element) = text.strip_prefix("[]") {
        return Type::List(Box::new(parse_type(element)));
    }
    if let Some(value) = text.strip_prefix("{}") {
        return Type::Map(Box::new(parse_type(value)));
    }
    Type::Scalar(match text {
        "string" => Scalar::String,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "bool" => Scalar::Bool,
        "double" => Scalar::Double,
        "bytes" => Scalar::Bytes,
        "time" => Scalar::Time,
        "microtime" => Scalar::MicroTime,
        "duration" => Scalar::Duration,
        "quantity" => Scalar::Quantity,
        "intorstring" => Scalar::IntOrString,
        text if Opaque::of(text).is_some() => return Type::Any,
        name => return Type::Struct(name.into()),
    })
}

impl From<RawField> for Field {
    fn from(raw: RawField) -> Self {
        let field = |text: &str| Field { opaque: Opaque::of(text).unwrap_or_default(), ..Field::new(parse_type(text)) };
        match raw {
            RawField::Plain(kind) => field(&kind),
            RawField::Marked { kind, list, keys, merge_key, strategy, map, default, required, inline, allowed } => {
                Field {
                    list,
                    keys,
                    merge_key,
                    strategy,
                    atomic: map.map(|map| map == "atomic"),
                    default,
                    required,
                    inline,
                    allowed,
                    ..field(&kind)
                }
            }
        }
    }
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let raw: BTreeMap<String, BTreeMap<String, RawField>> =
        serde_json::from_str(TYPES).expect("data/types.json is part of the source and covered by a test");
    let zeros: BTreeMap<String, RawZeros> =
        serde_json::from_str(ZEROS).expect("data/zeros.json is part of the source and covered by a test");
    raw.into_iter()
        .map(|(name, mut fields)| {
            let atomic = fields.remove("*").is_some();
            let mut fields: BTreeMap<String, Field> =
                fields.into_iter().map(|(name, raw)| (name, raw.into())).collect();
            if let Some(zeros) = zeros.get(&name) {
                for (names, zero) in
                    [(&zeros.kept, Zero::Kept), (&zeros.written, Zero::Written), (&zeros.null, Zero::Null)]
                {
                    for field in names.split_whitespace() {
                        fields.entry(field.to_owned()).and_modify(|field| field.zero = zero);
                    }
                }
            }
            (name.clone(), Arc::new(Struct { name, fields, atomic, open: false }))
        })
        .collect()
});

/// A number that changes with the built-in types.
pub(crate) fn fingerprint() -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (TYPES, ZEROS).hash(&mut hasher);
    hasher.finish()
}

/// The built-in types.
pub fn table() -> &'static Table {
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_its_type() {
        fn references(kind: &Type) -> Option<&str> {
            match kind {
                Type::Struct(name) => Some(name),
                Type::List(inner) | Type::Map(inner) => references(inner),
                _ => None,
            }
        }
        for (name, structure) in table() {
            for (field, declared) in &structure.fields {
                if let Some(target) = references(&declared.kind) {
                    assert!(table().contains_key(target), "{name}.{field} refers to {target}");
                }
                assert_eq!(declared.list == Some(ListType::Map), !declared.keys.is_empty(), "{name}.{field}");
            }
        }
        let ports = &table()["io.k8s.api.core.v1.Container"].fields["ports"];
        assert_eq!((ports.merge_key.as_deref(), ports.merges()), (Some("containerPort"), true));
        assert!(table()["io.k8s.api.core.v1.Volume"].fields.contains_key("hostPath"), "embedded structures are flat");
    }
}
