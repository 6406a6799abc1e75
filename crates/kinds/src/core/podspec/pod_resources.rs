//! Requests and limits of a pod as a whole: defaults out of its containers', and checks against them.

use std::collections::BTreeMap;

use object::{Invalid, Quantity};
use serde_json::Value;

use super::{Pod, containers, overcommits};
use crate::spot::{Errors, Spot};
use crate::tree::{entries, list, text};

/// An amount, and a text in whose manner it is written.
#[derive(Clone, Copy)]
struct Amount<'v> {
    of: Quantity,
    like: &'v str,
}

impl Amount<'_> {
    fn shown(self) -> String {
        self.of.print_like(self.like)
    }
}

type Total<'v> = BTreeMap<&'v str, Amount<'v>>;

fn amounts<'v>(container: &'v Value, which: &str) -> Total<'v> {
    let parsed = |(name, amount): (&'v String, &'v Value)| {
        let like = text(amount);
        Some((name.as_str(), Amount { of: Quantity::parse(like)?, like }))
    };
    entries(&container["resources"][which]).filter_map(parsed).collect()
}

fn sum<'v>(total: &mut Total<'v>, more: &Total<'v>) {
    for (name, amount) in more {
        total.entry(name).and_modify(|sum| sum.of = sum.of.plus(amount.of)).or_insert(*amount);
    }
}

fn raise<'v>(total: &mut Total<'v>, other: &Total<'v>) {
    for (name, amount) in other {
        let most = total.entry(name).or_insert(*amount);
        if amount.of > most.of {
            *most = *amount;
        }
    }
}

/// What the containers need at most at one time: all of them with the sidecars, or an init container with those before it.
fn aggregate<'v>(spec: &'v Value, which: &str) -> Total<'v> {
    let (mut total, mut sidecars, mut peak) = (Total::new(), Total::new(), Total::new());
    list(&spec["containers"]).iter().for_each(|container| sum(&mut total, &amounts(container, which)));
    for container in list(&spec["initContainers"]) {
        let mut needed = amounts(container, which);
        if container["restartPolicy"] == "Always" {
            sum(&mut total, &needed);
            sum(&mut sidecars, &needed);
            raise(&mut peak, &sidecars);
        } else {
            sum(&mut needed, &sidecars);
            raise(&mut peak, &needed);
        }
    }
    raise(&mut total, &peak);
    total
}

fn is_huge(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_for_pods(name: &str) -> bool {
    is_huge(name) || matches!(name, "cpu" | "memory")
}

/// What a pod that says something of the whole leaves open: limits of huge pages and requests.
pub(super) fn default(spec: &mut Value) {
    let given = |which: &str| spec["resources"][which].as_object().cloned().unwrap_or_default();
    let (mut limits, mut requests) = (given("limits"), given("requests"));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for (name, total) in aggregate(spec, "limits") {
        if is_huge(name) && !requests.contains_key(name) && !limits.contains_key(name) {
            limits.insert(name.to_owned(), total.shown().into());
        }
    }
    if !limits.is_empty() {
        for (name, total) in aggregate(spec, "requests") {
            if is_for_pods(name) && overcommits(name) && !requests.contains_key(name) {
                requests.insert(name.to_owned(), total.shown().into());
            }
        }
        for (name, limit) in limits.iter().filter(|(name, _)| is_for_pods(name)) {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
    for (which, amounts) in [("limits", limits), ("requests", requests)] {
        if !amounts.is_empty() {
            spec["resources"][which] = amounts.into();
        }
    }
}

/// Adds what is wrong with the whole's, in itself and beside the containers'.
pub(super) fn validate(spec: &Spot, pod: &Pod, errors: &mut Errors) {
    let resources = spec.at("resources");
    if !resources.is_set() {
        return;
    }
    if spec.at("os").at("name").text() == "windows" {
        resources.forbid("may not be set for a windows pod", errors);
        return;
    }
    if resources.at("claims").is_set() {
        resources.at("claims").forbid("claims may not be set for Resources at pod-level", errors);
    }
    containers::requirements_of_pod(&resources, &pod.claims, errors);
    for (which, all) in [("requests", true), ("limits", false)] {
        let totals = aggregate(spec.value, which);
        for (name, whole) in resources.map(which).filter(|(name, _)| all || is_huge(name)) {
            let Some(total) = totals.get(name.as_str()) else { continue };
            if whole.quantity().is_some_and(|whole| total.of > whole) {
                let shown = total.shown();
                whole.fail(format!("must be greater than or equal to aggregate container {which} of {shown}"), errors);
            }
        }
    }
    let containers = resources.at("containers");
    for (index, container) in spec.list("containers").enumerate() {
        for (name, limit) in amounts(container.value, "limits") {
            let most = resources.at("limits");
            let most = most.at(name);
            if most.quantity().is_some_and(|most| limit.of > most) {
                let detail = format!("must be less than or equal to pod limits of {}", most.text());
                let at = format!("{}[{index}][{name}].limits", containers.path());
                errors.push(Invalid::invalid(&at, &limit.like.into(), detail));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_asks_for_what_its_containers_do() {
        let mut spec = json!({
            "resources": {"limits": {"cpu": "4"}},
            "containers": [
                {"resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"hugepages-2Mi": "4Mi"}}},
                {"resources": {"requests": {"memory": "512Mi", "example.com/foo": "1"}}}],
            "initContainers": [{"resources": {"requests": {"cpu": "2"}}}]});
        default(&mut spec);
        let wanted = json!({"limits": {"cpu": "4", "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "2", "memory": "1Gi", "hugepages-2Mi": "4Mi"}});
        assert_eq!(spec["resources"], wanted);
        let mut silent = json!({"resources": {}, "containers": spec["containers"]});
        default(&mut silent);
        assert_eq!(silent["resources"], json!({}));
    }
}
