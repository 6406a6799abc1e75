//! Stored JSON straight into protobuf, along a plan of the types: no tree in between.
//!
//! A message's length stands before it and is known after it: a byte is left for it, and what follows moves on if one is not enough
//! (few messages are longer than 127 bytes, and those are moved at the speed of memory). What the walk does not expect, it leaves to the
//! encoder of trees: that is slower, and has the last word.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::encode::{self, bytes, number, tag, varint};
use super::{FIELDS, MOST_DEPTH, Result, boxed};
use crate::types::{Opaque, Scalar, Table, Type, table};

/// Appends the message of a stored object of the built-in type `name`.
pub fn transcode(name: &str, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let begin = out.len();
    let walked = PLANS.by_name.get(name).and_then(|plan| {
        let mut text = Text { body, at: 0 };
        text.message(&PLANS.plans[*plan], 0, out)
    });
    if walked.is_some() {
        return Ok(());
    }
    out.truncate(begin);
    let value: Value =
        serde_json::from_slice(body).map_err(|error| super::ProtobufError::Malformed(format!("{name}: {error}")))?;
    encode::append(table(), name, &value, out)
}

/// Appends a stored object as an item of a list.
pub fn put_item(name: &str, body: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut outcome = Ok(());
    within(2, out, |out| {
        outcome = transcode(name, body, out);
        outcome.is_ok().then_some(())
    });
    outcome
}

/// Appends an object of which only the metadata is shown, given its text, as an item of a list.
pub fn put_metadata_item(metadata: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut outcome = Ok(());
    within(2, out, |out| {
        within(1, out, |out| {
            outcome = transcode("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", metadata, out);
            outcome.is_ok().then_some(())
        })
    });
    outcome
}

/// How a value is written.
enum Shape {
    String,
    Bytes,
    Bool,
    Whole,
    Double,
    Quantity,
    IntOrString,
    Time,
    Duration,
    /// A message: its plan's place.
    Message(usize),
    /// Any JSON, as its text.
    Raw,
    /// A list within a map or list, in a message of its own.
    Items(Box<Shape>),
    /// What only the encoder of trees knows.
    Tree(Type, Opaque),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Many {
    One,
    List,
    Map,
}

/// Where a field goes.
struct Slot {
    name: &'static str,
    number: u32,
    many: Many,
    shape: Shape,
    /// The part of the message, from 1 on, that this field stands in; 0: the message itself.
    part: usize,
}

/// The fields of a type, by name, and the numbers of the parts that have messages of their own while their fields stand in the
/// outer object in JSON.
struct Plan {
    slots: Vec<Slot>,
    parts: Vec<u32>,
}

struct Plans {
    plans: Vec<Plan>,
    by_name: HashMap<&'static str, usize>,
}

static PLANS: LazyLock<Plans> = LazyLock::new(|| {
    let by_name: HashMap<&'static str, usize> =
        FIELDS.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let plans = FIELDS.keys().map(|name| plan(table(), name, &by_name)).collect();
    Plans { plans, by_name }
});

fn plan(table: &'static Table, name: &str, by_name: &HashMap<&'static str, usize>) -> Plan {
    let mut plan = Plan { slots: Vec::new(), parts: Vec::new() };
    let mut add = |numbering: &str, part: usize, parts: &mut Vec<(u32, &'static str)>| {
        let Some(declared) = table.get(name) else { return };
        for (number, field) in FIELDS.get(numbering).into_iter().flatten() {
            if let Some(inner) = field.strip_prefix('=') {
                parts.push((*number, inner));
                continue;
            }
            let (field, boxed) = boxed(field);
            let Some(declared) = declared.fields.get(field) else { continue };
            let (many, kind) = match &declared.kind {
                Type::List(element) if !boxed => (Many::List, &**element),
                Type::Map(element) => (Many::Map, &**element),
                kind => (Many::One, kind),
            };
            let shape = shape(kind, declared.opaque, by_name);
            plan.slots.push(Slot { name: field, number: *number, many, shape, part });
        }
    };
    let (mut parts, mut nested) = (Vec::new(), Vec::new());
    add(name, 0, &mut parts);
    for (index, (_, inner)) in parts.iter().enumerate() {
        add(inner, index + 1, &mut nested);
    }
    // A part within a part is left to trees: only rules of policies have one.
    if !nested.is_empty() {
        plan.slots.clear();
    }
    plan.parts = parts.into_iter().map(|(number, _)| number).collect();
    plan.slots.sort_by_key(|slot| slot.name);
    plan
}

fn shape(kind: &Type, opaque: Opaque, by_name: &HashMap<&'static str, usize>) -> Shape {
    match kind {
        Type::Scalar(scalar) => match scalar {
            Scalar::String => Shape::String,
            Scalar::Bytes => Shape::Bytes,
            Scalar::Bool => Shape::Bool,
            Scalar::Int32 | Scalar::Int64 => Shape::Whole,
            Scalar::Double => Shape::Double,
            Scalar::Quantity => Shape::Quantity,
            Scalar::IntOrString => Shape::IntOrString,
            Scalar::Time | Scalar::MicroTime => Shape::Time,
            Scalar::Duration => Shape::Duration,
        },
        Type::Struct(name) => match by_name.get(&**name) {
            Some(at) => Shape::Message(*at),
            None => Shape::Tree(kind.clone(), opaque),
        },
        Type::Any if matches!(opaque, Opaque::Json | Opaque::Raw | Opaque::Fields) => Shape::Raw,
        Type::List(element) => Shape::Items(Box::new(shape(element, opaque, by_name))),
        Type::Any | Type::Map(_) => Shape::Tree(kind.clone(), opaque),
    }
}

/// JSON text that is being read. `None` from any method: not what was expected here.
struct Text<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    /// The next byte that is not a space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.body.get(self.at)? {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// True when there is another element or field: `first` tells whether a comma must come before it.
    fn more(&mut self, end: u8, first: &mut bool) -> Option<bool> {
        if self.peek()? == end {
            self.at += 1;
            return Some(false);
        }
        if !std::mem::replace(first, false) {
            self.take(b',')?;
        }
        Some(true)
    }

    /// A string, as it stands between its quotes.
    fn quoted(&mut self) -> Option<(&'a [u8], bool)> {
        self.take(b'"')?;
        let begin = self.at;
        let mut escaped = false;
        loop {
            let rest = self.body.get(self.at..)?;
            self.at += memchr::memchr2(b'"', b'\\', rest)?;
            if self.body[self.at] == b'"' {
                let text = &self.body[begin..self.at];
                self.at += 1;
                return Some((text, escaped));
            }
            escaped = true;
            self.at += 2;
        }
    }

    fn string(&mut self) -> Option<Cow<'a, [u8]>> {
        let begin = self.at;
        let (text, escaped) = self.quoted()?;
        if !escaped {
            return Some(Cow::Borrowed(text));
        }
        let whole: String = serde_json::from_slice(self.body.get(begin..self.at)?).ok()?;
        Some(Cow::Owned(whole.into_bytes()))
    }

    /// The text of the next value, whatever it is.
    fn value(&mut self) -> Option<&'a [u8]> {
        self.peek()?;
        let (begin, mut depth) = (self.at, 0_usize);
        loop {
            match *self.body.get(self.at)? {
                b'"' => drop(self.quoted()?),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                _ => {
                    let word = self.body.get(self.at..)?;
                    self.at += word.iter().position(|b| b",:]} \n\t\r".contains(b)).unwrap_or(word.len());
                }
            }
            if depth == 0 {
                return self.body.get(begin..self.at);
            }
        }
    }

    fn is_null(&mut self) -> Option<bool> {
        let null = self.peek()? == b'n';
        if null {
            self.value()?;
        }
        Some(null)
    }

    fn message(&mut self, plan: &Plan, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        if depth > MOST_DEPTH || (plan.slots.is_empty() && !plan.parts.is_empty()) {
            return None;
        }
        let mut parts: Vec<Vec<u8>> = vec![Vec::new(); plan.parts.len()];
        self.take(b'{')?;
        // Fields come in the order of their names, mostly: the next one is not far.
        let (mut first, mut expected) = (true, 0);
        while self.more(b'}', &mut first)? {
            let (name, escaped) = self.quoted()?;
            self.take(b':')?;
            let ahead = plan.slots[expected..].iter().take(8).position(|slot| slot.name.as_bytes() == name);
            if escaped {
                return None;
            }
            let found = match ahead {
                Some(ahead) => Some(expected + ahead),
                None => plan.slots.binary_search_by(|slot| slot.name.as_bytes().cmp(name)).ok(),
            };
            let Some(found) = found else {
                self.value()?;
                continue;
            };
            expected = found + 1;
            let slot = &plan.slots[found];
            match slot.part.checked_sub(1) {
                None => self.field(slot, depth, out)?,
                Some(part) => self.field(slot, depth, &mut parts[part])?,
            }
        }
        for (number, part) in plan.parts.iter().zip(&parts) {
            bytes(*number, part, out);
        }
        Some(())
    }

    fn field(&mut self, slot: &Slot, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        if self.is_null()? {
            return Some(());
        }
        let mut first = true;
        match slot.many {
            Many::One => self.one(&slot.shape, slot.number, depth, out),
            Many::List => {
                self.take(b'[')?;
                while self.more(b']', &mut first)? {
                    self.one(&slot.shape, slot.number, depth, out)?;
                }
                Some(())
            }
            Many::Map => {
                self.take(b'{')?;
                while self.more(b'}', &mut first)? {
                    let key = self.string()?;
                    self.take(b':')?;
                    within(slot.number, out, |out| {
                        bytes(1, &key, out);
                        self.one(&slot.shape, 2, depth, out)
                    })?;
                }
                Some(())
            }
        }
    }

    fn one(&mut self, shape: &Shape, at: u32, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        match shape {
            Shape::String => bytes(at, &self.string()?, out),
            Shape::Bytes => {
                let text = self.string()?;
                within(at, out, |out| STANDARD.decode_vec(&*text, out).ok())?;
            }
            Shape::Bool => {
                let is = match self.value()? {
                    b"true" => 1,
                    b"false" => 0,
                    _ => return None,
                };
                number(at, is, out);
            }
            Shape::Whole => number(at, self.whole()?, out),
            Shape::Double => {
                let value: f64 = std::str::from_utf8(self.value()?).ok()?.parse().ok()?;
                tag(at, 1, out);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Shape::Quantity => {
                let text = if self.peek()? == b'"' { self.string()? } else { self.value()?.into() };
                framed(at, out, |out| bytes(1, &text, out));
            }
            Shape::IntOrString if self.peek()? == b'"' => {
                let text = self.string()?;
                framed(at, out, |out| {
                    number(1, 1, out);
                    bytes(3, &text, out);
                });
            }
            Shape::IntOrString => {
                let value = self.whole()?;
                framed(at, out, |out| number(2, value, out));
            }
            Shape::Time => {
                let text = self.string()?;
                let stamp: jiff::Timestamp = std::str::from_utf8(&text).ok()?.parse().ok()?;
                framed(at, out, |out| {
                    number(1, stamp.as_second(), out);
                    number(2, i64::from(stamp.subsec_nanosecond()), out);
                });
            }
            Shape::Duration => return self.tree(&Type::Scalar(Scalar::Duration), Opaque::Json, at, depth, out),
            Shape::Message(plan) => {
                within(at, out, |out| self.message(PLANS.plans.get(*plan)?, depth + 1, out))?;
            }
            Shape::Raw => {
                let text = self.value()?;
                framed(at, out, |out| bytes(1, text, out));
            }
            Shape::Items(shape) => {
                self.take(b'[')?;
                let mut first = true;
                within(at, out, |out| {
                    while self.more(b']', &mut first)? {
                        self.one(shape, 1, depth + 1, out)?;
                    }
                    Some(())
                })?;
            }
            Shape::Tree(kind, opaque) => return self.tree(kind, *opaque, at, depth, out),
        }
        Some(())
    }

    fn whole(&mut self) -> Option<i64> {
        std::str::from_utf8(self.value()?).ok()?.parse().ok()
    }

    fn tree(&mut self, kind: &Type, opaque: Opaque, at: u32, depth: usize, out: &mut Vec<u8>) -> Option<()> {
        let value: Value = serde_json::from_slice(self.value()?).ok()?;
        encode::one(table(), kind, opaque, at, &value, depth, out).ok()
    }
}

/// A field with what `fill` writes, which cannot fail.
fn framed(at: u32, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let _ = within(at, out, |out| {
        fill(out);
        Some(())
    });
}

/// A field with what `fill` writes, after its length.
fn within(at: u32, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<()> {
    tag(at, 2, out);
    out.push(0);
    let begin = out.len();
    fill(out)?;
    let length = out.len() - begin;
    if length < 0x80 {
        out[begin - 1] = length as u8;
        return Some(());
    }
    let mut digits = Vec::with_capacity(5);
    varint(length as u64, &mut digits);
    out.splice(begin - 1..begin, digits);
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protobuf::decode;

    /// Both ways say the same, whatever the order of fields.
    #[track_caller]
    fn check(name: &str, text: &str) {
        let mut out = b"before".to_vec();
        let value: Value = serde_json::from_str(text).unwrap();
        let mut walk = Text { body: text.as_bytes(), at: 0 };
        walk.message(&PLANS.plans[PLANS.by_name[name]], 0, &mut Vec::new()).expect("it is walked, not left to trees");
        transcode(name, text.as_bytes(), &mut out).unwrap();
        let by_tree = encode::encode(table(), name, &value).unwrap();
        assert_eq!(out.len(), b"before".len() + by_tree.len());
        assert_eq!(decode(table(), name, &out[6..]).unwrap(), decode(table(), name, &by_tree).unwrap());
    }

    const POD: &str = "io.k8s.api.core.v1.Pod";

    #[test]
    fn texts_become_what_trees_become() {
        let long = "x\\n\u{e9}".repeat(100);
        check(POD, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {"a": long, "": ""}, "creationTimestamp": "2026-11-25T18:00:00Z",
            "generation": 3, "labels": {"a": "b", "c": "\u{1F600}\""}, "managedFields": [{"manager": "m", "time": "2026-11-25T18:00:00Z",
            "fieldsV1": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:x": ["}", 1.5, null]}}}}}],
            "ownerReferences": [{"apiVersion": "v1", "blockOwnerDeletion": true, "controller": false, "kind": "X", "name": "n", "uid": "u"}]},
            "spec": {"containers": [{"env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}], "image": "i", "livenessProbe": {"failureThreshold": 3,
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "periodSeconds": 10}, "name": "c", "ports": [{"containerPort": 80}],
            "readinessProbe": {"tcpSocket": {"port": "web"}}, "resources": {"limits": {"cpu": "100m", "memory": 16}}}], "enableServiceLinks": true,
            "hostNetwork": false, "nodeSelector": {}, "priority": -5, "terminationGracePeriodSeconds": 0, "tolerations": null,
            "unknown": {"a": [1, {"b": "]"}]}, "volumes": [{"configMap": {"defaultMode": 420, "name": "x"}, "name": "v"}, {"emptyDir": {}, "name": "w"}]},
            "status": {"conditions": [{"lastProbeTime": null, "lastTransitionTime": "2026-11-25T18:00:00Z", "status": "True", "type": "Ready"}], "podIPs": [{"ip": "10.0.0.1"}]}}).to_string());
        check(POD, "{ \"spec\" : { \"priority\" : 4 , \"nodeName\":\"n\" } ,\n \"metadata\": {} }");
        check(
            "io.k8s.api.core.v1.Secret",
            &json!({"data": {"a": "AAEC", "b": ""}, "immutable": false, "type": "Opaque"}).to_string(),
        );
        check(
            "io.k8s.api.coordination.v1.Lease",
            &json!({"spec": {"leaseDurationSeconds": 40, "renewTime": "2026-11-25T18:00:00.123456Z"}}).to_string(),
        );
        check("io.k8s.api.authentication.v1.UserInfo", &json!({"extra": {"a": ["b", "c"], "d": []}}).to_string());
        check(super::super::SCHEMA, &json!({"additionalProperties": {"type": "string"}, "default": {"x": 1}, "dependencies": {"a": ["b"]}, "enum": ["a", 2],
            "items": [{"type": "string"}], "minimum": 1.5, "type": "object"}).to_string());
    }

    #[test]
    fn what_is_not_expected_is_left_to_trees() {
        let mut out = Vec::new();
        transcode(POD, br#"{"spec":{"priority":1e1}}"#, &mut out).unwrap();
        assert_eq!(decode(table(), POD, &out).unwrap()["spec"]["priority"], 10);
        out.clear();
        transcode(POD, br#"{"metadata":{"na\u006de":"x"}}"#, &mut out).unwrap();
        assert_eq!(decode(table(), POD, &out).unwrap()["metadata"]["name"], "x");
        for bad in [
            "",
            "{",
            "[]x",
            r#"{"spec":{"priority":"x"}}"#,
            r#"{"metadata":{"name":"#,
            r#"{"metadata":{"creationTimestamp":"x"}}"#,
        ] {
            let mut out = b"before".to_vec();
            assert!(transcode(POD, bad.as_bytes(), &mut out).is_err(), "{bad}");
        }
        assert!(transcode("nope", b"{}", &mut out).is_err());
    }

    #[test]
    fn every_type_has_a_plan() {
        for (name, at) in &PLANS.by_name {
            let plan = &PLANS.plans[*at];
            let left = !plan.parts.is_empty() && plan.slots.is_empty();
            assert!(!left || name.ends_with(".NamedRuleWithOperations"), "{name}: a part within a part");
            assert!(plan.slots.windows(2).all(|pair| pair[0].name < pair[1].name), "{name}: two places of one name");
        }
    }
}
