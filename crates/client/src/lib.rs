//! The Kubernetes API client: objects in, objects out. Every component of Navarch reaches the API through [`Client`] and
//! nothing else, so each of them also runs against a foreign API server.
//!
//! [`Transport`] is the seam: [`Https`] speaks to any API server; the API server's crate has another that enters its
//! request pipeline directly (same authorization, same admission, no socket, shared `Arc<Object>`s); [`testing`] has one
//! over a map in memory.
//!
//! ```text
//! kubeconfig -> Https -> Client -> Informer -> Lister (cache, indexes)
//!                                         \-> Change -> WorkQueue -> worker -> Client
//! ```
//!
//! What belongs here: requests, lists, watches, informers, work queues, event recording, leases and leader election,
//! kubeconfig. What does not: decisions of any component.
//!
//! Start reading at [`transport`], then [`informer`].

pub mod credential;
pub mod events;
pub mod https;
pub mod informer;
pub mod kubeconfig;
pub mod leader;
pub mod lease;
mod lenient;
mod lister;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
pub mod workqueue;

pub use credential::Credential;
pub use events::{EventWriter, ObjectReference, Recorder, Severity};
pub use https::{Https, Server};
pub use informer::{Change, Informer};
pub use kubeconfig::Kubeconfig;
pub use lenient::Lenient;
pub use lister::{IndexFn, Lister};
pub use transport::{
    ApplyOptions, Client, DeleteOptions, List, ListOptions, Patch, Propagation, Resource, Result, Transport,
    WatchEvent, WatchStream, WriteOptions,
};
pub use workqueue::WorkQueue;
