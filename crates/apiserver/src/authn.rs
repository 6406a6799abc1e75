//! Who a request is from: a client certificate, a proxy that has checked for itself, a token of one of six kinds, or nobody.
//! In that order, as upstream's union of authenticators: the first that knows the credential decides.

pub(crate) mod bootstrap_token;
mod claims;
pub(crate) mod config;
mod front_proxy;
pub(crate) mod oidc;
mod service_account;
pub(crate) mod static_tokens;
mod token_request;
pub(crate) mod webhook;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, header};
use object::{Reason, Status};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::security::Security;
use crate::user::User;
use crate::{metrics, reload};
use config::{Anonymous, Settings};
use oidc::Oidc;
use static_tokens::StaticTokens;
use webhook::Webhook;

/// Extra attribute that names the credential.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// What tokens are checked against besides the cluster's own objects.
pub(crate) struct Authenticators {
    static_tokens: StaticTokens,
    issuers: ArcSwap<Vec<Oidc>>,
    anonymous: Anonymous,
    /// A server that knows the tokens that nobody else does.
    webhook: Option<Webhook>,
    /// The file that issuers are read from, its text when it was read first, and what it said of anonymous requests.
    config: Option<(PathBuf, String, Option<Anonymous>)>,
    /// The issuer of this cluster's service accounts.
    own: String,
}

impl Authenticators {
    /// Reads the files; the error says what is wrong with them.
    pub(crate) fn new(security: &Security, own: &str) -> Result<Self, String> {
        let static_tokens = security.token_auth_file.as_deref().map(StaticTokens::load).transpose()?;
        let mut config = None;
        let mut anonymous = Anonymous::from(!security.refuses_anonymous);
        let mut issuers = Vec::new();
        if let Some(path) = &security.authentication_config {
            if security.oidc.is_some() {
                return Err("authentication-config file and oidc-* flags are mutually exclusive".into());
            }
            let (text, settings) = Settings::load(path, own)?;
            issuers = opened(settings.issuers)?;
            config = Some((path.clone(), text, settings.anonymous.clone()));
            if let Some(given) = settings.anonymous {
                if security.refuses_anonymous {
                    return Err("--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file".into());
                }
                anonymous = given;
            }
        }
        if let Some(options) = security.oidc.clone() {
            issuers.push(Oidc::new(options.issuer()?)?);
        }
        Ok(Self {
            static_tokens: static_tokens.unwrap_or_default(),
            issuers: ArcSwap::from_pointee(issuers),
            anonymous,
            webhook: security.token_webhook.as_ref().map(Webhook::new).transpose()?,
            config,
            own: own.into(),
        })
    }

    /// Reads the file again whenever it changes. A file that is no good leaves what was; so does, as upstream, one that says another
    /// thing of anonymous requests.
    async fn follow(&self) {
        let Some((path, first, anonymous)) = &self.config else { return };
        let take = |text: &str| {
            let settings = Settings::parse(text, &self.own)?;
            if settings.anonymous != *anonymous {
                return Err("anonymous: Forbidden: changed from initial configuration file".into());
            }
            self.issuers.store(Arc::new(opened(settings.issuers)?));
            Ok(())
        };
        reload::follow(path, first, "authentication configuration", take).await;
    }
}

fn opened(issuers: Vec<oidc::Issuer>) -> Result<Vec<Oidc>, String> {
    issuers.into_iter().map(Oidc::new).collect()
}

/// A good token.
#[derive(Clone, Debug)]
pub(crate) struct Authenticated {
    pub(crate) user: User,
    /// Which of the wanted audiences it is for.
    pub(crate) audiences: Vec<String>,
}

pub(crate) fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

/// What both have, in the order of the first.
fn common(wanted: &[String], has: &[String]) -> Vec<String> {
    wanted.iter().filter(|a| has.contains(a)).cloned().collect()
}

impl Api {
    /// Who sent a request; 401 when a credential does not hold.
    pub(crate) async fn authenticate(
        &self,
        identity: Option<pki::Identity>,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<User, Status> {
        let began = Instant::now();
        let found = self.identified(identity, path, headers).await;
        metrics::authenticated(found.as_ref().ok().map(|user| user.name.as_str()), began.elapsed());
        found
    }

    /// Nobody in particular, where that is allowed.
    fn nobody(&self, path: &str) -> Result<User, Status> {
        if self.authn.anonymous.may_ask(path) { Ok(User::anonymous()) } else { Err(unauthorized()) }
    }

    /// Keeps the issuers of tokens as their file has them.
    pub(crate) async fn follow_issuers(self: Arc<Self>, token: CancellationToken) {
        token.run_until_cancelled(self.authn.follow()).await;
    }

    async fn identified(
        &self,
        identity: Option<pki::Identity>,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<User, Status> {
        if let Some(identity) = identity {
            if identity.issuer == self.pki.front_proxy_ca.name() {
                return front_proxy::user(&identity, headers).ok_or_else(unauthorized);
            }
            metrics::by_certificate(identity.not_after);
            return Ok(certificate_user(identity));
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else { return self.nobody(path) };
        let token = match given.to_str().unwrap_or("").split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            // Another scheme is another authenticator's, and there is none: nobody in particular, as upstream has it.
            _ => return self.nobody(path),
        };
        let known = self.token_user(token, &self.audiences()).await;
        match (known, self.store.sync()) {
            // Its account may have been made through another server a moment ago.
            (Err(_), Some(sync)) if self.pki.tokens.verify(token).is_ok() => {
                sync.await.map_err(|e| crate::api::store_status(&e))?;
                Ok(self.token_user(token, &self.audiences()).await?.user)
            }
            (known, _) => Ok(known?.user),
        }
    }

    /// The user of a bearer token that is for one of the audiences; 401 when nothing vouches for it.
    pub(crate) async fn token_user(&self, token: &str, audiences: &[String]) -> Result<Authenticated, Status> {
        // Tokens that know nothing of audiences are for this server.
        let agnostic = |user: User| {
            let audiences = common(audiences, &self.audiences());
            (!audiences.is_empty()).then_some(Authenticated { user, audiences }).ok_or_else(unauthorized)
        };
        if let Some(user) = self.authn.static_tokens.user(token) {
            return agnostic(user);
        }
        if let Some(outcome) = self.service_account_token(token, audiences).await {
            return outcome;
        }
        if let Some(user) = self.bootstrap_user(token) {
            return agnostic(user);
        }
        let issuers = self.authn.issuers.load_full();
        if let Some(oidc) = issuers.iter().find(|oidc| oidc.issued(token)) {
            return match oidc.user(&self.egress, token).await {
                Ok(user) => agnostic(user),
                Err(error) => {
                    tracing::debug!(error = %base::Chain(&error), "an OpenID token was refused");
                    Err(unauthorized())
                }
            };
        }
        if let Some(webhook) = &self.authn.webhook {
            return webhook.user(token, audiences).await.ok_or_else(unauthorized);
        }
        Err(unauthorized())
    }

    /// Audiences that this server itself accepts.
    pub(crate) fn audiences(&self) -> Vec<String> {
        vec![self.issuer.clone()]
    }
}

/// The user of a verified client certificate.
fn certificate_user(identity: pki::Identity) -> User {
    let groups: Vec<&str> = identity.groups.iter().map(String::as_str).collect();
    let mut user = User::new(&identity.user, &groups);
    user.extra.insert(CREDENTIAL.into(), vec![format!("X509SHA256={}", identity.fingerprint)]);
    user
}
