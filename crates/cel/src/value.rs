//! Values.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use object::Quantity;

use crate::error::Failure;

/// A value.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<List>),
    Map(Arc<Map>),
    /// In nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    /// The name of a type.
    Type(Arc<str>),
    Optional(Option<Arc<Value>>),
    Quantity(Quantity),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Url(Arc<Url>),
    /// A format of strings by its name.
    Format(Arc<str>),
    /// `major.minor.patch[-pre]`.
    Semver(Arc<Semver>),
    /// Something of the caller's.
    Host(Arc<dyn Host>),
}

/// A list, and how two are compared and joined.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The items.
    pub items: Vec<Value>,
    /// Kubernetes' kind of list.
    pub kind: ListKind,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    /// By these keys.
    Map(Vec<String>),
}

/// A map or a structure.
#[derive(Clone, Debug, Default)]
pub struct Map {
    /// The name of a structure's type.
    pub name: Option<Arc<str>>,
    /// The entries.
    pub entries: BTreeMap<Key, Value>,
}

/// A map's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Url {
    pub scheme: String,
    pub host: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub text: String,
}

/// A semantic version.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Semver {
    pub major: i64,
    pub minor: i64,
    pub patch: i64,
    pub pre: Vec<String>,
}

/// An object of the caller's with methods, as the authorizer is.
pub trait Host: Send + Sync + fmt::Debug {
    /// The name of its type.
    fn type_name(&self) -> &'static str;
    /// Calls a method; `None` when there is none of that name and arguments.
    fn call(&self, method: &str, args: &[Value]) -> Option<Result<Value, Failure>>;
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl Value {
    /// A list without a kind.
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(Arc::new(List { items, kind: ListKind::Atomic }))
    }
    /// A map with text keys.
    pub fn map(entries: impl IntoIterator<Item = (String, Value)>) -> Self {
        let entries = entries.into_iter().map(|(key, value)| (Key::String(key.into()), value)).collect();
        Self::Map(Arc::new(Map { name: None, entries }))
    }
    /// An optional value that is there.
    pub fn some(value: Value) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(map) => map.name.as_deref().unwrap_or("map"),
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Type(_) => "type",
            Self::Optional(_) => "optional_type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Host(host) => host.type_name(),
        }
    }

    /// As a map's key.
    pub(crate) fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(b) => Key::Bool(*b),
            Self::Int(n) => Key::Int(*n),
            Self::Uint(n) => Key::Uint(*n),
            Self::Double(d) if *d == d.trunc() && d.abs() < 9e15 => Key::Int(*d as i64),
            Self::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }

    /// What looking at all of it costs.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Ip(ip) | Self::Cidr(ip, _) => {
                if ip.is_ipv4() {
                    4
                } else {
                    16
                }
            }
            Self::Optional(Some(inner)) => inner.size(),
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.items.len() as u64,
            Self::Map(map) => map.entries.len() as u64,
            _ => 1,
        }
    }
}

impl Key {
    /// As a value.
    pub fn value(&self) -> Value {
        match self {
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(n) => Value::Int(*n),
            Self::Uint(n) => Value::Uint(*n),
            Self::String(text) => Value::String(text.clone()),
        }
    }
}

impl Map {
    /// The entry of a key; whole numbers are the same whatever their type.
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.entries.get(key).or_else(|| match key {
            Key::Int(n) => self.entries.get(&Key::Uint(u64::try_from(*n).ok()?)),
            Key::Uint(n) => self.entries.get(&Key::Int(i64::try_from(*n).ok()?)),
            _ => None,
        })
    }
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.entries.get(&Key::String(name.into()))
    }
}

fn compare_numbers(a: &Value, b: &Value) -> Option<Ordering> {
    use Value::{Double, Int, Uint};
    match (a, b) {
        (Int(a), Int(b)) => Some(a.cmp(b)),
        (Uint(a), Uint(b)) => Some(a.cmp(b)),
        (Double(a), Double(b)) => a.partial_cmp(b),
        (Int(a), Uint(b)) => Some(u64::try_from(*a).map_or(Ordering::Less, |a| a.cmp(b))),
        (Uint(a), Int(b)) => Some(u64::try_from(*b).map_or(Ordering::Greater, |b| a.cmp(&b))),
        (Int(a), Double(b)) => (*a as f64).partial_cmp(b),
        (Double(a), Int(b)) => a.partial_cmp(&(*b as f64)),
        (Uint(a), Double(b)) => (*a as f64).partial_cmp(b),
        (Double(a), Uint(b)) => a.partial_cmp(&(*b as f64)),
        _ => None,
    }
}

impl Value {
    /// The order of two values that have one.
    pub(crate) fn order(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (a, b) => compare_numbers(a, b),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => lists_equal(a, b),
            (Self::Map(a), Self::Map(b)) => {
                a.entries.len() == b.entries.len()
                    && a.entries.iter().all(|(key, value)| b.get(key).is_some_and(|other| other == value))
            }
            (Self::Type(a), Self::Type(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a.cmp(b) == Ordering::Equal,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, n), Self::Cidr(b, m)) => a == b && n == m,
            (Self::Url(a), Self::Url(b)) => a.text == b.text,
            (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a == b,
            (a, b) => a.order(b) == Some(Ordering::Equal),
        }
    }
}

fn lists_equal(a: &List, b: &List) -> bool {
    if a.items.len() != b.items.len() {
        return false;
    }
    match (&a.kind, &b.kind) {
        (ListKind::Atomic, _) | (_, ListKind::Atomic) => a.items == b.items,
        // Sets and maps have no order.
        _ => a.items.iter().all(|item| b.items.contains(item)) && b.items.iter().all(|item| a.items.contains(item)),
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Uint(n) => write!(f, "{n}"),
            Self::Double(n) => write!(f, "{n}"),
            Self::String(text) => f.write_str(text),
            Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::List(list) => {
                let items: Vec<String> = list.items.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Map(map) => {
                let entries: Vec<String> = map.entries.iter().map(|(k, v)| format!("{}: {v}", k.value())).collect();
                write!(f, "{{{}}}", entries.join(", "))
            }
            Self::Duration(nanos) => f.write_str(&crate::library::go_duration(*nanos)),
            Self::Timestamp(time) => write!(f, "{time}"),
            Self::Type(name) => f.write_str(name),
            Self::Optional(None) => f.write_str("optional.none()"),
            Self::Optional(Some(value)) => write!(f, "optional({value})"),
            Self::Quantity(quantity) => write!(f, "{quantity}"),
            Self::Ip(address) => write!(f, "{address}"),
            Self::Cidr(address, bits) => write!(f, "{address}/{bits}"),
            Self::Url(url) => f.write_str(&url.text),
            Self::Format(name) => f.write_str(name),
            Self::Semver(v) => {
                write!(f, "{}.{}.{}", v.major, v.minor, v.patch)?;
                if v.pre.is_empty() { Ok(()) } else { write!(f, "-{}", v.pre.join(".")) }
            }
            Self::Host(host) => f.write_str(host.type_name()),
        }
    }
}
