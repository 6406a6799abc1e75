//! What merging needs to know of a schema. `schema` implements it for its table of types; this crate stays free of schemas.

use serde_json::Value;

/// How the value at a place takes part in server-side apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Owned and replaced whole: scalars, atomic lists and maps.
    Leaf,
    /// A structure or a map whose entries have owners of their own.
    Map,
    /// A list of scalars, each owned by itself.
    Set,
    /// A list of structures that [`MergeInfo::keys`] tell apart.
    Keyed,
}

/// How strategic merge treats the value at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy<'a> {
    /// A list's items are merged instead of replaced.
    pub merge: bool,
    /// The whole map is replaced.
    pub replace: bool,
    /// The field that tells items of a merged list apart; `None` for lists of scalars.
    pub merge_key: Option<&'a str>,
}

/// A place in a schema: a cheap pointer that moves down with the value.
pub trait MergeInfo: Copy {
    /// How `value`, which stands here, merges. The value decides where the schema leaves it open.
    fn shape(self, value: &Value) -> Shape;
    /// The place below a key; `None` when a structure has no such field.
    fn field(self, name: &str) -> Option<Self>;
    /// True for a structure's field, false for an entry of a map.
    fn is_declared(self, name: &str) -> bool;
    /// The place of a list's items.
    fn element(self) -> Self;
    /// The fields that tell a keyed list's items apart.
    fn keys(&self) -> &[String];
    /// What a key field is when an item leaves it out.
    fn key_default(self, key: &str) -> Option<Value>;
    /// What stands here in every object, said or not: Go has structures by value, which no writer adds and so nobody owns as
    /// such, and lists that are `null` until they are set.
    fn blank(self) -> Option<&'static Value> {
        None
    }
    /// Why the value cannot stand here (only its own type, not what is below).
    fn check(self, value: &Value) -> Result<(), String>;
    /// How strategic merge treats what stands here.
    fn strategy(&self) -> PatchStrategy<'_>;
}

/// A place without a schema: maps merge, lists are atomic.
#[derive(Clone, Copy, Debug)]
pub struct Untyped;

impl MergeInfo for Untyped {
    fn shape(self, value: &Value) -> Shape {
        if value.is_object() { Shape::Map } else { Shape::Leaf }
    }
    fn field(self, _name: &str) -> Option<Self> {
        Some(self)
    }
    fn is_declared(self, _name: &str) -> bool {
        false
    }
    fn element(self) -> Self {
        self
    }
    fn keys(&self) -> &[String] {
        &[]
    }
    fn key_default(self, _key: &str) -> Option<Value> {
        None
    }
    fn check(self, _value: &Value) -> Result<(), String> {
        Ok(())
    }
    fn strategy(&self) -> PatchStrategy<'_> {
        PatchStrategy::default()
    }
}
