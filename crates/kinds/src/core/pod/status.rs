//! What may be said of a pod through `status`.

use object::{Invalid, InvalidKind};
use serde_json::Value;

use crate::spot::{Errors, Spot};
use crate::tree::{list, text};
use crate::{addresses, names};

/// Lists of the states of containers, and the containers.
const LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let status = Spot::new(&new["status"], "status");
    for condition in status.list("conditions") {
        generation(&condition, errors);
        if !matches!(condition.at("type").text(), "PodScheduled" | "Ready" | "Initialized") {
            condition.alias("Type", condition.at("type").value).obey(names::qualified, errors);
        }
    }
    nominated(&status, old, errors);
    generation(&status, errors);
    let (class, was) = (status.at("qosClass"), &old["status"]["qosClass"]);
    if class.text() != text(was) {
        class.fail_as(class.text(), "field is immutable", errors);
    }
    LISTS.iter().for_each(|lists| states(new, old, *lists, errors));
    claims(&status, new, errors);
    extended_claim(&status, new, errors);
    for field in ["podIPs", "hostIPs"] {
        let first = &status.value[field][0]["ip"];
        if field == "hostIPs" && status.at(field).len() > 0 && text(first) != status.at("hostIP").text() {
            let at = format!("status.{field}[0].ip");
            errors.push(Invalid::invalid(&at, &text(first).into(), "must be equal to `hostIP`"));
        }
        ips(&status, field, old, errors);
    }
    for (field, _) in LISTS {
        for container in status.list(field) {
            user(&container, &new["spec"], errors);
        }
    }
    for (field, containers) in LISTS {
        for container in status.list(field) {
            health(&container, &new["spec"][containers], errors);
        }
    }
}

fn generation(above: &Spot, errors: &mut Errors) {
    let seen = above.at("observedGeneration");
    if seen.count() < 0 {
        seen.fail("must be a non-negative integer", errors);
    }
}

/// Where a pod that makes room hopes to go.
fn nominated(status: &Spot, old: &Value, errors: &mut Errors) {
    let node = status.at("nominatedNodeName");
    if node.text().is_empty() || node.text() == text(&old["status"]["nominatedNodeName"]) {
        return;
    }
    node.obey(names::subdomain, errors);
    if !text(&old["spec"]["nodeName"]).is_empty() {
        node.forbid("may not be set on pods that are already bound to a node", errors);
    }
}

/// Containers that have ended for good do not run again.
fn states(new: &Value, old: &Value, (field, containers): (&str, &str), errors: &mut Errors) {
    let spec = &old["spec"];
    let restarts = |container: &Value, code: i64| {
        let rules = list(&container["restartPolicyRules"]).iter().find(|rule| {
            let codes = &rule["exitCodes"];
            let has = list(&codes["values"]).iter().any(|v| v.as_i64() == Some(code));
            has == (codes["operator"] == "In")
        });
        let own = text(&container["restartPolicy"]);
        match if own.is_empty() { text(&spec["restartPolicy"]) } else { own } {
            _ if rules.is_some() => true,
            "Always" => true,
            "OnFailure" => code != 0,
            _ => false,
        }
    };
    for (index, was) in list(&old["status"][field]).iter().enumerate() {
        let ended = &was["state"]["terminated"];
        let now = list(&new["status"][field]).iter().find(|now| now["name"] == was["name"]);
        if !ended.is_object() || now.is_none_or(|now| now["state"]["terminated"].is_object()) {
            continue;
        }
        let container = list(&spec[containers]).iter().find(|c| c["name"] == was["name"]);
        let again = container.is_some_and(|c| restarts(c, ended["exitCode"].as_i64().unwrap_or(0)));
        if !again || field == "ephemeralContainerStatuses" {
            let at = format!("status.{field}[{index}].state");
            errors.push(Invalid::forbidden(&at, "may not be transitioned to non-terminated state"));
        }
    }
}

/// Claims that were made for the pod.
fn claims(status: &Spot, pod: &Value, errors: &mut Errors) {
    let mut seen = Vec::new();
    for claim in status.list("resourceClaimStatuses") {
        let (name, made) = (claim.at("name"), claim.at("resourceClaimName"));
        if !list(&pod["spec"]["resourceClaims"]).iter().any(|c| text(&c["name"]) == name.text()) {
            name.fail_as(name.text(), "must match the name of an entry in `spec.resourceClaims`", errors);
        }
        match seen.contains(&name.text()) {
            true => name.duplicate(errors),
            false => seen.push(name.text()),
        }
        if made.is_set() {
            made.obey(names::subdomain, errors);
        }
    }
}

/// The claim that was made for resources by which containers ask for devices.
fn extended_claim(status: &Spot, pod: &Value, errors: &mut Errors) {
    let claim = status.at("extendedResourceClaimStatus");
    if !claim.is_set() {
        return;
    }
    let all = |of: &str| list(&pod["spec"][of]).to_vec();
    let containers = [all("containers"), all("initContainers")].concat();
    if claim.at("requestMappings").len() == 0 {
        claim.at("requestMappings").missing("at least one request mapping is required", errors);
    }
    let mut seen = Vec::new();
    for mapping in claim.list("requestMappings") {
        let parts = ["containerName", "resourceName", "requestName"].map(|field| mapping.at(field));
        let [container, resource, request] = &parts;
        match containers.iter().find(|c| text(&c["name"]) == container.text()) {
            None => {
                let detail = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                container.fail_as(container.text(), detail, errors);
            }
            Some(named) if named["resources"]["requests"].get(resource.text()).is_none() => {
                let detail = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                resource.fail_as(resource.text(), detail, errors);
            }
            Some(_) => {}
        }
        // As upstream, which names the place as if there were one.
        claim.alias("requestName", request.value).obey(names::label, errors);
        let key = parts.map(|part| part.text());
        match seen.contains(&key) {
            true => parts.iter().for_each(|part| part.duplicate(errors)),
            false => seen.push(key),
        }
    }
    let name = claim.at("resourceClaimName");
    if name.require(errors) {
        name.obey(names::subdomain, errors);
    }
}

/// Addresses: valid where they are new, and one of each family at most.
fn ips(status: &Spot, field: &str, old: &Value, errors: &mut Errors) {
    let known: Vec<&str> = list(&old["status"][field]).iter().map(|ip| text(&ip["ip"])).collect();
    let all: Vec<Spot> = status.list(field).collect();
    for one in all.iter().filter(|one| !known.contains(&text(&one.value["ip"]))) {
        let given = text(&one.value["ip"]);
        addresses::ip(given).into_iter().for_each(|why| one.fail_as(given, why, errors));
    }
    if all.len() < 2 {
        return;
    }
    let list = status.at(field);
    let parsed: Vec<_> = all.iter().map(|one| text(&one.value["ip"]).parse::<std::net::IpAddr>()).collect();
    if let Some(index) = parsed.iter().position(Result::is_err) {
        errors.push(Invalid {
            kind: InvalidKind::Internal,
            field: list.path(),
            value: String::new(),
            detail: format!(
                "failed to check for dual stack with error:invalid IP[{index}]: {}",
                text(&all[index].value["ip"])
            ),
            shown: true,
        });
    }
    let sixths = parsed.iter().flatten().filter(|ip| ip.is_ipv6()).count();
    if parsed.iter().any(Result::is_err) || all.len() > 2 || sixths != 1 {
        list.fail("may specify no more than one IP for each IP family", errors);
    }
}

/// Who a container runs as.
fn user(container: &Spot, spec: &Value, errors: &mut Errors) {
    let user = container.at("user");
    let linux = user.at("linux");
    if !linux.is_set() {
        return;
    }
    if spec["os"]["name"] == "windows" {
        return linux.forbid("cannot be set for a windows pod", errors);
    }
    for id in [linux.at("uid"), linux.at("gid")].into_iter().chain(linux.list("supplementalGroups")) {
        if !(0..=i64::from(i32::MAX)).contains(&id.count()) {
            id.fail("must be between 0 and 2147483647, inclusive", errors);
        }
    }
}

/// How the devices of a container are.
fn health(container: &Spot, containers: &Value, errors: &mut Errors) {
    let named = list(containers).iter().find(|c| text(&c["name"]) == container.at("name").text());
    for resource in container.list("allocatedResourcesStatus") {
        let name = resource.at("name");
        if let Some(named) = named {
            let claimed = |claim: &Value| {
                let request = text(&claim["request"]);
                let whole = format!("claim:{}", text(&claim["name"]));
                name.text() == if request.is_empty() { whole } else { format!("{whole}/{request}") }
            };
            let (found, detail) = match name.text().starts_with("claim:") {
                true => (
                    list(&named["resources"]["claims"]).iter().any(claimed),
                    "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty",
                ),
                false => (
                    named["resources"]["requests"].get(name.text()).is_some(),
                    "must match one of the container's resource requests",
                ),
            };
            if !found {
                name.fail_as(name.text(), detail, errors);
            }
        }
        let mut seen = Vec::new();
        for device in resource.list("resources") {
            device.at("health").exactly_one_of(&["Healthy", "Unhealthy", "Unknown"], errors);
            let id = device.at("resourceID");
            match seen.contains(&id.text()) {
                true => id.duplicate(errors),
                false => seen.push(id.text()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_in_upstreams_words() {
        let check = |status: Value, wanted: &[&str]| {
            let old = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"a.b/c": "1"}}}]}});
            let mut new = json!({"spec": old["spec"], "status": status});
            (super::super::RULES.default)(&mut new);
            let mut errors = Vec::new();
            validate(&new, &old, &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted);
        };
        // One address of two fields: who writes the first means it.
        check(json!({"podIP": "10.1.0.1"}), &[]);
        let unfit = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        check(
            json!({"podIP": "x", "podIPs": [{"ip": "10.1.0.1"}]}),
            &[&format!("status.podIPs[0]: Invalid value: \"x\": {unfit}")],
        );
        let claim = |mappings: Value| json!({"extendedResourceClaimStatus": {"resourceClaimName": "x", "requestMappings": mappings}});
        let mapping = json!({"containerName": "c", "resourceName": "a.b/c", "requestName": "r"});
        check(claim(json!([mapping])), &[]);
        check(
            claim(json!([])),
            &[
                "status.extendedResourceClaimStatus.requestMappings: Required value: at least one request mapping is required",
            ],
        );
    }
}
