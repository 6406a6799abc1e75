//! The rules, in the order in which they are asked.

mod inter_pod_affinity;
mod node_affinity;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod taint_toleration;
mod topology_spread;

use crate::framework::Plugin;

/// All plugins. The order of upstream's default profile.
pub(crate) static PLUGINS: &[Plugin] = &[
    node_unschedulable::PLUGIN,
    taint_toleration::PLUGIN,
    node_affinity::PLUGIN,
    node_ports::PLUGIN,
    node_resources::FIT,
    node_resources::BALANCED,
    topology_spread::PLUGIN,
    inter_pod_affinity::PLUGIN,
];
