//! Why a registry did not give what was asked for. The words are those that containerd's users know.

use std::path::PathBuf;

use http::{Method, StatusCode};

use crate::Error;

/// A failed pull or push.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The whole of a pull.
    #[error("failed to pull and unpack image {reference:?}")]
    Pull {
        /// The complete reference.
        reference: String,
        /// What failed.
        #[source]
        source: Box<Self>,
    },
    /// The whole of a push.
    #[error("failed to push image {reference:?}")]
    Push {
        /// The complete reference.
        reference: String,
        /// What failed.
        #[source]
        source: Box<Self>,
    },
    /// Nobody could say what the reference means.
    #[error("failed to resolve reference {reference:?}")]
    Resolve {
        /// The complete reference.
        reference: String,
        /// What failed.
        #[source]
        source: Box<Self>,
    },
    /// A blob could not be had.
    #[error("failed to copy {digest}")]
    Copy {
        /// Its digest.
        digest: String,
        /// What failed.
        #[source]
        source: Box<Self>,
    },
    /// The registry does not have it.
    #[error("{what}: not found")]
    NotFound {
        /// Reference or digest.
        what: String,
    },
    /// The registry wants other credentials, or any.
    #[error("pull access denied, repository does not exist or may require authorization: {why}")]
    Denied {
        /// What is known about it.
        why: String,
    },
    /// The token service refuses.
    #[error("failed to authorize: failed to fetch anonymous or oauth token")]
    Token {
        /// How it fails.
        #[source]
        source: Box<Self>,
    },
    /// Any other answer.
    #[error("unexpected status from {method} request to {url}: {status}{}", detail(message))]
    Status {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: String,
        /// The answer.
        status: StatusCode,
        /// The registry's own words.
        message: String,
    },
    /// No answer.
    #[error("failed to do request: {method} {url:?}")]
    Request {
        /// The request's method.
        method: Method,
        /// The request's URL.
        url: String,
        /// How it fails.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that makes no sense.
    #[error("{url}: {why}")]
    Answer {
        /// The request's URL.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// A certificate or key that cannot be used.
    #[error("cannot use the TLS file {}: {why}", path.display())]
    TlsFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// On our side.
    #[error(transparent)]
    Store(#[from] Error),
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl RegistryError {
    /// True when the image does not exist, as opposed to a failure on the way to it.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Pull { source, .. } | Self::Push { source, .. } | Self::Resolve { source, .. } => {
                source.is_not_found()
            }
            _ => false,
        }
    }

    /// True when the same request may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504),
            Self::Request { source, .. } => source.downcast_ref::<BodyError>().is_some(),
            _ => false,
        }
    }
}

/// A body that broke off or stood still after the answer had begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the connection broke while reading the body")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the body ended after {found} of {expected} bytes")]
    Short { found: u64, expected: u64 },
    #[error("no data for {0} seconds")]
    Stalled(u64),
}
