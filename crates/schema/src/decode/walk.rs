//! The walk along the table: one visitor for JSON text, trees and YAML.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Problem, scalar};
use crate::json::MOST_DEPTH;
use crate::types::{Field, Scalar, Table, Type};

/// Upstream collects no more than this.
const MOST_PROBLEMS: usize = 100;

/// What a walk collects.
pub(super) struct Context<'t> {
    table: &'t Table,
    pub(super) problems: Vec<Problem>,
    seen: HashSet<Problem>,
    /// The first value that does not fit its type.
    pub(super) error: Option<String>,
    /// Empty lists and maps that are left out of the tree, each with where it stood.
    pub(super) empties: Vec<(String, Value)>,
}

impl<'t> Context<'t> {
    pub(super) fn new(table: &'t Table) -> Self {
        Self { table, problems: Vec::new(), seen: HashSet::new(), error: None, empties: Vec::new() }
    }

    fn object_to(&mut self, problem: Problem) {
        if self.problems.len() < MOST_PROBLEMS && self.seen.insert(problem.clone()) {
            self.problems.push(problem);
        }
    }

    /// Remembers an empty list or map that is left out.
    fn leave_out(&mut self, place: &Place<'_>, value: Value) {
        if (value.is_array() || value.is_object()) && self.empties.len() < MOST_PROBLEMS {
            self.empties.push((place.pointer(), value));
        }
    }

    pub(super) fn refuse(&mut self, words: String) {
        self.error.get_or_insert(words);
    }
}

/// Where the walk is: a list that lives on the stack.
pub(super) struct Place<'p> {
    above: Option<&'p Place<'p>>,
    step: Step<'p>,
    depth: usize,
}

enum Step<'p> {
    Root,
    /// A structure's field; with the structure's name.
    Field(&'p str, &'p str),
    /// A map's entry.
    Entry(&'p str),
    Item(usize),
}

impl Place<'static> {
    pub(super) const ROOT: Place<'static> = Place { above: None, step: Step::Root, depth: 0 };
}

impl<'p> Place<'p> {
    fn below(&'p self, step: Step<'p>) -> Place<'p> {
        Place { above: Some(self), step, depth: self.depth + 1 }
    }

    fn write(&self, out: &mut String, indices: bool) {
        let Some(above) = self.above else { return };
        above.write(out, indices);
        match self.step {
            Step::Field(name, _) => push(out, name),
            Step::Entry(name) if indices => push(out, name),
            Step::Item(index) if indices => out.push_str(&format!("[{index}]")),
            _ => {}
        }
    }

    /// `spec.containers[0].image`, for problems.
    fn path(&self, field: &str) -> String {
        let mut path = String::new();
        self.write(&mut path, true);
        push(&mut path, field);
        path
    }

    /// `/spec/containers/0/image`: a JSON pointer.
    fn pointer(&self) -> String {
        let Some(above) = self.above else { return String::new() };
        let step = match self.step {
            Step::Root => String::new(),
            Step::Field(name, _) | Step::Entry(name) => name.replace('~', "~0").replace('/', "~1"),
            Step::Item(index) => index.to_string(),
        };
        format!("{}/{step}", above.pointer())
    }

    fn structure(&self) -> &str {
        match (&self.step, self.above) {
            (Step::Field(_, structure), _) => structure,
            (_, Some(above)) => above.structure(),
            (_, None) => "",
        }
    }

    /// Go's words for a value of a wrong type.
    pub(super) fn mismatch(&self, found: &str, wanted: &str) -> String {
        let mut fields = String::new();
        self.write(&mut fields, false);
        if fields.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
        }
        format!("json: cannot unmarshal {found} into Go struct field {}.{fields} of type {wanted}", self.structure())
    }
}

fn push(out: &mut String, name: &str) {
    if !out.is_empty() {
        out.push('.');
    }
    out.push_str(name);
}

/// Go's name of a type, for messages.
fn go_type(kind: &Type) -> String {
    match kind {
        Type::Scalar(scalar) => scalar::go_type(*scalar).into(),
        Type::List(inner) => format!("[]{}", go_type(inner)),
        Type::Map(inner) if **inner == Type::Scalar(Scalar::Quantity) => "v1.ResourceList".into(),
        Type::Map(inner) => format!("map[string]{}", go_type(inner)),
        Type::Struct(name) => {
            let mut parts = name.rsplit('.');
            let (short, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{version}.{short}")
        }
        Type::Any => "runtime.RawExtension".into(),
    }
}

/// What Go leaves where a list or map holds `null`.
fn zero(kind: &Type) -> Value {
    match kind {
        Type::Scalar(Scalar::Bool) => false.into(),
        Type::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString) => 0.into(),
        Type::Scalar(Scalar::Quantity) => "0".into(),
        Type::Scalar(Scalar::Time | Scalar::MicroTime) | Type::List(_) | Type::Any => Value::Null,
        Type::Scalar(_) => "".into(),
        Type::Map(_) | Type::Struct(_) => Value::Object(Map::new()),
    }
}

/// A value that is about to be read.
pub(super) struct Node<'c, 't, 'p> {
    context: &'c mut Context<'t>,
    kind: &'p Type,
    place: &'p Place<'p>,
}

impl<'c, 't, 'p> Node<'c, 't, 'p> {
    pub(super) fn root(context: &'c mut Context<'t>, kind: &'p Type, place: &'p Place<'p>) -> Self {
        Self { context, kind, place }
    }

    fn scalar(self, value: Value) -> Value {
        let words = match self.kind {
            Type::Any => return value,
            Type::Struct(name) if !self.context.table.contains_key(&**name) => return value,
            Type::Scalar(kind) => match scalar::read(*kind, value, self.place) {
                Ok(value) => return value,
                Err(words) => words,
            },
            kind => self.place.mismatch(scalar::found(&value), &go_type(kind)),
        };
        self.context.refuse(words);
        Value::Null
    }

    fn container(self, found: &str) {
        let words = match self.kind {
            Type::Scalar(kind) => scalar::no_scalar(*kind, found, self.place),
            kind => self.place.mismatch(found, &go_type(kind)),
        };
        self.context.refuse(words);
    }

    /// What the value is read as.
    fn reading(&self) -> Reading<'t, 'p> {
        match self.kind {
            Type::List(element) => Reading::List(element),
            Type::Map(element) => Reading::Map(element),
            Type::Any => Reading::Any,
            Type::Scalar(_) => Reading::Scalar,
            Type::Struct(name) => match self.context.table.get(&**name) {
                Some(declared) => Reading::Struct(declared),
                None => Reading::Map(&Type::Any),
            },
        }
    }
}

enum Reading<'t, 'p> {
    Struct(&'t crate::types::Struct),
    List(&'p Type),
    Map(&'p Type),
    Any,
    Scalar,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_, '_> {
    /// `null` for a value that is absent.
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.place.depth > MOST_DEPTH {
            return Err(D::Error::custom("exceeded max depth"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_, '_> {
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
        Ok(self.scalar(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.scalar(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.scalar(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, |number| self.scalar(number.into())))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(self.scalar(value.into()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(self.scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let element = match self.reading() {
            Reading::List(element) => element,
            Reading::Any => &Type::Any,
            Reading::Map(_) if matches!(self.kind, Type::Struct(_)) => &Type::Any,
            _ => {
                self.container("array");
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Value::Null);
            }
        };
        let mut items = Vec::new();
        loop {
            let place = self.place.below(Step::Item(items.len()));
            let seed = Node { context: &mut *self.context, kind: element, place: &place };
            match seq.next_element_seed(seed)? {
                Some(Value::Null) => items.push(zero(element)),
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        match self.reading() {
            Reading::Struct(declared) => self.structure(declared, map),
            Reading::Map(element) => self.entries(element, map, true),
            Reading::Any => self.entries(&Type::Any, map, false),
            Reading::List(_) | Reading::Scalar => {
                self.container("object");
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Value::Null)
            }
        }
    }
}

impl Node<'_, '_, '_> {
    fn structure<'de, A: MapAccess<'de>>(self, declared: &crate::types::Struct, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut seen: Vec<&Field> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let Some(field) = declared.fields.get(&key) else {
                if declared.open {
                    object.insert(key, map.next_value()?);
                    continue;
                }
                map.next_value::<IgnoredAny>()?;
                self.context.object_to(Problem::Unknown(self.place.path(&key)));
                continue;
            };
            if seen.iter().any(|s| std::ptr::eq(*s, field)) {
                self.context.object_to(Problem::Duplicate(self.place.path(&key)));
            } else {
                seen.push(field);
            }
            let place = self.place.below(Step::Field(&key, declared.short_name()));
            let seed = Node { context: &mut *self.context, kind: &field.kind, place: &place };
            let value = map.next_value_seed(seed)?;
            if value.is_null() {
                object.remove(&key);
            } else if field.is_left_out(&value) {
                object.remove(&key);
                self.context.leave_out(&place, value);
            } else {
                object.insert(key, value);
            }
        }
        Ok(Value::Object(object))
    }

    /// A map's entries. Free-form data is not looked into for duplicates.
    fn entries<'de, A: MapAccess<'de>>(self, element: &Type, mut map: A, strict: bool) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if strict && object.contains_key(&key) {
                self.context.object_to(Problem::Duplicate(self.place.path(&key)));
            }
            let place = self.place.below(Step::Entry(&key));
            let seed = Node { context: &mut *self.context, kind: element, place: &place };
            let value = match map.next_value_seed(seed)? {
                Value::Null => zero(element),
                value => value,
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
