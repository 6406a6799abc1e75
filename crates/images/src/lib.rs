//! Images on this node: an OCI content store, a registry client, layers for overlayfs, root file systems of containers,
//! archives in and out, a builder.

mod container;
mod digest;
mod error;
mod layer;
mod manifest;
mod reference;
mod store;

pub use container::Prepared;
pub use digest::Digest;
pub use error::Error;
pub use layer::Usage;
pub use manifest::{Descriptor, ImageConfig, ImageFile, Index, Manifest, Platform, RootFs, media};
pub use reference::Reference;
pub use store::{Freed, Image, Lease, Listed, Record, Store};
