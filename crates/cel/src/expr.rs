//! Expressions.

use crate::value::Value;

/// An expression, and where it stands (the offset, in characters, of what cel-go would point at).
#[derive(Clone, Debug)]
pub struct Expr {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
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
}

impl Expr {
    pub(crate) fn new(at: usize, kind: Kind) -> Self {
        Self { at, kind }
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
