//! Pods: one worker per pod that observes, plans and acts.
//!
//! ```text
//! API (informer) --> manager --> worker: observe -> plan -> act -> status   (one per uid)
//! runtime events, probe results, changed ConfigMaps, back-offs --> wake ---^          |
//!                                                    status writer <------------------+
//! ```
//! `plan` and `status` are pure; `worker` and its helpers (`start`, `kill`, `hooks`) only do what they say.

pub(crate) mod admit;
pub(crate) mod backoff;
pub(crate) mod hooks;
pub(crate) mod kill;
pub(crate) mod manager;
pub(crate) mod observed;
pub(crate) mod plan;
pub(crate) mod resize;
mod stage;
mod start;
pub(crate) mod status;
mod termination;
pub(crate) mod worker;
mod writer;
