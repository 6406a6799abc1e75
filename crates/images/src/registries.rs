//! `registries.yaml`, in the form that k3s users know: mirrors with endpoints and rewrites, credentials and TLS by host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;

/// The file's content.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registries {
    /// By registry name (`docker.io`, `registry:5000`); `*` for all that are not named.
    pub mirrors: BTreeMap<String, Mirror>,
    /// By the host that is called, mirrors' hosts included.
    pub configs: BTreeMap<String, HostConfig>,
}

/// Where else to look for a registry's images.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mirror {
    /// URLs, tried in order before the registry itself. A path replaces `/v2`.
    #[serde(alias = "endpoints")]
    pub endpoint: Vec<String>,
    /// Regular expressions over the repository and what they become, at the endpoints only. The first that fits wins.
    pub rewrite: BTreeMap<String, String>,
}

/// How to talk to a host.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Used when the pull brings no credentials of its own.
    pub auth: Option<HostAuth>,
    /// Beyond the machine's authorities.
    pub tls: Option<Tls>,
}

/// Credentials for a host.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostAuth {
    /// With `password`.
    pub username: String,
    /// With `username`.
    pub password: String,
    /// `user:password` in base64.
    pub auth: String,
    /// An identity (refresh) token.
    #[serde(alias = "token")]
    pub identity_token: String,
}

impl std::fmt::Debug for HostAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

/// TLS towards a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Authorities, PEM, instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// Believe any certificate.
    pub insecure_skip_verify: bool,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// How it fails.
        #[source]
        source: std::io::Error,
    },
    /// It is not YAML of this form.
    #[error("{}: not a valid registry configuration", path.display())]
    Yaml {
        /// Which file.
        path: PathBuf,
        /// How it fails.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// A URL that is none.
    #[error("mirror {mirror}: endpoint {endpoint:?} is not a http or https URL")]
    Endpoint {
        /// Of which registry.
        mirror: String,
        /// As it was given.
        endpoint: String,
    },
    /// A rewrite that is no regular expression.
    #[error("mirror {mirror}: rewrite {pattern:?} is not a regular expression")]
    Rewrite {
        /// Of which registry.
        mirror: String,
        /// As it was given.
        pattern: String,
        /// How it fails.
        #[source]
        source: Box<regex::Error>,
    },
}

impl Registries {
    /// Reads the file; an absent file is an empty configuration.
    pub fn load(path: &Path) -> Result<Self, RegistriesError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) if text.trim().is_empty() => return Ok(Self::default()),
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(RegistriesError::Read { path: path.to_owned(), source }),
        };
        let read: Self = serde_saphyr::from_str(&text)
            .map_err(|source| RegistriesError::Yaml { path: path.to_owned(), source: Box::new(source) })?;
        read.check()?;
        Ok(read)
    }

    /// Refuses what could only fail later, at a pull.
    pub fn check(&self) -> Result<(), RegistriesError> {
        for (mirror, entry) in &self.mirrors {
            for endpoint in &entry.endpoint {
                endpoint_url(endpoint)
                    .ok_or_else(|| RegistriesError::Endpoint { mirror: mirror.clone(), endpoint: endpoint.clone() })?;
            }
            for pattern in entry.rewrite.keys() {
                Regex::new(pattern).map_err(|source| RegistriesError::Rewrite {
                    mirror: mirror.clone(),
                    pattern: pattern.clone(),
                    source: Box::new(source),
                })?;
            }
        }
        Ok(())
    }

    /// Where to ask for a repository of `domain`, in order; the last is the registry itself.
    pub(crate) fn hosts(&self, domain: &str, path: &str) -> Vec<Host> {
        let mirror = self.mirrors.get(domain).or_else(|| self.mirrors.get("*"));
        let mut hosts: Vec<Host> = Vec::new();
        for (mirror, endpoint) in mirror.into_iter().flat_map(|m| m.endpoint.iter().map(move |e| (m, e))) {
            let Some((authority, base)) = endpoint_url(endpoint) else { continue };
            let mut host = self.host(&authority, base, rewritten(&mirror.rewrite, path));
            host.namespace = Some(domain.to_owned());
            hosts.push(host);
        }
        let authority = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
        let scheme = if is_loopback(authority) && self.tls(authority).is_none() { "http" } else { "https" };
        let own = self.host(authority, format!("{scheme}://{authority}/v2"), path.to_owned());
        // A mirror entry that names the registry itself only says how to reach it.
        if !hosts.iter().any(|h| h.authority == own.authority && h.path == own.path) {
            hosts.push(own);
        }
        hosts
    }

    fn host(&self, authority: &str, base: String, path: String) -> Host {
        let alias = if authority == "registry-1.docker.io" { "docker.io" } else { authority };
        let auth = [authority, alias].iter().find_map(|name| self.configs.get(*name)?.auth.clone());
        let tls = self.tls(authority).or_else(|| self.tls(alias)).cloned().unwrap_or_default();
        Host { authority: authority.to_owned(), base, path, namespace: None, tls, auth }
    }

    /// How to trust a host.
    pub(crate) fn tls(&self, authority: &str) -> Option<&Tls> {
        let bare = authority.strip_suffix(":443").unwrap_or(authority);
        [authority, bare, "*"].iter().find_map(|name| self.configs.get(*name)?.tls.as_ref())
    }
}

/// One place to ask.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// `name[:port]`.
    pub(crate) authority: String,
    /// `https://name/v2`.
    pub(crate) base: String,
    /// The repository there.
    pub(crate) path: String,
    /// At a mirror: of which registry.
    pub(crate) namespace: Option<String>,
    pub(crate) tls: Tls,
    pub(crate) auth: Option<HostAuth>,
}

impl Host {
    /// The URL of something in the repository.
    pub(crate) fn url(&self, rest: &str) -> String {
        let namespace = self.namespace.as_ref().map(|ns| format!("?ns={ns}")).unwrap_or_default();
        format!("{}/{}/{rest}{namespace}", self.base, self.path)
    }
}

/// The authority and the base of the API; without a path that is `/v2`.
fn endpoint_url(endpoint: &str) -> Option<(String, String)> {
    let with_scheme = if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    let uri: http::Uri = with_scheme.parse().ok()?;
    let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https"))?;
    let authority = uri.authority().map(|a| a.as_str().to_owned()).filter(|a| !a.contains('@'))?;
    let path = uri.path().trim_end_matches('/');
    let path = if path.is_empty() { "/v2" } else { path };
    let base = format!("{scheme}://{authority}{path}");
    Some((authority, base))
}

fn rewritten(rules: &BTreeMap<String, String>, path: &str) -> String {
    let fitting =
        rules.iter().find_map(|(pattern, to)| Some((Regex::new(pattern).ok()?, to)).filter(|(r, _)| r.is_match(path)));
    match fitting {
        Some((pattern, to)) => pattern.replace_all(path, to.as_str()).into_owned(),
        None => path.to_owned(),
    }
}

/// Registries on this machine are spoken to without TLS, as docker does.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, domain: &str, path: &str, expect: &[&str]) {
        let registries: Registries = serde_saphyr::from_str(yaml).unwrap();
        registries.check().unwrap();
        let urls: Vec<String> = registries.hosts(domain, path).iter().map(|h| h.url("manifests/1")).collect();
        assert_eq!(urls, expect);
    }

    #[test]
    fn defaults() {
        check("{}", "docker.io", "library/a", &["https://registry-1.docker.io/v2/library/a/manifests/1"]);
        check("{}", "r.io:5000", "a", &["https://r.io:5000/v2/a/manifests/1"]);
        check("{}", "localhost:5000", "a", &["http://localhost:5000/v2/a/manifests/1"]);
        check("{}", "[::1]:5000", "a", &["http://[::1]:5000/v2/a/manifests/1"]);
        check("{}", "127.0.0.2", "a", &["http://127.0.0.2/v2/a/manifests/1"]);
    }

    #[test]
    fn mirrors_come_first_and_rewrite() {
        let yaml = r#"
mirrors:
  docker.io:
    endpoint: ["https://m.io:5000", "http://n.io/cache/v2/"]
    rewrite: { "^library/(.*)": "mirrored/$1" }
  "*":
    endpoint: ["https://all.io"]
"#;
        let own = "https://registry-1.docker.io/v2/library/a/manifests/1";
        let first = "https://m.io:5000/v2/mirrored/a/manifests/1?ns=docker.io";
        check(
            yaml,
            "docker.io",
            "library/a",
            &[first, "http://n.io/cache/v2/mirrored/a/manifests/1?ns=docker.io", own],
        );
        check(yaml, "q.io", "a", &["https://all.io/v2/a/manifests/1?ns=q.io", "https://q.io/v2/a/manifests/1"]);
    }

    #[test]
    fn plain_http_is_asked_for_by_an_endpoint() {
        let yaml = "mirrors: { 'r.lan:5000': { endpoint: ['http://r.lan:5000'] } }";
        check(yaml, "r.lan:5000", "a", &["http://r.lan:5000/v2/a/manifests/1?ns=r.lan:5000"]);
        let yaml = "configs: { 'localhost:5000': { tls: { insecure_skip_verify: true } } }";
        check(yaml, "localhost:5000", "a", &["https://localhost:5000/v2/a/manifests/1"]);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let bad =
            |yaml: &str| serde_saphyr::from_str::<Registries>(yaml).map_err(drop).and_then(|r| r.check().map_err(drop));
        assert!(bad("mirrors: { a: { endpoint: ['ftp://x'] } }").is_err());
        assert!(bad("mirrors: { a: { rewrite: { '(': 'x' } } }").is_err());
        assert!(bad("mirror: {}").is_err());
    }
}
