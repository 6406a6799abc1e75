//! Registries: resolve, pull, push, over the distribution API.
//!
//! A pull asks the hosts that `registries.yaml` names for the reference and then the registry itself, and nobody else
//! (but for redirects and token services that these name). Layers come in parallel; each is unpacked as soon as it and
//! those below it are there. A blob is downloaded once however many pulls want it, and goes on where it broke off.

mod auth;
mod connect;
mod download;
mod error;
mod http;
mod pull;
mod push;
mod session;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::registries::Registries;
use crate::{Digest, Platform, Reference, Store};

pub use auth::Credentials;
pub use connect::Dial;
pub use error::RegistryError;
use session::Session;

#[cfg(fuzzing)]
pub(crate) fn challenge(text: &str) {
    let mut headers = ::http::HeaderMap::new();
    if let Ok(value) = text.parse() {
        headers.insert(::http::header::WWW_AUTHENTICATE, value);
    }
    auth::Challenge::read(&headers);
}

/// The registry client of a store. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    registries: Registries,
    http: http::Http,
    /// Who downloads which blob.
    flights: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

/// How far a blob has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which blob.
    pub digest: Digest,
    /// Its length.
    pub total: u64,
    /// Bytes that are here.
    pub done: u64,
    /// What is happening to it.
    pub stage: Stage,
}

/// Stages of a blob on its way to a root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bytes arrive.
    Downloading,
    /// It was there already, or arrived.
    Present,
    /// It is an unpacked layer.
    Unpacked,
}

/// Hears about progress; called often, from several tasks.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What a pull or push may be told.
#[derive(Clone, Default)]
pub struct Options {
    /// Beyond those of `registries.yaml`.
    pub credentials: Option<Credentials>,
    /// For another platform than this machine's.
    pub platform: Option<Platform>,
    /// Hears about progress.
    pub on_progress: Option<OnProgress>,
}

impl Options {
    fn report(&self, digest: &Digest, done: u64, total: u64, stage: Stage) {
        if let Some(hear) = &self.on_progress {
            hear(Progress { digest: digest.clone(), total, done, stage });
        }
    }
}

impl Registry {
    /// A client that keeps what it pulls in `store`.
    pub fn new(store: Store, registries: Registries) -> Self {
        Self::dialing(store, registries, None)
    }

    /// As [`Registry::new`], connecting by `dial`.
    pub fn dialing(store: Store, registries: Registries, dial: Option<Arc<dyn Dial>>) -> Self {
        let inner = Inner { store, registries, http: http::Http::new(dial), flights: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The store that pulls go to.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    fn sessions(&self, reference: &Reference, options: &Options, actions: &str) -> Vec<Arc<Session>> {
        let hosts = self.inner.registries.hosts(reference.domain(), reference.path());
        let open = |host| Arc::new(Session::new(self.clone(), host, options.credentials.as_ref(), actions));
        hosts.into_iter().map(open).collect()
    }

    /// The right to download a blob: one holder at a time.
    fn flight(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.inner.flights.lock();
        flights.retain(|_, flight| flight.strong_count() > 0);
        if let Some(known) = flights.get(digest).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(digest.clone(), Arc::downgrade(&new));
        new
    }
}
