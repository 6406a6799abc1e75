//! What a controller is: plain data and a pure function.

use client::Change;
use object::Object;

use crate::Plan;
use crate::kinds::Kind;
use crate::world::World;
use std::sync::Arc;

/// A controller. Its room is the file with the `static`.
pub struct Controller {
    /// The service account in `kube-system` under whose rights it works, and the source of its events.
    pub name: &'static str,
    /// The kind that it reconciles.
    pub of: &'static Kind,
    /// Kinds whose objects it controls: a change wakes their owner, and whom an ownerless one might belong to.
    pub owns: &'static [&'static Kind],
    /// What else wakes it.
    pub watches: &'static [Watch],
    /// Kinds that it only reads.
    pub reads: &'static [&'static Kind],
    /// Keys that are worked on at once.
    pub workers: usize,
    /// Decides: reads caches, returns operations. No I/O, no clock but the world's.
    pub reconcile: fn(&Arc<Object>, &World) -> Plan,
    /// Decides for a key whose object is gone.
    pub gone: fn(&str, &World) -> Plan,
}

/// A kind whose changes wake objects of another kind.
pub struct Watch {
    /// The kind that changes.
    pub kind: &'static Kind,
    /// The keys that it wakes.
    pub wakes: fn(&Change, &World) -> Vec<String>,
}

/// For controllers that have nothing to do when an object is gone.
pub fn nothing(_: &str, _: &World) -> Plan {
    Plan::none()
}
