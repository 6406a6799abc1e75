//! Schemas: what fields each type of the API has, how its lists merge, and what follows from that: strict decoding,
//! patches, OpenAPI documents, protobuf.
//!
//! ```text
//! data/types.json ----> types::table() --+--> decode: bytes or a tree -> a typed tree, in Go's words when it does not fit
//! (made by examples/generate.rs          +--> place: how values merge, for object::patch (strategic merge, apply, owners)
//!  out of k8s-openapi)                   +--> openapi: documents, with data/descriptions.json.z
//! data/protobuf.json --------------------+--> protobuf: the binary form of objects
//! ```
//! The table is parsed at the first use. A CustomResourceDefinition brings a schema tree of its own
//! ([`structural`]), which merges, decodes and documents by the same code.
//!
//! What belongs here: types and pure functions over them. What does not: which resources are served (`kinds`), defaults and
//! validation beyond the shape.
//!
//! Start reading at [`types`](Struct), then `decode/walk.rs`.

mod complete;
mod decode;
pub mod go;
pub mod json;
pub mod openapi;
mod pattern;
mod place;
pub mod protobuf;
mod strategic;
pub mod structural;
mod types;
pub mod yaml;

pub use complete::{complete, hollow};
pub use decode::{DecodeError, Decoded, Problem, decode, decode_json, decode_yaml, strict_error};
pub use place::{Place, custom_place, place};
pub use strategic::{PatchError, strategic_merge};
pub use structural::decode_custom;
pub use types::{Field, ListType, Opaque, Scalar, Struct, Table, Type, Zero, table};
