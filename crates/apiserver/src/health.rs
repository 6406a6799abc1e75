//! `/livez`, `/readyz`, `/healthz`: per check, in upstream's form.

use std::time::Duration;

use crate::api::Api;

/// Upstream's `--etcd-healthcheck-timeout`.
const PATIENCE: Duration = Duration::from_secs(2);

/// True when the store takes requests.
async fn answers(api: &Api) -> bool {
    match api.store.sync() {
        Some(sync) => matches!(tokio::time::timeout(PATIENCE, sync).await, Ok(Ok(()))),
        None => api.store.revision() > 0,
    }
}

/// The outcome of a probe of the server: HTTP code and text. `excluded` are checks that are left out.
pub(crate) async fn probe(api: &Api, path: &str, verbose: bool, excluded: &[String]) -> Option<(u16, String)> {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let endpoint = parts.next().unwrap_or("");
    let single = parts.next().filter(|c| !c.is_empty());
    if !matches!(endpoint, "livez" | "readyz" | "healthz") {
        return None;
    }
    let checks = checks(api, endpoint, answers(api).await);
    if let Some(single) = single {
        return Some(match checks.iter().find(|(name, _)| *name == single) {
            Some((_, true)) => (200, "ok".into()),
            Some((_, false)) => (500, "internal server error: check failed\n".into()),
            None => (404, "404 page not found\n".into()),
        });
    }
    let is_excluded = |name: &str| excluded.iter().any(|e| e == name);
    let well = checks.iter().all(|(name, ok)| *ok || is_excluded(name));
    if well && !verbose {
        return Some((200, "ok".into()));
    }
    let mut text = String::new();
    for (name, ok) in &checks {
        text.push_str(&match (is_excluded(name), ok) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (false, true) => format!("[+]{name} ok\n"),
            (false, false) => format!("[-]{name} failed: reason withheld\n"),
        });
    }
    let unknown: Vec<String> =
        excluded.iter().filter(|e| !checks.iter().any(|(name, _)| name == e)).map(|e| format!("{e:?}")).collect();
    if !unknown.is_empty() {
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {}\n", unknown.join(",")));
    }
    let verdict = if well { "passed" } else { "failed" };
    text.push_str(&format!("{endpoint} check {verdict}\n"));
    Some((if well { 200 } else { 500 }, text))
}

/// The names of all checks, for the list of paths.
pub(crate) const NAMES: [&str; 6] =
    ["ping", "log", "etcd", "informer-sync", "poststarthook/rbac/bootstrap-roles", "shutdown"];

fn checks(api: &Api, endpoint: &str, store: bool) -> Vec<(&'static str, bool)> {
    let policy = api.rbac.load().role("", "cluster-admin").is_some();
    let outcome = |name: &'static str| match name {
        "etcd" => (name, store),
        "informer-sync" | "poststarthook/rbac/bootstrap-roles" => (name, policy),
        _ => (name, true),
    };
    let of_ready = |name: &&str| endpoint == "readyz" || !matches!(*name, "informer-sync" | "shutdown");
    NAMES.into_iter().filter(of_ready).map(outcome).collect()
}
