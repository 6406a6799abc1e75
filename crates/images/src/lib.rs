//! Images on this node: an OCI content store, a registry client, layers for overlayfs, root file systems of containers,
//! archives in and out, a builder.

mod archive;
mod builder;
mod container;
mod cri;
mod ctr;
mod digest;
mod error;
mod layer;
mod manifest;
mod reference;
pub mod registries;
mod registry;
mod store;

pub use archive::ImportedFile;
pub use builder::{Builder, Compression, Entry, Layer};
pub use container::Prepared;
pub use cri::Images;
pub use ctr::ctr;
pub use digest::Digest;
pub use error::Error;
pub use layer::Usage;
pub use manifest::{Descriptor, ImageConfig, ImageFile, Index, Manifest, Platform, RootFs, media};
pub use reference::Reference;
pub use registries::Registries;
pub use registry::{Credentials, OnProgress, Options, Progress, Registry, RegistryError, Stage};
pub use store::{Freed, Image, Lease, Listed, Record, Store};
#[cfg(test)]
mod testing;
