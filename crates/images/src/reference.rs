//! Image references, completed as docker completes them: `nginx:1.22` is `docker.io/library/nginx:1.22`.

use std::fmt;

use crate::{Digest, Error};

/// A complete reference: registry, repository, and a tag or a digest (a digest wins over a tag that stands beside it).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference of any form; the tag `latest` is implied.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::read(text).ok_or_else(|| Error::InvalidReference { text: text.to_owned() })
    }

    fn read(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest).ok()?)),
            None => (text, None),
        };
        let last = name.rsplit('/').next().unwrap_or(name);
        let (name, tag) = match last.rsplit_once(':') {
            Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
            None => (name, None),
        };
        if !tag.is_none_or(is_tag) {
            return None;
        }
        let (domain, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first, rest),
            _ => ("docker.io", name),
        };
        let domain = if domain == "index.docker.io" { "docker.io" } else { domain };
        if !is_domain(domain) || !path.split('/').all(is_component) {
            return None;
        }
        // 64 hex digits alone are an id, never a repository.
        if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let path =
            if domain == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if path.len() > 255 {
            return None;
        }
        let tag = match (&digest, tag) {
            (Some(_), _) => None,
            (None, tag) => Some(tag.unwrap_or("latest").to_owned()),
        };
        Some(Self { domain: domain.to_owned(), path, tag, digest })
    }

    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }
    /// The repository in its registry: `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// Registry and repository: `docker.io/library/nginx`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }
    /// The tag, unless there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }
    /// Tag or digest, as a registry's URL wants it.
    pub fn selector(&self) -> &str {
        self.digest.as_ref().map(Digest::as_str).or(self.tag.as_deref()).unwrap_or("latest")
    }
    /// The same repository by digest.
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.digest.is_some() { '@' } else { ':' };
        write!(f, "{}/{}{mark}{}", self.domain, self.path, self.selector())
    }
}

/// Whether the first part of a name is a registry and not a user of Docker's.
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.chars().any(|c| c.is_ascii_uppercase())
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let host_fits = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            host.split('.').all(|l| !l.is_empty() && l.chars().all(is_word) && !l.starts_with('-') && !l.ends_with('-'))
        }
    };
    host_fits && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

fn is_tag(tag: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !tag.is_empty() && tag.len() <= 128 && tag.chars().all(is_word) && !tag.starts_with(['.', '-'])
}

/// Lower case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joints_fit =
        part.split(is_lower).all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.chars().all(|c| c == '-'));
    part.starts_with(is_lower) && part.ends_with(is_lower) && joints_fit
}

#[cfg(test)]
mod tests {
    use super::Reference;

    #[test]
    fn completed_as_docker_does() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, expect) in [
            ("nginx", Some("docker.io/library/nginx:latest")),
            ("nginx:1.22", Some("docker.io/library/nginx:1.22")),
            ("rancher/k3s:v1", Some("docker.io/rancher/k3s:v1")),
            ("index.docker.io/library/nginx", Some("docker.io/library/nginx:latest")),
            ("localhost/a", Some("localhost/a:latest")),
            ("localhost:5000/a/b__c:T-1", Some("localhost:5000/a/b__c:T-1")),
            ("[::1]:5000/a", Some("[::1]:5000/a:latest")),
            ("ghcr.io/a/b", Some("ghcr.io/a/b:latest")),
            (&format!("nginx:1@{digest}"), Some(&format!("docker.io/library/nginx@{digest}"))),
            ("Nginx", None),
            ("", None),
            ("a//b", None),
            ("a/../b", None),
            ("nginx:", None),
            ("nginx:-x", None),
            ("nginx@sha256:00", None),
            ("r.io:99999/a", None),
            ("a___b", None),
            (&"a".repeat(64), None),
            // What counts is the name in its registry, whole.
            (&"b".repeat(247), Some(&format!("docker.io/library/{}:latest", "b".repeat(247)))),
            (&"b".repeat(248), None),
            (&format!("r.io/{}", "b".repeat(256)), None),
        ] {
            assert_eq!(Reference::parse(text).ok().map(|r| r.to_string()).as_deref(), expect, "{text}");
        }
    }
}
