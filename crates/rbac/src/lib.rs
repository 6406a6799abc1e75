//! The RBAC authorizer, pure: rules and bindings in, a decision out. And upstream's default policy as data.
//!
//! What belongs here: matching of rules, subjects and attributes; escalation checks; aggregation. What does not: keeping the
//! rules current (the API server watches its own objects), the Node authorizer.

mod bootstrap;
mod escalation;
mod index;
mod rules;

pub use bootstrap::bootstrap_objects;
pub use escalation::{describe, missing};
pub use index::{Index, aggregate};
pub use rules::{Attributes, Rule, denial};
