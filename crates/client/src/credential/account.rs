//! Tokens of a service account, asked for by who may: as upstream's controller manager gives each controller its own account.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use object::{Gvr, Reason, Status};
use serde_json::{Value, json};

use super::{Remembered, Shown, Source};
use crate::{Client, Resource, Result};

/// For how long a token is asked.
const SECONDS: i64 = 3600;

/// Tokens of one account, which is made if it is missing.
pub struct AccountTokens {
    asker: Client,
    namespace: String,
    name: String,
    known: Remembered,
}

impl std::fmt::Debug for AccountTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccountTokens({}/{})", self.namespace, self.name)
    }
}

impl AccountTokens {
    /// Of the account of that name; `asker` may make accounts and their tokens there.
    pub fn new(asker: Client, namespace: &str, name: &str) -> Self {
        Self { asker, namespace: namespace.into(), name: name.into(), known: Remembered::default() }
    }

    async fn request(&self) -> Result<Value> {
        let accounts = Gvr::new("", "v1", "serviceaccounts");
        let at = Resource::object(&accounts, Some(&self.namespace), &self.name).sub("token");
        let wanted = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "metadata": {"name": self.name, "namespace": self.namespace}, "spec": {"expirationSeconds": SECONDS}});
        let given = match self.asker.create(&at, &wanted).await {
            Err(status) if status.reason == Some(Reason::NotFound) => {
                let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                    "metadata": {"name": self.name, "namespace": self.namespace}});
                let all = Resource::collection(&accounts, Some(&self.namespace));
                match self.asker.create(&all, &account).await {
                    Err(status) if status.reason != Some(Reason::AlreadyExists) => return Err(status),
                    _ => self.asker.create(&at, &wanted).await?,
                }
            }
            answer => answer?,
        };
        given.value().map_err(Status::internal)
    }
}

#[async_trait]
impl Source for AccountTokens {
    async fn shown(&self) -> Result<Shown> {
        let ask = || async {
            let given = self.request().await?;
            let status = &given["status"];
            let token = status["token"].as_str().filter(|token| !token.is_empty());
            let token = token.ok_or_else(|| Status::internal("the server gave no token"))?;
            let now = Timestamp::now();
            let ends = status["expirationTimestamp"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
            // A fifth of its life is left for asking again.
            let seconds = ends.map_or(SECONDS, |ends| ends.duration_since(now).as_secs().max(0)) * 4 / 5;
            let until = now.checked_add(SignedDuration::from_secs(seconds)).map_err(Status::internal)?;
            Ok((Shown { token: Some(token.into()), certificate: None }, Some(until)))
        };
        self.known.or(ask).await
    }

    async fn forget(&self, shown: &Shown) {
        self.known.forget(shown).await;
    }
}
