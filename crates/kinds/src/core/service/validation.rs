//! What is wrong with a service.

use object::Invalid;
use serde_json::{Value, json};

use crate::core::endpoints::endpoint_ip;
use crate::spot::{Errors, Spot};
use crate::tree::{list, text};
use crate::{addresses, names};

const LOAD_BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const FIXED: &str = "may not change once set";

fn is_headless(spec: &Value) -> bool {
    list(&spec["clusterIPs"]).len() == 1 && spec["clusterIPs"][0] == "None"
}

/// Reachable from outside the cluster.
pub(super) fn is_exposed(spec: &Value) -> bool {
    match text(&spec["type"]) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list(&spec["externalIPs"]).is_empty(),
        _ => false,
    }
}

pub(super) fn needs_health_check(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}

pub(super) fn validate(new: &Value, old: Option<&Value>, errors: &mut Errors) {
    if let Some(old) = old {
        update(&new["spec"], &old["spec"], errors);
    }
    let spec = Spot::new(&new["spec"], "spec");
    let (kind, headless) = (spec.at("type"), is_headless(spec.value));
    topology(new, errors);
    if spec.at("ports").len() == 0 && !headless && kind.text() != "ExternalName" {
        spec.at("ports").missing("", errors);
    }
    match kind.text() {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {} services", kind.text());
            errors.push(Invalid::invalid("spec.clusterIPs[0]", &"None".into(), detail));
        }
        "ExternalName" => external_name(&spec, errors),
        _ => {}
    }
    let mut seen = Vec::new();
    for port in spec.list("ports") {
        validate_port(&port, spec.at("ports").len() > 1, &mut seen, errors);
    }
    spec.at("selector").labels(errors);
    affinity(&spec, errors);
    validate_addresses(new, old, errors);
    let known: Vec<&str> = old.map_or(&[][..], |old| list(&old["spec"]["externalIPs"])).iter().map(text).collect();
    for ip in spec.list("externalIPs") {
        let before = errors.len();
        if !known.contains(&ip.text()) {
            ip.ip(errors);
        }
        if errors.len() == before {
            endpoint_ip(&ip, errors);
        }
    }
    kind.must_be_one_of(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], errors);
    numbers(&spec, errors);
    source_ranges(new, old, &spec, errors);
    let (allocate, balanced) = (spec.at("allocateLoadBalancerNodePorts"), kind.text() == "LoadBalancer");
    match (balanced, allocate.is_set()) {
        (false, true) => allocate.forbid(LOAD_BALANCER_ONLY, errors),
        (true, false) => errors.push(Invalid::required("allocateLoadBalancerNodePorts", "")),
        _ => {}
    }
    balancer_class(&spec, errors);
    traffic(&spec, errors);
}

fn topology(new: &Value, errors: &mut Errors) {
    let annotation = |name: &str| &new["metadata"]["annotations"][format!("service.kubernetes.io/{name}")];
    let (mode, hints) = (annotation("topology-mode"), annotation("topology-aware-hints"));
    if mode.is_string() && hints.is_string() && mode != hints {
        let detail = "must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified";
        errors.push(Invalid::invalid("metadata.annotations[service.kubernetes.io/topology-mode]", mode, detail));
    }
}

fn external_name(spec: &Spot, errors: &mut Errors) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let spot = spec.at(field);
        let single = field == "clusterIPs" && !spec.at("clusterIP").text().is_empty();
        if spot.len() > 0 || spot.value.is_string() || single {
            spot.forbid("may not be set for ExternalName services", errors);
        }
    }
    let name = spec.at("externalName");
    let text = name.text().strip_suffix('.').unwrap_or(name.text());
    match text {
        "" => name.missing("", errors),
        _ => names::subdomain(text).into_iter().for_each(|why| name.fail_as(text, why, errors)),
    }
}

fn validate_port<'v>(port: &Spot<'v, '_>, many: bool, seen: &mut Vec<&'v str>, errors: &mut Errors) {
    let name = port.at("name");
    if name.text().is_empty() {
        if many {
            name.missing("", errors);
        }
    } else {
        name.obey(names::label, errors);
        match seen.contains(&name.text()) {
            true => name.duplicate(errors),
            false => seen.push(name.text()),
        }
    }
    port.at("port").port_number(errors);
    port.at("protocol").must_be_one_of(&["SCTP", "TCP", "UDP"], errors);
    port.at("targetPort").port(errors);
    if port.at("appProtocol").is_set() {
        port.at("appProtocol").obey(names::qualified, errors);
    }
}

fn affinity(spec: &Spot, errors: &mut Errors) {
    let (kind, config) = (spec.at("sessionAffinity"), spec.at("sessionAffinityConfig"));
    kind.must_be_one_of(&["ClientIP", "None"], errors);
    let client = config.at("clientIP");
    let timeout = client.at("timeoutSeconds");
    match kind.text() {
        "ClientIP" => match [&config, &client, &timeout].into_iter().find(|spot| !spot.is_set()) {
            Some(missing) => missing.missing("when session affinity type is ClientIP", errors),
            None if !(1..=86_400).contains(&timeout.count()) => {
                timeout.fail("must be greater than 0 and less than 86400", errors);
            }
            None => {}
        },
        "None" if config.is_set() => config.forbid("must not be set when session affinity is None", errors),
        _ => {}
    }
}

/// Adds what is wrong with a service's addresses and their families. They are looked at before any is given out.
pub fn validate_addresses(new: &Value, old: Option<&Value>, errors: &mut Vec<Invalid>) {
    let spec = Spot::new(&new["spec"], "spec");
    if spec.at("type").text() == "ExternalName" {
        return;
    }
    let (first, all, families) = (spec.at("clusterIP"), spec.at("clusterIPs"), spec.at("ipFamilies"));
    match (first.text(), all.len()) {
        ("", 0) => {}
        ("", _) => all.fail("must be empty when `clusterIP` is not specified", errors),
        (_, 0) => all.missing("", errors),
        (ip, _) if all.value[0] != ip => all.fail("first value must match `clusterIP`", errors),
        _ => {}
    }
    let mut seen = Vec::new();
    for family in spec.list("ipFamilies") {
        family.exactly_one_of(&["IPv4", "IPv6"], errors);
        if seen.contains(&family.text()) {
            family.duplicate(errors);
        }
        seen.push(family.text());
    }
    spec.at("ipFamilyPolicy").one_of(&["PreferDualStack", "RequireDualStack", "SingleStack"], errors);
    let known: Vec<&str> = old.map_or(&[][..], |old| list(&old["spec"]["clusterIPs"])).iter().map(text).collect();
    let mut bad = false;
    for (index, ip) in spec.list("clusterIPs").enumerate() {
        if index == 0 && ip.text() == "None" {
            if all.len() > 1 {
                bad = true;
                all.fail("'None' must be the first and only value", errors);
            }
            continue;
        }
        let before = errors.len();
        if !known.contains(&ip.text()) {
            ip.ip(errors);
        }
        bad |= errors.len() > before;
    }
    if all.len() > 2 {
        all.fail("may only hold up to 2 values", errors);
    }
    if bad {
        return;
    }
    let sixth = |ip: &str| ip.contains(':');
    let sixths = spec.list("clusterIPs").filter(|ip| sixth(ip.text())).count();
    if all.len() > 1 && (sixths == 0 || sixths == all.len()) {
        all.fail("may specify no more than one IP for each IP family", errors);
    }
    if is_headless(spec.value) {
        return;
    }
    for (index, (ip, family)) in spec.list("clusterIPs").zip(list(families.value)).enumerate() {
        if matches!(text(family), "IPv4" | "IPv6") && sixth(ip.text()) != (family == "IPv6") {
            ip.fail(format!("expected an {} value as indicated by `ipFamilies[{index}]`", text(family)), errors);
        }
    }
}

/// No port number of the service or of the nodes twice.
fn numbers(spec: &Spot, errors: &mut Errors) {
    if spec.at("type").text() == "ClusterIP" {
        for port in spec.list("ports").filter(|p| p.at("nodePort").count() != 0) {
            port.at("nodePort").forbid("may not be used when `type` is 'ClusterIP'", errors);
        }
    }
    for field in ["nodePort", "port"] {
        let mut seen = Vec::new();
        for port in spec.list("ports") {
            let (number, protocol) = (port.at(field), port.at("protocol"));
            if field == "nodePort" && number.count() == 0 {
                continue;
            }
            let key = (protocol.text(), number.count());
            match (seen.contains(&key), field) {
                (true, "nodePort") => number.duplicate(errors),
                (true, _) => {
                    let shown = json!({"protocol": key.0, "port": key.1});
                    errors.push(Invalid::duplicate(&port.path(), &shown));
                }
                (false, _) => seen.push(key),
            }
        }
    }
}

fn source_ranges(new: &Value, old: Option<&Value>, spec: &Spot, errors: &mut Errors) {
    let balanced = spec.at("type").text() == "LoadBalancer";
    let ranges = spec.alias("LoadBalancerSourceRanges", spec.at("loadBalancerSourceRanges").value);
    let annotation = &new["metadata"]["annotations"][SOURCE_RANGES];
    if ranges.len() > 0 {
        if !balanced {
            ranges.forbid(LOAD_BALANCER_ONLY, errors);
        }
        let known = old.map_or(&[][..], |old| list(&old["spec"]["loadBalancerSourceRanges"]));
        for (index, range) in list(ranges.value).iter().enumerate().filter(|(_, range)| !known.contains(range)) {
            let trimmed = text(range).trim();
            for why in addresses::network(trimmed) {
                errors.push(Invalid::invalid(&format!("{}[{index}]", ranges.path()), &trimmed.into(), why));
            }
        }
    } else if let Some(given) = annotation.as_str() {
        let path = format!("metadata.annotations[{SOURCE_RANGES}]");
        if !balanced {
            errors.push(Invalid::forbidden(&path, LOAD_BALANCER_ONLY));
        }
        let changed = old.is_none_or(|old| old["metadata"]["annotations"][SOURCE_RANGES] != given);
        for range in given.trim().split(',').map(str::trim).filter(|_| changed && !given.trim().is_empty()) {
            addresses::network(range)
                .into_iter()
                .for_each(|why| errors.push(Invalid::invalid(&path, &range.into(), why)));
        }
    }
}

fn balancer_class(spec: &Spot, errors: &mut Errors) {
    let class = spec.at("loadBalancerClass");
    match (spec.at("type").text() == "LoadBalancer", class.is_set()) {
        (true, true) => class.obey(names::qualified, errors),
        (false, true) => class.forbid(LOAD_BALANCER_ONLY, errors),
        _ => {}
    }
}

fn traffic(spec: &Spot, errors: &mut Errors) {
    let (outer, inner) = (spec.at("externalTrafficPolicy"), spec.at("internalTrafficPolicy"));
    if is_exposed(spec.value) {
        outer.must_be_one_of(&["Cluster", "Local"], errors);
    } else if !outer.text().is_empty() {
        outer.fail("may only be set for externally-accessible services", errors);
    }
    let health = spec.at("healthCheckNodePort");
    match (needs_health_check(spec.value), health.count()) {
        (false, 0) => {}
        (false, _) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            health.fail(detail, errors);
        }
        (true, 0) => health.missing("", errors),
        (true, _) => health.port_number(errors),
    }
    if !inner.is_set() && matches!(spec.at("type").text(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        inner.missing("", errors);
    }
    inner.one_of(&["Cluster", "Local"], errors);
    spec.at("trafficDistribution").one_of(&["PreferClose", "PreferSameZone", "PreferSameNode"], errors);
}

/// What an update may not change.
fn update(spec: &Value, before: &Value, errors: &mut Errors) {
    let named = [spec, before].iter().any(|s| s["type"] == "ExternalName");
    let (headless, was_headless) = (is_headless(spec), is_headless(before));
    if !(named || headless && was_headless) {
        kept(spec, before, "clusterIPs", "clusterIP", errors);
    }
    if !named && !headless && !was_headless {
        kept(spec, before, "ipFamilies", "ipFamily", errors);
    }
    if [spec, before].iter().all(|s| s["type"] == "LoadBalancer")
        && spec["loadBalancerClass"] != before["loadBalancerClass"]
    {
        errors.push(Invalid::invalid("spec.loadBalancerClass", &spec["loadBalancerClass"], FIXED));
    }
    balancer_class(&Spot::new(spec, "spec"), errors);
    if needs_health_check(spec)
        && needs_health_check(before)
        && spec["healthCheckNodePort"] != before["healthCheckNodePort"]
    {
        errors.push(Invalid::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
}

/// Of two lists of families or addresses, the first stays, and the second goes only with the policy for one.
fn kept(spec: &Value, before: &Value, field: &str, one: &str, errors: &mut Errors) {
    let (now, was) = (list(&spec[field]), list(&before[field]));
    let mut fail = |at: &str, detail: &str| errors.push(Invalid::invalid(at, &spec[field], detail));
    let at = |index: usize| format!("spec.{field}[{index}]");
    if now.len() == was.len() {
        for (index, _) in now.iter().zip(was).enumerate().filter(|(_, (now, was))| now != was) {
            fail(&at(if field == "clusterIPs" { index } else { 0 }), FIXED);
        }
        return;
    }
    if now.is_empty() {
        fail(&at(0), &format!("primary {one} can not be unset"));
    } else if !was.is_empty() && now[0] != was[0] {
        fail(&at(0), FIXED);
    }
    if was.len() > now.len() && now.len() == 1 && spec["ipFamilyPolicy"] != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(Invalid::invalid("spec.ipFamilyPolicy", &spec["ipFamilyPolicy"], detail));
    }
}

pub(super) fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    let balanced = new["spec"]["type"] == "LoadBalancer";
    let status = Spot::new(&new["status"], "status");
    balancer_status(&status.at("loadBalancer"), &old["status"]["loadBalancer"], balanced, errors);
}

/// Where a load balancer is reached: of services.
fn balancer_status(status: &Spot, old: &Value, balanced: bool, errors: &mut Errors) {
    if !balanced && status.at("ingress").len() > 0 {
        return status.at("ingress").forbid("may only be used when `spec.type` is 'LoadBalancer'", errors);
    }
    for place in status.list("ingress") {
        let (ip, mode, host) = (place.at("ip"), place.at("ipMode"), place.at("hostname"));
        if !ip.text().is_empty() && !list(&old["ingress"]).iter().any(|o| o["ip"] == ip.text()) {
            ip.ip(errors);
        }
        match (mode.is_set(), ip.text().is_empty()) {
            (false, false) => mode.missing("must be specified when `ip` is set", errors),
            (true, true) => mode.forbid("may not be specified when `ip` is not set", errors),
            (true, false) => mode.exactly_one_of(&["Proxy", "VIP"], errors),
            (false, true) => {}
        }
        host.named(names::subdomain, errors);
        if addresses::ip(host.text()).is_empty() {
            host.fail("must be a DNS name, not an IP address", errors);
        }
    }
}
