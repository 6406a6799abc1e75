//! Types: an expression against the types of its variables, before anything is evaluated.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::constants;
use crate::cost::{Types, place};
use crate::error::Compile;
use crate::expr::{Expr, Kind, Macro, What};
use crate::signatures;
use crate::value::Value;

/// A type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Type {
    /// Anything; looked at when there is a value.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    Type,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    /// A structure with these fields.
    Object(Arc<BTreeMap<String, Type>>),
    /// One that has a name.
    Record(&'static str, Arc<BTreeMap<String, Type>>),
    Optional(Box<Type>),
    /// By its name.
    Opaque(&'static str),
    /// What a method of the caller's objects takes and gives is the caller's business.
    Host(&'static str),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Duration => f.write_str("google.protobuf.Duration"),
            Type::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Type::Type => f.write_str("type"),
            Type::List(item) => write!(f, "list({item})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Object(_) => f.write_str("object"),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Opaque(name) | Type::Host(name) | Type::Record(name, _) => f.write_str(name),
        }
    }
}

impl Type {
    /// True when a value of the type can stand where `wanted` is.
    pub(crate) fn fits(&self, wanted: &Type) -> bool {
        match (self, wanted) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (free, _) | (_, free) if *free == FREE || *free == ANY => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => a.fits(b),
            (Type::Map(k, v), Type::Map(l, w)) => k.fits(l) && v.fits(w),
            (Type::Object(_), Type::Map(..)) | (Type::Map(..), Type::Object(_)) => false,
            // What may be null: timestamps, durations, structures and what is opaque.
            (Type::Null, Type::Object(_) | Type::Timestamp | Type::Duration | Type::Opaque(_)) => true,
            (Type::Object(_) | Type::Timestamp | Type::Duration | Type::Opaque(_), Type::Null) => true,
            (a, b) => a == b,
        }
    }

    /// One type for both.
    pub(crate) fn joined(self, other: Type) -> Type {
        // Where the items are of any type, as those of an empty list are, the others say more.
        let inner = |a: Type, b: Type| match (a, b) {
            (Type::Dyn, known) | (known, Type::Dyn) => Box::new(known),
            (a, b) => Box::new(a.joined(b)),
        };
        match (self, other) {
            (Type::List(a), Type::List(b)) => Type::List(inner(*a, *b)),
            (Type::Map(k, v), Type::Map(l, w)) => Type::Map(inner(*k, *l), inner(*v, *w)),
            (a, b) if a == b => a,
            _ => Type::Dyn,
        }
    }
}

/// What is in an optional value that nothing is known of: whatever is put beside it says what it is.
pub(crate) const FREE: Type = Type::Opaque("_");

/// The values of a map that may be of any type, which the name of the map's type says.
pub const ANY: Type = Type::Opaque("google.protobuf.Any");

/// What a mutating policy's expression makes: a step of a JSON patch, and an apply configuration.
pub const JSON_PATCH: Type = Type::Opaque("JSONPatch");
/// See [`JSON_PATCH`].
pub const CONFIGURATION: Type = Type::Opaque("Object");

/// The types of variables, by name; dotted names are variables, too. `Name{}` is a structure that expressions may make; those that may make
/// a `JSONPatch{}` have its functions.
pub type Environment = BTreeMap<String, Type>;

/// The type of an expression, or what is wrong with it. `source` is its text.
pub fn check(expr: &Expr, source: &str, variables: &Environment) -> Result<Type, Compile> {
    check_typed(expr, source, variables).map(|(found, _)| found)
}

/// As [`check`], with the types of all parts of the expression.
pub fn check_typed(expr: &Expr, source: &str, variables: &Environment) -> Result<(Type, Types), Compile> {
    let mut checker =
        Checker { source, variables, locals: Vec::new(), types: Types::new(), mixes: false, unknown: Vec::new() };
    let found = checker.kind_of(expr);
    if let Ok(found) = &found {
        checker.types.insert(place(expr), found.clone());
    }
    let mut wrong = std::mem::take(&mut checker.unknown);
    wrong.sort_by_key(|(at, _)| *at);
    let found = match found {
        Ok(found) if wrong.is_empty() => {
            constants::refused(expr, source, &checker.types)?;
            return Ok((found, checker.types));
        }
        Ok(_) => None,
        Err(error) => Some(error),
    };
    let lines: Vec<String> = wrong.into_iter().map(|(_, text)| text).chain(found.map(|error| error.text)).collect();
    Err(Compile { text: lines.join("\n") })
}

struct Checker<'c> {
    source: &'c str,
    variables: &'c Environment,
    locals: Vec<(String, Type)>,
    types: Types,
    /// Lists may mix types.
    mixes: bool,
    /// Names that mean nothing, and where they stand: all of them are told.
    unknown: Vec<(usize, String)>,
}

type Checked = Result<Type, Compile>;

impl Checker<'_> {
    fn fail<T>(&self, at: usize, words: &str) -> Result<T, Compile> {
        Err(Compile::at(self.source, at, words))
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Checked {
        let words = format!("undeclared reference to '{name}' (in container '')");
        self.unknown.push((at, Compile::at(self.source, at, &words).text));
        Ok(Type::Dyn)
    }

    fn dotted(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            Kind::Name(name) => (!self.locals.iter().any(|(n, _)| n == name)).then(|| name.clone()),
            Kind::Select { of, field, optional: false } => Some(format!("{}.{field}", self.dotted(of)?)),
            _ => None,
        }
    }

    fn of(&mut self, expr: &Expr) -> Checked {
        let found = match self.kind_of(expr)? {
            any if any == ANY => Type::Dyn,
            found => found,
        };
        self.types.insert(place(expr), found.clone());
        Ok(found)
    }

    fn kind_of(&mut self, expr: &Expr) -> Checked {
        match &expr.kind {
            Kind::Literal(value) => Ok(literal(value)),
            Kind::Name(name) => {
                let local = self.locals.iter().rev().find(|(n, _)| n == name).map(|(_, t)| t);
                match local.or(self.variables.get(name)) {
                    Some(found) => Ok(found.clone()),
                    None if signatures::is_type(name) => Ok(Type::Type),
                    None => self.undeclared(expr.at, name),
                }
            }
            Kind::Select { of, field, optional } => {
                if let Some(name) = self.dotted(expr) {
                    if let Some(found) = self.variables.get(&name) {
                        return Ok(found.clone());
                    }
                    if signatures::is_type(&name) {
                        return Ok(Type::Type);
                    }
                }
                let from = self.of(of)?;
                let found = self.field(expr.at, &from, field)?;
                Ok(if *optional && !matches!(found, Type::Optional(_)) {
                    Type::Optional(Box::new(found))
                } else {
                    found
                })
            }
            Kind::Has { of, field } => {
                let from = self.of(of)?;
                self.field(expr.at, &from, field)?;
                Ok(Type::Bool)
            }
            Kind::Index { of, index, optional } => {
                let (from, index) = (self.of(of)?, self.of(index)?);
                self.index(expr.at, &from, &index, *optional)
            }
            Kind::And(a, b) | Kind::Or(a, b) => {
                let function = if matches!(expr.kind, Kind::And(..)) { "_&&_" } else { "_||_" };
                let (a, b) = (self.of(a)?, self.of(b)?);
                match a.fits(&Type::Bool) && b.fits(&Type::Bool) {
                    true => Ok(Type::Bool),
                    false => self.no_overload(expr.at, function, None, &[a, b]),
                }
            }
            Kind::Choice(condition, yes, no) => {
                let (condition, yes, no) = (self.of(condition)?, self.of(yes)?, self.of(no)?);
                if !condition.fits(&Type::Bool) || !yes.fits(&no) {
                    return self.no_overload(expr.at, "_?_:_", None, &[condition, yes, no]);
                }
                Ok(yes.joined(no))
            }
            Kind::List(items) => {
                let mut joined: Option<Type> = None;
                for (item, optional) in items {
                    let found = match (self.of(item)?, optional) {
                        (Type::Optional(inner), true) => *inner,
                        (found, _) => found,
                    };
                    match &joined {
                        Some(first) if !self.mixes && !found.fits(first) => {
                            return self.fail(item.at, &format!("expected type '{first}' but found '{found}'"));
                        }
                        _ => joined = Some(joined.map_or(found.clone(), |j| j.joined(found))),
                    }
                }
                Ok(Type::List(Box::new(joined.unwrap_or(Type::Dyn))))
            }
            Kind::Map(entries) => {
                let mut joined: Option<(Type, Type)> = None;
                for (key_at, value_at, optional) in entries {
                    let key = self.of(key_at)?;
                    let value = match (self.of(value_at)?, optional) {
                        (Type::Optional(inner), true) => *inner,
                        (found, _) => found,
                    };
                    if let (Some((keys, values)), false) = (&joined, self.mixes) {
                        for (at, found, others) in [(key_at.at, &key, keys), (value_at.at, &value, values)] {
                            if !found.fits(others) {
                                return self.fail(at, &format!("expected type '{others}' but found '{found}'"));
                            }
                        }
                    }
                    joined =
                        Some(joined.map_or((key.clone(), value.clone()), |(k, v)| (k.joined(key), v.joined(value))));
                }
                let (key, value) = joined.unwrap_or((Type::Dyn, Type::Dyn));
                Ok(Type::Map(Box::new(key), Box::new(value)))
            }
            Kind::Struct { name, fields } => {
                for (field, value, _) in fields {
                    let found = self.of(value)?;
                    if name == "JSONPatch" {
                        self.step(value.at, field, &found)?;
                    }
                }
                match self.variables.get(&format!("{name}{{}}")).cloned() {
                    Some(found) => Ok(found),
                    None if name.starts_with("Object.") && self.variables.contains_key("Object{}") => Ok(Type::Dyn),
                    None => self.undeclared(expr.at, name),
                }
            }
            Kind::Call { target, function, args } => self.call(expr.at, target.as_deref(), function, args),
            Kind::Macro(folded) => self.fold(expr.at, folded),
        }
    }

    /// A field of a JSON patch's step.
    fn step(&self, at: usize, field: &str, found: &Type) -> Result<(), Compile> {
        let wanted = match field {
            "op" | "path" | "from" if found.fits(&Type::String) => return Ok(()),
            "value" => return Ok(()),
            "op" | "path" | "from" => "string",
            _ => "",
        };
        // The place is that of the colon before the value.
        let before: Vec<char> = self.source.chars().take(at).collect();
        let at = before.iter().rposition(|c| *c == ':').unwrap_or(at);
        let words = format!("expected type of field '{field}' is '{wanted}' but provided type is '{found}'");
        self.fail(at, &words)
    }

    fn field(&self, at: usize, from: &Type, field: &str) -> Checked {
        match from {
            Type::Dyn => Ok(Type::Dyn),
            free if *free == FREE => Ok(Type::Dyn),
            Type::Map(_, value) => Ok((**value).clone()),
            Type::Object(fields) | Type::Record(_, fields) => match fields.get(field) {
                Some(found) => Ok(found.clone()),
                None => self.fail(at, &format!("undefined field '{field}'")),
            },
            Type::Optional(inner) => Ok(Type::Optional(Box::new(self.field(at, inner, field)?))),
            other => self.fail(at, &format!("type '{other}' does not support field selection")),
        }
    }

    fn index(&self, at: usize, from: &Type, index: &Type, optional: bool) -> Checked {
        let number = matches!(index, Type::Int | Type::Uint | Type::Double | Type::Dyn);
        let found = match from {
            Type::Dyn => Type::Dyn,
            free if *free == FREE => Type::Dyn,
            Type::Optional(inner) if **inner == Type::Dyn => Type::Optional(Box::new(FREE)),
            Type::List(item) if number => (**item).clone(),
            Type::Map(key, value) if index.fits(key) => (**value).clone(),
            Type::Optional(inner) => Type::Optional(Box::new(self.index(at, inner, index, false)?)),
            _ => {
                let function = if optional { "_[?_]" } else { "_[_]" };
                return self.no_overload(at, function, None, &[from.clone(), index.clone()]);
            }
        };
        Ok(if optional && !matches!(found, Type::Optional(_)) { Type::Optional(Box::new(found)) } else { found })
    }

    fn no_overload<T>(&self, at: usize, function: &str, target: Option<&Type>, args: &[Type]) -> Result<T, Compile> {
        let words: Vec<String> = args.iter().map(ToString::to_string).collect();
        let applied = match target {
            Some(target) => format!("{target}.({})", words.join(", ")),
            None => format!("({})", words.join(", ")),
        };
        self.fail(at, &format!("found no matching overload for '{function}' applied to '{applied}'"))
    }

    fn call(&mut self, at: usize, target: Option<&Expr>, function: &str, args: &[Expr]) -> Checked {
        let patches = self.variables.contains_key("JSONPatch{}");
        let is_namespace = |name: &String| crate::library::is_namespace(name) && (name != "jsonpatch" || patches);
        let namespaced = target.and_then(|t| self.dotted(t)).filter(is_namespace);
        let on = match (&namespaced, target) {
            (None, Some(target)) => Some(self.of(target)?),
            _ => None,
        };
        // What is formatted may be of any types.
        let mixes = std::mem::replace(&mut self.mixes, function == "format");
        let args = args.iter().map(|arg| self.of(arg)).collect::<Result<Vec<Type>, _>>();
        self.mixes = mixes;
        let args = args?;
        let name = namespaced.map_or_else(|| function.to_owned(), |space| format!("{space}.{function}"));
        if let Some(Type::Host(_)) = on {
            return signatures::host(function).map_or_else(|| self.undeclared(at, function), Ok);
        }
        if !signatures::is_known(&name) {
            // There are such methods, of what has been told of as missing.
            if let (Some(Type::Dyn), Some(found)) = (&on, signatures::host(function)) {
                return Ok(found);
            }
            return self.undeclared(at, &name);
        }
        match signatures::result(&name, on.as_ref(), &args) {
            Some(found) => Ok(found),
            None => self.no_overload(at, &name, on.as_ref(), &args),
        }
    }

    fn within<T>(&mut self, variables: Vec<(String, Type)>, run: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.locals.len();
        self.locals.extend(variables);
        let done = run(self);
        self.locals.truncate(before);
        done
    }

    fn fold(&mut self, at: usize, folded: &Macro) -> Checked {
        let range = self.of(&folded.range)?;
        let (first, second) = match (&range, folded.what) {
            (_, What::Bind) => (range.clone(), Type::Dyn),
            (Type::Optional(inner), What::OptMap | What::OptFlatMap) if **inner == FREE => (Type::Dyn, Type::Dyn),
            (Type::Optional(inner), What::OptMap | What::OptFlatMap) => ((**inner).clone(), Type::Dyn),
            (Type::Dyn, _) => (Type::Dyn, Type::Dyn),
            (Type::List(item), _) if folded.variables.len() == 2 => (Type::Int, (**item).clone()),
            (Type::List(item), _) => ((**item).clone(), Type::Dyn),
            (Type::Map(key, value), _) => ((**key).clone(), (**value).clone()),
            (other, _) => {
                return self.fail(folded.range.at, &format!("expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"));
            }
        };
        let plain = |found: Type| if found == ANY { Type::Dyn } else { found };
        let (first, second) = (plain(first), plain(second));
        let bound = folded.variables.iter().cloned().zip([first.clone(), second]).collect();
        let body = self.within(bound, |checker| {
            if let Some(filter) = &folded.filter {
                checker.bool(filter)?;
            }
            match folded.what {
                What::All | What::Exists | What::ExistsOne | What::Filter => {
                    checker.bool(&folded.body).map(|()| Type::Bool)
                }
                _ => checker.of(&folded.body),
            }
        })?;
        Ok(match folded.what {
            What::All | What::Exists | What::ExistsOne => Type::Bool,
            What::Filter | What::SortBy => Type::List(Box::new(first)),
            What::Map => Type::List(Box::new(body)),
            What::TransformMap => Type::Map(Box::new(Type::Dyn), Box::new(body)),
            What::TransformMapEntry | What::Bind => body,
            What::OptMap => Type::Optional(Box::new(body)),
            What::OptFlatMap => match body {
                Type::Optional(_) | Type::Dyn => body,
                other => return self.no_overload(at, "optFlatMap", None, &[other]),
            },
        })
    }

    fn bool(&mut self, expr: &Expr) -> Result<(), Compile> {
        let found = self.of(expr)?;
        match found.fits(&Type::Bool) {
            true => Ok(()),
            false => self.fail(expr.at, &format!("expected type 'bool' but found '{found}'")),
        }
    }
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}
