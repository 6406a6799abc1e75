//! JSONPath in the dialect of `additionalPrinterColumns`, selectable fields and scale paths: `.spec.list[0]['key']`,
//! `[*]`, `[?(@.type=="Ready")]`, `\.` for a dot within a key.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    /// Negative ones count from the end.
    Index(i64),
    All,
    Slice(Option<i64>, Option<i64>),
    /// Items whose field compares so.
    Filter(JsonPath, Option<(Compare, Value)>),
    /// Everything below, the value itself included.
    Descend,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer comparison signs first.
const SIGNS: [(&str, Compare); 6] = [
    ("==", Compare::Equal),
    ("!=", Compare::Unequal),
    ("<=", Compare::LessOrEqual),
    (">=", Compare::GreaterOrEqual),
    ("<", Compare::Less),
    (">", Compare::Greater),
];

impl JsonPath {
    /// Reads a path, without the braces of templates; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text.trim().strip_prefix(['$', '@']).unwrap_or(text.trim());
        while !rest.is_empty() {
            rest = match rest.strip_prefix("..") {
                Some(after) => {
                    steps.push(Step::Descend);
                    if after.starts_with('[') { after } else { key(after, &mut steps)? }
                }
                None if rest.starts_with('.') => match &rest[1..] {
                    "" => "",
                    after if after.starts_with('[') => after,
                    after => key(after, &mut steps)?,
                },
                None if rest.starts_with('[') => bracket(rest, &mut steps)?,
                None => key(rest, &mut steps)?,
            };
        }
        Ok(Self(steps))
    }

    /// The values at the path.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|v| step.apply(v)).collect();
        }
        found
    }

    /// The keys of a path that has nothing else in it.
    pub fn keys(&self) -> Option<Vec<&str>> {
        fn key(step: &Step) -> Option<&str> {
            if let Step::Key(key) = step { Some(key.as_str()) } else { None }
        }
        self.0.iter().map(key).collect()
    }
}

fn key<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, String> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            ']' | '{' | '}' | '(' | ')' | '|' | ' ' => return Err(format!("unexpected {c:?} in the path {text:?}")),
            c => name.push(c),
        }
    }
    if name.is_empty() {
        return Err(format!("a name is missing in the path at {text:?}"));
    }
    steps.push(if name == "*" { Step::All } else { Step::Key(name) });
    Ok(&text[end..])
}

/// The end of a bracket, quotes and nested brackets minded.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn bracket<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, String> {
    let end = closing(text).ok_or_else(|| format!("unterminated array in the path {text:?}"))?;
    let inside = text[1..end].trim();
    let number = |text: &str| text.trim().parse::<i64>().map_err(|_| format!("invalid array index {text:?}"));
    let step = if inside == "*" {
        Step::All
    } else if let Some(test) = inside.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        filter(test)?
    } else if let Some(name) = quoted(inside) {
        Step::Key(name.into())
    } else if let Some((from, to)) = inside.split_once(':') {
        let bound = |text: &str| if text.trim().is_empty() { Ok(None) } else { number(text).map(Some) };
        Step::Slice(bound(from)?, bound(to)?)
    } else {
        Step::Index(number(inside)?)
    };
    steps.push(step);
    Ok(&text[end + 1..])
}

fn quoted(text: &str) -> Option<&str> {
    let text = text.trim();
    ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))
}

fn filter(test: &str) -> Result<Step, String> {
    let found = SIGNS.iter().filter_map(|(sign, compare)| Some((test.find(sign)?, *sign, *compare)));
    let Some((at, sign, compare)) = found.min_by_key(|(at, sign, _)| (*at, 2 - sign.len())) else {
        return Ok(Step::Filter(JsonPath::parse(test)?, None));
    };
    let right = test[at + sign.len()..].trim();
    let literal = match quoted(right) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(right).map_err(|_| format!("cannot compare with {right:?}"))?,
    };
    Ok(Step::Filter(JsonPath::parse(test[..at].trim())?, Some((compare, literal))))
}

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Step::Key(key), Value::Object(entries)) => entries.get(key).into_iter().collect(),
            (Step::Index(index), Value::Array(items)) => {
                at(*index, items.len()).and_then(|i| items.get(i)).into_iter().collect()
            }
            (Step::All, Value::Array(items)) => items.iter().collect(),
            (Step::All, Value::Object(entries)) => entries.values().collect(),
            (Step::Slice(from, to), Value::Array(items)) => {
                let bound = |n: Option<i64>, otherwise| {
                    n.map_or(otherwise, |n| at(n, items.len()).unwrap_or(0).min(items.len()))
                };
                let (from, to) = (bound(*from, 0), bound(*to, items.len()));
                items.get(from..to).into_iter().flatten().collect()
            }
            (Step::Filter(path, test), Value::Array(items)) => items
                .iter()
                .filter(|item| path.find(item).iter().any(|v| test.as_ref().is_none_or(|t| t.0.holds(v, &t.1))))
                .collect(),
            (Step::Descend, value) => {
                let mut all = vec![value];
                let mut next = 0;
                while let Some(value) = all.get(next).copied() {
                    next += 1;
                    match value {
                        Value::Array(items) => all.extend(items),
                        Value::Object(entries) => all.extend(entries.values()),
                        _ => {}
                    }
                }
                all
            }
            _ => Vec::new(),
        }
    }
}

fn at(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if index < 0 { index + length } else { index }).ok()
}

impl Compare {
    fn holds(self, left: &Value, right: &Value) -> bool {
        let order = match (left, right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => a.partial_cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.partial_cmp(b),
            _ => None,
        };
        match self {
            Compare::Equal => left == right || order == Some(std::cmp::Ordering::Equal),
            Compare::Unequal => left != right,
            Compare::Less => order.is_some_and(std::cmp::Ordering::is_lt),
            Compare::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
            Compare::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
            Compare::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        let value = json!({"metadata": {"labels": {"app.io/name": "x"}}, "status": {"n": 3,
            "conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        let check = |path: &str, wanted: Value| {
            let found: Vec<Value> = JsonPath::parse(path).unwrap().find(&value).into_iter().cloned().collect();
            assert_eq!(Value::from(found), wanted, "{path}");
        };
        check(".status.n", json!([3]));
        check(".metadata.labels.app\\.io/name", json!(["x"]));
        check(".metadata.labels['app.io/name']", json!(["x"]));
        check(".status.conditions[?(@.type==\"Ready\")].status", json!(["True"]));
        check(".status.conditions[?(@.type!='Ready')].status", json!(["False"]));
        check(".status.conditions[-1].type", json!(["Ready"]));
        check(".status.conditions[*].type", json!(["A", "Ready"]));
        check(".status.conditions[0:1].type", json!(["A"]));
        check("..type", json!(["A", "Ready"]));
        check(".none.of[3]", json!([]));
        for bad in [".a[", ".a[x]", ".a{", ".a..", ".a[?(@.b==c)]"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(JsonPath::parse(".a.b").unwrap().keys(), Some(vec!["a", "b"]));
        assert_eq!(JsonPath::parse(".a[0]").unwrap().keys(), None);
    }
}
