//! Who a request is from: a client certificate, a proxy that has checked for itself, a token of one of five kinds, or nobody.
//! In that order, as upstream's union of authenticators: the first that knows the credential decides.

pub(crate) mod bootstrap_token;
mod front_proxy;
pub(crate) mod oidc;
mod service_account;
pub(crate) mod static_tokens;
mod token_request;

use http::{HeaderMap, header};
use object::{Reason, Status};
use tokio::time::Instant;

use crate::api::Api;
use crate::metrics;
use crate::user::User;
use oidc::Oidc;
use static_tokens::StaticTokens;

/// Extra attribute that names the credential.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// What tokens are checked against besides the cluster's own objects.
#[derive(Default)]
pub(crate) struct Authenticators {
    pub(crate) static_tokens: StaticTokens,
    pub(crate) oidc: Option<Oidc>,
}

/// A good token.
#[derive(Debug)]
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
        headers: &HeaderMap,
    ) -> Result<User, Status> {
        let began = Instant::now();
        let found = self.identified(identity, headers).await;
        metrics::authenticated(found.as_ref().ok().map(|user| user.name.as_str()), began.elapsed());
        found
    }

    async fn identified(&self, identity: Option<pki::Identity>, headers: &HeaderMap) -> Result<User, Status> {
        if let Some(identity) = identity {
            if identity.issuer == self.pki.front_proxy_ca.name() {
                return front_proxy::user(&identity, headers).ok_or_else(unauthorized);
            }
            metrics::by_certificate(identity.not_after);
            return Ok(certificate_user(identity));
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else { return Ok(User::anonymous()) };
        let token = match given.to_str().unwrap_or("").split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            // Another scheme is another authenticator's, and there is none: nobody in particular, as upstream has it.
            _ => return Ok(User::anonymous()),
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
        if let Some(oidc) = self.authn.oidc.as_ref().filter(|oidc| oidc.issued(token)) {
            return match oidc.user(&self.egress, token).await {
                Ok(user) => agnostic(user),
                Err(error) => {
                    tracing::debug!(error = %base::Chain(&error), "an OpenID token was refused");
                    Err(unauthorized())
                }
            };
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
