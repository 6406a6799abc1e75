//! The objects that are written, in the shapes of apibench.py.

use bytes::Bytes;
use serde_json::{Value, json};

/// A ConfigMap of about 1 KiB as it is stored.
pub(crate) fn config_map(name: &str) -> Bytes {
    let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "bench"}},
        "data": {"a": "x".repeat(400), "b": "y".repeat(140), "n": name}});
    value.to_string().into()
}

/// A pod that no scheduler cares for; 3.4 kB as it is stored.
pub(crate) fn pod(index: usize) -> Bytes {
    let env: Vec<Value> = (0..5).map(|i| json!({"name": format!("V{i}"), "value": "v".repeat(20)})).collect();
    let value = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{index}"), "labels": {"app": "bench", "shard": (index % 10).to_string()},
            "annotations": {"bench/x": "z".repeat(64)}},
        "spec": {"schedulerName": "bench-none", "containers": [{"name": "c", "image": "registry.example/pause:3.10",
            "env": env, "ports": [{"containerPort": 80}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 80}}}]}});
    value.to_string().into()
}

/// A pod that runs until it is killed.
pub(crate) fn sleeper(index: usize) -> Bytes {
    let value = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("sleeper-{index}"), "labels": {"app": "sleeper"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "busybox:1",
            "command": ["sleep", "100000"]}]}});
    value.to_string().into()
}
