//! Who we are to an API server.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::Result;

pub mod account;
pub mod exec;

/// Who we are.
#[derive(Clone, Debug, Default)]
pub enum Credential {
    /// Anonymous.
    #[default]
    None,
    /// A client certificate and its key, in PEM.
    Certificate {
        /// The certificate, perhaps with intermediates.
        cert_pem: Vec<u8>,
        /// PKCS#8, SEC1 or PKCS#1.
        key_pem: Vec<u8>,
    },
    /// A bearer token.
    Token(String),
    /// A file with a bearer token, read for each request: service account tokens are rotated.
    TokenFile(PathBuf),
    /// A user's name and password.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: String,
    },
    /// What has to be asked for, and again when it expires.
    Source(Arc<dyn Source>),
}

/// What is shown to the server: either or both.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// A bearer token.
    pub token: Option<String>,
    /// A client certificate and its key, in PEM.
    pub certificate: Option<(String, String)>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets are not shown.
        f.debug_struct("Shown")
            .field("token", &self.token.is_some())
            .field("certificate", &self.certificate.is_some())
            .finish()
    }
}

/// Gives credentials that last for a while, and remembers them for as long.
#[async_trait]
pub trait Source: fmt::Debug + Send + Sync {
    /// What to show now. The error says why there is nothing.
    async fn shown(&self) -> Result<Shown>;

    /// The server did not believe `shown`: the next is asked for anew.
    async fn forget(&self, shown: &Shown);
}

/// What was given, until when it is good; at most one asks at a time.
#[derive(Debug, Default)]
struct Remembered(tokio::sync::Mutex<Option<(Shown, Option<jiff::Timestamp>)>>);

impl Remembered {
    /// What is remembered, or what `ask` gives with the time from which on it is asked for again (`None`: never).
    async fn or<F>(&self, ask: impl FnOnce() -> F) -> Result<Shown>
    where
        F: Future<Output = Result<(Shown, Option<jiff::Timestamp>)>>,
    {
        let mut known = self.0.lock().await;
        if let Some((shown, until)) = &*known
            && until.is_none_or(|until| jiff::Timestamp::now() < until)
        {
            return Ok(shown.clone());
        }
        let fresh = ask().await?;
        Ok(known.insert(fresh).0.clone())
    }

    async fn forget(&self, shown: &Shown) {
        let mut known = self.0.lock().await;
        if known.as_ref().is_some_and(|(known, _)| known == shown) {
            *known = None;
        }
    }
}
