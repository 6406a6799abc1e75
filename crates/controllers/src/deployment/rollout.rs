//! The next step from the old replica sets to the new one.

use object::Object;

use super::sets::Sets;
use super::status::{self, Status};
use super::{View, scale};
use crate::kinds::PODS;
use crate::world::World;

/// Takes the next step; the deployment's revision when there is a new set.
pub(super) fn advance(
    deployment: &Object,
    sets: &mut Sets,
    view: &View,
    status: &mut Status,
    world: &World,
) -> Option<String> {
    if !view.is_rolling() {
        return recreate(deployment, sets, view, status, world);
    }
    let revision = match sets.new {
        Some(_) => sets.refresh_new(view, status, world),
        None => sets.make_new(deployment, view, status, world),
    };
    sets.new.as_ref()?;
    if grow_new(sets, view) || shrink_old(sets, view) {
        return revision;
    }
    if status::is_complete(deployment, view, &view.status) {
        sets.clean_up(view);
    }
    revision
}

/// All old pods go, and when the last one is gone the new ones come.
fn recreate(deployment: &Object, sets: &mut Sets, view: &View, status: &mut Status, world: &World) -> Option<String> {
    let revision = sets.refresh_new(view, status, world);
    let mut shrunk = false;
    for set in sets.old.iter_mut().filter(|set| set.is_active()) {
        set.scale(0, view);
        shrunk = true;
    }
    if shrunk || old_pods_run(sets, world) {
        return revision;
    }
    let revision = match sets.new {
        Some(_) => revision,
        None => sets.make_new(deployment, view, status, world),
    };
    grow_new(sets, view);
    if status::is_complete(deployment, view, &view.status) {
        sets.clean_up(view);
    }
    revision
}

fn old_pods_run(sets: &Sets, world: &World) -> bool {
    let uids = sets.old.iter().filter_map(|set| set.object.as_ref()).map(|object| &object.head.uid);
    let mut pods = uids.flat_map(|uid| world.owned(&PODS, uid));
    pods.any(|object| !world.pod(&object).is_finished())
}

/// Fits the new set to what is allowed; true when its size changed.
fn grow_new(sets: &mut Sets, view: &View) -> bool {
    let total = sets.total();
    let Some(new) = sets.new.as_mut() else { return false };
    let size = match new.replicas.cmp(&view.replicas()) {
        std::cmp::Ordering::Equal => return false,
        std::cmp::Ordering::Greater => view.replicas(),
        std::cmp::Ordering::Less => scale::new_size(total, new.replicas, view),
    };
    let changed = size != new.replicas;
    if changed {
        new.scale(size, view);
    }
    changed
}

/// Shrinks the old sets as far as availability allows: first by what is not available anyway, then by the rest.
fn shrink_old(sets: &mut Sets, view: &View) -> bool {
    let before: i64 = sets.old.iter().map(|set| set.replicas).sum();
    let Some(new) = sets.new.as_ref().filter(|_| before > 0) else { return false };
    let least = view.replicas() - view.max_unavailable();
    let new_unavailable = new.replicas - new.status.available_replicas;
    let most = sets.total() - least - new_unavailable;
    if most <= 0 {
        return false;
    }
    let mut cleaned = 0;
    for set in sets.old.iter_mut().filter(|set| set.is_active()) {
        let unhealthy = set.replicas - set.status.available_replicas;
        let surplus = unhealthy.min(most - cleaned);
        if surplus > 0 {
            set.scale(set.replicas - surplus, view);
            cleaned += surplus;
        }
    }
    let spare = sets.available() - least;
    let mut shrunk = 0;
    for set in sets.old.iter_mut().filter(|set| set.is_active()) {
        let surplus = set.replicas.min(spare - shrunk);
        if surplus > 0 {
            set.scale(set.replicas - surplus, view);
            shrunk += surplus;
        }
    }
    cleaned + shrunk > 0
}
