//! Quality of service: a pod's class, and what follows from it for cgroups and the OOM killer. Pure.

use object::Quantity;

use crate::api::{Container, Pod, amount};

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(crate) fn class(pod: &Pod) -> &'static str {
    if !pod.status.qos_class.is_empty() {
        for known in ["Guaranteed", "Burstable", "BestEffort"] {
            if pod.status.qos_class == known {
                return known;
            }
        }
    }
    compute(pod)
}

fn compute(pod: &Pod) -> &'static str {
    let containers = || pod.spec.init_containers.iter().chain(&pod.spec.containers);
    let mut any = false;
    let mut guaranteed = true;
    if let Some(resources) = pod.spec.resources.as_ref().filter(|r| !r.limits.is_empty() || !r.requests.is_empty()) {
        any = true;
        guaranteed = ["cpu", "memory"].iter().all(|n| is_fixed(resources, n));
    } else {
        for container in containers() {
            for name in ["cpu", "memory"] {
                let resources = &container.resources;
                any |= !amount(&resources.limits, name).is_zero() || !amount(&resources.requests, name).is_zero();
                guaranteed &= is_fixed(resources, name);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_fixed(resources: &crate::api::Resources, name: &str) -> bool {
    let limit = amount(&resources.limits, name);
    let request = match resources.requests.get(name) {
        Some(_) => amount(&resources.requests, name),
        None => limit,
    };
    !limit.is_zero() && limit == request
}

/// The pod's cgroup below `root` (`/` or a prefix): `/kubepods/burstable/pod<uid>`.
pub(crate) fn cgroup(pod: &Pod, root: &str) -> String {
    let root = root.trim_end_matches('/');
    let uid = &pod.metadata.uid;
    match class(pod) {
        "Guaranteed" => format!("{root}/kubepods/pod{uid}"),
        "Burstable" => format!("{root}/kubepods/burstable/pod{uid}"),
        _ => format!("{root}/kubepods/besteffort/pod{uid}"),
    }
}

/// `oom_score_adj` of a container on a node with this much memory.
pub(crate) fn oom_score_adj(pod: &Pod, container: &Container, capacity: i64) -> i64 {
    if pod.spec.priority.unwrap_or(0) >= 2_000_001_000 {
        return -997;
    }
    match class(pod) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = |c: &Container| amount(&c.resources.requests, "memory").units();
            let mut score = adjusted(request(container), capacity);
            let is_sidecar =
                container.is_sidecar() && pod.spec.init_containers.iter().any(|c| c.name == container.name);
            if is_sidecar {
                let least = pod.spec.containers.iter().map(request).min().unwrap_or(0);
                score = score.min(adjusted(least, capacity));
            }
            // A burstable container is killed before guaranteed ones and after best-effort ones.
            score.clamp(3, 999)
        }
    }
}

fn adjusted(request: i64, capacity: i64) -> i64 {
    1000 - (1000_i128 * i128::from(request) / i128::from(capacity.max(1))) as i64
}

/// cgroup v1 `cpu.shares` of an amount of CPU.
pub(crate) fn shares(cpu: Quantity) -> i64 {
    match cpu.millis() {
        0 => 2,
        millis => (millis * 1024 / 1000).clamp(2, 262_144),
    }
}

/// CFS quota in microseconds per `period`; 0 for none.
pub(crate) fn quota(cpu: Quantity, period: i64) -> i64 {
    match cpu.millis() {
        0 => 0,
        millis => (millis * period / 1000).max(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [
            {"name": "a", "resources": resources}]}}))
        .unwrap()
    }

    #[test]
    fn classes_cgroups_and_scores() {
        let check = |resources, class_name: &str, cgroup_path: &str, score: i64| {
            let pod = pod(resources);
            assert_eq!(class(&pod), class_name);
            assert_eq!(cgroup(&pod, "/"), cgroup_path);
            assert_eq!(oom_score_adj(&pod, &pod.spec.containers[0], 4 << 30), score);
        };
        check(json!({}), "BestEffort", "/kubepods/besteffort/podu", 1000);
        check(json!({"requests": {"memory": "1Gi"}}), "Burstable", "/kubepods/burstable/podu", 750);
        check(json!({"requests": {"cpu": "1"}}), "Burstable", "/kubepods/burstable/podu", 999);
        check(json!({"limits": {"cpu": 1, "memory": "1Gi"}}), "Guaranteed", "/kubepods/podu", -997);
        check(
            json!({"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
            "Burstable",
            "/kubepods/burstable/podu",
            999,
        );
    }

    #[test]
    fn shares_and_quota() {
        let cpu = |text| Quantity::parse(text).unwrap();
        assert_eq!([shares(cpu("0")), shares(cpu("1m")), shares(cpu("500m")), shares(cpu("2"))], [2, 2, 512, 2048]);
        assert_eq!(
            [quota(cpu("0"), 100_000), quota(cpu("5m"), 100_000), quota(cpu("1.5"), 100_000)],
            [0, 1000, 150_000]
        );
    }
}
