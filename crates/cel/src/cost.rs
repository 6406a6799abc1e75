//! What evaluating an expression costs at most, before there is a value: upstream's estimate, number by number, since it decides which
//! rules a definition may have (cel-go `checker/cost.go`, apiserver `cel/library/cost.go`).

mod calls;

use std::collections::HashMap;

use crate::check::Type;
use crate::expr::{Expr, Kind, Macro, What};
use crate::sizes::Sizes;
use crate::value::Value;

/// The types of an expression's parts, by their addresses.
pub type Types = HashMap<usize, Type>;

/// The address by which [`Types`] knows a part.
pub(crate) fn place(expr: &Expr) -> usize {
    std::ptr::from_ref(expr) as usize
}

/// A tenth of a unit for each byte that is looked at.
pub(crate) const TRAVERSAL: f64 = 0.1;
/// A quarter of a unit for each byte of a regular expression.
pub(crate) const REGEX: f64 = 0.25;
pub(crate) const NEW_LIST: u64 = 10;
pub(crate) const NEW_MAP: u64 = 30;
pub(crate) const NEW_STRUCT: u64 = 40;

/// The most that an expression costs. `types` are those of [`crate::check_typed`]; its variables have the sizes of `root`.
pub fn most_cost(expr: &Expr, types: &Types, root: &Sizes) -> u64 {
    Coster { types, root, variable: None, unnamed: Path::At(root), locals: Vec::new() }.of(expr).most
}

/// As [`most_cost`], for an expression with one variable, which has these sizes.
pub fn most_cost_with(expr: &Expr, types: &Types, variable: &str, sizes: &Sizes) -> u64 {
    Coster { types, root: sizes, variable: Some(variable), unnamed: Path::Lost, locals: Vec::new() }.of(expr).most
}

/// From the least to the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    least: u64,
    most: u64,
}

const UNKNOWN: Size = Size { least: 0, most: u64::MAX };

/// Rounded up; what is too large for a number is the largest number.
pub(crate) fn times(size: u64, factor: f64) -> u64 {
    let product = (size as f64 * factor).ceil();
    if product >= u64::MAX as f64 { u64::MAX } else { product as u64 }
}

impl Size {
    const fn exactly(size: u64) -> Self {
        Self { least: size, most: size }
    }
    fn plus(self, other: Self) -> Self {
        Self { least: self.least.saturating_add(other.least), most: self.most.saturating_add(other.most) }
    }
    fn times(self, other: Self) -> Self {
        Self { least: self.least.saturating_mul(other.least), most: self.most.saturating_mul(other.most) }
    }
    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }
    /// What it costs to look at all of it, so and so thoroughly.
    fn cost(self, factor: f64) -> u64 {
        times(self.most, factor)
    }
}

/// Where in the variable's sizes a value is.
#[derive(Clone, Copy)]
enum Path<'s> {
    /// It does not come from a variable.
    None,
    /// Nothing is known there.
    Lost,
    At(&'s Sizes),
}

#[derive(Clone, Copy)]
enum Step<'n> {
    Item,
    Key,
    Index,
    Field(&'n str),
}

/// Sizes of the entries of a list or map that an expression makes.
#[derive(Clone, Copy)]
struct Entry {
    is_list: bool,
    key: Size,
    value: Size,
}

impl Entry {
    fn or(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (one, other) = (one?, other?);
        Some(Self { is_list: one.is_list, key: one.key.or(other.key), value: one.value.or(other.value) })
    }
}

/// What is known of an expression.
#[derive(Clone, Copy)]
struct Cost<'s> {
    most: u64,
    size: Option<Size>,
    path: Path<'s>,
    entry: Option<Entry>,
}

impl Cost<'_> {
    fn sized(&self) -> Size {
        self.size.unwrap_or(UNKNOWN)
    }
}

struct Local<'s> {
    name: String,
    path: Path<'s>,
    size: Option<Size>,
    entry: Option<Entry>,
}

struct Coster<'s> {
    types: &'s Types,
    root: &'s Sizes,
    /// The name of the only variable; otherwise all of them are taken for the root.
    variable: Option<&'s str>,
    /// Where what does not come from a variable is looked for.
    unnamed: Path<'s>,
    locals: Vec<Local<'s>>,
}

fn add(costs: &[u64]) -> u64 {
    costs.iter().fold(0, |sum, cost| sum.saturating_add(*cost))
}

fn is_scalar(t: &Type) -> bool {
    match t {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

impl<'s> Coster<'s> {
    fn kind_of(&self, expr: &Expr) -> &'s Type {
        static DYN: Type = Type::Dyn;
        self.types.get(&place(expr)).unwrap_or(&DYN)
    }

    fn step(&self, path: Path<'s>, step: Step<'_>) -> Path<'s> {
        static KEY: Sizes = Sizes::NOTHING;
        let sizes = match path {
            // As upstream: the first element of a path is taken for the variable, whatever it is, where there are several.
            Path::None => return self.unnamed,
            Path::Lost => return Path::Lost,
            Path::At(sizes) => sizes,
        };
        let found = match step {
            Step::Item => sizes.element.as_deref(),
            Step::Key => sizes.key.as_deref().or(Some(&KEY)).filter(|_| sizes.is_map),
            Step::Index => None,
            Step::Field(_) if sizes.takes_fields => sizes.element.as_deref(),
            Step::Field(name) => sizes.fields.get(name),
        };
        found.map_or(Path::Lost, Path::At)
    }

    fn size_at(path: Path<'_>) -> Option<Size> {
        match path {
            Path::At(sizes) => Some(Size { least: 0, most: sizes.most }),
            _ => None,
        }
    }

    /// The size that follows from place and type.
    fn known(&self, expr: &Expr, path: Path<'_>) -> Option<Size> {
        Self::size_at(path).or_else(|| is_scalar(self.kind_of(expr)).then_some(Size::exactly(1)))
    }

    fn of(&mut self, expr: &Expr) -> Cost<'s> {
        let plain = |most: u64, size: Option<Size>| Cost { most, size, path: Path::None, entry: None };
        match &expr.kind {
            Kind::Literal(value) => plain(0, literal(value)),
            Kind::Name(name) => {
                let local = self.locals.iter().rev().find(|local| local.name == *name);
                let (path, size, entry) = match local {
                    Some(local) => (local.path, local.size, local.entry),
                    None if self.variable.is_none_or(|variable| variable == name) => (Path::At(self.root), None, None),
                    None => (Path::Lost, None, None),
                };
                Cost { most: 1, size: self.known(expr, path).or(size), path, entry }
            }
            Kind::Select { of, field, optional } => {
                let from = self.of(of);
                if *optional {
                    return plain(from.most.saturating_add(1), self.known(expr, Path::None));
                }
                let counts = matches!(self.kind_of(of), Type::Map(..) | Type::Object(_) | Type::Record(..));
                let path = self.step(from.path, Step::Field(field));
                let most = from.most.saturating_add(u64::from(counts));
                Cost { most, size: self.known(expr, path), path, entry: None }
            }
            Kind::Has { of, .. } => plain(self.of(of).most, Some(Size::exactly(1))),
            Kind::Index { of, index, optional } => {
                let (from, index) = (self.of(of), self.of(index));
                let most = add(&[from.most, index.most, 1]);
                if *optional {
                    return plain(most, self.known(expr, Path::None));
                }
                let path = self.step(from.path, Step::Item);
                let size = from.entry.map(|entry| entry.value).or_else(|| self.known(expr, path));
                Cost { most, size, path, entry: None }
            }
            Kind::And(a, b) | Kind::Or(a, b) => {
                let (a, b) = (self.of(a), self.of(b));
                plain(add(&[a.most, b.most]), Some(Size::exactly(1)))
            }
            Kind::Choice(condition, yes, no) => {
                let (condition, yes, no) = (self.of(condition), self.of(yes), self.of(no));
                Cost {
                    most: add(&[condition.most, yes.most.max(no.most)]),
                    size: Some(yes.sized().or(no.sized())),
                    path: Path::None,
                    entry: Entry::or(yes.entry, no.entry),
                }
            }
            Kind::List(items) => {
                let costs: Vec<Cost<'s>> = items.iter().map(|(item, _)| self.of(item)).collect();
                let most = costs.iter().fold(NEW_LIST, |sum, cost| sum.saturating_add(cost.most));
                let value = joined(costs.iter().map(Cost::sized));
                let entry = Entry { is_list: true, key: Size::exactly(1), value };
                Cost { entry: Some(entry), ..plain(most, Some(Size::exactly(items.len() as u64))) }
            }
            Kind::Map(entries) => {
                let costs: Vec<(Cost<'s>, Cost<'s>)> =
                    entries.iter().map(|(key, value, _)| (self.of(key), self.of(value))).collect();
                let most = costs.iter().fold(NEW_MAP, |sum, (key, value)| add(&[sum, key.most, value.most]));
                let key = joined(costs.iter().map(|(key, _)| key.sized()));
                let value = joined(costs.iter().map(|(_, value)| value.sized()));
                let entry = Entry { is_list: false, key, value };
                Cost { entry: Some(entry), ..plain(most, Some(Size::exactly(entries.len() as u64))) }
            }
            Kind::Struct { fields, .. } => {
                let most = fields.iter().fold(NEW_STRUCT, |sum, (_, value, _)| sum.saturating_add(self.of(value).most));
                plain(most, self.known(expr, Path::None))
            }
            Kind::Call { target, function, args } => self.call(expr, target.as_deref(), function, args),
            Kind::Macro(folded) => self.fold(expr, folded),
        }
    }

    fn with<T>(&mut self, local: Vec<Local<'s>>, run: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.locals.len();
        self.locals.extend(local);
        let done = run(self);
        self.locals.truncate(before);
        done
    }

    /// Macros cost what their expansion does: accumulator, condition and step of each round, result.
    fn fold(&mut self, expr: &Expr, folded: &Macro) -> Cost<'s> {
        let range = self.of(&folded.range);
        if folded.what == What::Bind {
            // Upstream folds an empty list.
            let local =
                |name: &String| Local { name: name.clone(), path: Path::None, size: range.size, entry: range.entry };
            let body = self.with(folded.variables.iter().map(local).collect(), |c| c.of(&folded.body));
            return Cost { most: add(&[range.most, NEW_LIST, body.most]), path: Path::None, ..body };
        }
        if matches!(folded.what, What::OptMap | What::OptFlatMap) {
            let local = |name: &String| Local { name: name.clone(), path: Path::None, size: None, entry: None };
            let body = self.with(folded.variables.iter().map(local).collect(), |c| c.of(&folded.body));
            let wrapped = u64::from(folded.what == What::OptMap);
            let some = add(&[wrapped, NEW_LIST, range.most, 1, body.most]);
            let most = add(&[range.most, 1, some.max(1)]);
            return Cost { most, size: self.known(expr, Path::None), path: Path::None, entry: None };
        }
        let locals = self.rounds(folded, &range);
        let (body, filter) =
            self.with(locals, |c| (c.of(&folded.body), folded.filter.as_ref().map(|filter| c.of(filter).most)));
        let of_list = range.entry.map_or(matches!(self.kind_of(&folded.range), Type::List(_)), |e| e.is_list);
        let count = range.sized();
        let kept = |step: u64| filter.map_or(step, |filter| add(&[filter, step.max(1)]));
        let item = if of_list { range.entry.map(|e| e.value) } else { range.entry.map(|e| e.key) };
        // What the first accumulator, each round, and the result cost; what the entries of the result are.
        let (first, round, last, made) = match folded.what {
            What::All => (0, add(&[3, body.most]), 1, None),
            What::Exists => (0, add(&[4, body.most]), 1, None),
            What::ExistsOne => (0, add(&[2, body.most]), 2, None),
            What::Filter => (NEW_LIST, add(&[3 + NEW_LIST, body.most]), 1, item.or(Some(UNKNOWN))),
            What::TransformMap => (NEW_MAP, kept(add(&[3, body.most])), 1, Some(body.sized())),
            What::TransformMapEntry => (NEW_MAP, kept(add(&[2, body.most])), 1, Some(body.sized())),
            _ => (NEW_LIST, kept(add(&[2 + NEW_LIST, body.most])), 1, Some(body.sized())),
        };
        let most = add(&[range.most, first, last, count.most.saturating_mul(round)]);
        match made {
            None => Cost { most, size: Some(Size::exactly(1)), path: Path::None, entry: None },
            Some(value) => {
                let is_list = !matches!(folded.what, What::TransformMap | What::TransformMapEntry);
                let value = Size { least: 0, ..value };
                let entry = Some(Entry { is_list, key: Size { least: 0, most: 1 }, value });
                if folded.what == What::SortBy {
                    let (sorted, size) = sorting(count, self.kind_of(&folded.body));
                    return Cost { most: add(&[most, sorted]), size: Some(size), path: Path::None, entry };
                }
                Cost { most, size: Some(count), path: Path::None, entry }
            }
        }
    }

    /// The variables of a macro in its rounds.
    fn rounds(&self, folded: &Macro, range: &Cost<'s>) -> Vec<Local<'s>> {
        let of_list = range.entry.map_or(matches!(self.kind_of(&folded.range), Type::List(_)), |e| e.is_list);
        let local = |name: &String, step: Step<'_>, size: Option<Size>| Local {
            name: name.clone(),
            path: self.step(range.path, step),
            size,
            entry: None,
        };
        let (key, value) = (range.entry.map(|e| e.key), range.entry.map(|e| e.value));
        match folded.variables.as_slice() {
            [name] if of_list => vec![local(name, Step::Item, value)],
            [name] => vec![local(name, Step::Key, key)],
            [first, second] => {
                let step = if of_list { Step::Index } else { Step::Key };
                vec![local(first, step, key), local(second, Step::Item, value)]
            }
            _ => Vec::new(),
        }
    }
}

/// What it costs to sort a list by keys of a type; upstream takes the number of comparisons for the size of what comes of it.
fn sorting(count: Size, keys: &Type) -> (u64, Size) {
    let factor = if matches!(keys, Type::String | Type::Bytes) { 2.0 + TRAVERSAL } else { 2.0 };
    let compared = count.times(count);
    (add(&[compared.cost(factor), 1, NEW_LIST]), compared)
}

fn joined(sizes: impl Iterator<Item = Size>) -> Size {
    sizes.reduce(Size::or).unwrap_or(Size::exactly(0))
}

fn literal(value: &Value) -> Option<Size> {
    Some(Size::exactly(match value {
        Value::String(text) => text.chars().count() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::Bool(_) | Value::Double(_) | Value::Int(_) | Value::Uint(_) | Value::Null => 1,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests;
