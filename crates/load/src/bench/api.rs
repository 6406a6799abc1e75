//! Small objects: create, read, patch, apply, delete.

use bytes::Bytes;
use serde_json::json;

use super::{Bench, NAMESPACE};
use crate::drive::{alone, flat_out, sharing};
use crate::objects;
use crate::report::Sample;
use crate::wire::Request;

/// HTTP/2 connections that the callers share.
const SHARED_CONNECTIONS: usize = 5;

/// The phases, in order: each works on what the one before left.
const PHASES: [&str; 6] = [
    "create_configmap",
    "get_configmap",
    "get_configmap_h2",
    "patch_configmap_merge",
    "apply_configmap_ssa",
    "delete_configmap",
];

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let mut best: [Option<Sample>; PHASES.len()] = Default::default();
    for round in 0..bench.options.rounds {
        for (phase, best) in PHASES.iter().zip(&mut best) {
            // Without its objects no phase has anything to do.
            if bench.wants(phase) || matches!(*phase, "create_configmap" | "delete_configmap") {
                let sample = one(bench, phase, round).await?;
                bench.keep(phase, best, sample);
            }
        }
    }
    Ok(())
}

async fn one(bench: &Bench<'_>, phase: &str, round: usize) -> anyhow::Result<Sample> {
    let (endpoint, server) = (&bench.subject.endpoint, bench.subject.pid);
    let (connections, objects) = (bench.options.connections, bench.options.objects);
    let collection = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let name = |index: usize| format!("cm-{round}-{}", index % objects);
    let one = |index: usize| format!("{collection}/{}", name(index));
    if phase == "get_configmap_h2" {
        let (_connections, mut callers) = sharing(endpoint, SHARED_CONNECTIONS, connections).await?;
        return flat_out(&mut callers, objects * 3, server, |index| Request::get(one(index))).await;
    }
    let mut callers = alone(endpoint, connections).await?;
    match phase {
        "create_configmap" => {
            let bodies: Vec<Bytes> = (0..objects).map(|index| objects::config_map(&name(index))).collect();
            let request =
                |index: usize| Request::new("POST", &*collection).body("application/json", bodies[index].clone());
            flat_out(&mut callers, objects, server, request).await
        }
        "get_configmap" => flat_out(&mut callers, objects * 3, server, |index| Request::get(one(index))).await,
        "patch_configmap_merge" => {
            let body = Bytes::from_static(br#"{"data":{"p":"1"}}"#);
            let request = |index| Request::new("PATCH", one(index)).body("application/merge-patch+json", body.clone());
            flat_out(&mut callers, objects, server, request).await
        }
        "apply_configmap_ssa" => {
            let request = |index: usize| {
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name(index)}, "data": {"s": "1"}});
                Request::new("PATCH", one(index) + "?fieldManager=bench&force=true")
                    .body("application/apply-patch+yaml", body.to_string())
            };
            flat_out(&mut callers, objects, server, request).await
        }
        _ => flat_out(&mut callers, objects, server, |index| Request::new("DELETE", one(index))).await,
    }
}
