//! What containers and pods ask for: names and amounts of resources.

use object::{Invalid, Quantity};

use crate::names;
use crate::spot::{Errors, Spot};

/// Resources that may be promised more often than they are there: those of Kubernetes itself.
pub(crate) fn overcommits(resource: &str) -> bool {
    is_native(resource) && !resource.starts_with("hugepages-")
}

fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains("kubernetes.io/")
}

fn is_standard_for_containers(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-")
}

/// Names without a domain that any resource may have.
const STANDARD: [&str; 23] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
    "limits.hugepages-",
    "requests.hugepages-",
    "hugepages-",
];

/// True for a name without a domain that Kubernetes knows.
fn is_standard(resource: &str) -> bool {
    STANDARD.contains(&resource) || resource.starts_with("hugepages-") || resource.starts_with("requests.hugepages-")
}

/// The name of any resource. True when it is good.
pub(crate) fn resource_name(name: &str, at: &Spot, errors: &mut Errors) -> bool {
    let mut problems = names::qualified(name);
    if problems.is_empty() && !name.contains('/') && !is_standard(name) {
        problems.push("must be a standard resource type or fully qualified".into());
    }
    let good = problems.is_empty();
    problems.into_iter().for_each(|why| at.fail_as(name, why, errors));
    good
}

/// The name of a resource of containers.
pub(crate) fn container_resource(name: &str, at: &Spot, errors: &mut Errors) {
    resource_name(name, at, errors);
    if !name.contains('/') {
        if !is_standard_for_containers(name) {
            at.fail_as(name, "must be a standard resource for containers", errors);
        }
    } else if !is_native(name) && !is_extended(name) {
        at.fail_as(name, "doesn't follow extended resource name standard", errors);
    }
}

pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified(&format!("requests.{name}")).is_empty()
}

/// An amount: not negative, and whole where the resource comes in pieces.
pub(crate) fn amount(name: &str, at: &Spot, errors: &mut Errors) {
    let Some(quantity) = at.quantity() else { return };
    if quantity.is_negative() {
        at.fail("must be greater than or equal to 0", errors);
    }
    let whole = matches!(
        name,
        "pods"
            | "services"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "resourcequotas"
            | "replicationcontrollers"
            | "services.nodeports"
            | "services.loadbalancers"
    );
    if (whole || is_extended(name)) && quantity.millis() % 1000 != 0 {
        at.fail("must be an integer", errors);
    }
}

fn huge(name: &str, at: &Spot, errors: &mut Errors) {
    let Some(size) = name.strip_prefix("hugepages-") else { return };
    let page = Quantity::parse(size).map_or(0, Quantity::units);
    let fits = page > 0 && at.quantity().is_some_and(|q| q.units() % page == 0);
    if !fits {
        at.fail(format!("{} is not positive integer multiple of {name}", at.text()), errors);
    }
}

/// Requests and limits of a container.
pub(crate) fn requirements(resources: &Spot, claims: &[&str], errors: &mut Errors) {
    check(resources, claims, container_resource, errors);
}

/// Requests and limits of a whole pod.
pub(crate) fn requirements_of_pod(resources: &Spot, claims: &[&str], errors: &mut Errors) {
    let name = |name: &str, at: &Spot, errors: &mut Errors| {
        if resource_name(name, at, errors) && !matches!(name, "cpu" | "memory") && !name.starts_with("hugepages-") {
            errors.push(Invalid::unsupported(&at.path(), &name.into(), &["cpu", "hugepages-", "memory"]));
        }
    };
    check(resources, claims, name, errors);
}

fn check(resources: &Spot, claims: &[&str], name_rule: fn(&str, &Spot, &mut Errors), errors: &mut Errors) {
    let (limits, requests) = (resources.at("limits"), resources.at("requests"));
    let (mut computes, mut huge_pages) = (false, false);
    for field in ["limits", "requests"] {
        for (name, spot) in resources.map(field) {
            name_rule(name, &spot, errors);
            amount(name, &spot, errors);
            if field == "requests" {
                relation(name, &spot, &limits, &requests, errors);
            }
            huge(name, &spot, errors);
            huge_pages |= name.starts_with("hugepages-");
            computes |= name == "cpu" || name == "memory";
        }
    }
    if huge_pages && !computes {
        resources.forbid("HugePages require cpu or memory", errors);
    }
    claim_names(resources, claims, errors);
}

fn relation(name: &str, request: &Spot, limits: &Spot, requests: &Spot, errors: &mut Errors) {
    let limit = limits.at(name);
    let (Some(asked), most) = (request.quantity(), limit.quantity()) else { return };
    let relation = match most {
        None if !overcommits(name) => {
            limits.missing("Limit must be set for non overcommitable resources", errors);
            return;
        }
        Some(most) if asked != most && !overcommits(name) => "equal to",
        Some(most) if asked > most => "less than or equal to",
        _ => return,
    };
    requests.fail_as(request.text(), format!("must be {relation} {name} limit of {}", limit.text()), errors);
}

fn claim_names(resources: &Spot, known: &[&str], errors: &mut Errors) {
    let mut seen: Vec<String> = Vec::new();
    for claim in resources.list("claims") {
        let (name, request) = (claim.at("name").text(), claim.at("request"));
        if name.is_empty() {
            claim.missing("", errors);
            continue;
        }
        let duplicate = |text: &str, errors: &mut Errors| {
            errors.push(Invalid::duplicate(&claim.path(), &text.into()));
        };
        if seen.iter().any(|s| s == name) {
            duplicate(name, errors);
        } else {
            let mut key = name.to_owned();
            if !request.text().is_empty() {
                request.obey(names::label, errors);
                key = format!("{name}/{}", request.text());
            }
            if seen.contains(&key) {
                duplicate(&key, errors);
            } else if request.text().is_empty() {
                let prefix = format!("{name}/");
                seen.iter().filter(|s| s.starts_with(&prefix)).for_each(|_| duplicate(name, errors));
            }
            seen.push(key);
        }
        if !known.contains(&name) {
            let mut error = Invalid::not_found(&claim.path(), &name.into());
            let mut sorted = known.to_vec();
            sorted.sort_unstable();
            error.detail = match sorted.is_empty() {
                true => "must be one of the names in pod.spec.resourceClaims which is empty".into(),
                false => format!("must be one of the names in pod.spec.resourceClaims: {}", sorted.join(", ")),
            };
            errors.push(error);
        }
    }
}
