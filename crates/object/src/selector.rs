//! Label selectors (query-string form and `metav1.LabelSelector`) and field selectors.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::{Head, Labels, Status};

mod parse;

/// A parsed label selector: the conjunction of its requirements; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// All must hold.
    pub requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// Operands of `In`, `NotIn`, `Gt`, `Lt`.
    pub values: Vec<String>,
}

/// How a label compares. `NotIn` and `DoesNotExist` hold for absent labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Equals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// A parsed field selector: `metadata.name=x,status.phase!=Running`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// (field path, must be equal, value); all must hold.
    pub terms: Vec<(String, bool, String)>,
}

impl Requirement {
    /// True when `labels` satisfy it.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        let actual = labels.label(&self.key);
        let number = |text: &str| text.parse::<i64>().ok();
        let compare = |wanted: fn(&i64, &i64) -> bool| {
            actual
                .and_then(number)
                .zip(self.values.first().and_then(|v| number(v)))
                .is_some_and(|(a, b)| wanted(&a, &b))
        };
        match self.operator {
            Operator::Equals | Operator::In => actual.is_some_and(|a| self.values.iter().any(|v| v == a)),
            Operator::NotEquals | Operator::NotIn => !actual.is_some_and(|a| self.values.iter().any(|v| v == a)),
            Operator::Exists => actual.is_some(),
            Operator::DoesNotExist => actual.is_none(),
            Operator::Gt => compare(i64::gt),
            Operator::Lt => compare(i64::lt),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SelectorObject {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<ExpressionObject>>,
}

#[derive(Deserialize)]
struct ExpressionObject {
    key: String,
    operator: String,
    #[serde(default)]
    values: Option<Vec<String>>,
}

impl LabelSelector {
    /// True when all requirements hold.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }

    /// True when it selects everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The selector of a plain map (`service.spec.selector`).
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let equals = |(k, v): (&String, &String)| Requirement {
            key: k.clone(),
            operator: Operator::Equals,
            values: vec![v.clone()],
        };
        Self { requirements: labels.iter().map(equals).collect() }
    }

    /// Reads a `metav1.LabelSelector`. `None` when an operator is unknown. An empty selector selects everything; an
    /// absent one (`null`) is the caller's business (it selects nothing in most places).
    pub fn from_object(selector: &serde_json::Value) -> Option<Self> {
        let object = SelectorObject::deserialize(selector).ok()?;
        let mut requirements = Self::from_map(&object.match_labels.unwrap_or_default()).requirements;
        for expression in object.match_expressions.unwrap_or_default() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => return None,
            };
            requirements.push(Requirement {
                key: expression.key,
                operator,
                values: expression.values.unwrap_or_default(),
            });
        }
        Some(Self { requirements })
    }

    /// Parses the query-string form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
    pub fn parse(text: &str) -> Result<Self, Status> {
        parse::parse(text).map(|requirements| Self { requirements }).map_err(Status::bad_request)
    }
}

/// What is wrong with a label's key; `None` for one that is good.
fn key_words(key: &str) -> Option<String> {
    const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    const PREFIX: &str = "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let mut words = Vec::new();
    let name = match key.split_once('/') {
        Some((_, name)) if name.contains('/') => {
            return Some(format!(
                "a valid label key {NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                words.push("prefix part must be non-empty".to_owned());
            } else if prefix.len() > 253 {
                words.push("prefix part must be no more than 253 bytes".to_owned());
            }
            if !prefix.is_empty() && !is_subdomain(prefix) {
                words.push(PREFIX.to_owned());
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        words.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        words.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_label_word(name) {
        words.push(format!("name part {NAME}"));
    }
    (!words.is_empty()).then(|| words.join("; "))
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|part| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().next_back())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    })
}

/// True for `[A-Za-z0-9-_.]` that start and end alphanumeric.
fn is_label_word(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// Qualified name: optional DNS-subdomain prefix and `/`, then 1 to 63 of `[A-Za-z0-9-_.]` that start and end alphanumeric.
pub fn is_label_key(key: &str) -> bool {
    key_words(key).is_none()
}

impl fmt::Display for LabelSelector {
    /// The query-string form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let (key, values) = (&r.key, r.values.join(","));
            match r.operator {
                Operator::Equals => write!(f, "{key}={values}")?,
                Operator::In => write!(f, "{key} in ({values})")?,
                Operator::NotEquals => write!(f, "{key}!={values}")?,
                Operator::NotIn => write!(f, "{key} notin ({values})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::Gt => write!(f, "{key}>{values}")?,
                Operator::Lt => write!(f, "{key}<{values}")?,
            }
        }
        Ok(())
    }
}

impl FieldSelector {
    /// Parses `a=b,c!=d,e==f`; `\` escapes `,`, `=` and `\` in values.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let mut terms = Vec::new();
        let mut parts = split_escaped(text);
        parts.sort_unstable();
        for term in parts.into_iter().filter(|term| !term.is_empty()) {
            let Some((field, equal, value)) = split_term(term) else {
                return Err(Status::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            let value = unescape(value)?;
            // A term without a field and without a value says nothing.
            if field.is_empty() && value.is_empty() {
                continue;
            }
            terms.push((field.to_owned(), equal, value));
        }
        Ok(Self { terms })
    }

    /// True when it selects everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// True when all terms hold; a field that the head lacks counts as the empty string.
    pub fn matches(&self, head: &Head) -> bool {
        self.terms.iter().all(|(field, equal, value)| {
            let actual = match field.as_str() {
                "metadata.name" => head.name.as_str(),
                "metadata.namespace" => head.namespace.as_str(),
                other => head.fields.get(other).unwrap_or(""),
            };
            (actual == value) == *equal
        })
    }
}

/// Field, whether it must be equal, value as it is written: cut at the first operator.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.find('=')?;
    match term[..at].strip_suffix('!') {
        Some(field) => Some((field, false, &term[at + 1..])),
        None => Some((&term[..at], true, term[at + 1..].strip_prefix('=').unwrap_or(&term[at + 1..]))),
    }
}

fn unescape(written: &str) -> Result<String, Status> {
    let refuse = |what: String| Err(Status::bad_request(format!("invalid field selector: {what}")));
    let mut value = String::with_capacity(written.len());
    let mut rest = written.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(c @ ('\\' | ',' | '=')) => value.push(c),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return refuse(format!("invalid escape sequence: {sequence}"));
                }
            },
            // As upstream, which writes the character's number.
            ',' | '=' => return refuse(format!("unescaped character in value: {}", u32::from(c))),
            other => value.push(other),
        }
    }
    Ok(value)
}

fn split_escaped(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            ',' if !escaped => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            _ => {}
        }
        escaped = false;
    }
    terms.push(&text[start..]);
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn label_selectors_parse_match_and_print() {
        let check = |text: &str, pairs: &[(&str, &str)], wanted: bool| {
            let selector = LabelSelector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels(pairs)), wanted, "{text} on {pairs:?}");
            assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        };
        check("", &[], true);
        check("a=b,c!=d", &[("a", "b")], true);
        check("tier in (a, b)", &[("tier", "b")], true);
        check("tier notin (a,b)", &[("tier", "b")], false);
        check("!x,y", &[("y", "")], true);
        check("n>3", &[("n", "4")], true);
        check("n<3", &[("n", "x")], false);
        assert!(LabelSelector::parse("a in (b").is_err());
        assert!(LabelSelector::parse("a b (c)").is_err());
        assert!(LabelSelector::parse("-bad=x").is_err());
    }

    #[test]
    fn field_selectors_compare_head_fields() {
        let mut head = Head { name: "p".into(), ..Head::default() };
        head.fields = [("spec.nodeName", "n1")].into_iter().collect();
        let check =
            |text: &str, wanted| assert_eq!(FieldSelector::parse(text).unwrap().matches(&head), wanted, "{text}");
        check("metadata.name=p,spec.nodeName=n1", true);
        check("spec.nodeName!=n1", false);
        check("status.phase!=Running", true);
        assert!(FieldSelector::parse("nonsense").is_err());
        let value = |text: &str| FieldSelector::parse(text).map(|s| s.terms[0].2.clone()).map_err(|e| e.message);
        assert_eq!(value(r"metadata.name=a\,b\\\=").as_deref(), Ok(r"a,b\="));
        let refused = |what: &str| Err(format!("invalid field selector: {what}"));
        assert_eq!(value("a=b!=c"), refused("unescaped character in value: 61"));
        assert_eq!(value(r"a!=b\c"), refused(r"invalid escape sequence: \c"));
    }
}
