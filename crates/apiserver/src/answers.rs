//! Servers of the administrator that are asked for reviews, and what is remembered of their answers.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use object::{Reason, Status};
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

/// How often a server is asked that has a passing trouble.
const ATTEMPTS: u32 = 5;
/// The wait after the first time, to which some is added by chance; each further one is half as long again.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The `status` of a review as the server answers it; each attempt may take so long.
pub(crate) async fn ask(server: &client::Https, review: &Value, patience: Duration) -> Result<Value, String> {
    ask_patiently(server, review, patience, FIRST_WAIT).await
}

/// The same with another first wait.
pub(crate) async fn ask_patiently(
    server: &client::Https,
    review: &Value,
    patience: Duration,
    mut wait: Duration,
) -> Result<Value, String> {
    let review = Bytes::from(review.to_string());
    let mut attempt = 1;
    loop {
        let asked = tokio::time::timeout(patience, server.post(review.clone())).await;
        match asked.map_err(|_| "context deadline exceeded".to_owned())? {
            Ok(answer) => {
                let mut answer: Value = serde_json::from_slice(&answer).map_err(|e| e.to_string())?;
                return Ok(answer["status"].take());
            }
            Err(status) if attempt < ATTEMPTS && is_passing(&status) => {
                tokio::time::sleep(wait.mul_f64(1.0 + 0.2 * rand::random::<f64>())).await;
                (attempt, wait) = (attempt + 1, wait.mul_f64(1.5));
            }
            Err(status) => return Err(status.message),
        }
    }
}

/// Whether the same question may be answered in a moment. As upstream, a server that is not there at all is not waited for.
fn is_passing(status: &Status) -> bool {
    let reset = ["connection reset", "broken pipe", "before message completed"];
    matches!(status.reason, Some(Reason::InternalError | Reason::Timeout | Reason::TooManyRequests))
        || status.retry_after_seconds > 0
        || reset.iter().any(|word| status.message.to_lowercase().contains(word))
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
