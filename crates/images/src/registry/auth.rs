//! Showing who we are: challenges, basic credentials, bearer tokens from the registry's token service.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, header};
use protos::cri::v1::AuthConfig;
use serde::Deserialize;

use super::RegistryError;
use super::http::{Call, Http};
use crate::registries::{Host, HostAuth, Registries};

/// What a pull shows to a registry.
#[derive(Clone, Default)]
pub struct Credentials {
    /// With `password`.
    pub username: String,
    /// With `username`.
    pub password: String,
    /// A refresh token for the registry's token service.
    pub identity_token: String,
    /// A bearer token for the registry itself.
    pub registry_token: String,
    /// For which host these are; empty for any.
    pub server: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// From what the kubelet sends; `None` when it sends nothing.
    pub fn from_cri(auth: &AuthConfig) -> Option<Self> {
        let (username, password) = pair(&auth.username, &auth.password, &auth.auth);
        let out = Self {
            username,
            password,
            identity_token: auth.identity_token.clone(),
            registry_token: auth.registry_token.clone(),
            server: auth.server_address.clone(),
        };
        let says_something = [&out.username, &out.identity_token, &out.registry_token].iter().any(|s| !s.is_empty());
        says_something.then_some(out)
    }

    fn of_host(auth: &HostAuth) -> Self {
        let (username, password) = pair(&auth.username, &auth.password, &auth.auth);
        Self { username, password, identity_token: auth.identity_token.clone(), ..Self::default() }
    }

    /// Those to use at `host`: what came with the pull if it is meant for the host, else what is configured.
    pub(crate) fn for_host(given: Option<&Self>, host: &Host) -> Option<Self> {
        let fits = |c: &&Self| c.server.is_empty() || canonical(&c.server) == canonical(&host.authority);
        given.filter(fits).cloned().or_else(|| host.auth.as_ref().map(Self::of_host))
    }

    fn basic(&self) -> Option<String> {
        let pair = format!("{}:{}", self.username, self.password);
        (!self.username.is_empty()).then(|| format!("Basic {}", STANDARD.encode(pair)))
    }
}

fn pair(username: &str, password: &str, auth: &str) -> (String, String) {
    if !username.is_empty() || auth.is_empty() {
        return (username.to_owned(), password.to_owned());
    }
    let decoded = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let (user, password) = decoded.split_once(':').unwrap_or_default();
    (user.to_owned(), password.trim_end_matches('\0').to_owned())
}

/// The host of `https://index.docker.io/v1/` and the like, one name for all of Docker's.
fn canonical(server: &str) -> String {
    let bare = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or_default().trim_end_matches(":443").to_lowercase();
    match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    }
}

/// A `WWW-Authenticate` header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: String, scope: String },
}

impl Challenge {
    /// The strongest of the challenges that we can answer.
    pub(crate) fn read(headers: &header::HeaderMap) -> Option<Self> {
        let all =
            headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| Self::parse(value.to_str().ok()?));
        all.reduce(|best, next| if best == Self::Basic { next } else { best })
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (String::new(), String::new(), String::new());
        for (key, value) in parameters(rest) {
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = value,
                "service" => service = value,
                "scope" => scope = value,
                _ => {}
            }
        }
        (!realm.is_empty()).then_some(Self::Bearer { realm, service, scope })
    }
}

/// `key="value",key=value`; commas inside quotes are part of the value.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        out.push((key.trim().to_owned(), value.to_owned()));
        rest = tail.trim_start().trim_start_matches(',').trim_start();
    }
    out
}

/// The `Authorization` header that answers a challenge.
pub(crate) async fn answer(
    http: &Http,
    registries: &Registries,
    challenge: &Challenge,
    credentials: Option<&Credentials>,
    default_scope: &str,
) -> Result<String, RegistryError> {
    match challenge {
        Challenge::Basic => credentials
            .and_then(Credentials::basic)
            .ok_or_else(|| RegistryError::Denied { why: "authorization failed: no basic auth credentials".into() }),
        Challenge::Bearer { realm, service, scope } => {
            if let Some(token) = credentials.map(|c| &c.registry_token).filter(|t| !t.is_empty()) {
                return Ok(format!("Bearer {token}"));
            }
            let scope = if scope.is_empty() { default_scope } else { scope };
            let token = fetch_token(http, registries, realm, service, scope, credentials).await;
            token.map(|t| format!("Bearer {t}")).map_err(|e| RegistryError::Token { source: Box::new(e) })
        }
    }
}

async fn fetch_token(
    http: &Http,
    registries: &Registries,
    realm: &str,
    service: &str,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<String, RegistryError> {
    #[derive(Deserialize)]
    struct Token {
        #[serde(default)]
        token: String,
        #[serde(default)]
        access_token: String,
    }
    let authority = realm.parse::<http::Uri>().ok().and_then(|u| u.authority().map(|a| a.to_string()));
    let tls = authority.and_then(|a| registries.tls(&a).cloned()).unwrap_or_default();
    let mut fields = vec![("service", service), ("client_id", "navarch")];
    fields.extend(scope.split(' ').filter(|s| !s.is_empty()).map(|s| ("scope", s)));
    let identity = credentials.map(|c| c.identity_token.as_str()).filter(|t| !t.is_empty());
    let call = match identity {
        Some(refresh) => {
            fields.extend([("grant_type", "refresh_token"), ("refresh_token", refresh)]);
            let form =
                Call::new(Method::POST, realm).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")?;
            Call { body: query(&fields).into(), ..form }
        }
        None => {
            let mark = if realm.contains('?') { '&' } else { '?' };
            let call = Call::get(format!("{realm}{mark}{}", query(&fields)));
            match credentials.and_then(Credentials::basic) {
                Some(basic) => call.header(header::AUTHORIZATION, &basic)?,
                None => call,
            }
        }
    };
    let answer = http.send(&tls, call).await?;
    if !answer.status().is_success() {
        return Err(answer.into_error().await);
    }
    let url = answer.call.url.clone();
    let malformed = |why: &str| RegistryError::Answer { url: url.clone(), why: why.to_owned() };
    let body = answer.bytes(1 << 20).await?;
    let token: Token = serde_json::from_slice(&body).map_err(|_| malformed("not a token"))?;
    let text = if token.token.is_empty() { token.access_token } else { token.token };
    if text.is_empty() { Err(malformed("an empty token")) } else { Ok(text) }
}

/// `application/x-www-form-urlencoded`.
fn query(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(key, value)| format!("{key}={}", base::percent::encoded(value, b"-._~"))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = r#"Bearer realm="https://a.io/token",service="r.io",scope="repository:a/b:pull,push""#;
        let expect = Challenge::Bearer {
            realm: "https://a.io/token".into(),
            service: "r.io".into(),
            scope: "repository:a/b:pull,push".into(),
        };
        assert_eq!(Challenge::parse(bearer), Some(expect));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer scope=x"), None);
        assert_eq!(query(&[("scope", "repository:a/b:pull")]), "scope=repository%3Aa%2Fb%3Apull");
    }

    #[test]
    fn credentials_go_to_their_host_only() {
        let host = |authority: &str| {
            let mut hosts = Registries::default().hosts(authority, "a");
            hosts.remove(0)
        };
        let given =
            |server: &str| Credentials { username: "u".into(), server: server.into(), ..Credentials::default() };
        for (server, domain, expect) in [
            ("", "r.io", true),
            ("r.io", "r.io", true),
            ("https://r.io/v1/", "r.io", true),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("r.io:5000", "r.io", false),
            ("evil.io", "r.io", false),
        ] {
            let found = Credentials::for_host(Some(&given(server)), &host(domain));
            assert_eq!(found.is_some(), expect, "{server} at {domain}");
        }
    }
}
