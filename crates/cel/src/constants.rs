//! What an expression's constants make certain before there are any variables: texts that are no durations, patterns that do not
//! compile, conversions that fail. Upstream tells of these when an expression is written.

use crate::check::Type;
use crate::cost::{Types, place};
use crate::error::{Compile, Failure};
use crate::evaluate::Budget;
use crate::expr::{Expr, Kind};
use crate::library;
use crate::library::strings::regex;
use crate::value::Value;

const CONVERSIONS: [&str; 9] = ["bool", "bytes", "double", "dyn", "duration", "int", "string", "timestamp", "uint"];
/// More than any constant takes that fits into an object.
const MOST: u64 = 10_000_000;

/// Why an expression whose types fit could not work all the same: conversions of constants, and constant patterns, that fail
/// wherever they stand.
pub fn instantiate(expr: &Expr) -> Result<(), Failure> {
    constant(expr).map(drop)
}

/// True for what upstream knows the value of before it evaluates: such parts cost nothing.
pub(crate) fn is_constant(kind: &Kind) -> bool {
    match kind {
        Kind::Literal(_) => true,
        Kind::List(items) => items.iter().all(|(item, optional)| item.is_constant && !optional),
        Kind::Map(entries) => {
            entries.iter().all(|(key, value, optional)| key.is_constant && value.is_constant && !optional)
        }
        Kind::Call { target: None, function, args } => {
            CONVERSIONS.contains(&function.as_str()) && matches!(args.as_slice(), [arg] if arg.is_constant)
        }
        _ => false,
    }
}

fn constant(expr: &Expr) -> Result<Option<Value>, Failure> {
    if let Kind::Literal(value) = &expr.kind {
        return Ok(Some(value.clone()));
    }
    let parts = expr.parts().into_iter().map(constant).collect::<Result<Vec<_>, _>>()?;
    let Kind::Call { target, function, .. } = &expr.kind else { return Ok(None) };
    match (function.as_str(), parts.as_slice()) {
        (function, [Some(value)]) if target.is_none() && CONVERSIONS.contains(&function) => {
            library::call(None, function, std::slice::from_ref(value), &mut Budget::new(MOST)).transpose()
        }
        ("matches" | "find" | "findAll", [_, Some(Value::String(pattern)), ..]) => regex(pattern).map(|_| None),
        _ => Ok(None),
    }
}

/// Literal arguments that a function would refuse whenever it is called.
pub(crate) fn refused(expr: &Expr, source: &str, types: &Types) -> Result<(), Compile> {
    let mut wrong: Vec<(usize, String)> = Vec::new();
    for function in ["duration", "timestamp", "matches"] {
        expr.visit(&mut |call| {
            if let Kind::Call { target, function: called, args } = &call.kind
                && called == function
                && let Some(Expr { at, kind: Kind::Literal(value), .. }) = args.first()
            {
                let done = match (function, value) {
                    ("matches", Value::String(pattern)) => regex(pattern).is_ok(),
                    _ if target.is_some() => true,
                    _ => {
                        let value = std::slice::from_ref(value);
                        matches!(library::call(None, function, value, &mut Budget::new(MOST)), Some(Ok(_)))
                    }
                };
                if !done {
                    wrong.push((*at, format!("invalid {function} argument")));
                }
            }
        });
    }
    expr.visit(&mut |call| {
        if let Kind::Call { target: Some(target), function, args } = &call.kind
            && function == "format"
            && let Kind::Literal(Value::String(pattern)) = &target.kind
            && let [Expr { kind: Kind::List(items), .. }] = args.as_slice()
        {
            let items: Vec<&Expr> = items.iter().map(|(item, _)| item).collect();
            if let Err((at, why)) = formatted(pattern, &items, types) {
                wrong.push((at.unwrap_or(call.at), why));
            }
        }
    });
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort_by_key(|(at, _)| *at);
    let lines: Vec<String> = wrong.iter().map(|(at, why)| Compile::at(source, *at, why).text).collect();
    Err(Compile { text: lines.join("\n") })
}

/// An error of one of the arguments has its place.
type Unformatted = (Option<usize>, String);

fn unparsed(why: &str) -> Unformatted {
    (None, format!("could not parse formatting clause: {why}"))
}

/// The clauses of a format against the types of its arguments.
fn formatted(pattern: &str, items: &[&Expr], types: &Types) -> Result<(), Unformatted> {
    let (mut rest, mut used) = (pattern, 0);
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(next) = after.strip_prefix('%') {
            rest = next;
            continue;
        }
        if after.is_empty() {
            return Err((None, "unexpected end of string".into()));
        }
        let Some(item) = items.get(used) else { return Err((None, format!("index {used} out of range"))) };
        used += 1;
        let clause = match after.strip_prefix('.') {
            None => after,
            Some(digits) => {
                let clause = digits.trim_start_matches(|c: char| c.is_ascii_digit());
                if clause.is_empty() {
                    return Err(unparsed("error while parsing precision: could not find end of precision specifier"));
                }
                let number = &digits[..digits.len() - clause.len()];
                if number.parse::<i64>().is_err() {
                    let why = if number.is_empty() { "invalid syntax" } else { "value out of range" };
                    return Err(unparsed(&format!(
                        "error while parsing precision: error while converting precision to integer: strconv.Atoi: parsing {number:?}: {why}"
                    )));
                }
                clause
            }
        };
        let verb = clause.chars().next().unwrap_or_default();
        rest = &clause[verb.len_utf8()..];
        fits(verb, item, types)?;
    }
    match items.len() > used {
        true => {
            let why = format!("too many arguments supplied to string.format (expected {used}, got {})", items.len());
            Err((None, why))
        }
        false => Ok(()),
    }
}

fn fits(verb: char, item: &Expr, types: &Types) -> Result<(), Unformatted> {
    let of = |expr: &Expr| types.get(&place(expr)).cloned().unwrap_or(Type::Dyn);
    let found = of(item);
    let (fits, takes) = match verb {
        's' => {
            let shown = |found: &Type| {
                !matches!(
                    found,
                    Type::Object(_) | Type::Record(..) | Type::Optional(_) | Type::Opaque(_) | Type::Host(_)
                )
            };
            if !shown(&found) {
                (
                    false,
                    "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps",
                )
            } else if let Kind::List(_) | Kind::Map(_) = &item.kind {
                return item.parts().into_iter().try_for_each(|part| self::fits(verb, part, types));
            } else {
                (true, "")
            }
        }
        'd' => (matches!(found, Type::Int | Type::Uint | Type::Dyn), "decimal clause can only be used on integers"),
        'f' => {
            (matches!(found, Type::Double | Type::String | Type::Dyn), "fixed-point clause can only be used on doubles")
        }
        'e' => {
            (matches!(found, Type::Double | Type::String | Type::Dyn), "scientific clause can only be used on doubles")
        }
        'b' => (
            matches!(found, Type::Int | Type::Uint | Type::Bool | Type::Dyn),
            "only integers and bools can be formatted as binary",
        ),
        'x' | 'X' => (
            matches!(found, Type::Int | Type::Uint | Type::String | Type::Bytes | Type::Dyn),
            "only integers, byte buffers, and strings can be formatted as hex",
        ),
        'o' => (matches!(found, Type::Int | Type::Uint | Type::Dyn), "octal clause can only be used on integers"),
        other => return Err(unparsed(&format!("unrecognized formatting clause \"{other}\""))),
    };
    if fits {
        return Ok(());
    }
    let name = match &found {
        Type::Null => "null_type".to_owned(),
        Type::List(_) => "list".to_owned(),
        Type::Map(..) => "map".to_owned(),
        Type::Optional(_) => "optional_type".to_owned(),
        other => other.to_string(),
    };
    Err((Some(item.at), format!("error during formatting: {takes}, was given {name}")))
}
