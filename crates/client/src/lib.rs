//! The Kubernetes API client: objects in, objects out. Every component of Navarch reaches the API through [`Client`] and
//! nothing else, so each of them also runs against a foreign API server.
//!
//! [`Transport`] is the seam: [`https`] speaks to any API server; the API server's crate has another that enters its
//! request pipeline directly (same authorization, same admission, no socket, shared `Arc<Object>`s).
//!
//! What belongs here: requests, lists, watches, informers, work queues, event recording, lease election, kubeconfig.
//! What does not: decisions of any component.

pub mod informer;
pub mod transport;

pub use informer::{Change, Informer, Lister};
pub use transport::{
    ApplyOptions, Client, DeleteOptions, List, ListOptions, Patch, Propagation, Resource, Result, Transport,
    WatchEvent, WatchStream, WriteOptions,
};
