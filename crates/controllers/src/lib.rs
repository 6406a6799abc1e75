//! The controllers: one room (file) per controller, one runner.
//!
//! A room is plain data and a pure function: `reconcile(object, world) -> Plan`. It reads caches through [`World`], knows no
//! clock but the world's, and does nothing itself; a [`Plan`] is operations in steps, events, and a time to look again. The
//! [`runner`] does all I/O:
//!
//! ```text
//! informers (shared) --Change--> Watch::wakes --key--> WorkQueue --> worker: caches as new as our own writes?
//!      ^                                                               |-- no: later
//!      |                                                               '-- yes: reconcile -> Plan -> execute
//!      '------------------------- API server <--------------------------------------------------'
//! ```
//! *Expectations*: a key waits until the caches have seen every write that was made for it, by resourceVersion; so a
//! controller never counts pods that it has just made as missing. A write that fails ends the plan (a status is still
//! written) and the key comes again with back-off; the next reconciliation is told what failed ([`World::failure`]).
//! A panic in one reconciliation is logged and that key comes again; nothing else stops.
//!
//! Three controllers are loops of their own, since they ask the API: [`garbage`], [`namespace`] and [`certificates::approving`]. Their decisions are
//! pure too.
//!
//! Never: a write outside the runner's `execute` and those two loops; a decision that depends on what changed rather than
//! on what is; writes under another identity than `system:serviceaccount:kube-system:<name>`.
//!
//! Start reading at [`plan`], then `replicaset.rs`.

pub mod bootstrap_signer;
pub mod certificates;
mod clusterrole;
pub mod controller;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
mod diff;
mod discovery;
pub mod disruption;
mod endpoint_pods;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
pub mod garbage;
mod hash;
pub mod job;
pub mod kinds;
pub mod legacy_tokens;
pub mod namespace;
pub mod node_lifecycle;
mod owner;
pub mod plan;
pub mod pod_garbage;
mod ranking;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
mod revisions;
mod root_ca;
pub mod runner;
mod secrets;
pub mod service_account;
pub mod service_cidr;
pub mod statefulset;
#[cfg(test)]
mod testing;
pub mod token_cleaner;
pub mod tokens;
pub mod ttl;
pub mod ttl_after_finished;
pub mod views;
pub mod volume_binder;
pub mod volume_protection;
pub mod world;

pub use controller::{Controller, Watch};
pub use plan::{Event, Op, Plan, Verb};
pub use runner::{Identities, run};
pub use world::World;

use std::sync::Arc;

/// How the controllers are set up.
#[derive(Clone)]
pub struct Options {
    /// The cluster's certificate authority in PEM, published as `kube-root-ca.crt` in each namespace.
    pub ca_pem: String,
    /// How long a node may be silent before it counts as unknown: 50 s (`--node-monitor-grace-period`).
    pub node_grace_seconds: i64,
    /// Finished pods beyond this number are removed, oldest first: 12,500 (`--terminated-pod-gc-threshold`).
    pub terminated_pods: usize,
    /// What tokens and certificates are signed with; without it none are.
    pub keys: Option<Keys>,
}

/// The cluster's keys.
#[derive(Clone)]
pub struct Keys(pub Arc<pki::Pki>);

impl Default for Options {
    fn default() -> Self {
        Self { ca_pem: String::new(), node_grace_seconds: 50, terminated_pods: 12_500, keys: None }
    }
}

/// All controllers that the runner runs.
pub static CONTROLLERS: &[&Controller] = &[
    &bootstrap_signer::CONTROLLER,
    &certificates::cleaning::CONTROLLER,
    &certificates::signing::CONTROLLER,
    &clusterrole::CONTROLLER,
    &cronjob::CONTROLLER,
    &daemonset::CONTROLLER,
    &deployment::CONTROLLER,
    &disruption::CONTROLLER,
    &endpoints::CONTROLLER,
    &endpointslice::CONTROLLER,
    &endpointslice_mirroring::CONTROLLER,
    &job::CONTROLLER,
    &legacy_tokens::CONTROLLER,
    &node_lifecycle::CONTROLLER,
    &node_lifecycle::EVICTION,
    &pod_garbage::CONTROLLER,
    &replicaset::CONTROLLER,
    &replicationcontroller::CONTROLLER,
    &resourcequota::CONTROLLER,
    &root_ca::CONTROLLER,
    &service_account::CONTROLLER,
    &service_cidr::CONTROLLER,
    &statefulset::CONTROLLER,
    &token_cleaner::CONTROLLER,
    &tokens::CONTROLLER,
    &ttl::CONTROLLER,
    &ttl_after_finished::CONTROLLER,
    &volume_binder::CLAIMS,
    &volume_binder::VOLUMES,
    &volume_protection::CLAIMS,
    &volume_protection::VOLUMES,
    &volume_protection::CLASSES,
];
