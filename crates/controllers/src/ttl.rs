//! TTL: the annotation that tells kubelets for how long they may keep Secrets and ConfigMaps, longer in larger clusters.

use std::sync::Arc;

use client::Patch;
use object::Object;
use serde::Deserialize;
use serde_json::json;

use crate::kinds::NODES;
use crate::plan::Op;
use crate::views::Meta;
use crate::world::World;
use crate::{Controller, Plan};

/// The controller. Nodes report often enough: a change of the cluster's size reaches each with its next report.
pub static CONTROLLER: Controller = Controller {
    name: "ttl-controller",
    of: &NODES,
    owns: &[],
    watches: &[],
    reads: &[],
    workers: 1,
    reconcile,
    gone: crate::controller::nothing,
};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Nodes from, nodes to, seconds. The ranges overlap, so that a cluster at a border does not go to and fro.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

#[derive(Default, Deserialize)]
#[serde(default)]
struct View {
    metadata: Meta,
}

fn seconds(nodes: usize, known: Option<u32>) -> u32 {
    let mut fitting = STEPS.iter().filter(|(from, to, _)| (*from..=*to).contains(&nodes)).map(|(.., seconds)| *seconds);
    let first = fitting.clone().next().unwrap_or_default();
    fitting.find(|seconds| Some(*seconds) == known).unwrap_or(first)
}

fn reconcile(node: &Arc<Object>, world: &World) -> Plan {
    let mut plan = Plan::none();
    let view: View = node.view().unwrap_or_default();
    let known = view.metadata.annotations.unwrap_or_default().get(ANNOTATION).and_then(|text| text.parse().ok());
    let wanted = seconds(world.count(&NODES), known);
    if known != Some(wanted) {
        let patch = json!({"metadata": {"annotations": {ANNOTATION: wanted.to_string()}}});
        plan.push(Op::patch(&NODES, node, Patch::Strategic(patch)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn borders_are_crossed_once() {
        for (nodes, known, wanted) in [
            (1, None, 0),
            (100, Some(0), 0),
            (101, Some(0), 15),
            (95, Some(15), 15),
            (89, Some(15), 0),
            (5000, Some(60), 300),
            (3, Some(7), 0),
        ] {
            assert_eq!(seconds(nodes, known), wanted, "{nodes} {known:?}");
        }
    }
}
