//! Sizes: what surge and unavailability allow, and how a change of size is spread over the replica sets.

use serde_json::Value;

use super::View;
use super::sets::{Set, Sets};

/// A number or a percentage of `total`.
pub(crate) fn amount(value: &Value, total: i64, round_up: bool) -> i64 {
    match value {
        Value::Number(number) => number.as_i64().unwrap_or(0),
        Value::String(text) => {
            let Some(percent) = text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()) else { return 0 };
            let hundredths = percent * total;
            if round_up { (hundredths + 99).div_euclid(100) } else { hundredths.div_euclid(100) }
        }
        _ => 0,
    }
}

/// The size that a new set of `size` may have when all sets together have `total`.
pub(super) fn new_size(total: i64, size: i64, view: &View) -> i64 {
    if !view.is_rolling() {
        return view.replicas();
    }
    let most = view.replicas() + view.max_surge();
    if total >= most {
        return size;
    }
    size + (most - total).min(view.replicas() - size)
}

/// Fits the sets to the deployment's size without rolling anything over: one active set takes all; several grow and
/// shrink in proportion, so that a rollout under way keeps its risk.
pub(super) fn proportionally(sets: &mut Sets, view: &View) {
    let active = sets.all().filter(|set| set.is_active()).count();
    if active <= 1 {
        let chosen = match active {
            1 => sets.all_mut().find(|set| set.is_active()),
            _ if sets.new.is_some() => sets.new.as_mut(),
            _ => sets.old.iter_mut().max_by_key(|set| set.created),
        };
        if let Some(set) = chosen.filter(|set| set.replicas != view.replicas()) {
            set.scale(view.replicas(), view);
        }
        return;
    }
    if is_saturated(sets.new.as_ref(), view) {
        for set in sets.old.iter_mut().filter(|set| set.is_active()) {
            set.scale(0, view);
        }
        return;
    }
    if view.is_rolling() {
        spread(sets, view);
    }
}

fn is_saturated(new: Option<&Set>, view: &View) -> bool {
    new.is_some_and(|set| {
        let size = view.replicas();
        set.desired() == Some(size) && set.replicas == size && set.status.available_replicas == size
    })
}

fn spread(sets: &mut Sets, view: &View) {
    let allowed = if view.replicas() > 0 { view.replicas() + view.max_surge() } else { 0 };
    let before = view.status.replicas;
    let to_add = allowed - sets.all().filter(|set| set.is_active()).map(|set| set.replicas).sum::<i64>();
    let mut active: Vec<&mut Set> = sets.all_mut().filter(|set| set.is_active()).collect();
    // The largest first; of equal ones the newer when growing, the older when shrinking.
    active.sort_by(|a, b| {
        let age = if to_add > 0 { b.created.cmp(&a.created) } else { a.created.cmp(&b.created) };
        b.replicas.cmp(&a.replicas).then(age).then_with(|| a.name.cmp(&b.name))
    });
    let mut added = 0;
    let mut sizes = Vec::new();
    for set in &active {
        let share = if to_add == 0 || to_add == added { 0 } else { fraction(set, view, before) };
        let left = to_add - added;
        let share = if to_add > 0 { share.min(left) } else { share.max(left) };
        sizes.push(set.replicas + share);
        added += share;
    }
    if to_add != 0
        && let Some(largest) = sizes.first_mut()
    {
        *largest = (*largest + to_add - added).max(0);
    }
    for (set, size) in active.into_iter().zip(sizes) {
        set.scale(size, view);
    }
}

/// By how much a set is to grow to keep its share.
fn fraction(set: &Set, view: &View, status_replicas: i64) -> i64 {
    if view.replicas() == 0 {
        return -set.replicas;
    }
    let before = set.max().filter(|max| *max > 0).unwrap_or(status_replicas);
    if before == 0 {
        return 0;
    }
    let size = (set.replicas * (view.replicas() + view.max_surge())) as f64 / before as f64;
    // Half a pod is a pod.
    size.round() as i64 - set.replicas
}
