//! The table of built-in kinds: one room (file) per resource, plain data plus pure rules. Routing, discovery, OpenAPI, RBAC
//! verbs, watch, patch, apply and the tables of `kubectl get` all follow from a [`Kind`]; a CustomResourceDefinition makes
//! the same declaration at run time.
//!
//! What belongs here: names, scope, versions, defaulting, validation, what an update may not change, status separation,
//! selectable fields, columns. What does not: anything that needs a clock, another object, the store or a request
//! (that is admission, in `apiserver`).
//!
//! Start reading at [`kind`](crate::Kind), then `core/configmap.rs` for the smallest room.

pub mod kind;

pub use kind::{Column, Kind, Rules, Scope, Subresource};
