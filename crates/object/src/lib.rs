//! The object model: what an API object *is*, before any resource is known.
//!
//! An [`Object`] is its canonical JSON bytes plus a small parsed [`Head`]; it stays behind `Arc` from the store to the
//! last watcher and informer. Readers deserialize a narrow *view* of the bytes ([`Object::view`]); writers go through the
//! API server's pipeline, the only place where a JSON tree becomes a [`Draft`] and a draft is sealed into an object.
//!
//! What belongs here: names ([`Gvk`], [`Gvr`]), objects, selectors, quantities, [`Status`], patches and field sets, as pure
//! functions. What does not: I/O, clocks, knowledge of a particular kind (that is `kinds`) or of schemas (`schema`).
//!
//! Start reading at [`body`](crate::Object).

mod body;
mod jsonpath;
pub mod names;
pub mod patch;
pub mod quantity;
pub mod selector;
mod status;
mod texts;

pub use body::{Draft, Head, MalformedObject, Object, OwnerReference};
pub use jsonpath::JsonPath;
pub use names::{Gvk, Gvr};
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Cause, Invalid, InvalidKind, Reason, Status, quoted};
pub use texts::{Labels, SharedText, Texts};
