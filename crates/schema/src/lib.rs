//! Schemas: what fields each type of the API has, how its lists merge, and what follows from that: strict decoding,
//! patch strategies, OpenAPI documents.
//!
//! The table is data (`data/types.json`: facts read off upstream v1.36's protobuf definitions and OpenAPI marks), parsed at the first use. A
//! CustomResourceDefinition adds types of the same form at run time.
//!
//! What belongs here: types and pure functions over them. What does not: which resources are served (`kinds`), defaults and
//! validation beyond the shape.

mod decode;
pub mod json;
pub mod openapi;
mod place;
pub mod protobuf;
mod strategic;
mod types;
pub mod yaml;

pub use decode::{DecodeError, Decoded, Problem, decode, decode_json, decode_yaml, strict_error};
pub use place::{Place, place};
pub use strategic::{PatchError, strategic_merge};
pub use types::{Field, ListType, Opaque, Scalar, Struct, Table, Type, table};
