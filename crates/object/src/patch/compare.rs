//! Reading values by their schema: which paths a value has, and which paths two values differ in.

use serde_json::{Map, Value};

use super::fields::{FieldSet, PathElement};
use super::shape::{MergeInfo, Shape};

/// Values that do not fit their schema, each with its path: `.spec.foo: field not declared in schema`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", words(.0))]
pub struct Misfit(pub Vec<(String, String)>);

fn words(errors: &[(String, String)]) -> String {
    match errors {
        [(path, why)] => format!("{path}: {why}"),
        many => {
            let lines: Vec<String> = many.iter().map(|(path, why)| format!("  {path}: {why}")).collect();
            format!("errors:\n{}", lines.join("\n"))
        }
    }
}

/// The step that leads to a list's item.
pub(super) fn element_of<T: MergeInfo>(list: T, shape: Shape, item: &Value) -> Result<PathElement, String> {
    if shape != Shape::Keyed {
        return match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            scalar => Ok(PathElement::value(scalar)),
        };
    }
    let item = match item {
        Value::Object(item) => item,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let keys = list.keys();
    let mut found: Vec<(&str, Value)> = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(value) = item.get(key).cloned().or_else(|| list.element().key_default(key)) {
            found.push((key, value));
        }
    }
    if found.is_empty() {
        let quoted: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            quoted.join(" ")
        ));
    }
    Ok(PathElement::key(found.iter().map(|(k, v)| (*k, v))))
}

/// Checks a whole value against its schema.
pub fn check<T: MergeInfo>(place: T, value: &Value) -> Result<(), Misfit> {
    let mut errors = Vec::new();
    check_at(place, value, String::new(), &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(Misfit(errors)) }
}

fn check_at<T: MergeInfo>(place: T, value: &Value, path: String, errors: &mut Vec<(String, String)>) {
    if let Err(why) = place.check(value) {
        errors.push((path, why));
        return;
    }
    match value {
        Value::Object(entries) => {
            for (key, item) in entries {
                let at = format!("{path}.{key}");
                match place.field(key) {
                    Some(below) => check_at(below, item, at, errors),
                    None => errors.push((at, "field not declared in schema".into())),
                }
            }
        }
        Value::Array(items) => {
            let shape = place.shape(value);
            let mut seen = FieldSet::default();
            for (index, item) in items.iter().enumerate() {
                let at = match shape {
                    Shape::Set | Shape::Keyed => match element_of(place, shape, item) {
                        Ok(element) => {
                            if seen.has_member(&element) {
                                errors.push((path.clone(), format!("duplicate entries for key {element}")));
                            }
                            let at = format!("{path}{element}");
                            seen.insert(&[element]);
                            at
                        }
                        Err(why) => {
                            errors.push((path.clone(), format!("element {index}: {why}")));
                            return;
                        }
                    },
                    _ => format!("{path}[{index}]"),
                };
                check_at(place.element(), item, at, errors);
            }
        }
        _ => {}
    }
}

/// The paths that a value has. Items of a list that occur twice are one path, without what is below.
pub fn field_set<T: MergeInfo>(place: T, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(place, value, &mut Vec::new(), &mut set);
    set
}

fn collect<T: MergeInfo>(place: T, value: &Value, path: &mut Vec<PathElement>, set: &mut FieldSet) {
    let shape = place.shape(value);
    match (shape, value) {
        (Shape::Map, Value::Object(entries)) => {
            for (key, item) in entries {
                let Some(below) = place.field(key) else { continue };
                path.push(PathElement::field(key));
                collect(below, item, path, set);
                let bare = item.is_null() || item.as_object().is_some_and(Map::is_empty);
                if bare || !place.is_declared(key) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::Set | Shape::Keyed, Value::Array(items)) => {
            for (element, found) in grouped(place, shape, items) {
                path.push(element);
                if let [item] = found.as_slice() {
                    collect(place.element(), item, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        (_, Value::Null) if shape != Shape::Leaf => {}
        _ => set.insert(path),
    }
}

/// A list's items by their step, in order of first appearance. Items without a step are left out.
fn grouped<T: MergeInfo>(list: T, shape: Shape, items: &[Value]) -> Vec<(PathElement, Vec<&Value>)> {
    let mut places = std::collections::HashMap::with_capacity(items.len());
    let mut groups: Vec<(PathElement, Vec<&Value>)> = Vec::with_capacity(items.len());
    for item in items {
        let Ok(element) = element_of(list, shape, item) else { continue };
        match places.get(element.as_str()) {
            Some(&at) => {
                let group: &mut (PathElement, Vec<&Value>) = &mut groups[at];
                group.1.push(item);
            }
            None => {
                places.insert(element.as_str().to_owned(), groups.len());
                groups.push((element, vec![item]));
            }
        }
    }
    groups
}

/// How two values differ. No path is in more than one of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Paths that only the old value has.
    pub removed: FieldSet,
    /// Paths that both have, with different values.
    pub modified: FieldSet,
    /// Paths that only the new value has.
    pub added: FieldSet,
}

impl Comparison {
    /// The comparison without the paths of `ignored` and what is below them.
    pub fn without(mut self, ignored: &FieldSet) -> Self {
        for set in [&mut self.removed, &mut self.modified, &mut self.added] {
            set.cut(ignored);
        }
        self
    }
    /// Paths that the new value changes: modified or added.
    pub fn changed(&self) -> FieldSet {
        self.modified.union(&self.added)
    }
    /// True when the values are the same.
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }
}

/// Compares two values of one place.
pub fn compare<T: MergeInfo>(place: T, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.values(place, Some(old), Some(new));
    walk.found
}

struct Walk {
    path: Vec<PathElement>,
    found: Comparison,
}

/// The shape of a pair: that of the new value, or of the old one where there is no new one.
pub(super) fn pair_shape<T: MergeInfo>(place: T, old: Option<&Value>, new: Option<&Value>) -> Shape {
    let blank = |value: &Option<&Value>| {
        value.is_none_or(|v| {
            v.is_null() || v.as_object().is_some_and(Map::is_empty) || v.as_array().is_some_and(Vec::is_empty)
        })
    };
    if blank(&old) && blank(&new) {
        return Shape::Leaf; // keeps "empty" apart from "absent"
    }
    let same_kind = match (old, new) {
        (Some(old), Some(new)) => {
            old.is_null() || new.is_null() || (old.is_object() == new.is_object() && old.is_array() == new.is_array())
        }
        _ => true,
    };
    let speaks = new.filter(|v| !v.is_null()).or(old.filter(|v| !v.is_null()));
    match speaks {
        Some(value) if same_kind => place.shape(value),
        _ => Shape::Leaf,
    }
}

impl Walk {
    fn values<T: MergeInfo>(&mut self, place: T, old: Option<&Value>, new: Option<&Value>) {
        let shape = pair_shape(place, old, new);
        match shape {
            Shape::Leaf => {
                if let (Some(old), Some(new)) = (old, new) {
                    if old != new {
                        self.replaced(place, old, new);
                        self.found.modified.insert(&self.path);
                    }
                    return;
                }
            }
            Shape::Map => self.entries(place, old.and_then(Value::as_object), new.and_then(Value::as_object)),
            Shape::Set | Shape::Keyed => self.items(place, shape, list(old), list(new)),
        }
        match (old, new) {
            (None, Some(_)) => self.found.added.insert(&self.path),
            (Some(_), None) => self.found.removed.insert(&self.path),
            _ => {}
        }
    }

    /// Where a map stands for something else or the other way round, what was in it goes and what is in it comes.
    fn replaced<T: MergeInfo>(&mut self, place: T, old: &Value, new: &Value) {
        if old.is_object() != new.is_object() {
            for (value, set) in [(old, &mut self.found.removed), (new, &mut self.found.added)] {
                if let (Value::Object(entries), Shape::Map) = (value, place.shape(value))
                    && !entries.is_empty()
                {
                    collect(place, value, &mut self.path, set);
                }
            }
        }
    }

    fn entries<T: MergeInfo>(&mut self, place: T, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) {
        let (had, has) = (old.is_some(), new.is_some());
        let olds = old.into_iter().flatten().map(|(key, value)| (key, Some(value), new.and_then(|n| n.get(key))));
        let news = new.into_iter().flatten().filter(|(key, _)| old.is_none_or(|o| !o.contains_key(*key)));
        for (key, old, new) in olds.chain(news.map(|(key, value)| (key, None, Some(value)))) {
            let Some(below) = place.field(key) else { continue };
            self.path.push(PathElement::field(key));
            self.values(below, old.or(below.blank().filter(|_| had)), new.or(below.blank().filter(|_| has)));
            self.path.pop();
        }
    }

    fn items<T: MergeInfo>(&mut self, place: T, shape: Shape, old: &[Value], new: &[Value]) {
        let olds = grouped(place, shape, old);
        let mut news: std::collections::BTreeMap<PathElement, Vec<&Value>> =
            grouped(place, shape, new).into_iter().collect();
        for (element, old) in olds {
            let new = news.remove(&element).unwrap_or_default();
            self.group(place.element(), element, &old, &new);
        }
        for (element, new) in news {
            self.group(place.element(), element, &[], &new);
        }
    }

    /// The items of one step. Duplicates have no paths below them.
    fn group<T: MergeInfo>(&mut self, place: T, element: PathElement, old: &[&Value], new: &[&Value]) {
        self.path.push(element);
        match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => self.values(place, old.first().copied(), new.first().copied()),
            (2.., 2..) => {
                if old != new {
                    self.found.modified.insert(&self.path);
                }
            }
            (2.., _) => {
                if !new.is_empty() {
                    self.values(place, None, new.first().copied());
                }
                self.found.removed.insert(&self.path);
            }
            _ => {
                if !old.is_empty() {
                    self.values(place, old.first().copied(), None);
                }
                self.found.added.insert(&self.path);
            }
        }
        self.path.pop();
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
