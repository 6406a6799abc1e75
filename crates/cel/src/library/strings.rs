//! Strings and regular expressions.

use regex::Regex;
use schema::structural::Pattern;

use super::{Answer, Outcome};
use crate::error::Failure;
use crate::value::Value;

pub(crate) fn regex(pattern: &str) -> Result<Regex, Failure> {
    Pattern::compile(pattern).map_err(|why| Failure::new(format!("error parsing regexp: {why}")))
}

fn text(text: impl AsRef<str>) -> Value {
    text.as_ref().into()
}

fn texts<'t>(items: impl Iterator<Item = &'t str>) -> Value {
    Value::list(items.map(Value::from).collect())
}

fn place(n: i64) -> Option<usize> {
    usize::try_from(n).ok()
}

fn out_of_range(n: i64) -> Failure {
    Failure::new(format!("index out of range: {n}"))
}

pub(super) fn call(method: bool, name: &str, args: &[&Value]) -> Answer {
    if SEARCHES.contains(&name)
        && (method || name == "matches")
        && let [Value::String(s), Value::String(pattern), more @ ..] = args
    {
        return Some(regex(pattern).and_then(|regex| search(name, s, &regex, more)));
    }
    if name == "strings.quote"
        && let [Value::String(s)] = args
    {
        return Some(Ok(text(format!("{s:?}"))));
    }
    if name == "jsonpatch.escapeKey"
        && let [Value::String(s)] = args
    {
        return Some(Ok(text(s.replace('~', "~0").replace('/', "~1"))));
    }
    if !method {
        return None;
    }
    let [Value::String(s), rest @ ..] = args else { return None };
    let s: &str = s;
    Some(match (name, rest) {
        ("contains", [Value::String(part)]) => Ok(Value::Bool(s.contains(&**part))),
        ("startsWith", [Value::String(part)]) => Ok(Value::Bool(s.starts_with(&**part))),
        ("endsWith", [Value::String(part)]) => Ok(Value::Bool(s.ends_with(&**part))),
        ("lowerAscii", []) => Ok(text(s.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(text(s.to_ascii_uppercase())),
        ("trim", []) => Ok(text(s.trim())),
        ("reverse", []) => Ok(text(s.chars().rev().collect::<String>())),
        ("charAt", [Value::Int(n)]) => match place(*n) {
            Some(at) if at <= s.chars().count() => Ok(text(s.chars().nth(at).map(String::from).unwrap_or_default())),
            _ => Err(out_of_range(*n)),
        },
        ("indexOf" | "lastIndexOf", [Value::String(part), more @ ..]) => index(name, s, part, more)?,
        ("replace", [Value::String(old), Value::String(new)]) => Ok(text(s.replace(&**old, new))),
        ("replace", [Value::String(old), Value::String(new), Value::Int(n)]) => Ok(text(match place(*n) {
            Some(n) => s.replacen(&**old, new, n),
            None => s.replace(&**old, new),
        })),
        ("split", [Value::String(by)]) => Ok(split(s, by, -1)),
        ("split", [Value::String(by), Value::Int(n)]) => Ok(split(s, by, *n)),
        ("substring", [Value::Int(from)]) => substring(s, *from, i64::try_from(s.chars().count()).unwrap_or(i64::MAX)),
        ("substring", [Value::Int(from), Value::Int(to)]) => substring(s, *from, *to),
        ("format", [Value::List(list)]) => super::formats::format(s, &list.items),
        _ => return None,
    })
}

/// What looks for a pattern in a text.
pub(crate) const SEARCHES: [&str; 3] = ["matches", "find", "findAll"];

/// One of [`SEARCHES`] in `s`.
pub(super) fn search(name: &str, s: &str, regex: &Regex, more: &[&Value]) -> Outcome {
    Ok(match (name, more) {
        ("matches", []) => Value::Bool(regex.is_match(s)),
        ("find", []) => text(regex.find(s).map(|m| m.as_str()).unwrap_or_default()),
        ("findAll", []) => texts(regex.find_iter(s).map(|m| m.as_str())),
        ("findAll", [Value::Int(n)]) => {
            texts(regex.find_iter(s).map(|m| m.as_str()).take(place(*n).unwrap_or(usize::MAX)))
        }
        _ => return Err(Failure::no_overload()),
    })
}

fn split(s: &str, by: &str, n: i64) -> Value {
    match (n, by) {
        (0, _) => Value::list(Vec::new()),
        (n, "") => {
            let chars: Vec<String> = s.chars().map(String::from).collect();
            match place(n).filter(|n| *n < chars.len() && *n > 0) {
                Some(n) => {
                    let rest = chars[n - 1..].concat();
                    texts(chars[..n - 1].iter().map(String::as_str).chain([rest.as_str()]))
                }
                None => texts(chars.iter().map(String::as_str)),
            }
        }
        (n, by) => match place(n) {
            Some(n) => texts(s.splitn(n, by)),
            None => texts(s.split(by)),
        },
    }
}

fn substring(s: &str, from: i64, to: i64) -> Outcome {
    let length = s.chars().count();
    match (place(from), place(to)) {
        (Some(a), Some(b)) if a <= b && b <= length => Ok(text(s.chars().skip(a).take(b - a).collect::<String>())),
        (Some(a), Some(b)) if a <= length && b <= length => {
            Err(Failure::new(format!("invalid substring range. start: {from}, end: {to}")))
        }
        (None, _) => Err(out_of_range(from)),
        (Some(a), _) if a > length => Err(out_of_range(from)),
        _ => Err(out_of_range(to)),
    }
}

fn index(name: &str, s: &str, part: &str, more: &[&Value]) -> Answer {
    let (chars, wanted): (Vec<char>, Vec<char>) = (s.chars().collect(), part.chars().collect());
    let offset = match more {
        [] => None,
        [Value::Int(n)] => match place(*n).filter(|n| *n <= chars.len()) {
            Some(n) => Some(n),
            None => return Some(Err(out_of_range(*n))),
        },
        _ => return None,
    };
    let is_at = |at: &usize| chars[*at..].starts_with(&wanted);
    let found = match name {
        "indexOf" => (offset.unwrap_or(0)..=chars.len()).find(is_at),
        _ => (0..=offset.unwrap_or(chars.len())).rev().find(is_at),
    };
    Some(Ok(Value::Int(found.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1))))
}
