//! The table of built-in kinds. What a resource *is called* (names, scope, verbs, columns) is data read off upstream
//! (`data/resources.json`); what it *does* (defaulting, validation, rows) is a room of pure rules, one file per resource.
//! Routing, discovery, OpenAPI, RBAC verbs, watch, patch, apply and the tables of `kubectl get` all follow from a [`Kind`];
//! a CustomResourceDefinition makes the same declaration at run time ([`custom`]).
//!
//! What belongs here: names, scope, versions, defaulting, validation, what an update may not change, status separation,
//! selectable fields, columns. What does not: anything that needs a clock, another object, the store or a request
//! (that is admission, in `apiserver`).
//!
//! Start reading at [`kind`](crate::Kind), then `core/configmap.rs` for the smallest room. A new room is one file and one line in
//! `rooms.rs`.

mod addresses;
mod admissionregistration;
pub mod age;
mod apps;
mod authorization;
mod autoscaling;
mod batch;
mod cells;
mod certificates;
mod checks;
mod convert;
mod core;
pub mod custom;
mod diff;
mod extensions;
mod flowcontrol;
pub mod kind;
mod metadata;
pub mod names;
mod networking;
pub mod podsecurity;
mod policy;
pub mod quota;
mod rbac;
mod resource;
mod rooms;
mod scheduling;
mod spot;
mod storage;
mod table;
#[cfg(test)]
mod testing;
mod tree;

pub use crate::core::pod::{parts as pod_parts, qos as pod_qos};
pub use authorization::validate_attributes;
pub use certificates::{prepare_approval, validate_status as validate_approval};
pub use convert::convert;
pub use core::service::validate_addresses as validate_service_addresses;
pub use kind::{Column, Kind, NO_RULES, Rules, Scope, Subresource};
pub use metadata::{validate_metadata, validate_tags};
pub use resource::validate_admin_access;
pub use table::{Table, fields, table};
