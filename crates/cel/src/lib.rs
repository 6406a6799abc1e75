//! The Common Expression Language (CEL) with the library that Kubernetes gives it: rules of custom resources, admission policies,
//! match conditions of webhooks.
//!
//! ```text
//! text --parse--> Expr --check (types of variables)--> Type, or what is wrong and where, as cel-go says it
//!                      --instantiate--> or what its constants make certain to fail
//!                      --most_cost (sizes of variables)--> what it costs at most, as upstream estimates it
//!                      --evaluate (variables, budget)--> Value, or why there is none
//! ```
//! Evaluation is bounded: every step costs, so does every byte and item that a function looks at, and what is over budget is an error.
//! Nothing here does input or output; what needs the server (the authorizer) is a [`Host`] that the caller brings.
//!
//! What belongs here: the language, its types, its library. What does not: which expressions there are and what variables they see.
//!
//! Start reading at [`parse`], then `evaluate.rs`.

mod check;
mod constants;
mod cost;
mod devices;
mod error;
mod evaluate;
mod expr;
mod lexer;
mod library;
mod names;
mod operators;
mod parser;
mod schemas;
mod signatures;
mod sizes;
mod value;

pub use check::{ANY, CONFIGURATION, Environment, JSON_PATCH, Type, check, check_typed};
pub use constants::instantiate;
pub use cost::{Types, most_cost, most_cost_with};
pub use devices::{device_sizes, device_type};
pub use error::{Compile, Failure};
pub use evaluate::{Budget, Variables, evaluate};
pub use expr::Expr;
pub use names::escape;
pub use parser::{parse, parse_binding};
pub use schemas::{from_json, from_schema, to_json, type_named, type_of, with_field};
pub use sizes::{Sizes, sizes_of};
pub use value::{Host, Key, List, ListKind, Map, Value};
