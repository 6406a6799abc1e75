use serde_json::json;

use crate::testing::Case;

fn hpa(version: &'static str) -> Case {
    Case::new(version, "HorizontalPodAutoscaler")
}

#[test]
fn defaults() {
    let given = json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "behavior": {"scaleDown": {}}}});
    hpa("autoscaling/v2").defaulted(
        given.clone(),
        json!({"spec": {"maxReplicas": 3, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}],
            "behavior": {"scaleDown": {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
                "scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [
                    {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]}}}}),
    );
    hpa("autoscaling/v1").defaulted(
        json!({"spec": {"maxReplicas": 3}}),
        json!({"spec": {"maxReplicas": 3, "minReplicas": 1, "targetCPUUtilizationPercentage": 80}}),
    );
}

#[test]
fn errors() {
    hpa("autoscaling/v2").invalid(
        json!({"spec": {"minReplicas": 5, "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "apiVersion": "v1"},
            "metrics": [{"type": "Pods"}]}}),
        &[
            "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
            "spec.scaleTargetRef.name: Required value",
            "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
        ],
    );
    hpa("autoscaling/v1").invalid(
        json!({"spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        &[
            "spec.maxReplicas: Required value: must be set and greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    );
}

#[test]
fn rows_are_the_same_in_both_versions() {
    let cells = json!(["x", "Deployment/d", "cpu: 7%/50%", "1", 3, 2, "10s"]);
    let target = json!({"kind": "Deployment", "name": "d"});
    hpa("autoscaling/v2").row(
        json!({"spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]},
            "status": {"currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 7}}}]}}),
        cells.clone(),
    );
    hpa("autoscaling/v1").row(
        json!({"spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
            "status": {"currentReplicas": 2, "currentCPUUtilizationPercentage": 7}}),
        cells,
    );
}
