//! What calls cost.

use super::{Cost, Coster, NEW_LIST, Path, REGEX, Size, Step, TRAVERSAL, UNKNOWN, add, times};
use crate::check::Type;
use crate::expr::{Expr, Kind};
use crate::value::Value;

/// The patterns of named formats are no longer than this, and formats no larger.
const MOST_FORMAT_REGEX: f64 = 128.0;
const MOST_FORMAT: u64 = 64;
/// Two checks of authorization fit into an expression.
const CHECK: u64 = 350_000;
/// Two addresses, compared.
const ADDRESSES: u64 = 4;

/// A call's own cost, and the size of what it gives, where that is known.
type Estimate = (u64, Option<Size>);

fn is_text(t: &Type) -> bool {
    matches!(t, Type::String | Type::Bytes)
}

impl<'s> Coster<'s> {
    pub(super) fn call(&mut self, expr: &Expr, target: Option<&Expr>, function: &str, args: &[Expr]) -> Cost<'s> {
        let costs: Vec<Cost<'s>> = args.iter().map(|arg| self.of(arg)).collect();
        let sum = costs.iter().fold(0, |sum: u64, cost| sum.saturating_add(cost.most));
        if let (None, "dyn", [one]) = (target, function, costs.as_slice()) {
            return Cost { most: add(&[1, one.most]), path: Path::None, ..*one };
        }
        // `optional.of(x)`, `sets.contains(a, b)`: a function with a dot in its name.
        let space = target.and_then(|t| match &t.kind {
            Kind::Name(name) if crate::library::is_namespace(name) && !self.locals.iter().any(|l| l.name == *name) => {
                Some(name.as_str())
            }
            _ => None,
        });
        let on = target.filter(|_| space.is_none()).map(|target| (self.of(target), target));
        let name = space.map_or_else(|| function.to_owned(), |space| format!("{space}.{function}"));
        let types: Vec<&Type> = args.iter().map(|arg| self.kind_of(arg)).collect();
        let (own, size) = match self.kubernetes(&name, on.as_ref(), &costs, &types, args) {
            Some(estimate) => estimate,
            None if name == "lists.range" => {
                let count = args.first().and_then(natural).map_or(Size::exactly(u64::MAX), Size::exactly);
                (add(&[count.most, 1, NEW_LIST]), Some(count))
            }
            None if name == "slice" || name == "flatten" => {
                let it = on.map_or(UNKNOWN, |(cost, _)| cost.sized());
                let (size, factor) = match name.as_str() {
                    "slice" => {
                        let end = args.get(1).and_then(natural).unwrap_or(it.most);
                        // As upstream: a part that ends before it begins is taken for endless.
                        (Size::exactly(end.wrapping_sub(args.first().and_then(natural).unwrap_or(0))), 1.0)
                    }
                    _ => (it, args.first().map_or(1, |depth| natural(depth).unwrap_or(u64::MAX)) as f64),
                };
                (add(&[size.cost(factor), 1, NEW_LIST]), Some(size))
            }
            None if name == "sort" => {
                let (it, list) =
                    on.map_or((UNKNOWN, &Type::Dyn), |(cost, target)| (cost.sized(), self.kind_of(target)));
                let (cost, size) = super::sorting(it, if let Type::List(item) = list { item } else { &Type::Dyn });
                (cost, Some(size))
            }
            None => self.standard(&name, on.as_ref(), &costs, &types),
        };
        let entry = match (name.as_str(), costs.as_slice()) {
            ("_+_", [a, b]) => super::Entry::or(a.entry, b.entry),
            _ => None,
        };
        let size = size.or_else(|| self.known(expr, Path::None));
        Cost { most: add(&[on.map_or(0, |(cost, _)| cost.most), own, sum]), size, path: Path::None, entry }
    }

    /// Functions that Kubernetes adds, or estimates by itself.
    fn kubernetes(
        &self,
        name: &str,
        on: Option<&(Cost<'s>, &Expr)>,
        args: &[Cost<'s>],
        types: &[&Type],
        exprs: &[Expr],
    ) -> Option<Estimate> {
        let first = args.first().map(Cost::sized);
        let it = on.map(|(cost, _)| cost.sized());
        Some(match name {
            "check" => (CHECK, None),
            "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
            | "reason" | "error" | "errored" => (1, None),
            "fieldSelector" | "labelSelector" => (first?.cost(TRAVERSAL), None),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let (cost, target) = on?;
                match self.kind_of(target) {
                    Type::List(item) => {
                        let text = || Self::size_at(self.item(cost.path)).unwrap_or(UNKNOWN).cost(TRAVERSAL);
                        let each = if is_text(item) { add(&[1, text()]) } else { 1 };
                        (cost.sized().most.saturating_mul(each), None)
                    }
                    _ => (cost.sized().cost(TRAVERSAL), None),
                }
            }
            "url" | "jsonpatch.escapeKey" => (first?.cost(TRAVERSAL), first),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => (it?.cost(TRAVERSAL), it),
            "replace" if args.len() >= 2 => {
                (it?.cost(2.0 * TRAVERSAL), Some(replaced(it?, args[0].sized(), args[1].sized())))
            }
            "split" => {
                let limit = exprs.get(1).and_then(integer);
                (it?.cost(2.0 * TRAVERSAL), Some(Size { least: 0, most: limit.unwrap_or(it?.most) }))
            }
            "join" => {
                let (cost, target) = on?;
                let list = cost.sized();
                let mut size = match self.kind_of(target) {
                    Type::List(_) => list.times(Self::size_at(self.item(cost.path)).unwrap_or(UNKNOWN)),
                    _ => Size::exactly(0),
                };
                if let Some(separator) = first {
                    let gaps = Size { least: list.least.saturating_sub(1), most: list.most.saturating_sub(1) };
                    size = size.plus(separator.times(gaps));
                }
                (size.cost(TRAVERSAL), Some(size))
            }
            "find" | "findAll" => (matching(it?, first?), Some(Size { least: 0, most: it?.most })),
            "ip" if on.is_some() => (1, None),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                (first?.cost(TRAVERSAL), None)
            }
            "ip.isCanonical" => (first?.cost(2.0 * TRAVERSAL), None),
            "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => (1, None),
            "containsIP" | "containsCIDR" => {
                let masks = if name == "containsCIDR" { 3 } else { 0 };
                let parses = if is_text(types.first()?) { first?.cost(TRAVERSAL) } else { 0 };
                (add(&[ADDRESSES, masks, parses]), None)
            }
            "validate" => (times(first?.cost(TRAVERSAL), MOST_FORMAT_REGEX * REGEX), None),
            "_==_" => match types {
                [Type::Opaque("kubernetes.NamedFormat"), b] if types[0] == *b => (times(MOST_FORMAT, TRAVERSAL), None),
                [Type::Opaque("kubernetes.URL"), b] if types[0] == *b => {
                    let size = args[1].size.map_or(1, |size| size.most);
                    (times(size, TRAVERSAL), None)
                }
                [Type::Opaque(_) | Type::Host(_), b] if types[0] == *b => (1, None),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn item(&self, path: Path<'s>) -> Path<'s> {
        match path {
            Path::None => Path::None,
            path => self.step(path, Step::Item),
        }
    }

    /// The language's own functions.
    fn standard(&self, name: &str, on: Option<&(Cost<'s>, &Expr)>, args: &[Cost<'s>], types: &[&Type]) -> Estimate {
        let size = |index: usize| args.get(index).map_or(UNKNOWN, Cost::sized);
        let it = on.map(|(cost, _)| cost.sized());
        let dynamic = types.contains(&&Type::Dyn);
        let list = |factor: f64, size: Size| (add(&[size.cost(factor), 1, NEW_LIST]), Some(size));
        match (name, it) {
            ("format", Some(it)) => (it.cost(TRAVERSAL), None),
            ("bytes", None) if is_text(types[0]) => {
                (size(0).cost(TRAVERSAL), Some(Size { least: size(0).least, most: size(0).most.wrapping_mul(4) }))
            }
            ("string", None) if matches!(types.first(), Some(Type::Bytes)) => {
                (size(0).cost(TRAVERSAL), Some(Size { least: size(0).least / 4, ..size(0) }))
            }
            ("strings.quote", _) => {
                let two = Size::exactly(2);
                (size(0).cost(TRAVERSAL), Some(size(0).plus(two).or(size(0).times(two).plus(two))))
            }
            ("startsWith" | "endsWith", Some(_)) => (size(0).cost(TRAVERSAL), None),
            ("matches", Some(it)) => (matching(it, size(0)), None),
            ("contains", Some(it)) => {
                let cost = it.cost(TRAVERSAL).saturating_mul(size(0).cost(TRAVERSAL));
                (cost, None)
            }
            ("@in", _) => match types.get(1) {
                Some(Type::Map(..)) => (1, None),
                _ => (size(1).most.max(u64::from(dynamic)), None),
            },
            ("_+_", _) => {
                let sum = size(0).plus(size(1));
                match types {
                    [Type::List(_), _] | [_, Type::List(_)] => (1, Some(sum)),
                    [a, b] if is_text(a) || is_text(b) => (sum.cost(TRAVERSAL), Some(sum)),
                    [Type::Dyn, Type::Dyn] => (sum.cost(TRAVERSAL).max(1), Some(sum)),
                    _ => (1, None),
                }
            }
            ("_<_" | "_<=_" | "_>_" | "_>=_", _) => {
                let compared = times(size(0).most.min(size(1).most), TRAVERSAL);
                match types {
                    [a, b] if is_text(a) || is_text(b) => (compared, None),
                    [Type::Dyn, Type::Dyn] => (compared.max(1), None),
                    _ => (1, None),
                }
            }
            ("_==_" | "_!=_", _) => (times(size(0).most.min(size(1).most), TRAVERSAL), None),
            ("sets.contains" | "sets.intersects", _) => (add(&[size(0).times(size(1)).most, 1]), None),
            ("sets.equivalent", _) => (add(&[size(0).times(size(1)).cost(2.0), 1]), None),
            ("reverse", Some(it)) if on.is_some_and(|(_, t)| matches!(self.kind_of(t), Type::List(_))) => list(1.0, it),
            ("distinct", Some(it)) => list(2.0, it.times(it)),
            _ => (1, None),
        }
    }
}

/// The number that an expression is, if it is one.
fn integer(expr: &Expr) -> Option<u64> {
    match &expr.kind {
        Kind::Literal(Value::Int(n)) => Some(*n as u64),
        _ => None,
    }
}

/// The number that an expression is, no less than nothing, if it is one.
fn natural(expr: &Expr) -> Option<u64> {
    match &expr.kind {
        Kind::Literal(Value::Int(n)) => Some(u64::try_from(*n).unwrap_or(0)),
        _ => None,
    }
}

/// A regular expression over a text.
fn matching(text: Size, pattern: Size) -> u64 {
    let text = text.plus(Size::exactly(1)).cost(TRAVERSAL);
    text.saturating_mul(pattern.cost(REGEX))
}

/// The size of a text in which each `from` becomes a `to`.
fn replaced(text: Size, from: Size, to: Size) -> Size {
    let ceil = |a: u64, b: u64| (a as f64 / b as f64).ceil() as u64;
    let (most_times, most_rest) = match (from.least, to.most) {
        (0, _) => (text.most.saturating_add(1), text.most),
        (least, most) if most <= least => (0, text.most),
        (least, _) => (ceil(text.most, least), 0),
    };
    let (least_times, least_rest) = match (from.most, to.least) {
        (0, _) => (text.least.saturating_add(1), text.least),
        (most, least) if most <= least => (0, text.least),
        (most, _) => (ceil(text.least, most), 0),
    };
    let times = Size { least: least_times, most: most_times };
    times.times(to).plus(Size { least: least_rest, most: most_rest })
}
