//! Expressions.

use std::sync::OnceLock;

use regex::Regex;

use crate::constants;
use crate::error::Failure;
use crate::library::strings;
use crate::value::Value;

/// An expression, and where it stands (the offset, in characters, of what cel-go would point at).
#[derive(Clone, Debug)]
pub struct Expr {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
    /// True for what has the same value whatever the variables are.
    pub(crate) is_constant: bool,
    /// Levels of parts below it.
    pub(crate) height: u16,
    /// What is made once of what is constant; apart, as expressions are moved about deep in the parser.
    made: Option<Box<Made>>,
}

/// What is made when it is first wanted.
#[derive(Clone, Debug)]
enum Made {
    /// The value of a constant.
    Value(OnceLock<Result<Value, Failure>>),
    /// The constant pattern of a call.
    Pattern(OnceLock<Result<Regex, Failure>>),
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Value),
    Name(String),
    /// `a.b`; `a.?b` when optional.
    Select {
        of: Box<Expr>,
        field: String,
        optional: bool,
    },
    /// `has(a.b)`.
    Has {
        of: Box<Expr>,
        field: String,
    },
    /// `a[b]`; `a[?b]` when optional.
    Index {
        of: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    /// Operators are calls of `_+_` and the like.
    Call {
        target: Option<Box<Expr>>,
        function: String,
        args: Vec<Expr>,
    },
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Items, those with `?` optional.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    /// `Name{field: value}`.
    Struct {
        name: String,
        fields: Vec<(String, Expr, bool)>,
    },
    Macro(Box<Macro>),
}

/// A macro over a list or map.
#[derive(Clone, Debug)]
pub(crate) struct Macro {
    pub(crate) what: What,
    pub(crate) range: Expr,
    /// One or two.
    pub(crate) variables: Vec<String>,
    /// A condition before the body (`map` with three arguments, `transformList` with four).
    pub(crate) filter: Option<Expr>,
    pub(crate) body: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
    TransformMap,
    TransformMapEntry,
    OptMap,
    OptFlatMap,
    SortBy,
    /// `cel.bind(name, range, body)`.
    Bind,
}

impl Expr {
    pub(crate) fn new(at: usize, kind: Kind) -> Self {
        let is_constant = constants::is_constant(&kind);
        let made = match &kind {
            Kind::Literal(_) => None,
            _ if is_constant => Some(Made::Value(OnceLock::new())),
            kind => literal_pattern(kind).map(|_| Made::Pattern(OnceLock::new())),
        };
        let mut expr = Self { at, kind, is_constant, height: 0, made: made.map(Box::new) };
        expr.height = expr.parts().iter().map(|part| part.height.saturating_add(1)).max().unwrap_or(0);
        expr
    }

    /// The value of what is constant; `make` makes it.
    pub(crate) fn constant(&self, make: impl FnOnce() -> Result<Value, Failure>) -> Result<Value, Failure> {
        match self.made.as_deref() {
            Some(Made::Value(value)) => value.get_or_init(make).clone(),
            _ => make(),
        }
    }

    /// The compiled pattern of a call of `matches` and the like, if it is a literal.
    pub(crate) fn pattern(&self) -> Option<&Result<Regex, Failure>> {
        match self.made.as_deref()? {
            Made::Pattern(pattern) => Some(pattern.get_or_init(|| {
                let text = literal_pattern(&self.kind).ok_or_else(Failure::no_overload)?;
                strings::regex(text)
            })),
            Made::Value(_) => None,
        }
    }

    /// True when a variable occurs, unless something in between has the name.
    pub fn uses(&self, name: &str) -> bool {
        let mut found = false;
        self.visit(&mut |expr| found |= matches!(&expr.kind, Kind::Name(n) if n == name));
        found
    }

    /// True when `variable.field` occurs, `has(variable.field)` among it.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        let mut found = false;
        self.visit(&mut |expr| {
            if let Kind::Select { of, field: f, .. } | Kind::Has { of, field: f } = &expr.kind {
                found |= f == field && matches!(&of.kind, Kind::Name(n) if n == variable);
            }
        });
        found
    }

    pub(crate) fn visit<'e>(&'e self, seen: &mut impl FnMut(&'e Expr)) {
        seen(self);
        self.parts().into_iter().for_each(|part| part.visit(seen));
    }

    /// The expressions that it is made of, in their order.
    pub(crate) fn parts(&self) -> Vec<&Expr> {
        match &self.kind {
            Kind::Literal(_) | Kind::Name(_) => Vec::new(),
            Kind::Select { of, .. } | Kind::Has { of, .. } => vec![of],
            Kind::Index { of, index, .. } => vec![of, index],
            Kind::Call { target, args, .. } => target.as_deref().into_iter().chain(args).collect(),
            Kind::And(a, b) | Kind::Or(a, b) => vec![a, b],
            Kind::Choice(a, b, c) => vec![a, b, c],
            Kind::List(items) => items.iter().map(|(item, _)| item).collect(),
            Kind::Map(entries) => entries.iter().flat_map(|(key, value, _)| [key, value]).collect(),
            Kind::Struct { fields, .. } => fields.iter().map(|(_, value, _)| value).collect(),
            Kind::Macro(m) => [Some(&m.range), m.filter.as_ref(), Some(&m.body)].into_iter().flatten().collect(),
        }
    }
}

/// The pattern that a call looks for, if it is a literal.
fn literal_pattern(kind: &Kind) -> Option<&str> {
    let Kind::Call { target, function, args } = kind else { return None };
    let pattern = match (strings::SEARCHES.contains(&function.as_str()), target, args.as_slice()) {
        (true, Some(_), [pattern, ..]) | (true, None, [_, pattern]) => pattern,
        _ => return None,
    };
    if let Kind::Literal(Value::String(pattern)) = &pattern.kind { Some(pattern) } else { None }
}
