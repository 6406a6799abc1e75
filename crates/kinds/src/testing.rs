//! One harness for the rooms' tests: an object in, its defaulted form, its errors or its row out.

use object::{Gvk, Invalid};
use serde_json::{Value, json};

use crate::{Kind, table};

/// Ten seconds after the creation of every object of a [`Case`].
pub(crate) const NOW: i64 = 1_700_000_010;

/// A kind under test.
pub(crate) struct Case {
    kind: &'static Kind,
}

impl Case {
    pub(crate) fn new(api_version: &str, kind: &str) -> Self {
        let gvk = Gvk::from_api_version(api_version, kind);
        Self { kind: table().by_gvk(&gvk).expect("a built-in kind") }
    }

    /// The object with what every object has.
    fn whole(&self, value: Value) -> Value {
        let mut whole = json!({"apiVersion": self.kind.api_version(), "kind": self.kind.kind, "metadata": {
            "name": "x", "creationTimestamp": "2023-11-14T22:13:20Z"}});
        for (key, field) in value.as_object().expect("an object") {
            match (key.as_str(), field.as_object()) {
                ("metadata", Some(metadata)) => {
                    metadata.iter().for_each(|(k, v)| whole["metadata"][k] = v.clone());
                }
                _ => whole[key] = field.clone(),
            }
        }
        whole
    }

    /// Defaulting gives this, and a second time the same.
    pub(crate) fn defaulted(&self, given: Value, wanted: Value) {
        let mut value = self.whole(given);
        (self.kind.rules.default)(&mut value);
        assert_eq!(value, self.whole(wanted));
        let once = value.clone();
        (self.kind.rules.default)(&mut value);
        assert_eq!(value, once, "defaulting twice changes nothing");
    }

    fn errors(&self, new: Value, old: Option<Value>) -> Vec<String> {
        let prepare = |value: Value| {
            let mut value = self.whole(value);
            (self.kind.rules.default)(&mut value);
            value
        };
        let (new, old) = (prepare(new), old.map(prepare));
        let mut errors: Vec<Invalid> = Vec::new();
        (self.kind.rules.validate)(&new, old.as_ref(), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    /// Defaulted and created, the object has these errors.
    pub(crate) fn invalid(&self, value: Value, wanted: &[&str]) {
        assert_eq!(self.errors(value, None), wanted);
    }

    /// An update from `old` to `new` has these errors.
    pub(crate) fn update(&self, old: Value, new: Value, wanted: &[&str]) {
        assert_eq!(self.errors(new, Some(old)), wanted);
    }

    /// The row ten seconds after creation.
    pub(crate) fn row(&self, value: Value, wanted: Value) {
        assert_eq!(Value::from(self.kind.row(&self.whole(value), NOW)), wanted);
    }
}
