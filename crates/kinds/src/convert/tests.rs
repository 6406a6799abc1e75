use serde_json::{Value, json};

use super::*;

fn gvk(api_version: &str, kind: &str) -> Gvk {
    Gvk::from_api_version(api_version, kind)
}

fn check(from: &str, to: &str, value: Value, wanted: Value) {
    let kind = value["kind"].as_str().unwrap().to_owned();
    let there = convert(value.clone(), &gvk(from, &kind), &gvk(to, &kind));
    assert_eq!(there, wanted);
    assert_eq!(convert(there, &gvk(to, &kind), &gvk(from, &kind)), value, "and back");
}

#[test]
fn events_rename_their_fields() {
    check(
        "v1",
        "events.k8s.io/v1",
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"},
            "reason": "Started", "message": "Started container", "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z", "count": 2, "type": "Normal",
            "eventTime": null, "reportingComponent": "kubelet", "reportingInstance": "n"}),
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p"},
            "reason": "Started", "note": "Started container", "deprecatedSource": {"component": "kubelet", "host": "n"},
            "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "deprecatedLastTimestamp": "2026-01-01T00:00:01Z",
            "deprecatedCount": 2, "type": "Normal", "eventTime": null, "reportingController": "kubelet", "reportingInstance": "n"}),
    );
}

#[test]
fn a_cpu_percentage_is_all_that_v1_knows() {
    check(
        "autoscaling/v1",
        "autoscaling/v2",
        json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 3,
                "targetCPUUtilizationPercentage": 50}}),
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 3,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 50}}}]}}),
    );
}

#[test]
fn what_v1_cannot_say_travels_in_annotations() {
    let v2 = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "annotations": {"mine": "x"}},
        "spec": {"maxReplicas": 3,
            "behavior": {"scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}},
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "10"}}},
                {"type": "External", "external": {"metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}}, "target": {"type": "Value", "value": "5"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}]},
        "status": {"currentReplicas": 1, "desiredReplicas": 2,
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7, "averageValue": "7m"}}}],
            "conditions": [{"type": "AbleToScale", "status": "True"}]}});
    let (older, newer) =
        (gvk("autoscaling/v1", "HorizontalPodAutoscaler"), gvk("autoscaling/v2", "HorizontalPodAutoscaler"));
    let v1 = convert(v2.clone(), &newer, &older);
    assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 60);
    assert_eq!(v1["status"]["currentCPUUtilizationPercentage"], 7);
    assert_eq!(v1["metadata"]["annotations"].as_object().unwrap().len(), 5, "{v1}");
    assert!(
        v1["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/behavior"]
            .as_str()
            .unwrap()
            .contains("ScaleDown")
    );
    assert_eq!(convert(v1, &older, &newer), v2);
}

#[test]
fn without_a_metric_the_target_is_four_fifths_of_the_cpu() {
    let v1 = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {}, "spec": {"maxReplicas": 3}});
    let v2 = convert(
        v1,
        &gvk("autoscaling/v1", "HorizontalPodAutoscaler"),
        &gvk("autoscaling/v2", "HorizontalPodAutoscaler"),
    );
    assert_eq!(v2["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
}
