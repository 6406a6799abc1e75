//! What can go wrong with the images of this node.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;

/// A failed operation of the store or of an archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image of this name, digest or id.
    #[error("image {name:?}: not found")]
    NotFound {
        /// As it was asked for.
        name: String,
    },
    /// A name that is no image reference.
    #[error("invalid reference format: {text:?}")]
    InvalidReference {
        /// As it was given.
        text: String,
    },
    /// A digest that is none, or not SHA-256.
    #[error("invalid digest {text:?}: only sha256 with 64 lower-case hex digits is supported")]
    InvalidDigest {
        /// As it was given.
        text: String,
    },
    /// A container id that is not fit for a file name.
    #[error("invalid container id {text:?}")]
    InvalidContainer {
        /// As it was given.
        text: String,
    },
    /// Content that is not what its address says.
    #[error("{what}: content has digest {found}, expected {expected}")]
    Mismatch {
        /// Which content.
        what: String,
        /// What the address says.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// Content of the wrong length.
    #[error("{what}: content has {found} bytes, expected {expected}")]
    Length {
        /// Which content.
        what: String,
        /// What the descriptor says.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// A blob that the store should have.
    #[error("content {digest}: not found")]
    MissingBlob {
        /// Its address.
        digest: Digest,
    },
    /// The image has nothing for this machine.
    #[error("no match for platform in manifest: {platform} is not among the platforms of {digest}")]
    Platform {
        /// The index that was searched.
        digest: Digest,
        /// What was searched for.
        platform: String,
    },
    /// A document that is not what it should be.
    #[error("cannot read {what}")]
    Document {
        /// Which one.
        what: String,
        /// How it fails.
        #[source]
        source: serde_json::Error,
    },
    /// An image or archive that makes no sense.
    #[error("{what}: {why}")]
    Malformed {
        /// Which image, layer or archive.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A layer that cannot be unpacked.
    #[error("failed to extract layer {diff_id}")]
    Layer {
        /// The layer, by the digest of its tar stream.
        diff_id: Digest,
        /// How it fails.
        #[source]
        source: Box<Error>,
    },
    /// The operating system refuses.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// How it fails.
        #[source]
        source: io::Error,
    },
    /// A task of ours ended early.
    #[error("the operation was cut off")]
    Cut,
}

impl Error {
    /// True when what was asked for does not exist (as opposed to a failure).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    pub(crate) fn malformed(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed { what: what.into(), why: why.into() }
    }
}

/// Attaches operation and path to an operating system error.
pub(crate) trait IoContext<T> {
    fn at(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn at(self, operation: &'static str, path: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|e| Error::Io { operation, path: path.as_ref().to_owned(), source: e.into() })
    }
}
