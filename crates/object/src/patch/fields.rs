//! Sets of field paths, as `metadata.managedFields[].fieldsV1` holds them.
//!
//! ```text
//! {"f:spec": {"f:replicas": {}, "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}}
//! = { .spec.replicas, .spec.containers[name="a"], .spec.containers[name="a"].image }
//! ```
//! An empty map below a path means that the path is in the set; `.` says so where paths below it are too.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

/// One step of a path, in the form that `fieldsV1` writes: `f:name`, `k:{"key":"value"}`, `v:"value"`, `i:0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathElement(Arc<str>);

/// 80.0 is 80: keys are compared as numbers.
fn canonical(value: &Value) -> String {
    match value.as_f64() {
        Some(float) if value.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => format!("{float:.0}"),
        _ => value.to_string(),
    }
}

impl PathElement {
    /// A field of a structure or an entry of a map.
    pub fn field(name: &str) -> Self {
        Self(format!("f:{name}").into())
    }

    /// An item of a keyed list.
    pub fn key<'a>(keys: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Self {
        let sorted: BTreeMap<&str, &Value> = keys.into_iter().collect();
        let pairs: Vec<String> =
            sorted.into_iter().map(|(k, v)| format!("{}:{}", Value::from(k), canonical(v))).collect();
        Self(format!("k:{{{}}}", pairs.join(",")).into())
    }

    /// An item of a set.
    pub fn value(value: &Value) -> Self {
        Self(format!("v:{}", canonical(value)).into())
    }

    /// Reads the form that `fieldsV1` writes.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.as_bytes() {
            [b'f', b':', ..] => Ok(Self(text.into())),
            [b'v', b':', ..] => {
                let value: Value = serde_json::from_str(&text[2..]).map_err(|e| format!("{text}: {e}"))?;
                Ok(Self::value(&value))
            }
            [b'k', b':', ..] => {
                let keys: Map<String, Value> = serde_json::from_str(&text[2..]).map_err(|e| format!("{text}: {e}"))?;
                Ok(Self::key(keys.iter().map(|(k, v)| (k.as_str(), v))))
            }
            [b'i', b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Ok(Self(text.into())),
            [_, b':', ..] => Err("unknown path element type".into()),
            [_, _, ..] => Err(format!("missing colon: {text}")),
            _ => Err("key must be 2 characters long:".into()),
        }
    }

    /// The form that `fieldsV1` writes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, if this is a field.
    pub fn name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = &self.0[2..];
        match self.0.as_bytes()[0] {
            b'f' => write!(f, ".{rest}"),
            b'v' => write!(f, "[={rest}]"),
            b'i' => write!(f, "[{rest}]"),
            _ => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let pairs: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                write!(f, "[{}]", pairs.join(","))
            }
        }
    }
}

/// A path, printed as upstream does: `.spec.containers[name="a"].image`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<PathElement>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: FieldSet,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

/// A set of paths. Having a path does not mean having those above or below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<PathElement, Node>);

impl FieldSet {
    /// A set of plain field paths: `FieldSet::of(&[&["metadata", "name"], &["status"]])`.
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| PathElement::field(name)).collect::<Vec<_>>());
        }
        set
    }

    /// Adds a path. The empty path stands for the whole object, which nobody owns.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else { return };
        if let Some(node) = self.0.get_mut(first) {
            if rest.is_empty() {
                node.member = true
            } else {
                node.below.insert(rest)
            }
            return;
        }
        let mut node = Node::default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
        self.0.insert(first.clone(), node);
    }

    /// True when the path itself is in the set.
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.0.get(first).is_some_and(|node| node.below.has(rest)),
        }
    }

    /// True when the one-step path is in the set.
    pub fn has_member(&self, element: &PathElement) -> bool {
        self.0.get(element).is_some_and(|node| node.member)
    }

    /// The paths below an element, without it.
    pub fn below(&self, element: &PathElement) -> Option<&FieldSet> {
        self.0.get(element).map(|node| &node.below).filter(|set| !set.is_empty())
    }

    /// True for no path at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first steps: each with whether it is a path of its own, and what is below.
    pub fn steps(&self) -> impl Iterator<Item = (&PathElement, bool, &FieldSet)> {
        self.0.iter().map(|(element, node)| (element, node.member, &node.below))
    }

    /// Every path, a level's own before those below it.
    pub fn paths(&self) -> Vec<Path> {
        fn collect(set: &FieldSet, before: &mut Vec<PathElement>, out: &mut Vec<Path>) {
            for (element, _) in set.0.iter().filter(|(_, node)| node.member) {
                let mut path = before.clone();
                path.push(element.clone());
                out.push(Path(path));
            }
            for (element, node) in &set.0 {
                before.push(element.clone());
                collect(&node.below, before, out);
                before.pop();
            }
        }
        let mut out = Vec::new();
        collect(self, &mut Vec::new(), &mut out);
        out
    }

    /// Paths in either set.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let mut all = self.clone();
        all.extend(other);
        all
    }

    /// Adds the other set's paths.
    pub fn extend(&mut self, other: &FieldSet) {
        for (element, theirs) in &other.0 {
            match self.0.get_mut(element) {
                Some(node) => {
                    node.member |= theirs.member;
                    node.below.extend(&theirs.below);
                }
                None => drop(self.0.insert(element.clone(), theirs.clone())),
            }
        }
    }

    /// Adds the other set's paths, which are no longer needed elsewhere.
    pub fn absorb(&mut self, other: FieldSet) {
        if self.0.is_empty() {
            *self = other;
            return;
        }
        for (element, theirs) in other.0 {
            match self.0.entry(element) {
                Entry::Occupied(mut mine) => {
                    let mine = mine.get_mut();
                    mine.member |= theirs.member;
                    mine.below.absorb(theirs.below);
                }
                Entry::Vacant(place) => {
                    place.insert(theirs);
                }
            }
        }
    }

    /// Takes the other set's paths away: [`FieldSet::difference`] in place.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.retain(other, |node, theirs| {
            node.member &= !theirs.member;
            node.below.subtract(&theirs.below);
            true
        });
    }

    /// Takes the other set's paths and what is below them away: [`FieldSet::without`] in place.
    pub fn cut(&mut self, other: &FieldSet) {
        self.retain(other, |node, theirs| {
            node.below.cut(&theirs.below);
            !theirs.member
        });
    }

    /// Keeps what the other set does not have, and what `keep` says of the rest.
    fn retain(&mut self, other: &FieldSet, keep: impl Fn(&mut Node, &Node) -> bool) {
        if other.is_empty() {
            return;
        }
        self.0.retain(|element, node| match other.0.get(element) {
            Some(theirs) => keep(node, theirs) && !node.is_empty(),
            None => true,
        });
    }

    /// Paths in both sets.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.zip(|element, node| {
            let theirs = other.0.get(element)?;
            Some(Node { member: node.member && theirs.member, below: node.below.intersection(&theirs.below) })
        })
    }

    /// Paths that the other set does not have.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.zip(|element, node| match other.0.get(element) {
            Some(theirs) => {
                Some(Node { member: node.member && !theirs.member, below: node.below.difference(&theirs.below) })
            }
            None => Some(node.clone()),
        })
    }

    /// Paths that are neither in the other set nor below one that is.
    pub fn without(&self, other: &FieldSet) -> FieldSet {
        self.zip(|element, node| match other.0.get(element) {
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Node { member: node.member, below: node.below.without(&theirs.below) }),
            None => Some(node.clone()),
        })
    }

    fn zip(&self, keep: impl Fn(&PathElement, &Node) -> Option<Node>) -> FieldSet {
        let kept = self.0.iter().filter_map(|(element, node)| {
            keep(element, node).filter(|node| !node.is_empty()).map(|node| (element.clone(), node))
        });
        FieldSet(kept.collect())
    }

    /// The set with `below` replaced at each step and `member` or-ed; used to mark named fields.
    pub(super) fn map_steps(&self, change: impl Fn(&PathElement, bool, &FieldSet) -> (bool, FieldSet)) -> FieldSet {
        self.zip(|element, node| {
            let (member, below) = change(element, node.member, &node.below);
            Some(Node { member, below })
        })
    }

    /// The `fieldsV1` form.
    pub fn to_value(&self) -> Value {
        let entries = self.0.iter().map(|(element, node)| {
            let mut below = node.below.to_value();
            if node.member && !node.below.is_empty() {
                below["."] = Value::Object(Map::new());
            }
            (element.0.to_string(), below)
        });
        Value::Object(entries.collect())
    }

    /// Reads the `fieldsV1` form.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        let Value::Object(entries) = value else { return Err("fieldsV1 is not a map".into()) };
        let mut set = BTreeMap::new();
        for (key, below) in entries.iter().filter(|(key, _)| *key != ".") {
            let Value::Object(map) = below else { return Err(format!("{key} is not a map")) };
            let member = map.is_empty() || map.contains_key(".");
            let node = Node { member, below: Self::from_value(below)? };
            if !node.is_empty() {
                set.insert(PathElement::parse(key)?, node);
            }
        }
        Ok(Self(set))
    }
}

#[cfg(test)]
mod tests;
