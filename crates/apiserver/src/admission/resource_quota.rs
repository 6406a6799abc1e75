//! ResourceQuota: nothing is written that a quota of its namespace does not allow. What is allowed is charged in the same transaction
//! that writes the object, so that two writes cannot spend the same rest.

use std::collections::BTreeMap;

use kinds::quota::{self, Usage};
use kinds::{Kind, table};
use object::{Draft, Gvr, Quantity, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Compare, Op};

use super::{Attributes, Operation};
use crate::api::{Api, store_status};

/// Quotas to charge along with a write.
#[derive(Default)]
pub(crate) struct Charges {
    /// Keys of the quotas, with the revisions that were looked at.
    pub(crate) compares: Vec<Compare>,
    /// The quotas with what they are charged.
    pub(crate) ops: Vec<Op>,
}

impl Charges {
    /// True when another write can come before this one with its own.
    pub(crate) fn may_be_lost(&self) -> bool {
        !self.compares.is_empty()
    }

    /// True when a key is one of the quotas'.
    pub(crate) fn concern(&self, key: &str) -> bool {
        self.compares.iter().any(|c| matches!(c, Compare::ModRevision(k, _) if **k == *key))
    }
}

/// What may be consumed only where a quota covers it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Limited {
    #[serde(default)]
    api_group: String,
    resource: String,
    #[serde(default)]
    match_contains: Vec<String>,
    #[serde(default)]
    match_scopes: Vec<Value>,
}

/// `apiserver.config.k8s.io/v1 ResourceQuotaConfiguration`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    kind: String,
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(default)]
    limited_resources: Vec<Limited>,
}

/// Reads the plugin's configuration; the error says what is wrong.
pub(super) fn parse(configuration: &Value) -> Result<Vec<Limited>, String> {
    let given: Configuration = serde_json::from_value(configuration.clone()).map_err(|e| e.to_string())?;
    match given.kind.as_str() {
        "ResourceQuotaConfiguration" | "Configuration" => Ok(given.limited_resources),
        other => Err(format!("kind {other:?} is not ResourceQuotaConfiguration")),
    }
}

fn parsed(amounts: &Value) -> Usage {
    let all = amounts.as_object().into_iter().flatten();
    all.filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount.as_str()?)?))).collect()
}

fn listed(amounts: &BTreeMap<&str, Quantity>) -> String {
    let words: Vec<String> =
        amounts.iter().map(|(name, amount)| format!("{name}={}", quota::shown(name, *amount))).collect();
    words.join(",")
}

/// Whether the write may change what the object costs.
fn counts(at: &Attributes<'_>, new: &Value, old: &Value) -> bool {
    if at.namespace.is_empty() || !at.kind.namespaced() || at.kind.kind == "Event" {
        return false;
    }
    match (at.operation, at.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => {
            let terminating = |pod: &Value| pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
            at.is("", "services")
                || at.is("", "persistentvolumeclaims")
                || (at.is("", "pods") && terminating(new) != terminating(old))
        }
        (Operation::Update, "resize") => at.is("", "pods"),
        (Operation::Update, "status") => at.is("", "persistentvolumeclaims"),
        _ => false,
    }
}

/// What the write of `new` (over `old`, `null` for none) costs the quotas of its namespace; 403 when that is too much.
pub(super) fn charge(api: &Api, at: &Attributes<'_>, new: &Value, old: &Value) -> Result<Charges, Status> {
    if !counts(at, new, old) {
        return Ok(Charges::default());
    }
    let limited = &api.admission.limited;
    let prefix = format!("/registry/resourcequotas/{}/", at.namespace);
    let page = api.store.range(&prefix, None, 0, 0).map_err(|e| store_status(&e))?;
    if page.items.is_empty() && limited.is_empty() {
        return Ok(Charges::default());
    }
    let now = base::time::now_seconds();
    let cost = quota::usage(at.kind, new, now);
    let negative: Vec<&str> = cost.iter().filter(|(_, a)| a.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(at.forbidden(&format!("quota usage is negative for resource(s): {}", negative.join(","))));
    }
    let before = if old.is_object() { quota::usage(at.kind, old, now) } else { Usage::new() };
    let mut quotas = Vec::new();
    for item in page.items {
        quotas.push((item.object.value().map_err(Status::internal)?, item));
    }
    let mut charges = Charges::default();
    let mut covered: Vec<String> = Vec::new();
    let mut planned = Vec::new();
    for (limits, item) in &quotas {
        let hard = parsed(&limits["status"]["hard"]);
        let restricted: Vec<&str> =
            hard.keys().map(String::as_str).filter(|name| quota::concerns(at.kind, name)).collect();
        if restricted.is_empty() || !quota::matches(limits, at.kind, new) {
            continue;
        }
        let title = item.object.head.name.as_str();
        if at.is("", "pods") {
            let open = quota::unspecified(restricted.iter().copied(), new);
            if !open.is_empty() {
                return Err(at.forbidden(&format!("failed quota: {title}: must specify {open}")));
            }
        }
        let used = parsed(&limits["status"]["used"]);
        if restricted.iter().any(|name| !used.contains_key(*name)) {
            let why = format!("status unknown for quota: {title}, resources: {}", restricted.join(","));
            return Err(at.forbidden(&why));
        }
        covered.extend(restricted.iter().map(|name| (*name).to_owned()));
        let counted = old.is_object() && quota::matches(limits, at.kind, old);
        let more = increase(&cost, counted.then_some(&before));
        planned.push((limits, item, hard, used, more));
    }
    let grows = match planned.is_empty() {
        true => !increase(&cost, old.is_object().then_some(&before)).is_empty(),
        false => planned.iter().any(|(.., more)| !more.is_empty()),
    };
    if !grows {
        return Ok(charges);
    }
    if !limited.is_empty() {
        let quotas: Vec<&Value> = quotas.iter().map(|(limits, _)| limits).collect();
        uncovered(limited, at, new, &cost, &covered, &quotas)?;
    }
    for (limits, item, hard, mut used, more) in planned {
        let asked: BTreeMap<&str, Quantity> = more
            .iter()
            .filter(|(name, _)| hard.contains_key(*name))
            .map(|(name, amount)| (name.as_str(), *amount))
            .collect();
        if asked.is_empty() {
            continue;
        }
        // What a controller finds out about a claim is counted and not refused.
        if at.subresource != "status" {
            within(&item.object.head.name, &asked, &used, &hard).map_err(|why| at.forbidden(&why))?;
        }
        let mut new = limits.clone();
        for (name, amount) in &asked {
            let mine = used.entry((*name).to_owned()).or_default();
            *mine = mine.plus(*amount);
            new["status"]["used"][*name] = json!(quota::shown(name, *mine));
        }
        charges.compares.push(Compare::ModRevision(item.key.clone(), item.mod_revision));
        charges.ops.push(Op::Put(item.key.clone(), draft(&mut new)?));
    }
    Ok(charges)
}

/// What an object costs more than before; nothing that it costs less of.
fn increase(cost: &Usage, before: Option<&Usage>) -> Usage {
    let was = |name: &str| before.and_then(|b| b.get(name)).copied().unwrap_or_default();
    let more = cost.iter().map(|(name, amount)| (name.clone(), amount.minus(was(name))));
    more.filter(|(_, amount)| !amount.is_zero() && !amount.is_negative()).collect()
}

/// Whether the quota has as much left; the words of the refusal when it has not.
fn within(title: &str, asked: &BTreeMap<&str, Quantity>, used: &Usage, hard: &Usage) -> Result<(), String> {
    let amount = |of: &Usage, name: &str| of.get(name).copied().unwrap_or_default();
    let over: Vec<&str> =
        asked.iter().filter(|(r, more)| amount(used, r).plus(**more) > amount(hard, r)).map(|(r, _)| *r).collect();
    if over.is_empty() {
        return Ok(());
    }
    let of = |from: &dyn Fn(&str) -> Quantity| listed(&over.iter().map(|r| (*r, from(r))).collect());
    Err(format!(
        "exceeded quota: {title}, requested: {}, used: {}, limited: {}",
        of(&|r| asked[r]),
        of(&|r| amount(used, r)),
        of(&|r| amount(hard, r))
    ))
}

/// Refuses what may be consumed only under a quota, and is under none.
fn uncovered(
    limited: &[Limited],
    at: &Attributes<'_>,
    new: &Value,
    cost: &Usage,
    covered: &[String],
    quotas: &[&Value],
) -> Result<(), Status> {
    let about = |one: &&Limited| one.api_group == at.kind.group && one.resource == at.kind.plural;
    let parts: Vec<&String> = limited.iter().filter(about).flat_map(|one| &one.match_contains).collect();
    let consumed = cost.iter().filter(|(_, amount)| !amount.is_zero()).map(|(name, _)| name);
    let bare: Vec<&str> = consumed
        .filter(|name| parts.iter().any(|part| name.contains(part.as_str())) && !covered.contains(name))
        .map(String::as_str)
        .collect();
    if !bare.is_empty() {
        return Err(at.forbidden(&format!("insufficient quota to consume: {}", bare.join(","))));
    }
    let holds = |kind: &Kind, scope: &Value| quota::matches_scope(scope, kind, new);
    let scopes: Vec<Value> = quotas.iter().flat_map(|q| quota::scopes(&q["spec"])).collect();
    let of_quotas: Vec<&Value> = scopes.iter().filter(|scope| holds(at.kind, scope)).collect();
    let wanted = limited.iter().flat_map(|one| &one.match_scopes).filter(|scope| holds(at.kind, scope));
    let open: Vec<String> = wanted
        .filter(|scope| !of_quotas.iter().any(|of| of["scopeName"] == scope["scopeName"]))
        .map(|scope| {
            let text = |field: &str| scope[field].as_str().unwrap_or("").to_owned();
            let values = scope["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
            format!("{{{} {} [{}]}}", text("scopeName"), text("operator"), values.collect::<Vec<_>>().join(" "))
        })
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(at.forbidden(&format!("insufficient quota to match these scopes: [{}]", open.join(" "))))
}

fn draft(quota: &mut Value) -> Result<Draft, Status> {
    let kind = table().by_gvr(&Gvr::new("", "v1", "resourcequotas"));
    let fields = kind.map(|kind| kinds::fields(kind, quota)).unwrap_or_default();
    let mut draft = Draft::new(quota).map_err(Status::internal)?;
    draft.head.fields = fields;
    Ok(draft)
}
