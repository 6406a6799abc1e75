//! Cells of tables that are plain paths: `.spec.nodeName`, with `|text` for what is absent, `@age` for an age, `#` for a count.

use serde_json::Value;

use crate::age;

/// The value at a dotted path; `Null` when it is absent. Keys with dots are not reachable.
pub(crate) fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').filter(|p| !p.is_empty()).fold(value, |v, key| match key.parse::<usize>() {
        Ok(index) if v.is_array() => &v[index],
        _ => &v[key],
    })
}

/// Evaluates cells: see the module.
pub(crate) fn row(object: &Value, now: i64, cells: &[&str]) -> Vec<Value> {
    cells.iter().map(|cell| one(object, now, cell)).collect()
}

fn one(object: &Value, now: i64, cell: &str) -> Value {
    if *cell == *"@age" {
        return age::since(&object["metadata"]["creationTimestamp"], now).into();
    }
    if let Some(path) = cell.strip_prefix('#') {
        let counted = match at(object, path) {
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            _ => 0,
        };
        return counted.into();
    }
    let (path, absent) = cell.split_once('|').unwrap_or((cell, ""));
    match at(object, path) {
        Value::Null => absent.into(),
        Value::String(text) if text.is_empty() => absent.into(),
        Value::Bool(flag) => flag.to_string().into(),
        Value::Array(items) if items.is_empty() => absent.into(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",").into(),
        other => other.clone(),
    }
}

/// Names and images of a pod template's containers, and a selector: the wide columns of workloads.
pub(crate) fn workload(object: &Value) -> Vec<Value> {
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    let join = |field: &str| {
        let all = containers.into_iter().flatten().filter_map(|c| c[field].as_str());
        Value::from(all.collect::<Vec<_>>().join(","))
    };
    vec![join("name"), join("image"), selector(&object["spec"]["selector"]).into()]
}

/// A selector as text; `<none>` for an empty one.
pub(crate) fn selector(selector: &Value) -> String {
    let parsed = if selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some() {
        object::LabelSelector::from_object(selector)
    } else {
        let map = serde_json::from_value(selector.clone()).unwrap_or_default();
        Some(object::LabelSelector::from_map(&map))
    };
    let text = parsed.map(|s| s.to_string()).unwrap_or_default();
    if text.is_empty() { "<none>".into() } else { text }
}

/// Paths for kinds whose rows need no code, by `group/plural`.
pub(crate) fn plain(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "/persistentvolumeclaims" => &[
            ".metadata.name",
            ".status.phase",
            ".spec.volumeName",
            ".status.capacity.storage",
            ".status.accessModes",
            ".spec.storageClassName",
            ".spec.volumeAttributesClassName|<unset>",
            "@age",
            ".spec.volumeMode",
        ],
        "/persistentvolumes" => &[
            ".metadata.name",
            ".spec.capacity.storage",
            ".spec.accessModes",
            ".spec.persistentVolumeReclaimPolicy",
            ".status.phase",
            ".spec.claimRef.name",
            ".spec.storageClassName",
            ".spec.volumeAttributesClassName|<unset>",
            ".status.reason",
            "@age",
            ".spec.volumeMode",
        ],
        "/componentstatuses" => &[".metadata.name", ".status", ".message", ".error"],
        "apiregistration.k8s.io/apiservices" => {
            &[".metadata.name", ".spec.service.name|Local", ".status.conditions.0.status", "@age"]
        }
        "apps/controllerrevisions" => {
            &[".metadata.name", ".metadata.ownerReferences.0.name|<none>", ".revision", "@age"]
        }
        "autoscaling/horizontalpodautoscalers" => &[
            ".metadata.name",
            ".spec.scaleTargetRef.name",
            ".targets|<unknown>",
            ".spec.minReplicas|<unset>",
            ".spec.maxReplicas",
            ".status.currentReplicas|0",
            "@age",
        ],
        "batch/cronjobs" => &[
            ".metadata.name",
            ".spec.schedule",
            ".spec.timeZone|<none>",
            ".spec.suspend|False",
            "#.status.active",
            ".status.lastScheduleTime|<none>",
            "@age",
            ".spec.jobTemplate.spec.template.spec.containers.0.name",
            ".spec.jobTemplate.spec.template.spec.containers.0.image",
            ".selector|<none>",
        ],
        "certificates.k8s.io/certificatesigningrequests" => &[
            ".metadata.name",
            "@age",
            ".spec.signerName",
            ".spec.username",
            ".spec.expirationSeconds|<none>",
            ".status.conditions.0.type|Pending",
        ],
        "networking.k8s.io/ingressclasses" => {
            &[".metadata.name", ".spec.controller", ".spec.parameters.name|<none>", "@age"]
        }
        "networking.k8s.io/ingresses" => &[
            ".metadata.name",
            ".spec.ingressClassName|<none>",
            ".spec.rules.0.host|*",
            ".status.loadBalancer.ingress.0.ip",
            ".ports|80",
            "@age",
        ],
        "networking.k8s.io/servicecidrs" => &[".metadata.name", ".spec.cidrs", "@age"],
        "policy/poddisruptionbudgets" => &[
            ".metadata.name",
            ".spec.minAvailable|N/A",
            ".spec.maxUnavailable|N/A",
            ".status.disruptionsAllowed|0",
            "@age",
        ],
        "rbac.authorization.k8s.io/clusterrolebindings" | "rbac.authorization.k8s.io/rolebindings" => {
            &[".metadata.name", ".roleRef.name", "@age", ".users", ".groups", ".serviceAccounts"]
        }
        "storage.k8s.io/csidrivers" => &[
            ".metadata.name",
            ".spec.attachRequired",
            ".spec.podInfoOnMount",
            ".spec.storageCapacity",
            ".spec.tokenRequests.0.audience|<unset>",
            ".spec.requiresRepublish",
            ".spec.volumeLifecycleModes",
            "@age",
        ],
        "storage.k8s.io/csinodes" => &[".metadata.name", "#.spec.drivers", "@age"],
        "storage.k8s.io/storageclasses" => &[
            ".metadata.name",
            ".provisioner",
            ".reclaimPolicy|Delete",
            ".volumeBindingMode|Immediate",
            ".allowVolumeExpansion|false",
            "@age",
        ],
        "storage.k8s.io/volumeattachments" => &[
            ".metadata.name",
            ".spec.attacher",
            ".spec.source.persistentVolumeName",
            ".spec.nodeName",
            ".status.attached",
            "@age",
        ],
        "storage.k8s.io/volumeattributesclasses" => &[".metadata.name", ".driverName", "@age"],
        "scheduling.k8s.io/priorityclasses" => {
            &[".metadata.name", ".value", ".globalDefault|false", "@age", ".preemptionPolicy"]
        }
        "coordination.k8s.io/leases" => &[".metadata.name", ".spec.holderIdentity", "@age"],
        "node.k8s.io/runtimeclasses" => &[".metadata.name", ".handler", "@age"],
        "admissionregistration.k8s.io/mutatingwebhookconfigurations"
        | "admissionregistration.k8s.io/validatingwebhookconfigurations" => &[".metadata.name", "#.webhooks", "@age"],
        "admissionregistration.k8s.io/validatingadmissionpolicies" => {
            &[".metadata.name", "#.spec.validations", ".spec.paramKind.kind|<unset>", "@age"]
        }
        "admissionregistration.k8s.io/mutatingadmissionpolicies" => {
            &[".metadata.name", "#.spec.mutations", ".spec.paramKind.kind|<unset>", "@age"]
        }
        "admissionregistration.k8s.io/validatingadmissionpolicybindings"
        | "admissionregistration.k8s.io/mutatingadmissionpolicybindings" => {
            &[".metadata.name", ".spec.policyName", ".spec.paramRef.name|<unset>", "@age"]
        }
        "resource.k8s.io/resourceclaims" => &[".metadata.name", ".state|pending", "@age"],
        "resource.k8s.io/resourceslices" => {
            &[".metadata.name", ".spec.nodeName|<unset>", ".spec.driver", ".spec.pool.name", "@age"]
        }
        "flowcontrol.apiserver.k8s.io/flowschemas" => &[
            ".metadata.name",
            ".spec.priorityLevelConfiguration.name",
            ".spec.matchingPrecedence",
            ".spec.distinguisherMethod.type|<none>",
            "@age",
            ".missing|False",
        ],
        "flowcontrol.apiserver.k8s.io/prioritylevelconfigurations" => &[
            ".metadata.name",
            ".spec.type",
            ".spec.limited.nominalConcurrencyShares|<none>",
            ".spec.limited.limitResponse.queuing.queues|<none>",
            ".spec.limited.limitResponse.queuing.handSize|<none>",
            ".spec.limited.limitResponse.queuing.queueLengthLimit|<none>",
            "@age",
        ],
        "apiextensions.k8s.io/customresourcedefinitions"
        | "rbac.authorization.k8s.io/clusterroles"
        | "rbac.authorization.k8s.io/roles" => &[".metadata.name", ".metadata.creationTimestamp"],
        _ => return None,
    })
}
