//! A value in an object that is checked, and where it is: checks walk through objects by it, and its path is written out only where
//! something is wrong.

use object::{Invalid, Quantity};
use serde_json::Value;

use crate::names::Rule;

/// The errors found so far.
pub(crate) type Errors = Vec<Invalid>;

/// A value and the way to it.
#[derive(Clone, Copy)]
pub(crate) struct Spot<'v, 's> {
    pub(crate) value: &'v Value,
    above: Option<&'s Spot<'v, 's>>,
    step: Step<'s>,
}

#[derive(Clone, Copy)]
enum Step<'s> {
    Field(&'s str),
    Item(&'s str, usize),
    Entry(&'s str, &'s str),
}

static NOTHING: Value = Value::Null;

impl<'v, 's> Spot<'v, 's> {
    /// A value at a path: `spec`, or empty for a whole object.
    pub(crate) fn new(value: &'v Value, path: &'s str) -> Self {
        Self { value, above: None, step: Step::Field(path) }
    }
    fn below(&'s self, value: Option<&'v Value>, step: Step<'s>) -> Self {
        Self { value: value.unwrap_or(&NOTHING), above: Some(self), step }
    }
    /// The field of that name, set or not.
    pub(crate) fn at(&'s self, field: &'s str) -> Self {
        self.below(self.value.get(field), Step::Field(field))
    }
    /// A place that is no field of the value, as messages call it.
    pub(crate) fn alias(&'s self, name: &'s str, value: &'v Value) -> Self {
        self.below(Some(value), Step::Field(name))
    }
    /// The items of a list.
    pub(crate) fn list(&'s self, field: &'s str) -> impl Iterator<Item = Self> + use<'v, 's> {
        let items = self.value.get(field).and_then(Value::as_array).into_iter().flatten();
        items.enumerate().map(move |(index, item)| self.below(Some(item), Step::Item(field, index)))
    }
    /// The entries of a map.
    pub(crate) fn map(&'s self, field: &'s str) -> impl Iterator<Item = (&'v String, Self)> + use<'v, 's>
    where
        'v: 's,
    {
        let entries = self.value.get(field).and_then(Value::as_object).into_iter().flatten();
        entries.map(move |(key, item)| (key, self.below(Some(item), Step::Entry(field, key))))
    }
    /// How many items or entries the value has.
    pub(crate) fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            _ => 0,
        }
    }
    /// True when the value is there.
    pub(crate) fn is_set(&self) -> bool {
        !self.value.is_null()
    }
    /// The text; empty for anything else.
    pub(crate) fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or("")
    }
    /// The number; `None` for anything else.
    pub(crate) fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }
    /// The number; 0 for anything else.
    pub(crate) fn count(&self) -> i64 {
        self.number().unwrap_or(0)
    }
    /// True for `true`.
    pub(crate) fn is_true(&self) -> bool {
        *self.value == true
    }
    /// The quantity, if it is one.
    pub(crate) fn quantity(&self) -> Option<Quantity> {
        self.value.as_str().and_then(Quantity::parse)
    }

    /// `spec.containers[0].image`.
    pub(crate) fn path(&self) -> String {
        let mut path = self.above.map(Spot::path).unwrap_or_default();
        let (Step::Field(field) | Step::Item(field, _) | Step::Entry(field, _)) = self.step;
        if !path.is_empty() && !field.is_empty() {
            path.push('.');
        }
        path.push_str(field);
        match self.step {
            Step::Field(_) => {}
            Step::Item(_, index) => path.push_str(&format!("[{index}]")),
            Step::Entry(_, key) => path.push_str(&format!("[{key}]")),
        }
        path
    }

    /// The value is wrong.
    pub(crate) fn fail(&self, detail: impl Into<String>, errors: &mut Errors) {
        errors.push(Invalid::invalid(&self.path(), self.value, detail));
    }
    /// This value, at this place, is wrong.
    pub(crate) fn fail_as(&self, value: impl Into<Value>, detail: impl Into<String>, errors: &mut Errors) {
        errors.push(Invalid::invalid(&self.path(), &value.into(), detail));
    }
    /// The value may not be there.
    pub(crate) fn forbid(&self, detail: impl Into<String>, errors: &mut Errors) {
        errors.push(Invalid::forbidden(&self.path(), detail));
    }
    /// The value is missing.
    pub(crate) fn missing(&self, detail: impl Into<String>, errors: &mut Errors) {
        errors.push(Invalid::required(&self.path(), detail));
    }
    /// The value is there twice.
    pub(crate) fn duplicate(&self, errors: &mut Errors) {
        errors.push(Invalid::duplicate(&self.path(), self.value));
    }
    /// The text is none of these.
    pub(crate) fn unsupported(&self, allowed: &[&str], errors: &mut Errors) {
        errors.push(Invalid::unsupported(&self.path(), &self.text().into(), allowed));
    }
    /// Adds an error when the text or list is empty; true when it is not.
    pub(crate) fn require(&self, errors: &mut Errors) -> bool {
        let there = match self.value {
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(entries) => !entries.is_empty(),
            Value::Null => false,
            _ => true,
        };
        if !there {
            self.missing("", errors);
        }
        there
    }
    /// Checks the text by a rule, be it empty or not.
    pub(crate) fn obey(&self, rule: Rule, errors: &mut Errors) {
        for why in rule(self.text()) {
            self.fail_as(self.text(), why, errors);
        }
    }
    /// Checks the text by a rule where there is one.
    pub(crate) fn named(&self, rule: Rule, errors: &mut Errors) {
        if !self.text().is_empty() {
            self.obey(rule, errors);
        }
    }
    /// A text that must be there and follow a rule.
    pub(crate) fn must_obey(&self, rule: Rule, errors: &mut Errors) {
        if self.require(errors) {
            self.obey(rule, errors);
        }
    }
    /// A text that, where there is one, is one of these.
    pub(crate) fn one_of(&self, allowed: &[&str], errors: &mut Errors) {
        if self.value.is_string() && !allowed.contains(&self.text()) {
            self.unsupported(allowed, errors);
        }
    }
    /// A text that is one of these; an empty one is "unsupported", too.
    pub(crate) fn exactly_one_of(&self, allowed: &[&str], errors: &mut Errors) {
        if !allowed.contains(&self.text()) {
            self.unsupported(allowed, errors);
        }
    }
    /// A text that must be there and be one of these.
    pub(crate) fn must_be_one_of(&self, allowed: &[&str], errors: &mut Errors) {
        if self.require(errors) {
            self.exactly_one_of(allowed, errors);
        }
    }
    /// A number that, where there is one, is within bounds.
    pub(crate) fn within(&self, least: i64, most: i64, errors: &mut Errors) {
        if self.number().is_some_and(|n| !(least..=most).contains(&n)) {
            self.fail(format!("must be between {least} and {most}, inclusive"), errors);
        }
    }
    /// A number that, where there is one, is not negative.
    pub(crate) fn not_negative(&self, errors: &mut Errors) {
        if self.number().is_some_and(|n| n < 0) {
            self.fail("must be greater than or equal to 0", errors);
        }
    }
    /// A number that is above 0.
    pub(crate) fn positive(&self, errors: &mut Errors) {
        if self.count() <= 0 {
            self.fail_as(self.count(), "must be greater than zero", errors);
        }
    }
    /// A number of a port, or a port's name.
    pub(crate) fn port(&self, errors: &mut Errors) {
        match self.value {
            Value::String(_) => self.obey(crate::names::port_name, errors),
            _ => self.port_number(errors),
        }
    }
    /// A number of a port.
    pub(crate) fn port_number(&self, errors: &mut Errors) {
        if !(1..=65_535).contains(&self.count()) {
            self.fail_as(self.count(), "must be between 1 and 65535, inclusive", errors);
        }
    }
    /// An address.
    pub(crate) fn ip(&self, errors: &mut Errors) {
        self.obey(crate::addresses::ip, errors);
    }
    /// A selector of labels.
    pub(crate) fn selector(&self, errors: &mut Errors) {
        if self.value.is_object() {
            crate::checks::selector(self.value, &self.path(), errors);
        }
    }
    /// Labels.
    pub(crate) fn labels(&self, errors: &mut Errors) {
        if self.value.is_object() {
            crate::metadata::labels(self.value, &self.path(), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_as_upstream_writes_them() {
        let object = json!({"spec": {"list": [{"a": "x"}], "map": {"k": "v"}}});
        let whole = Spot::new(&object, "");
        let spec = whole.at("spec");
        let mut errors = Vec::new();
        for item in spec.list("list") {
            item.at("a").exactly_one_of(&["y"], &mut errors);
            item.at("b").require(&mut errors);
        }
        for (_, entry) in spec.map("map") {
            entry.fail("is wrong", &mut errors);
        }
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "spec.list[0].a: Unsupported value: \"x\": supported values: \"y\"",
                "spec.list[0].b: Required value",
                "spec.map[k]: Invalid value: \"v\": is wrong"
            ]
        );
    }
}
