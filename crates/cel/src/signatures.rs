//! What functions take and give, as far as the checker needs it.

use crate::check::{FREE, Type};

const QUANTITY: Type = Type::Opaque("kubernetes.Quantity");
const IP: Type = Type::Opaque("net.IP");
const CIDR: Type = Type::Opaque("net.CIDR");
const URL: Type = Type::Opaque("kubernetes.URL");
const FORMAT: Type = Type::Opaque("kubernetes.NamedFormat");
const SEMVER: Type = Type::Opaque("kubernetes.Semver");

pub(crate) fn is_type(name: &str) -> bool {
    matches!(
        name,
        "int"
            | "uint"
            | "double"
            | "bool"
            | "string"
            | "bytes"
            | "list"
            | "map"
            | "type"
            | "null_type"
            | "google.protobuf.Timestamp"
            | "google.protobuf.Duration"
            | "net.IP"
            | "net.CIDR"
            | "kubernetes.Quantity"
            | "kubernetes.URL"
    )
}

const NAMES: &[&str] = &[
    "!_",
    "-_",
    "_==_",
    "_!=_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "@in",
    "_+_",
    "_-_",
    "_*_",
    "_/_",
    "_%_",
    "size",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "hasValue",
    "value",
    "or",
    "orValue",
    "major",
    "minor",
    "patch",
    "compareTo",
    "isLessThan",
    "isGreaterThan",
    "type",
    "dyn",
    "int",
    "uint",
    "double",
    "bool",
    "string",
    "bytes",
    "semver",
    "isSemver",
    "matches",
    "strings.quote",
    "contains",
    "startsWith",
    "endsWith",
    "lowerAscii",
    "upperAscii",
    "trim",
    "reverse",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "replace",
    "split",
    "substring",
    "find",
    "findAll",
    "format",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "isSorted",
    "sum",
    "min",
    "max",
    "join",
    "sort",
    "distinct",
    "slice",
    "flatten",
    "lists.range",
    "first",
    "last",
    "duration",
    "timestamp",
    "getFullYear",
    "getMonth",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    "quantity",
    "isQuantity",
    "isInteger",
    "asInteger",
    "asApproximateFloat",
    "sign",
    "add",
    "sub",
    "ip",
    "isIP",
    "ip.isCanonical",
    "cidr",
    "isCIDR",
    "url",
    "isURL",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "masked",
    "prefixLength",
    "containsIP",
    "containsCIDR",
    "getScheme",
    "getHost",
    "getHostname",
    "getPort",
    "getEscapedPath",
    "getQuery",
    "validate",
    "jsonpatch.escapeKey",
];

/// True when there is a function of that name.
pub(crate) fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || name.starts_with("format.")
}

/// What a method of the caller's objects gives.
pub(crate) fn host(method: &str) -> Option<Type> {
    Some(match method {
        "path" | "group" | "serviceAccount" | "resource" | "subresource" | "namespace" | "name" | "fieldSelector"
        | "labelSelector" | "check" => Type::Host("kubernetes.authorization"),
        "allowed" | "errored" => Type::Bool,
        "reason" | "error" => Type::String,
        _ => return None,
    })
}

fn list(item: Type) -> Type {
    Type::List(Box::new(item))
}

fn optional(inner: Type) -> Type {
    Type::Optional(Box::new(inner))
}

/// The result of a call; `None` when nothing of the name takes these.
pub(crate) fn result(name: &str, target: Option<&Type>, args: &[Type]) -> Option<Type> {
    let mut all: Vec<&Type> = Vec::with_capacity(args.len() + 1);
    all.extend(target);
    all.extend(args);
    let is = |index: usize, wanted: &Type| all.get(index).is_some_and(|t| t.fits(wanted));
    let takes = |wanted: &[Type]| all.len() == wanted.len() && all.iter().zip(wanted).all(|(t, w)| t.fits(w));
    let any_list = list(Type::Dyn);
    operator(name, &all).unwrap_or_else(|| match name {
        "size" => (all.len() == 1
            && (is(0, &Type::String) || is(0, &Type::Bytes) || is(0, &any_list) || matches!(all[0], Type::Map(..))))
        .then_some(Type::Int),
        "type" => (all.len() == 1).then_some(Type::Type),
        "dyn" => (all.len() == 1).then_some(Type::Dyn),
        "int" | "uint" | "double" | "bool" | "string" | "bytes" => converted(name, &all),
        "optional.of" | "optional.ofNonZeroValue" => (all.len() == 1).then(|| optional(all[0].clone())),
        "optional.none" => all.is_empty().then(|| optional(FREE)),
        "hasValue" => matches!(all.as_slice(), [Type::Optional(_) | Type::Dyn]).then_some(Type::Bool),
        "value" | "orValue" | "or" => match (all.as_slice(), name) {
            ([Type::Optional(inner)], "value") if **inner == FREE => Some(Type::Dyn),
            ([Type::Optional(inner), other], "orValue") if **inner == FREE => Some((*other).clone()),
            ([Type::Optional(inner)], "value") => Some((**inner).clone()),
            ([Type::Optional(inner), other], "orValue") if inner.fits(other) => {
                Some((**inner).clone().joined((*other).clone()))
            }
            ([Type::Optional(_), Type::Optional(_) | Type::Dyn], "or") => Some(all[0].clone()),
            ([Type::Dyn, ..], _) => Some(Type::Dyn),
            _ => None,
        },
        "matches" | "contains" | "startsWith" | "endsWith" => {
            takes(&[Type::String, Type::String]).then_some(Type::Bool)
        }
        "lowerAscii" | "upperAscii" | "trim" | "strings.quote" | "jsonpatch.escapeKey" => {
            takes(&[Type::String]).then_some(Type::String)
        }
        "charAt" => takes(&[Type::String, Type::Int]).then_some(Type::String),
        "replace" => (takes(&[Type::String, Type::String, Type::String])
            || takes(&[Type::String, Type::String, Type::String, Type::Int]))
        .then_some(Type::String),
        "split" => (takes(&[Type::String, Type::String]) || takes(&[Type::String, Type::String, Type::Int]))
            .then(|| list(Type::String)),
        "substring" => {
            (takes(&[Type::String, Type::Int]) || takes(&[Type::String, Type::Int, Type::Int])).then_some(Type::String)
        }
        "find" => takes(&[Type::String, Type::String]).then_some(Type::String),
        "findAll" => (takes(&[Type::String, Type::String]) || takes(&[Type::String, Type::String, Type::Int]))
            .then(|| list(Type::String)),
        "format" => takes(&[Type::String, any_list]).then_some(Type::String),
        "reverse" => match all.as_slice() {
            [Type::List(_) | Type::Dyn] => Some(all[0].clone()),
            _ => None,
        },
        "indexOf" | "lastIndexOf" => match all.as_slice() {
            [Type::List(item), wanted] if wanted.fits(item) => Some(Type::Int),
            [Type::String | Type::Dyn, rest @ ..] if !rest.is_empty() && rest[0].fits(&Type::String) => Some(Type::Int),
            [Type::Dyn, _] => Some(Type::Int),
            _ => None,
        },
        "sets.contains" | "sets.equivalent" | "sets.intersects" => {
            (takes(&[any_list.clone(), any_list]) && all[0].fits(all[1])).then_some(Type::Bool)
        }
        "isSorted" => takes(&[any_list]).then_some(Type::Bool),
        "sum" | "min" | "max" => match all.as_slice() {
            [Type::List(item)] => {
                let adds = matches!(**item, Type::Int | Type::Uint | Type::Double | Type::Duration | Type::Dyn);
                let orders = matches!(**item, Type::String | Type::Bytes | Type::Bool | Type::Timestamp);
                (adds || (orders && name != "sum")).then(|| (**item).clone())
            }
            [Type::Dyn] => Some(Type::Dyn),
            _ => None,
        },
        "first" | "last" => match all.as_slice() {
            [Type::List(item)] => Some(optional((**item).clone())),
            [Type::Dyn] => Some(optional(Type::Dyn)),
            _ => None,
        },
        "join" => (takes(&[list(Type::String)]) || takes(&[list(Type::String), Type::String])).then_some(Type::String),
        "sort" | "distinct" | "slice" => is(0, &any_list).then(|| all[0].clone()),
        "lists.range" => takes(&[Type::Int]).then(|| list(Type::Int)),
        "flatten" => match all.as_slice() {
            [Type::List(item)] => match &**item {
                Type::List(_) => Some((**item).clone()),
                Type::Dyn => Some(any_list),
                _ => None,
            },
            [Type::Dyn] => Some(any_list),
            [of, Type::Int | Type::Dyn] => of.fits(&any_list).then_some(any_list),
            _ => None,
        },
        _ => result_of_kubernetes(name, &all),
    })
}

fn result_of_kubernetes(name: &str, all: &[&Type]) -> Option<Type> {
    let takes = |wanted: &[Type]| all.len() == wanted.len() && all.iter().zip(wanted).all(|(t, w)| t.fits(w));
    let one = |wanted: Type| takes(&[wanted]);
    let on = |wanted: &Type| all.first().is_some_and(|t| t.fits(wanted));
    match name {
        "duration" => (one(Type::String) || one(Type::Duration) || one(Type::Int)).then_some(Type::Duration),
        "timestamp" => (one(Type::String) || one(Type::Timestamp) || one(Type::Int)).then_some(Type::Timestamp),
        "getHours" | "getMinutes" | "getSeconds" | "getMilliseconds" => {
            (on(&Type::Duration) || on(&Type::Timestamp)).then_some(Type::Int)
        }
        name if name.starts_with("get") && name != "getQuery" && on(&Type::Timestamp) && !on(&URL) => Some(Type::Int),
        "getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath" => one(URL).then_some(Type::String),
        "getQuery" => one(URL).then(|| Type::Map(Box::new(Type::String), Box::new(list(Type::String)))),
        "quantity" => one(Type::String).then_some(QUANTITY),
        "semver" => on(&Type::String).then_some(SEMVER),
        "isQuantity" | "isSemver" | "isIP" | "isCIDR" | "isURL" | "ip.isCanonical" => {
            on(&Type::String).then_some(Type::Bool)
        }
        "isInteger" => one(QUANTITY).then_some(Type::Bool),
        "asInteger" => one(QUANTITY).then_some(Type::Int),
        "sign" => one(QUANTITY).then_some(Type::Int),
        "asApproximateFloat" => one(QUANTITY).then_some(Type::Double),
        "add" | "sub" => (takes(&[QUANTITY, QUANTITY]) || takes(&[QUANTITY, Type::Int])).then_some(QUANTITY),
        "isLessThan" | "isGreaterThan" => {
            (takes(&[QUANTITY, QUANTITY]) || takes(&[SEMVER, SEMVER])).then_some(Type::Bool)
        }
        "compareTo" => (takes(&[QUANTITY, QUANTITY]) || takes(&[SEMVER, SEMVER])).then_some(Type::Int),
        "major" | "minor" | "patch" => one(SEMVER).then_some(Type::Int),
        "ip" => (one(Type::String) || one(CIDR)).then_some(IP),
        "cidr" => one(Type::String).then_some(CIDR),
        "url" => one(Type::String).then_some(URL),
        "family" => one(IP).then_some(Type::Int),
        "isUnspecified" | "isLoopback" | "isLinkLocalMulticast" | "isLinkLocalUnicast" | "isGlobalUnicast" => {
            one(IP).then_some(Type::Bool)
        }
        "masked" => one(CIDR).then_some(CIDR),
        "prefixLength" => one(CIDR).then_some(Type::Int),
        "containsIP" => (takes(&[CIDR, IP]) || takes(&[CIDR, Type::String])).then_some(Type::Bool),
        "containsCIDR" => (takes(&[CIDR, CIDR]) || takes(&[CIDR, Type::String])).then_some(Type::Bool),
        "validate" => takes(&[FORMAT, Type::String]).then(|| optional(list(Type::String))),
        "format.named" => one(Type::String).then(|| optional(FORMAT)),
        name if name.starts_with("format.") => all.is_empty().then_some(FORMAT),
        _ => None,
    }
}

fn is_number(t: &Type) -> bool {
    matches!(t, Type::Int | Type::Uint | Type::Double | Type::Dyn)
}

/// The outer `None`: not an operator.
fn operator(name: &str, all: &[&Type]) -> Option<Option<Type>> {
    use Type::{Bool, Bytes, Double, Duration, Dyn, Int, String, Timestamp, Uint};
    Some(match (name, all) {
        ("!_", [t]) => t.fits(&Bool).then_some(Bool),
        ("-_", [t]) => matches!(t, Int | Double | Duration | Dyn).then(|| (*t).clone()),
        ("_==_" | "_!=_", [a, b]) => a.fits(b).then_some(Bool),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => {
            let ordered =
                |t: &Type| matches!(t, Bool | Int | Uint | Double | String | Bytes | Timestamp | Duration | Dyn);
            ((is_number(a) && is_number(b)) || (ordered(a) && a.fits(b) && ordered(b))).then_some(Bool)
        }
        ("@in", [item, Type::List(of)]) => item.fits(of).then_some(Bool),
        ("@in", [key, Type::Map(of, _)]) => key.fits(of).then_some(Bool),
        ("@in", [_, Dyn]) => Some(Bool),
        ("_+_", [a, b]) => match (a, b) {
            // What is known of one side says what the other must be.
            (Dyn, known @ (Int | Uint | Double | String | Bytes | Timestamp | Type::List(_)))
            | (known @ (Int | Uint | Double | String | Bytes | Timestamp | Type::List(_)), Dyn) => {
                Some((*known).clone())
            }
            (Dyn, _) | (_, Dyn) => Some(Dyn),
            (Int | Uint | Double | String | Bytes | Duration, _) if a == b => Some((*a).clone()),
            (Timestamp, Duration) | (Duration, Timestamp) => Some(Timestamp),
            (Type::List(x), Type::List(y)) if x.fits(y) => Some(list((**x).clone().joined((**y).clone()))),
            _ => None,
        },
        ("_-_", [a, b]) => match (a, b) {
            (Dyn, known @ (Int | Uint | Double)) | (known @ (Int | Uint | Double | Duration), Dyn) => {
                Some((*known).clone())
            }
            (Dyn, Timestamp) => Some(Duration),
            (Dyn, _) | (_, Dyn) => Some(Dyn),
            (Int | Uint | Double | Duration, _) if a == b => Some((*a).clone()),
            (Timestamp, Timestamp) => Some(Duration),
            (Timestamp, Duration) => Some(Timestamp),
            _ => None,
        },
        ("_*_" | "_/_" | "_%_", [a, b]) => match (a, b) {
            (Dyn, other) | (other, Dyn) => is_number(other).then(|| (*other).clone()),
            (Double, Double) if name == "_%_" => None,
            (Int | Uint | Double, _) if a == b => Some((*a).clone()),
            _ => None,
        },
        (name, _) if name.starts_with('_') || matches!(name, "!_" | "-_" | "@in") => None,
        _ => return None,
    })
}

fn converted(name: &str, all: &[&Type]) -> Option<Type> {
    use Type::{Bool, Bytes, Double, Duration, Dyn, Int, String, Timestamp, Uint};
    let [from] = all else { return None };
    let (fits, to) = match name {
        "int" => (matches!(from, Int | Uint | Double | String | Timestamp | Duration | Dyn), Int),
        "uint" => (matches!(from, Int | Uint | Double | String | Dyn), Uint),
        "double" => (matches!(from, Int | Uint | Double | String | Dyn), Double),
        "bool" => (matches!(from, Bool | String | Dyn), Bool),
        "bytes" => (matches!(from, Bytes | String | Dyn), Bytes),
        _ => (
            matches!(from, Bool | Int | Uint | Double | String | Bytes | Timestamp | Duration | Type::Opaque(_) | Dyn),
            String,
        ),
    };
    fits.then_some(to)
}
