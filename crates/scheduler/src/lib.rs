//! The scheduler: assigns each pod to the node that suits it best, and says why when none does.
//!
//! ```text
//! informers --> snapshot (nodes with what runs on them) + queue (pods by priority, back-off)
//! queue.pop --> framework::place (pure: filter all nodes, score those that fit) --> binding
//!           `-> preemption::plan (pure: whose departure would help?) --> evictions | the reasons, per node
//! ```
//! Every node is scored, not a sample of them. A plugin is one file in `plugins/` and one line in `plugins.rs`.
//!
//! What belongs here: kube-scheduler's job. What does not: volumes' binding controller, eviction.

mod evict;
mod framework;
mod metrics;
mod plugins;
mod preemption;
mod queue;
mod run;
mod snapshot;
mod views;

pub use run::{Options, run};
