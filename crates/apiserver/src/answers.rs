//! Servers of the administrator that are asked for reviews, and what is remembered of their answers.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

/// The server that a kubeconfig names.
pub(crate) fn server(kubeconfig: &Path) -> Result<client::Https, String> {
    let told = |error: &dyn std::error::Error| base::Chain(error).to_string();
    let resolved = client::Kubeconfig::load(kubeconfig).and_then(|config| config.resolve(None));
    let resolved = resolved.map_err(|error| told(&error))?;
    client::Https::open(&resolved.server, resolved.credential, "kube-apiserver").map_err(|error| told(&error))
}

/// The `status` of a review as the server answers it.
pub(crate) async fn ask(server: &client::Https, review: &Value, patience: Duration) -> Result<Value, String> {
    let asked = tokio::time::timeout(patience, server.post(review.to_string().into())).await;
    let answer = asked.map_err(|_| "context deadline exceeded".to_owned())?.map_err(|status| status.message)?;
    let mut answer: Value = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
    Ok(answer["status"].take())
}

/// Answers that are believed for a while, `MOST` of them.
pub(crate) struct Answers<K, V, const MOST: usize> {
    known: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K, V, const MOST: usize> Default for Answers<K, V, MOST> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone, const MOST: usize> Answers<K, V, MOST> {
    /// The answer, while it is believed.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let known = self.known.lock();
        known.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, answer)| answer.clone())
    }

    /// Believes an answer for so long.
    pub(crate) fn remember(&self, key: K, answer: V, ttl: Duration) {
        let mut known = self.known.lock();
        let now = Instant::now();
        if known.len() >= MOST {
            known.retain(|_, (until, _)| *until > now);
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (now + ttl, answer));
    }
}
