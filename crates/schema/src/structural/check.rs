//! Values against their schema, in the words of upstream's validator (kube-openapi's fork of go-openapi).

use object::{Invalid, InvalidKind};
use serde_json::Value;

use super::lists::keys_of;
use super::{Kind, META_FIELDS, Node, equal, formats};
use crate::types::ListType;

/// What a check found.
pub type Checked = Vec<Invalid>;

/// Enough for any reader; the rest would be found after these are mended.
const MOST_ERRORS: usize = 200;

/// Checks a whole object. What is as it was in `old` is not checked again (KEP-4008).
pub fn check(value: &Value, root: &Node, old: Option<&Value>) -> Checked {
    let mut errors = Vec::new();
    Checker { errors: &mut errors }.value(value, root, old, "", true);
    errors
}

struct Checker<'e> {
    errors: &'e mut Checked,
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.into() } else { format!("{path}.{key}") }
}

/// The kind of a value as the validator names it.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Go's `%v` of a number.
fn number(n: f64) -> String {
    if n == n.trunc() && n.abs() < 1e21 {
        format!("{n:.0}")
    } else {
        format!("{n:e}").replace("e", "e+").replace("e+-", "e-")
    }
}

/// As Go has it: whole numbers are divided as such, others may be off a little.
fn is_multiple(value: &Value, n: f64, factor: f64) -> bool {
    let whole = factor.fract() == 0.0 && (1.0..9e15).contains(&factor);
    if let (Some(value), true) = (value.as_i64(), whole) {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and within range")]
        return value % (factor as i64) == 0;
    }
    let quotient = n / factor;
    (quotient - quotient.round()).abs() <= 1e-9 * quotient.abs().max(1.0)
}

fn plain(n: f64) -> String {
    let exponent = if n == 0.0 { 0.0 } else { n.abs().log10().floor() };
    if (-4.0..21.0).contains(&exponent) { format!("{n}") } else { number(n) }
}

impl Checker<'_> {
    fn add(&mut self, error: Invalid) {
        if self.errors.len() < MOST_ERRORS {
            self.errors.push(error);
        }
    }

    fn invalid(&mut self, path: &str, value: &Value, words: &str) {
        self.add(Invalid::invalid(path, value, format!("{path} in body {words}")));
    }

    /// True when the value passes by itself; nothing is reported.
    fn fits(value: &Value, node: &Node, path: &str) -> bool {
        let mut errors = Vec::new();
        Checker { errors: &mut errors }.value(value, node, None, path, false);
        errors.is_empty()
    }

    fn value(&mut self, value: &Value, node: &Node, old: Option<&Value>, path: &str, root: bool) {
        if self.errors.len() >= MOST_ERRORS || old.is_some_and(|old| equal(old, value)) {
            return;
        }
        self.kind(value, node, path);
        if value.is_null() {
            if !node.nullable {
                self.allowed(value, node, path);
            }
            return;
        }
        self.logic(value, node, old, path);
        match value {
            Value::String(text) => self.string(text, value, node, path),
            Value::Number(_) => self.number(value, node, path),
            Value::Array(items) => self.array(items, node, old, path),
            _ => {}
        }
        self.allowed(value, node, path);
        if value.is_object() {
            self.object(value, node, old, path, root);
        }
    }

    fn kind(&mut self, value: &Value, node: &Node, path: &str) {
        let found = kind_of(value);
        let fits = |kind: Kind| match (kind, value) {
            (Kind::Integer, Value::Number(n)) => n.as_f64().is_some_and(|n| n == n.trunc()),
            (Kind::Number, Value::Number(_)) => true,
            (kind, _) => kind.name() == found,
        };
        let wanted = match (node.int_or_string, node.kind) {
            (true, _) if fits(Kind::Integer) || fits(Kind::String) || (value.is_null() && node.nullable) => return,
            (true, _) => "integer,string",
            (false, None) => return,
            (false, Some(_)) if value.is_null() && node.nullable => return,
            (false, Some(kind)) if fits(kind) => return,
            (false, Some(kind)) => kind.name(),
        };
        // Of a number with a format, Go's types are told.
        match node.limits.format.as_deref() {
            Some(format @ ("int32" | "int64")) if value.is_f64() => self.mistyped(path, format, "float64"),
            _ => self.mistyped(path, wanted, found),
        }
    }

    fn mistyped(&mut self, path: &str, wanted: &str, shown: &str) {
        let detail = format!("{path} in body must be of type {wanted}: {shown:?}");
        let field = path.to_owned();
        self.add(Invalid { kind: InvalidKind::TypeInvalid, field, value: format!("{shown:?}"), detail, shown: true });
    }

    fn logic(&mut self, value: &Value, node: &Node, old: Option<&Value>, path: &str) {
        // The path of the object is in the text, not in the error's field.
        let fail = |words: String| Invalid::invalid("<nil>", &"".into(), format!("{path:?} {words}"));
        if !node.any_of.is_empty() && !node.any_of.iter().any(|n| Self::fits(value, n, path)) {
            self.add(fail("must validate at least one schema (anyOf)".into()));
            // What the first alternatives lack is what the reader wants to know.
            if let Some(best) = node.any_of.iter().map(|n| Self::found(value, n, path)).min_by_key(Vec::len) {
                best.into_iter().for_each(|error| self.add(error));
            }
        }
        if !node.one_of.is_empty() {
            let valid = node.one_of.iter().filter(|n| Self::fits(value, n, path)).count();
            if valid != 1 {
                let why =
                    if valid == 0 { "Found none valid".into() } else { format!("Found {valid} valid alternatives") };
                self.add(fail(format!("must validate one and only one schema (oneOf). {why}")));
                if valid == 0
                    && let Some(best) = node.one_of.iter().map(|n| Self::found(value, n, path)).min_by_key(Vec::len)
                {
                    best.into_iter().for_each(|error| self.add(error));
                }
            }
        }
        if !node.all_of.is_empty() {
            let mut invalid = 0;
            for branch in &node.all_of {
                let before = self.errors.len();
                self.value(value, branch, old, path, false);
                invalid += usize::from(self.errors.len() > before);
            }
            if invalid > 0 {
                let none = if invalid == node.all_of.len() { ". None validated" } else { "" };
                self.add(fail(format!("must validate all the schemas (allOf){none}")));
            }
        }
        if let Some(not) = &node.not
            && Self::fits(value, not, path)
        {
            self.add(fail("must not validate the schema (not)".into()));
        }
    }

    fn found(value: &Value, node: &Node, path: &str) -> Checked {
        let mut errors = Vec::new();
        Checker { errors: &mut errors }.value(value, node, None, path, false);
        errors
    }

    fn string(&mut self, text: &str, value: &Value, node: &Node, path: &str) {
        let limits = &node.limits;
        let length = || text.chars().count() as u64;
        // As upstream: the first complaint is the only one.
        if let Some(most) = limits.max_length.filter(|most| length() > *most) {
            self.add(Invalid::too_long(path, usize::try_from(most).unwrap_or(usize::MAX)));
        } else if let Some(least) = limits.min_length.filter(|least| length() < *least) {
            self.invalid(path, value, &format!("should be at least {least} chars long"));
        } else if let Some(pattern) = limits.pattern.as_ref().filter(|p| !p.matches(text)) {
            self.invalid(path, value, &format!("should match '{}'", pattern.text));
        }
        if let Some(format) = limits.format.as_deref().filter(|f| !formats::fits(f, text)) {
            self.mistyped(path, format, text);
        }
    }

    fn number(&mut self, value: &Value, node: &Node, path: &str) {
        let Some(n) = value.as_f64() else { return };
        let limits = &node.limits;
        self.range(n, value, limits.format.as_deref(), path);
        if let Some(factor) = limits.multiple_of.filter(|factor| !is_multiple(value, n, *factor)) {
            self.invalid(path, value, &format!("should be a multiple of {}", plain(factor)));
        }
        if let Some(most) = limits.maximum {
            match limits.exclusive_maximum {
                true if n >= most => self.invalid(path, value, &format!("should be less than {}", plain(most))),
                false if n > most => {
                    self.invalid(path, value, &format!("should be less than or equal to {}", plain(most)))
                }
                _ => {}
            }
        }
        if let Some(least) = limits.minimum {
            match limits.exclusive_minimum {
                true if n <= least => self.invalid(path, value, &format!("should be greater than {}", plain(least))),
                false if n < least => {
                    self.invalid(path, value, &format!("should be greater than or equal to {}", plain(least)));
                }
                _ => {}
            }
        }
    }

    /// Whether a number fits into its format.
    fn range(&mut self, n: f64, value: &Value, format: Option<&str>, path: &str) {
        let (format, fits) = match format {
            Some(format @ "int32") => (format, n == n.trunc() && n >= f64::from(i32::MIN) && n <= f64::from(i32::MAX)),
            Some(format @ "int64") => (format, value.is_i64() || (n == n.trunc() && n.abs() < 9.3e18)),
            Some(format @ "float") => (format, n.abs() <= f64::from(f32::MAX)),
            _ => return,
        };
        if !fits {
            let kind = if format == "float" { "number" } else { "integer" };
            let detail = format!("Checked value must be of type {kind} with format {format} in {path}");
            self.add(Invalid::invalid("<nil>", &"".into(), detail));
        }
    }

    fn array(&mut self, items: &[Value], node: &Node, old: Option<&Value>, path: &str) {
        let olds = old.and_then(Value::as_array);
        if let Some(below) = &node.items {
            for (index, item) in items.iter().enumerate() {
                let was = olds.and_then(|olds| same_item(olds, item, node));
                self.value(item, below, was, &format!("{path}[{index}]"), false);
            }
        }
        let (limits, size) = (&node.limits, items.len() as u64);
        if let Some(least) = limits.min_items.filter(|least| size < *least) {
            self.invalid(path, &size.into(), &format!("should have at least {least} items"));
        }
        if let Some(most) = limits.max_items.filter(|most| size > *most) {
            self.add(Invalid::too_many(path, items.len(), usize::try_from(most).unwrap_or(usize::MAX)));
        }
        let twice = |(index, item): (usize, &Value)| items[..index].iter().any(|other| equal(other, item));
        if limits.unique_items && items.iter().enumerate().any(twice) {
            self.invalid(path, &"".into(), "shouldn't contain duplicates");
        }
    }

    fn allowed(&mut self, value: &Value, node: &Node, path: &str) {
        let allowed = &node.limits.allowed;
        if allowed.is_empty() || allowed.iter().any(|a| equal(a, value)) {
            return;
        }
        let words: Vec<String> = allowed.iter().map(|a| a.as_str().map_or_else(|| a.to_string(), Into::into)).collect();
        self.add(Invalid::unsupported(path, value, &words.iter().map(String::as_str).collect::<Vec<_>>()));
    }

    fn object(&mut self, value: &Value, node: &Node, old: Option<&Value>, path: &str, root: bool) {
        let Some(entries) = value.as_object() else { return };
        let (limits, size) = (&node.limits, entries.len() as u64);
        if let Some(least) = limits.min_properties.filter(|least| size < *least) {
            self.invalid(path, &size.into(), &format!("should have at least {least} properties"));
        }
        if let Some(most) = limits.max_properties.filter(|most| size > *most) {
            self.add(Invalid::too_many(path, entries.len(), usize::try_from(most).unwrap_or(usize::MAX)));
        }
        for name in limits.required.iter().filter(|name| !entries.contains_key(*name)) {
            self.add(Invalid::required(&below(path, name), ""));
        }
        for (key, value) in entries {
            // Metadata has its own checks.
            if (root || node.embedded) && META_FIELDS.contains(&key.as_str()) && !node.properties.contains_key(key) {
                continue;
            }
            let was = old.and_then(|old| old.get(key));
            if let Some(schema) = node.properties.get(key) {
                self.value(value, schema, was, &below(path, key), false);
            } else if let Some(schema) = node.entry() {
                self.value(value, schema, was, &format!("{path}.{key}"), false);
            }
        }
    }
}

/// The item of the old list that this one was: lists that are maps have keys, others no memory.
fn same_item<'o>(olds: &'o [Value], item: &Value, node: &Node) -> Option<&'o Value> {
    if node.list != Some(ListType::Map) {
        return None;
    }
    let keys = keys_of(item, node);
    olds.iter().find(|old| keys_of(old, node) == keys)
}
