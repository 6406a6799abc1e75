//! ResourceQuota: nothing is written that a quota of its namespace does not allow. What is allowed is charged in the same transaction
//! that writes the object, so that two writes cannot spend the same rest.

use std::collections::BTreeMap;

use kinds::quota::{self, Usage};
use kinds::table;
use object::{Draft, Gvr, Quantity, Status};
use serde_json::{Value, json};
use store::{Compare, Op};

use super::Attributes;
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
    /// True when a key is one of the quotas'.
    pub(crate) fn concern(&self, key: &str) -> bool {
        self.compares.iter().any(|c| matches!(c, Compare::ModRevision(k, _) if **k == *key))
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

/// What the write of `new` (over `old`) costs the quotas of its namespace; 403 when that is too much.
pub(super) fn charge(api: &Api, at: &Attributes<'_>, new: &Value, old: &Value) -> Result<Charges, Status> {
    let mut charges = Charges::default();
    let (kind, old) = (at.kind, Some(old).filter(|old| old.is_object()));
    if old.is_some() && new["metadata"]["deletionTimestamp"].is_string() {
        return Ok(charges);
    }
    let Some(namespace) = new["metadata"]["namespace"].as_str().filter(|_| kind.namespaced()) else {
        return Ok(charges);
    };
    // As upstream: only these change their cost while they live.
    let changes =
        matches!(kind.plural.as_str(), "pods" | "services" | "persistentvolumeclaims") && kind.group.is_empty();
    if (kind.kind == "Event") || (old.is_some() && !changes) {
        return Ok(charges);
    }
    let page =
        api.store.range(&format!("/registry/resourcequotas/{namespace}/"), None, 0, 0).map_err(|e| store_status(&e))?;
    if page.items.is_empty() {
        return Ok(charges);
    }
    let now = base::time::now_seconds();
    let cost = quota::usage(kind, new, now);
    let before = old.map(|old| quota::usage(kind, old, now)).unwrap_or_default();
    let name = new["metadata"]["name"].as_str().unwrap_or("");
    let forbidden = |why: &str| Status::forbidden(&kind.group, &kind.plural, name, why);
    for item in page.items {
        let mut limits = item.object.value().map_err(Status::internal)?;
        if !quota::matches(&limits, kind, new) {
            continue;
        }
        let title = item.object.head.name.as_str();
        let is_pod = kind.group.is_empty() && kind.plural == "pods";
        let open =
            if is_pod && old.is_none() { quota::unspecified(&limits["spec"]["hard"], new) } else { String::new() };
        if !open.is_empty() {
            return Err(forbidden(&format!("failed quota: {title}: must specify {open}")));
        }
        let was_counted = old.is_some_and(|old| quota::matches(&limits, kind, old));
        let wanted = parsed(&limits["spec"]["hard"]);
        let (hard, mut used) = (parsed(&limits["status"]["hard"]), parsed(&limits["status"]["used"]));
        let mut asked: BTreeMap<&str, Quantity> = BTreeMap::new();
        for (resource, amount) in cost.iter().filter(|(resource, _)| wanted.contains_key(*resource)) {
            let more = match before.get(resource).filter(|_| was_counted) {
                Some(before) => amount.minus(*before),
                None => *amount,
            };
            if !more.is_zero() && !more.is_negative() {
                asked.insert(resource, more);
            }
        }
        if asked.is_empty() {
            continue;
        }
        let unknown: Vec<&str> =
            asked.keys().copied().filter(|r| !hard.contains_key(*r) || !used.contains_key(*r)).collect();
        if !unknown.is_empty() {
            return Err(forbidden(&format!("status unknown for quota: {title}, resources: {}", unknown.join(","))));
        }
        let amount = |of: &Usage, resource: &str| of.get(resource).copied().unwrap_or_default();
        let over: Vec<&str> = asked
            .iter()
            .filter(|(r, more)| amount(&used, r).plus(**more) > amount(&hard, r))
            .map(|(r, _)| *r)
            .collect();
        if !over.is_empty() {
            let of = |from: &dyn Fn(&str) -> Quantity| listed(&over.iter().map(|r| (*r, from(r))).collect());
            return Err(forbidden(&format!(
                "exceeded quota: {title}, requested: {}, used: {}, limited: {}",
                of(&|r| asked[r]),
                of(&|r| amount(&used, r)),
                of(&|r| amount(&hard, r))
            )));
        }
        for (resource, more) in &asked {
            let mine = used.entry((*resource).to_owned()).or_default();
            *mine = mine.plus(*more);
        }
        for (resource, amount) in &used {
            limits["status"]["used"][resource] = json!(quota::shown(resource, *amount));
        }
        charges.compares.push(Compare::ModRevision(item.key.clone(), item.mod_revision));
        charges.ops.push(Op::Put(item.key, draft(&mut limits)?));
    }
    Ok(charges)
}

fn draft(quota: &mut Value) -> Result<Draft, Status> {
    let kind = table().by_gvr(&Gvr::new("", "v1", "resourcequotas"));
    let fields = kind.map(|kind| kinds::fields(kind, quota)).unwrap_or_default();
    let mut draft = Draft::new(quota).map_err(Status::internal)?;
    draft.head.fields = fields;
    Ok(draft)
}
