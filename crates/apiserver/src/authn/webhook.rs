//! Another server that knows tokens (`--authentication-token-webhook-*`): it is sent a TokenReview, and believed for a while.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Authenticated, common};
use crate::answers::{self, Answers};
use crate::user::{AUTHENTICATED, User};

/// Where the server is, and how long it is believed.
#[derive(Clone, Debug)]
pub struct TokenWebhookOptions {
    /// Its kubeconfig.
    pub config_file: PathBuf,
    /// The version of the reviews that it is sent: `v1` or `v1beta1`.
    pub version: String,
    /// How long its answers are believed.
    pub cache_ttl: Duration,
}

/// Answers that are remembered.
const MOST_KNOWN: usize = 4096;
/// How long it may take, with all attempts.
const PATIENCE: Duration = Duration::from_secs(10);

type Answer = Option<Authenticated>;

/// A server that knows tokens.
pub(super) struct Webhook {
    server: client::Https,
    version: String,
    ttl: Duration,
    /// By a hash of token and audiences.
    known: Answers<[u8; 32], Answer, MOST_KNOWN>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: Info,
    audiences: Vec<String>,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Info {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl Webhook {
    /// The error says what is wrong with the options.
    pub(super) fn new(options: &TokenWebhookOptions) -> Result<Self, String> {
        if !matches!(options.version.as_str(), "v1" | "v1beta1") {
            let given = &options.version;
            return Err(format!(
                "unsupported webhook authenticator version {given:?}: supported versions are v1, v1beta1"
            ));
        }
        let server = answers::server(&options.config_file)?;
        Ok(Self { server, version: options.version.clone(), ttl: options.cache_ttl, known: Answers::default() })
    }

    /// Whose token it is. What fails is as if it were nobody's, and is not remembered.
    pub(super) async fn user(&self, token: &str, audiences: &[String]) -> Answer {
        let mut key = Sha256::new();
        for part in audiences.iter().map(String::as_str).chain([token]) {
            key.update(part.len().to_be_bytes());
            key.update(part);
        }
        let key = key.finalize().into();
        if let Some(answer) = self.known.get(&key) {
            return answer;
        }
        match self.ask(token, audiences).await {
            Ok(answer) => {
                self.known.remember(key, answer.clone(), self.ttl);
                answer
            }
            Err(error) => {
                tracing::warn!(error, "the webhook that knows tokens failed");
                None
            }
        }
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Answer, String> {
        let review = json!({"apiVersion": format!("authentication.k8s.io/{}", self.version), "kind": "TokenReview",
            "metadata": {}, "spec": {"token": token, "audiences": audiences}});
        let asked = tokio::time::timeout(PATIENCE, answers::ask(&self.server, &review, PATIENCE)).await;
        let status = asked.unwrap_or_else(|_| Err("context deadline exceeded".into()))?;
        let status: Status = serde_json::from_value(status).map_err(|e| e.to_string())?;
        if !status.authenticated {
            return if status.error.is_empty() { Ok(None) } else { Err(status.error) };
        }
        // One that knows nothing of audiences names none: then the token is for this server.
        let audiences =
            if status.audiences.is_empty() { audiences.to_vec() } else { common(audiences, &status.audiences) };
        if audiences.is_empty() {
            return Ok(None);
        }
        let Info { username, uid, groups, extra } = status.user;
        let mut user = User { name: username, uid, groups, extra };
        if !user.groups.iter().any(|group| group == AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.into());
        }
        Ok(Some(Authenticated { user, audiences }))
    }
}
