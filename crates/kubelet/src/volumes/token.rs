//! Service account tokens, bound to their pod, renewed at 80 % of their life.

use std::collections::HashMap;

use client::{Client, Resource};
use object::{Gvr, Status};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use crate::api::{Pod, TokenProjection};

const DEFAULT_SECONDS: i64 = 3600;
/// A token is never kept longer than a day.
const MOST_SECONDS: i64 = 24 * 3600;

struct Cached {
    token: String,
    renew_at: i64,
    expires_at: i64,
}

/// Tokens by pod, audience and life.
pub(crate) struct Tokens {
    client: Client,
    cached: Mutex<HashMap<(String, String, i64), Cached>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenRequest {
    status: TokenStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct TokenStatus {
    token: String,
    expiration_timestamp: String,
}

impl Tokens {
    /// No tokens yet.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, cached: Mutex::default() }
    }

    /// A token that is good for a while.
    pub(crate) async fn get(&self, pod: &Pod, source: &TokenProjection) -> Result<String, Status> {
        let m = &pod.metadata;
        let seconds = source.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        let key = (m.uid.clone(), source.audience.clone(), seconds);
        let now = base::time::now_seconds();
        let kept = |cached: &Cached| (cached.token.clone(), cached.renew_at, cached.expires_at);
        let known = self.cached.lock().get(&key).map(kept);
        if let Some((token, renew_at, _)) = &known
            && now < *renew_at
        {
            return Ok(token.clone());
        }
        match self.request(pod, source, seconds).await {
            Ok(fresh) => {
                let token = fresh.token.clone();
                self.cached.lock().insert(key, fresh);
                Ok(token)
            }
            // The old one is still good: try again at the next look.
            Err(_) if known.as_ref().is_some_and(|(_, _, expires_at)| now < *expires_at) => {
                Ok(known.map(|(token, ..)| token).unwrap_or_default())
            }
            Err(status) => Err(status),
        }
    }

    async fn request(&self, pod: &Pod, source: &TokenProjection, seconds: i64) -> Result<Cached, Status> {
        let m = &pod.metadata;
        let account = match pod.spec.service_account_name.as_str() {
            "" => "default",
            name => name,
        };
        let audiences: Vec<&String> = Some(&source.audience).filter(|a| !a.is_empty()).into_iter().collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": m.name, "uid": m.uid},
            },
        });
        let gvr = Gvr::new("", "v1", "serviceaccounts");
        let at = Resource::object(&gvr, Some(&m.namespace), account).sub("token");
        let reply = self.client.create(&at, &body).await?;
        let reply: TokenRequest = crate::api::view(&reply).map_err(Status::internal)?;
        if reply.status.token.is_empty() {
            return Err(Status::internal("the API server returned no token"));
        }
        let now = base::time::now_seconds();
        let expires_at = base::time::parse_seconds(&reply.status.expiration_timestamp).unwrap_or(now + seconds);
        let life = (expires_at - now).clamp(1, MOST_SECONDS);
        Ok(Cached { token: reply.status.token, renew_at: now + life * 8 / 10, expires_at })
    }

    /// When the first token of the pod wants to be renewed.
    pub(crate) fn renew_at(&self, uid: &str) -> Option<i64> {
        self.cached.lock().iter().filter(|((of, ..), _)| of == uid).map(|(_, c)| c.renew_at).min()
    }

    /// The pod is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.cached.lock().retain(|(of, ..), _| of != uid);
    }
}
