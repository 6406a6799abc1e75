//! Downward API: fields of the pod and resources of its containers as text.

use std::collections::BTreeMap;

use object::Quantity;

use super::NodeFacts;
use crate::api::{Container, Pod, ResourceFieldRef, amount, quantity};

/// The text of a pod's field.
pub(crate) fn field(pod: &Pod, path: &str, ips: &[String], node: &NodeFacts) -> Result<String, String> {
    let m = &pod.metadata;
    if let Some((field, key)) = subscript(path) {
        let of = match field {
            "metadata.annotations" => &m.annotations,
            "metadata.labels" => &m.labels,
            _ => return Err(format!("invalid subscript in field path {path:?}")),
        };
        return Ok(of.get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => m.name.clone(),
        "metadata.namespace" => m.namespace.clone(),
        "metadata.uid" => m.uid.clone(),
        "metadata.labels" => format_map(&m.labels),
        "metadata.annotations" => format_map(&m.annotations),
        "spec.nodeName" => pod.spec.node_name.clone(),
        "spec.serviceAccountName" => pod.spec.service_account_name.clone(),
        "status.hostIP" | "status.hostIPs" => node.node_ip.clone(),
        "status.podIP" => ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (field, rest) = path.split_once("['")?;
    Some((field, rest.strip_suffix("']")?))
}

fn format_map(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
    lines.join("\n")
}

/// The text of a container's resource.
pub(crate) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    of: &ResourceFieldRef,
    node: &NodeFacts,
) -> Result<String, String> {
    let container = match of.container_name.as_str() {
        "" => own,
        name => pod.container(name).map(|(_, c)| c),
    };
    let container = container.ok_or_else(|| format!("container {:?} not found", of.container_name))?;
    let (list, name) = of.resource.split_once('.').unwrap_or(("", of.resource.as_str()));
    let limits = &container.resources.limits;
    let found = match list {
        "limits" if !amount(limits, name).is_zero() => amount(limits, name),
        "limits" => match name {
            "cpu" => Quantity::from_units(node.cpus),
            "memory" => Quantity::from_units(node.memory_bytes),
            "ephemeral-storage" => Quantity::from_units(node.ephemeral_bytes),
            _ => Quantity::from_units(0),
        },
        "requests" => amount(&container.resources.requests, name),
        _ => return Err(format!("unsupported container resource : {}", of.resource)),
    };
    let divisor = of.divisor.as_ref().and_then(quantity).filter(|d| !d.is_zero());
    let divisor = divisor.unwrap_or_else(|| Quantity::from_units(1));
    Ok(divided(found, divisor).to_string())
}

/// Rounded up, as upstream does.
fn divided(amount: Quantity, divisor: Quantity) -> i64 {
    if divisor.millis() % 1000 == 0 && amount.millis().checked_rem(1000) == Some(0) {
        let (amount, divisor) = (amount.units(), divisor.units().max(1));
        return amount.div_euclid(divisor) + i64::from(amount.rem_euclid(divisor) > 0);
    }
    let (amount, divisor) = (amount.millis(), divisor.millis().max(1));
    amount.div_euclid(divisor) + i64::from(amount.rem_euclid(divisor) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"b": "2", "a": "1\"x"}},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}}]}}))
        .unwrap();
        let node = NodeFacts { node_ip: "10.0.0.1".into(), cpus: 4, memory_bytes: 1 << 30, ..NodeFacts::default() };
        let ips = ["10.42.0.5".to_owned()];
        for (path, expect) in [
            ("metadata.name", "p"),
            ("metadata.labels", "a=\"1\\\"x\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['none']", ""),
            ("spec.nodeName", "n1"),
            ("status.hostIP", "10.0.0.1"),
            ("status.podIP", "10.42.0.5"),
        ] {
            assert_eq!(field(&pod, path, &ips, &node).unwrap(), expect, "{path}");
        }
        assert!(field(&pod, "status.phase", &ips, &node).is_err());
        let check = |resource_name: &str, divisor: &str, expect: &str| {
            let of = ResourceFieldRef {
                resource: resource_name.into(),
                divisor: Some(divisor.into()),
                ..ResourceFieldRef::default()
            };
            assert_eq!(resource(&pod, pod.spec.containers.first(), &of, &node).unwrap(), expect);
        };
        check("limits.cpu", "0", "2");
        check("limits.cpu", "1m", "1500");
        check("requests.cpu", "1", "1");
        check("limits.memory", "1Mi", "64");
        check("limits.memory", "0", "67108864");
    }
}
