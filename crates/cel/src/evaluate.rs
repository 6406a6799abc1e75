//! Evaluation: a walk over the expression under a budget.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::cost::{NEW_LIST, NEW_MAP, NEW_STRUCT};
use crate::error::Failure;
use crate::expr::{Expr, Kind, Macro, What};
use crate::value::{Key, List, ListKind, Map, Value};
use crate::{library, operators};

/// What evaluations may cost altogether.
#[derive(Debug)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// A budget of so many steps.
    pub fn new(steps: u64) -> Self {
        Self { left: steps }
    }
    /// What is left.
    pub fn left(&self) -> u64 {
        self.left
    }
    pub(crate) fn spend(&mut self, steps: u64) -> Result<(), Failure> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Failure::OverBudget)
            }
        }
    }
}

/// What names stand for. A dotted name is asked for whole first.
pub trait Variables {
    /// The value of a variable; `None` when there is none of that name.
    fn get(&self, name: &str) -> Option<Result<Value, Failure>>;
}

impl Variables for HashMap<String, Value> {
    fn get(&self, name: &str) -> Option<Result<Value, Failure>> {
        HashMap::get(self, name).cloned().map(Ok)
    }
}

/// The value of an expression.
pub fn evaluate(expr: &Expr, variables: &dyn Variables, budget: &mut Budget) -> Result<Value, Failure> {
    Scope { variables, local: None }.value(expr, budget)
}

#[derive(Clone, Copy)]
struct Scope<'s> {
    variables: &'s dyn Variables,
    local: Option<&'s Local<'s>>,
}

struct Local<'s> {
    name: &'s str,
    value: Value,
    above: Option<&'s Local<'s>>,
}

type Outcome = Result<Value, Failure>;

fn no_key(key: impl std::fmt::Display) -> Failure {
    Failure::new(format!("no such key: {key}"))
}

impl<'s> Scope<'s> {
    fn local(&self, name: &str) -> Option<&'s Value> {
        let mut next = self.local;
        while let Some(local) = next {
            if local.name == name {
                return Some(&local.value);
            }
            next = local.above;
        }
        None
    }

    fn name(&self, name: &str) -> Outcome {
        if let Some(value) = self.local(name) {
            return Ok(value.clone());
        }
        if let Some(value) = self.variables.get(name) {
            return value;
        }
        match name {
            "int" | "uint" | "double" | "bool" | "string" | "bytes" | "list" | "map" | "type" | "null_type" => {
                Ok(Value::Type(name.into()))
            }
            _ => Err(Failure::new(format!("no such attribute(s): {name}"))),
        }
    }

    /// The dotted name that an expression is, if it begins with no local variable.
    fn dotted(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            Kind::Name(name) => self.local(name).is_none().then(|| name.clone()),
            Kind::Select { of, field, optional: false } => Some(format!("{}.{field}", self.dotted(of)?)),
            _ => None,
        }
    }

    /// Costs are upstream's: names and steps cost one each, what is made costs by what it is, constants nothing.
    fn value(&self, expr: &Expr, budget: &mut Budget) -> Outcome {
        match &expr.kind {
            Kind::Literal(value) => Ok(value.clone()),
            _ if expr.is_constant => expr.constant(|| self.made(expr, &mut Budget::new(u64::MAX))),
            _ => self.made(expr, budget),
        }
    }

    fn made(&self, expr: &Expr, budget: &mut Budget) -> Outcome {
        match &expr.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Name(name) => {
                budget.spend(1)?;
                self.name(name)
            }
            Kind::Select { of, field, optional } => {
                budget.spend(1)?;
                if let Some(value) =
                    self.dotted(expr).and_then(|name| self.variables.get(&name).or_else(|| named_type(&name)))
                {
                    return value;
                }
                let from = self.value(of, budget)?;
                select(&from, field, *optional)
            }
            Kind::Has { of, field } => match self.value(of, budget)? {
                Value::Optional(None) => Ok(Value::Bool(false)),
                Value::Optional(Some(inner)) => has(&inner, field),
                value => has(&value, field),
            },
            Kind::Index { of, index, optional } => {
                budget.spend(1)?;
                let from = self.value(of, budget)?;
                // A name in brackets costs nothing of its own.
                let index = match &index.kind {
                    Kind::Name(name) => self.name(name)?,
                    _ => self.value(index, budget)?,
                };
                at(&from, &index, *optional)
            }
            Kind::And(a, b) => self.logic(a, b, false, budget),
            Kind::Or(a, b) => self.logic(a, b, true, budget),
            Kind::Choice(condition, yes, no) => match self.value(condition, budget)? {
                Value::Bool(true) => self.value(yes, budget),
                Value::Bool(false) => self.value(no, budget),
                _ => Err(Failure::no_overload()),
            },
            Kind::List(items) => {
                budget.spend(NEW_LIST)?;
                let mut list = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (self.value(item, budget)?, optional) {
                        (Value::Optional(inner), true) => list.extend(inner.map(|v| (*v).clone())),
                        (value, _) => list.push(value),
                    }
                }
                Ok(Value::list(list))
            }
            Kind::Map(entries) => {
                budget.spend(NEW_MAP)?;
                let mut map = BTreeMap::new();
                for (key, value, optional) in entries {
                    let key = self.value(key, budget)?.key().ok_or_else(|| Failure::new("unsupported key type"))?;
                    match (self.value(value, budget)?, optional) {
                        (Value::Optional(inner), true) => map.extend(inner.map(|v| (key, (*v).clone()))),
                        (value, _) => drop(map.insert(key, value)),
                    }
                }
                Ok(Value::Map(Arc::new(Map { name: None, entries: map })))
            }
            Kind::Struct { name, fields } => {
                budget.spend(NEW_STRUCT)?;
                let mut entries = BTreeMap::new();
                for (field, value, optional) in fields {
                    let key = Key::String(field.as_str().into());
                    match (self.value(value, budget)?, optional) {
                        (Value::Optional(inner), true) => entries.extend(inner.map(|v| (key, (*v).clone()))),
                        (value, _) => drop(entries.insert(key, value)),
                    }
                }
                Ok(Value::Map(Arc::new(Map { name: Some(name.as_str().into()), entries })))
            }
            Kind::Call { target, function, args } => self.call(expr, target.as_deref(), function, args, budget),
            Kind::Macro(folded) => self.fold(folded, budget),
        }
    }

    /// An error on one side does not matter when the other one decides.
    fn logic(&self, a: &Expr, b: &Expr, decisive: bool, budget: &mut Budget) -> Outcome {
        let left = self.value(a, budget);
        match left {
            Err(Failure::OverBudget) => return left,
            Ok(Value::Bool(value)) if value == decisive => return left,
            _ => {}
        }
        let right = self.value(b, budget);
        match (left, right) {
            (_, Err(Failure::OverBudget)) => Err(Failure::OverBudget),
            (_, Ok(Value::Bool(value))) if value == decisive => Ok(Value::Bool(decisive)),
            (Ok(Value::Bool(_)), Ok(Value::Bool(_))) => Ok(Value::Bool(!decisive)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Err(Failure::no_overload()),
        }
    }

    fn call(&self, expr: &Expr, target: Option<&Expr>, function: &str, args: &[Expr], budget: &mut Budget) -> Outcome {
        if let Some(target) = target {
            // `optional.of(x)`, `math.greatest(1, 2)`: a function with a dot in its name.
            if let Some(name) = self.dotted(target)
                && library::is_namespace(&name)
            {
                let args = self.values(args, budget)?;
                let name = format!("{name}.{function}");
                return library::call(None, &name, &args, budget).unwrap_or_else(|| Err(Failure::no_overload()));
            }
            let target = self.value(target, budget)?;
            if let (Value::Optional(inner), "or" | "orValue") = (&target, function) {
                budget.spend(1)?;
                return match (inner, function) {
                    (Some(_), "or") => Ok(target),
                    (Some(value), _) => Ok((**value).clone()),
                    (None, _) => args.first().map_or_else(|| Err(Failure::no_overload()), |e| self.value(e, budget)),
                };
            }
            let args = self.values(args, budget)?;
            if let Value::Host(host) = &target {
                budget.spend(library::costs::of(function, &[]))?;
                return host.call(function, &args).unwrap_or_else(|| Err(Failure::no_overload()));
            }
            let done = match expr.pattern() {
                Some(pattern) => library::search(pattern, Some(&target), function, &args, budget),
                None => library::call(Some(&target), function, &args, budget),
            };
            return done.unwrap_or_else(|| Err(no_function(function, Some(&target), &args)));
        }
        let args = self.values(args, budget)?;
        if operators::is_one(function) {
            budget.spend(library::costs::of(function, &args.iter().collect::<Vec<_>>()))?;
            let done = operators::call(function, &args);
            return done.unwrap_or_else(|| Err(Failure::no_overload()));
        }
        let done = match expr.pattern() {
            Some(pattern) => library::search(pattern, None, function, &args, budget),
            None => library::call(None, function, &args, budget),
        };
        done.unwrap_or_else(|| Err(no_function(function, None, &args)))
    }

    fn values(&self, exprs: &[Expr], budget: &mut Budget) -> Result<Vec<Value>, Failure> {
        exprs.iter().map(|expr| self.value(expr, budget)).collect()
    }

    fn with<T>(&self, names: &[String], values: Vec<Value>, run: impl FnOnce(&Scope<'_>) -> T) -> T {
        let mut values = values.into_iter();
        let local = |name: &'_ String, value: Option<Value>| (name.clone(), value.unwrap_or(Value::Null));
        let mut bound: Vec<(String, Value)> = names.iter().map(|name| local(name, values.next())).collect();
        let second = bound.pop();
        match (bound.pop(), second) {
            (None, Some((name, value))) => {
                let inner = Local { name: &name, value, above: self.local };
                run(&Scope { variables: self.variables, local: Some(&inner) })
            }
            (Some((first, one)), Some((name, value))) => {
                let outer = Local { name: &first, value: one, above: self.local };
                let inner = Local { name: &name, value, above: Some(&outer) };
                run(&Scope { variables: self.variables, local: Some(&inner) })
            }
            _ => run(self),
        }
    }

    fn fold(&self, folded: &Macro, budget: &mut Budget) -> Outcome {
        let range = self.value(&folded.range, budget)?;
        let names = &folded.variables;
        match folded.what {
            What::Bind => return self.with(names, vec![range], |scope| scope.value(&folded.body, budget)),
            What::OptMap | What::OptFlatMap => {
                let Value::Optional(inner) = range else { return Err(Failure::no_overload()) };
                let Some(inner) = inner else { return Ok(Value::Optional(None)) };
                let value = self.with(names, vec![(*inner).clone()], |scope| scope.value(&folded.body, budget))?;
                return Ok(if folded.what == What::OptMap { Value::some(value) } else { value });
            }
            _ => {}
        }
        let pairs = pairs(&range, names.len())?;
        let mut fold = Fold::new(folded.what, matches!(range, Value::Map(_)), names.len());
        budget.spend(if folded.what == What::ExistsOne { 2 } else { 1 })?;
        for (values, item) in pairs {
            budget.spend(round(folded.what))?;
            let outcome = self.with(names, values, |scope| {
                let keep = match &folded.filter {
                    Some(filter) => scope.value(filter, budget)?,
                    None => Value::Bool(true),
                };
                match keep {
                    Value::Bool(true) => scope.value(&folded.body, budget).map(Some),
                    Value::Bool(false) => Ok(None),
                    _ => Err(Failure::no_overload()),
                }
            });
            // What makes a list makes one of each item that it keeps.
            budget.spend(match (folded.what, &outcome) {
                (What::Filter, Ok(Some(Value::Bool(true)))) => NEW_LIST + 3,
                (What::ExistsOne, Ok(Some(Value::Bool(true)))) => 2,
                (What::Map | What::SortBy, Ok(Some(_))) => NEW_LIST + 2,
                _ => 0,
            })?;
            if fold.step(outcome, item)? {
                break;
            }
        }
        if folded.what == What::SortBy {
            let keys = Value::list(fold.sorted.iter().map(|(key, _)| key.clone()).collect());
            budget.spend(library::costs::compared(&keys).saturating_add(2))?;
        }
        fold.finish()
    }
}

/// What a round of a macro costs besides its body: the accumulator, whether it goes on, what is done with the outcome.
fn round(what: What) -> u64 {
    match what {
        What::All | What::TransformMap => 3,
        What::Exists => 4,
        What::TransformMapEntry => 2,
        _ => 0,
    }
}

/// What the variables of a macro are bound to in each step, and the item of the step.
fn pairs(range: &Value, count: usize) -> Result<Vec<(Vec<Value>, Value)>, Failure> {
    Ok(match range {
        Value::List(list) => list
            .items
            .iter()
            .enumerate()
            .map(|(index, item)| match count {
                2 => (vec![Value::Int(i64::try_from(index).unwrap_or(i64::MAX)), item.clone()], item.clone()),
                _ => (vec![item.clone()], item.clone()),
            })
            .collect(),
        Value::Map(map) => map
            .entries
            .iter()
            .map(|(key, value)| match count {
                2 => (vec![key.value(), value.clone()], key.value()),
                _ => (vec![key.value()], key.value()),
            })
            .collect(),
        _ => return Err(Failure::no_overload()),
    })
}

/// What a macro has gathered.
struct Fold {
    what: What,
    items: Vec<Value>,
    sorted: Vec<(Value, Value)>,
    entries: BTreeMap<Key, Value>,
    count: usize,
    /// The first error, which matters unless something decides.
    error: Option<Failure>,
    decided: Option<bool>,
    of_map: bool,
}

impl Fold {
    fn new(what: What, of_map: bool, _count: usize) -> Self {
        let (items, sorted, entries) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { what, items, sorted, entries, count: 0, error: None, decided: None, of_map }
    }

    /// Takes in a step's outcome; true when the rest does not matter.
    fn step(&mut self, outcome: Result<Option<Value>, Failure>, item: Value) -> Result<bool, Failure> {
        let value = match (outcome, self.what) {
            (Ok(Some(value)), _) => value,
            (Ok(None), _) => return Ok(false),
            (Err(Failure::OverBudget), _) => return Err(Failure::OverBudget),
            (Err(error), What::All | What::Exists) => {
                self.error.get_or_insert(error);
                return Ok(false);
            }
            (Err(error), _) => return Err(error),
        };
        match (self.what, value) {
            (What::All | What::Exists, Value::Bool(value)) => {
                if value == (self.what == What::Exists) {
                    self.decided = Some(value);
                    return Ok(true);
                }
            }
            (What::ExistsOne, Value::Bool(value)) => self.count += usize::from(value),
            (What::Filter, Value::Bool(value)) => {
                if value {
                    self.items.push(item);
                }
            }
            (What::All | What::Exists | What::ExistsOne | What::Filter, _) => return Err(Failure::no_overload()),
            (What::SortBy, key) => self.sorted.push((key, item)),
            (What::TransformMap, value) => {
                // Of a list the index is the key.
                let index = Key::Int(i64::try_from(self.entries.len()).unwrap_or(i64::MAX));
                let key = if self.of_map { item.key() } else { Some(index) };
                self.entries.extend(key.map(|key| (key, value)));
            }
            (What::TransformMapEntry, Value::Map(map)) => {
                for (key, value) in &map.entries {
                    if self.entries.insert(key.clone(), value.clone()).is_some() {
                        return Err(Failure::new(format!("insert failed: key {} already exists", key.value())));
                    }
                }
            }
            (_, value) => self.items.push(value),
        }
        Ok(false)
    }

    fn finish(mut self) -> Outcome {
        match self.what {
            What::All | What::Exists => match (self.decided, self.error) {
                (Some(decided), _) => Ok(Value::Bool(decided)),
                (None, Some(error)) => Err(error),
                (None, None) => Ok(Value::Bool(self.what == What::All)),
            },
            What::ExistsOne => Ok(Value::Bool(self.count == 1)),
            What::TransformMap | What::TransformMapEntry => {
                Ok(Value::Map(Arc::new(Map { name: None, entries: self.entries })))
            }
            What::SortBy => {
                self.sorted.sort_by(|a, b| a.0.order(&b.0).unwrap_or(std::cmp::Ordering::Equal));
                Ok(Value::list(self.sorted.into_iter().map(|(_, item)| item).collect()))
            }
            _ => Ok(Value::List(Arc::new(List { items: self.items, kind: ListKind::Atomic }))),
        }
    }
}

fn named_type(name: &str) -> Option<Outcome> {
    matches!(
        name,
        "google.protobuf.Timestamp"
            | "google.protobuf.Duration"
            | "net.IP"
            | "net.CIDR"
            | "kubernetes.Quantity"
            | "kubernetes.URL"
    )
    .then(|| Ok(Value::Type(name.into())))
}

/// Operators say less than functions.
fn no_function(name: &str, target: Option<&Value>, args: &[Value]) -> Failure {
    if name.starts_with('_') || name.starts_with('@') || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Failure::no_overload();
    }
    let types: Vec<&str> = target.into_iter().chain(args).map(Value::type_name).collect();
    Failure::new(format!("no such overload: {name}({})", types.join(", ")))
}

fn select(from: &Value, field: &str, optional: bool) -> Outcome {
    let key = Key::String(field.into());
    match from {
        Value::Map(map) => match (map.get(&key), optional) {
            (Some(value), true) => Ok(Value::some(value.clone())),
            (Some(value), false) => Ok(value.clone()),
            (None, true) => Ok(Value::Optional(None)),
            (None, false) => Err(no_key(field)),
        },
        // Below an optional value everything is optional.
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => select(inner, field, true),
        _ => Err(no_key(field)),
    }
}

fn has(value: &Value, field: &str) -> Outcome {
    match value {
        Value::Map(map) => Ok(Value::Bool(map.field(field).is_some())),
        _ => Ok(Value::Bool(false)),
    }
}

fn at(from: &Value, index: &Value, optional: bool) -> Outcome {
    let found = match from {
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => return at(inner, index, true),
        Value::List(list) => {
            let place = match index {
                Value::Int(n) => *n,
                Value::Uint(n) => i64::try_from(*n).unwrap_or(i64::MAX),
                Value::Double(d) if *d == d.trunc() => *d as i64,
                _ => return Err(Failure::no_overload()),
            };
            usize::try_from(place)
                .ok()
                .and_then(|i| list.items.get(i))
                .ok_or_else(|| Failure::new(format!("index out of bounds: {place}")))
        }
        Value::Map(map) => {
            let key = index.key().ok_or_else(|| no_key(index))?;
            map.get(&key).ok_or_else(|| no_key(index))
        }
        _ => return Err(Failure::no_overload()),
    };
    match (found, optional) {
        (Ok(value), true) => Ok(Value::some(value.clone())),
        (Ok(value), false) => Ok(value.clone()),
        (Err(_), true) => Ok(Value::Optional(None)),
        (Err(error), false) => Err(error),
    }
}
