//! Functions: CEL's own and those that Kubernetes adds. A file per family; each answers `None` for what it does not have.

mod addresses;
mod convert;
pub(crate) mod costs;
mod formats;
mod lists;
mod quantities;
pub(crate) mod strings;
mod times;

use crate::error::Failure;
use crate::evaluate::Budget;
use crate::value::Value;

pub(crate) use times::{go_duration, parse_duration};

type Outcome = Result<Value, Failure>;
type Answer = Option<Outcome>;

/// True for what stands before the dot of functions that are no methods.
pub(crate) fn is_namespace(name: &str) -> bool {
    matches!(name, "optional" | "sets" | "lists" | "format" | "ip" | "strings" | "semver" | "jsonpatch")
}

/// Looks for a pattern that is known, as [`call`] does for others.
pub(crate) fn search(
    pattern: &Result<regex::Regex, Failure>,
    target: Option<&Value>,
    name: &str,
    args: &[Value],
    budget: &mut Budget,
) -> Answer {
    let all: Vec<&Value> = target.into_iter().chain(args).collect();
    if let Err(over) = budget.spend(costs::of(name, &all)) {
        return Some(Err(over));
    }
    let [Value::String(text), _, more @ ..] = all.as_slice() else { return None };
    Some(pattern.as_ref().map_err(Clone::clone).and_then(|pattern| strings::search(name, text, pattern, more)))
}

/// Calls a function, of a target when it is a method.
pub(crate) fn call(target: Option<&Value>, name: &str, args: &[Value], budget: &mut Budget) -> Answer {
    let mut all: Vec<&Value> = Vec::with_capacity(args.len() + 1);
    all.extend(target);
    all.extend(args);
    if let Err(over) = budget.spend(costs::of(name, &all)) {
        return Some(Err(over));
    }
    let method = target.is_some();
    convert::call(method, name, &all)
        .or_else(|| strings::call(method, name, &all))
        .or_else(|| lists::call(method, name, &all))
        .or_else(|| times::call(method, name, &all))
        .or_else(|| quantities::call(method, name, &all))
        .or_else(|| addresses::call(method, name, &all))
        .or_else(|| formats::call(method, name, &all))
}
