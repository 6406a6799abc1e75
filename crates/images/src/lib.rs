//! Images on this node: what the kubelet pulls and containers run on.
//!
//! ```text
//! registry, archive, builder --> blobs --> register --> snapshots --> container's root file system
//!     (bytes come in)        (by digest)  (names)      (unpacked)       (overlay mount)
//! ```
//!
//! - [`Store`] owns a directory: `blobs/sha256/<hex>` (content by digest), `images.json` (names and images),
//!   `snapshots/<chain id>/fs` (layers, unpacked once), `containers/<id>/` (overlay mounts). It blocks on the disk and
//!   may be open in several processes.
//! - [`Registry`] pulls into a store and pushes from it, by `registries.yaml` ([`Registries`]).
//! - [`Images`] is CRI's image service over both, and the asynchronous door for the runtime.
//! - [`Builder`] makes images of files; [`Store::import`] and [`Store::export`] read and write archives; [`ctr()`] is the
//!   command line.
//!
//! What never happens in here: content gets a name before it is verified and durable; a path of an image or archive
//! leads out of the directory that it is unpacked to; an image is shown before all of it is unpacked; a collection of
//! garbage runs while content is being added ([`Lease`]); a call goes to a host that neither the reference nor
//! `registries.yaml` nor those hosts' own redirects name.
//!
//! In-use images are not protected here: that is the kubelet's garbage collection. A container keeps the layers that it
//! stands on, whatever becomes of its image.
//!
//! Start reading at `store.rs`, then `layer/unpack.rs` and `registry/pull.rs`.

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
pub use registry::{Credentials, Dial, OnProgress, Options, Progress, Registry, RegistryError, Stage};
pub use store::{Freed, Image, Lease, Listed, Record, Store};
#[cfg(test)]
mod testing;

/// Doors for the fuzz targets: a registry's challenge; a layer's tar stream, into an empty directory.
#[cfg(fuzzing)]
pub mod fuzzing {
    use std::path::Path;

    /// Reads `WWW-Authenticate`.
    pub fn challenge(text: &str) {
        crate::registry::challenge(text);
    }

    /// Unpacks a layer, compressed or not.
    pub fn unpack(layer: &[u8], into: &Path) {
        if let Ok(mut stream) = crate::layer::compression::decoder(layer) {
            let _ = crate::layer::unpack::unpack(&mut stream, into, &[]);
        }
    }
}
