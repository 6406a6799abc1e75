//! OpenID Connect (`--oidc-*`, `--authentication-config`): tokens of an issuer, checked against the keys that it publishes. Only the issuer's own
//! documents are fetched, and only for tokens that name it; a token says nothing about where to look.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::claims::{Mapping, Rules};
use crate::egress::{Egress, EgressError, Target};
use crate::user::User;

/// The issuer, and how its claims are read.
#[derive(Clone, Debug, Default)]
pub struct OidcOptions {
    /// `https://...`: whom tokens must be from (`--oidc-issuer-url`).
    pub issuer: String,
    /// Whom tokens must be for (`--oidc-client-id`).
    pub client_id: String,
    /// The issuer's authorities, PEM; the machine's own when not given (`--oidc-ca-file`).
    pub ca_file: Option<PathBuf>,
    /// The claim that is the user's name; `sub` when empty (`--oidc-username-claim`).
    pub username_claim: String,
    /// What is put before the name: `-` is nothing; when empty, the issuer and `#`, unless the claim is `email` (`--oidc-username-prefix`).
    pub username_prefix: String,
    /// The claim that lists groups, if any (`--oidc-groups-claim`).
    pub groups_claim: String,
    /// What is put before each group (`--oidc-groups-prefix`).
    pub groups_prefix: String,
    /// Claims that a token must have (`--oidc-required-claim`).
    pub required_claims: Vec<(String, String)>,
    /// Accepted signatures; RS256 when empty (`--oidc-signing-algs`).
    pub algorithms: Vec<String>,
}

impl OidcOptions {
    /// Checks the options and reads the authorities; the error says what is wrong.
    pub(crate) fn issuer(mut self) -> Result<Issuer, String> {
        if !self.issuer.starts_with("https://") {
            return Err(format!("'oidc-issuer-url' ({:?}) has invalid scheme, require 'https'", self.issuer));
        }
        if self.client_id.is_empty() {
            return Err("oidc-issuer-url and oidc-client-id must be specified together".into());
        }
        if self.algorithms.is_empty() {
            self.algorithms.push("RS256".into());
        }
        if self.username_claim.is_empty() {
            self.username_claim = "sub".into();
        }
        let prefix = match self.username_prefix.as_str() {
            "-" => String::new(),
            "" if self.username_claim != "email" => format!("{}#", self.issuer),
            prefix => prefix.to_owned(),
        };
        let read =
            |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()));
        let groups = Mapping::Claim { name: self.groups_claim.clone(), prefix: self.groups_prefix };
        let rules = Rules {
            issuer: self.issuer,
            audiences: vec![self.client_id],
            required: self.required_claims,
            conditions: Vec::new(),
            username: Mapping::Claim { name: self.username_claim, prefix },
            groups: (!self.groups_claim.is_empty()).then_some(groups),
            uid: None,
            extra: Vec::new(),
            user_conditions: Vec::new(),
        };
        let authorities = self.ca_file.as_ref().map(read).transpose()?;
        Ok(Issuer { rules, discovery: None, authorities, algorithms: self.algorithms })
    }
}

/// An issuer, and how its tokens are read.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(super) rules: Rules,
    /// Where its document is, if not where it is by the issuer's name.
    pub(super) discovery: Option<String>,
    /// PEM; the machine's own when there are none.
    pub(super) authorities: Option<String>,
    /// Accepted signatures.
    pub(super) algorithms: Vec<String>,
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OidcError {
    #[error("the issuer's keys cannot be had")]
    Keys(#[source] EgressError),
    #[error("the issuer's documents are wrong: {0}")]
    Documents(&'static str),
    #[error("the token does not hold")]
    Token(#[from] pki::TokenError),
    #[error("the token's claims do not fit: {0}")]
    Claims(String),
}

/// Documents of an issuer are small.
const MOST_BYTES: usize = 1 << 20;
/// Keys are fetched again at most so often, however many tokens come with unknown ones.
const PAUSE: Duration = Duration::from_secs(10);

/// One issuer's tokens.
pub(crate) struct Oidc {
    issuer: Issuer,
    tls: Arc<rustls::ClientConfig>,
    keys: ArcSwap<Vec<Value>>,
    /// When keys were last asked for.
    asked: Mutex<Option<Instant>>,
}

impl Oidc {
    /// The error says what is wrong with its authorities.
    pub(crate) fn new(issuer: Issuer) -> Result<Self, String> {
        let ca = issuer.authorities.clone().or_else(pki::machine_authorities).unwrap_or_default();
        let mut tls = pki::client_config(&ca, None).map_err(|e| base::Chain(&e).to_string())?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { issuer, tls: Arc::new(tls), keys: ArcSwap::default(), asked: Mutex::default() })
    }

    /// True when the token says that it is of this issuer.
    pub(crate) fn issued(&self, token: &str) -> bool {
        pki::jwt::peek(token).is_some_and(|claims| claims["iss"] == self.issuer.rules.issuer.as_str())
    }

    /// The user of a token.
    pub(crate) async fn user(&self, egress: &Egress, token: &str) -> Result<User, OidcError> {
        let claims = match self.verify(token) {
            // A key that is not known may be a new one.
            Err(pki::TokenError::OtherKey) => {
                self.refresh(egress).await?;
                self.verify(token)?
            }
            outcome => outcome?,
        };
        self.issuer.rules.user(&claims, base::time::now_seconds()).map_err(OidcError::Claims)
    }

    fn verify(&self, token: &str) -> Result<Value, pki::TokenError> {
        pki::jwt::verify(token, &self.keys.load(), &self.issuer.algorithms)
    }

    async fn refresh(&self, egress: &Egress) -> Result<(), OidcError> {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(());
        }
        *asked = Some(Instant::now());
        let issuer = self.issuer.rules.issuer.as_str();
        let well_known = || format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document = self.issuer.discovery.clone().unwrap_or_else(well_known);
        let document = self.fetch(egress, &document).await?;
        if document["issuer"] != issuer {
            return Err(OidcError::Documents("they name another issuer"));
        }
        let keys = self.fetch(egress, document["jwks_uri"].as_str().unwrap_or("")).await?;
        self.keys.store(Arc::new(keys["keys"].as_array().cloned().unwrap_or_default()));
        Ok(())
    }

    async fn fetch(&self, egress: &Egress, url: &str) -> Result<Value, OidcError> {
        let url: http::Uri = url.parse().map_err(|_| OidcError::Documents("an address is malformed"))?;
        let (Some("https"), Some(host)) = (url.scheme_str(), url.host()) else {
            return Err(OidcError::Documents("an address is not https"));
        };
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let address = format!("{host}:{}", url.port_u16().unwrap_or(443));
        let to = Target { address, name, tls: self.tls.clone() };
        let path = url.path_and_query().map_or("/", |p| p.as_str());
        let body = egress.get(&to, path, &[], MOST_BYTES).await.map_err(OidcError::Keys)?;
        serde_json::from_slice(&body).map_err(|_| OidcError::Documents("one is no JSON"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(change: impl FnOnce(&mut OidcOptions)) -> Rules {
        let mut options = OidcOptions {
            issuer: "https://idp".into(),
            client_id: "me".into(),
            groups_claim: "groups".into(),
            groups_prefix: "oidc:".into(),
            ca_file: None,
            ..OidcOptions::default()
        };
        change(&mut options);
        options.issuer().unwrap().rules
    }

    #[test]
    fn claims_become_a_user() {
        let claims = json!({"iss": "https://idp", "aud": ["me", "other"], "exp": 100, "sub": "jane", "email": "j@x", "groups": ["a", "b"]});
        let user = rules(|_| {}).user(&claims, 50).unwrap();
        assert_eq!(user.name, "https://idp#jane");
        assert_eq!(user.groups, ["oidc:a", "oidc:b", "system:authenticated"]);
        assert_eq!(rules(|o| o.username_claim = "email".into()).user(&claims, 50).unwrap().name, "j@x");
        assert_eq!(rules(|o| o.username_prefix = "-".into()).user(&claims, 50).unwrap().name, "jane");
        let refused = |key: &str, value: Value| {
            let mut claims = claims.clone();
            claims[key] = value;
            let rules = rules(|o| {
                o.username_claim = "email".into();
                o.required_claims = vec![("sub".into(), "jane".into())];
            });
            assert!(rules.user(&claims, 50).is_err(), "{claims}");
        };
        refused("iss", "https://other".into());
        refused("aud", "other".into());
        refused("exp", 49.into());
        refused("nbf", 100.into());
        refused("sub", "bob".into());
        refused("email", Value::Null);
        refused("email_verified", false.into());
        refused("groups", json!({"a": 1}));
        assert!(OidcOptions { issuer: "http://idp".into(), ..OidcOptions::default() }.issuer().is_err());
    }
}
