//! Paths and queries.

use client::Resource;
use object::{Gvr, Status};

use crate::table::Include;

/// A resource, and whether the deprecated `/watch/` prefix was used.
pub(super) struct Target {
    pub(super) resource: Resource,
    pub(super) watch: bool,
}

/// The resource that a path is about; `None` for discovery and everything else.
pub(super) fn parse(path: &str) -> Option<Target> {
    // As upstream: an escaped slash is a slash, and slashes at the end mean nothing.
    let path = decode(path)?;
    let parts: Vec<String> = path.strip_prefix('/')?.trim_end_matches('/').split('/').map(Into::into).collect();
    let mut parts = parts.into_iter();
    let (group, version) = match parts.next()?.as_str() {
        "api" => (String::new(), parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let mut rest: Vec<String> = parts.collect();
    let watch = rest.first().is_some_and(|p| p == "watch") && rest.len() > 1;
    if watch {
        rest.remove(0);
    }
    let mut namespace = None;
    // `/namespaces/x/pods` is about pods; `/namespaces/x`, `/namespaces/x/status` and `/namespaces/x/finalize` about the namespace.
    if rest.first().is_some_and(|p| p == "namespaces")
        && rest.len() > 2
        && !(group.is_empty() && rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize"))
    {
        namespace = Some(rest.remove(1));
        rest.remove(0);
    }
    // No namespace is all of them.
    let no_segment = |part: &str| part.is_empty() || part == "." || part == "..";
    namespace = namespace.filter(|namespace| !namespace.is_empty());
    let named = Some(&group).filter(|_| path.starts_with("/apis/"));
    let segments = [named, Some(&version), rest.first(), rest.get(2)];
    if segments.into_iter().flatten().any(|part| no_segment(part)) || rest.get(1).is_some_and(String::is_empty) {
        return None;
    }
    let mut rest = rest.into_iter();
    let gvr = Gvr { group, version, resource: rest.next()? };
    let name = rest.next();
    let subresource = rest.next();
    // What follows a proxy subresource is the target's path; nothing else has more parts.
    if rest.next().is_some() && subresource.as_deref() != Some("proxy") {
        return None;
    }
    Some(Target { resource: Resource { gvr, namespace, name, subresource }, watch })
}

/// Every percent sign begins an escape.
pub(super) fn is_escaped(path: &str) -> bool {
    let mut rest = path.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return false,
        }
    }
    true
}

/// Percent-decodes; `None` for what is no UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a query, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or("").split('&').filter(|p| !p.is_empty()).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?, decode(&value.replace('+', " "))?))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone())
    }

    /// All values of a parameter.
    pub(super) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
    }

    /// True for `true` and `1`.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
    }

    /// `includeObject` of a table.
    pub(super) fn include(&self) -> Result<Include, Status> {
        match self.get("includeObject").as_deref() {
            None | Some("" | "Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            Some(other) => Err(Status::bad_request(format!("includeObject: unrecognized value {other:?}"))),
        }
    }
}

/// A client's query in the kubelet's words: booleans of exec and attach are 1.
pub(super) fn kubelet_query(query: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "stdin" => parts.push(format!("input={}", u8::from(value == "true" || value == "1"))),
            "stdout" => parts.push(format!("output={}", u8::from(value == "true" || value == "1"))),
            "stderr" => parts.push(format!("error={}", u8::from(value == "true" || value == "1"))),
            "tty" => parts.push(format!("tty={}", u8::from(value == "true" || value == "1"))),
            "container" => {}
            "ports" => parts.push(format!("port={value}")),
            _ => parts.push(pair.to_owned()),
        }
    }
    parts.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |path: &str, wanted: Option<&str>| {
            let found = parse(path).map(|t| {
                let r = t.resource;
                format!(
                    "{} {} {} {}",
                    r.gvr.group_resource(),
                    r.namespace.unwrap_or("-".into()),
                    r.name.unwrap_or("-".into()),
                    r.subresource.unwrap_or("-".into())
                )
            });
            assert_eq!(found.as_deref(), wanted, "{path}");
        };
        check("/api/v1/pods", Some("pods - - -"));
        check("/api/v1/namespaces/dev/pods/a/log", Some("pods dev a log"));
        check("/api/v1/namespaces/dev", Some("namespaces - dev -"));
        check("/api/v1/namespaces/dev/finalize", Some("namespaces - dev finalize"));
        check("/apis/apps/v1/namespaces/dev/deployments/a/scale", Some("deployments.apps dev a scale"));
        check(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            Some("clusterroles.rbac.authorization.k8s.io - system:node -"),
        );
        check("/api/v1", None);
        check("/apis/apps/v1", None);
        check("/api/v1/namespaces/../pods", Some("pods .. - -"));
        check("/api/v1/namespaces/%2e%2e/pods", Some("pods .. - -"));
        check("/api/v1/pods/a%2fb", Some("pods - a b"));
        check("/api/v1/namespaces/dev/pods/..", Some("pods dev .. -"));
        check("/api/v1/namespaces/dev/pods//", Some("pods dev - -"));
        check("/api/v1/namespaces//pods", Some("pods - - -"));
        check("/api/v1/namespaces/dev//a", None);
        check("/api/v1//pods", None);
        check("/healthz", None);
        assert!(is_escaped("/a%2Fb%00") && is_escaped("/a"));
        assert!(!is_escaped("/%zz") && !is_escaped("/a%") && !is_escaped("/a%2"));
    }

    #[test]
    fn queries() {
        let query = Query::of(Some("labelSelector=a%3Db%2Cc&watch=1&x&y=False"));
        assert_eq!(query.get("labelSelector").as_deref(), Some("a=b,c"));
        assert!(query.flag("watch") && query.flag("x") && !query.flag("y") && !query.flag("z"));
        assert_eq!(kubelet_query("command=sh&stdin=true&tty=false&container=c"), "command=sh&input=1&tty=0");
    }
}
