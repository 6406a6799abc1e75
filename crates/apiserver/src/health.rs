//! `/livez`, `/readyz`, `/healthz`: per check, in upstream's form.

use crate::api::Api;

/// The outcome of a probe of the server: HTTP code and text.
pub(crate) fn probe(api: &Api, path: &str, verbose: bool) -> Option<(u16, String)> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts.next().unwrap_or("");
    let single = parts.next().filter(|c| !c.is_empty());
    if !matches!(endpoint, "livez" | "readyz" | "healthz") {
        return None;
    }
    let policy = api.rbac.load().role("", "cluster-admin").is_some();
    let mut checks = vec![("ping", true), ("log", true), ("etcd", api.store.revision() > 0)];
    checks.push(("poststarthook/rbac/bootstrap-roles", policy));
    if endpoint == "readyz" {
        checks.push(("informer-sync", policy));
        checks.push(("shutdown", true));
    }
    if let Some(single) = single {
        return Some(match checks.iter().find(|(name, _)| *name == single) {
            Some((_, true)) => (200, "ok".into()),
            Some((_, false)) => (500, "internal server error: check failed\n".into()),
            None => (404, "404 page not found\n".into()),
        });
    }
    let well = checks.iter().all(|(_, ok)| *ok);
    if well && !verbose {
        return Some((200, "ok".into()));
    }
    let mut text = String::new();
    for (name, ok) in &checks {
        text.push_str(&if *ok { format!("[+]{name} ok\n") } else { format!("[-]{name} failed: reason withheld\n") });
    }
    let verdict = if well { "passed" } else { "failed" };
    text.push_str(&format!("{endpoint} check {verdict}\n"));
    Some((if well { 200 } else { 500 }, text))
}
