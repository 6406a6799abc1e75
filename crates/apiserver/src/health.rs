//! `/livez`, `/readyz`, `/healthz`: per check, in upstream's form.

use std::time::Duration;

use crate::api::Api;

/// Upstream's `--etcd-healthcheck-timeout`.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a check belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Everywhere,
    /// `/readyz` only.
    Ready,
    /// `/healthz` and `/livez` only.
    Live,
}

/// What a check looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// That an answer comes at all: what it names was done before the first request was taken.
    Serving,
    /// That the store takes requests.
    Store,
    /// That the policy of a new cluster is there.
    Policy,
    /// That the server is not on its way out.
    Staying,
}

/// All checks in upstream's order. The hooks after the start are done, or not needed, when the server begins to take requests.
const CHECKS: [(&str, At, Of); 39] = [
    ("ping", At::Everywhere, Of::Serving),
    ("log", At::Everywhere, Of::Serving),
    ("loopback-serving-certificate", At::Live, Of::Serving),
    ("etcd", At::Everywhere, Of::Store),
    ("etcd-readiness", At::Ready, Of::Store),
    ("informer-sync", At::Ready, Of::Policy),
    ("poststarthook/start-apiserver-admission-initializer", At::Everywhere, Of::Serving),
    ("poststarthook/generic-apiserver-start-informers", At::Everywhere, Of::Serving),
    ("poststarthook/priority-and-fairness-config-consumer", At::Everywhere, Of::Serving),
    ("poststarthook/priority-and-fairness-filter", At::Everywhere, Of::Serving),
    ("poststarthook/storage-object-count-tracker-hook", At::Everywhere, Of::Serving),
    ("poststarthook/start-apiextensions-informers", At::Everywhere, Of::Serving),
    ("poststarthook/start-apiextensions-controllers", At::Everywhere, Of::Serving),
    ("poststarthook/crd-informer-synced", At::Everywhere, Of::Serving),
    ("poststarthook/start-system-namespaces-controller", At::Everywhere, Of::Serving),
    ("poststarthook/peer-endpoint-reconciler-controller", At::Everywhere, Of::Serving),
    ("poststarthook/start-cluster-authentication-info-controller", At::Everywhere, Of::Serving),
    ("poststarthook/start-kube-apiserver-identity-lease-controller", At::Everywhere, Of::Serving),
    ("poststarthook/start-kube-apiserver-identity-lease-garbage-collector", At::Everywhere, Of::Serving),
    ("poststarthook/storage-readiness", At::Everywhere, Of::Store),
    ("poststarthook/start-legacy-token-tracking-controller", At::Everywhere, Of::Serving),
    ("poststarthook/start-service-ip-repair-controllers", At::Everywhere, Of::Serving),
    ("poststarthook/rbac/bootstrap-roles", At::Everywhere, Of::Policy),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", At::Everywhere, Of::Serving),
    ("poststarthook/priority-and-fairness-config-producer", At::Everywhere, Of::Serving),
    ("poststarthook/bootstrap-controller", At::Everywhere, Of::Serving),
    ("poststarthook/start-kubernetes-service-cidr-controller", At::Everywhere, Of::Serving),
    ("poststarthook/aggregator-reload-proxy-client-cert", At::Everywhere, Of::Serving),
    ("poststarthook/start-kube-aggregator-informers", At::Everywhere, Of::Serving),
    ("poststarthook/apiservice-status-local-available-controller", At::Everywhere, Of::Serving),
    ("poststarthook/apiservice-status-remote-available-controller", At::Everywhere, Of::Serving),
    ("poststarthook/apiservice-registration-controller", At::Everywhere, Of::Serving),
    ("poststarthook/apiservice-wait-for-first-sync", At::Everywhere, Of::Serving),
    ("poststarthook/apiservice-discovery-controller", At::Everywhere, Of::Serving),
    ("poststarthook/kube-apiserver-autoregistration", At::Everywhere, Of::Serving),
    ("autoregister-completion", At::Everywhere, Of::Serving),
    ("poststarthook/apiservice-openapi-controller", At::Everywhere, Of::Serving),
    ("poststarthook/apiservice-openapiv3-controller", At::Everywhere, Of::Serving),
    ("shutdown", At::Ready, Of::Staying),
];

/// The endpoints.
const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

fn is_at(at: At, endpoint: &str) -> bool {
    match at {
        At::Everywhere => true,
        At::Ready => endpoint == "readyz",
        At::Live => endpoint != "readyz",
    }
}

/// The names of an endpoint's checks, for the list of paths.
pub(crate) fn names(endpoint: &str) -> impl Iterator<Item = &'static str> {
    CHECKS.iter().filter(move |(_, at, _)| is_at(*at, endpoint)).map(|(name, ..)| *name)
}

/// What is well.
struct State {
    store: bool,
    policy: bool,
    staying: bool,
}

impl State {
    async fn of(api: &Api) -> Self {
        let store = match api.store.sync() {
            Some(sync) => matches!(tokio::time::timeout(PATIENCE, sync).await, Ok(Ok(()))),
            None => api.store.revision() > 0,
        };
        let policy = api.rbac.load().role("", "cluster-admin").is_some();
        Self { store, policy, staying: !api.stop.is_cancelled() }
    }

    fn checks(&self, endpoint: &str) -> Vec<(&'static str, bool)> {
        let outcome = |of: Of| match of {
            Of::Serving => true,
            Of::Store => self.store,
            Of::Policy => self.policy,
            Of::Staying => self.staying,
        };
        CHECKS.iter().filter(|(_, at, _)| is_at(*at, endpoint)).map(|(name, _, of)| (*name, outcome(*of))).collect()
    }
}

/// Every check with its endpoint and outcome.
pub(crate) async fn all(api: &Api) -> Vec<(&'static str, &'static str, bool)> {
    let state = State::of(api).await;
    let of =
        |endpoint: &'static str| state.checks(endpoint).into_iter().map(move |(name, well)| (name, endpoint, well));
    ENDPOINTS.into_iter().flat_map(of).collect()
}

/// The outcome of a probe of the server: HTTP code and text. `excluded` are checks that are left out.
pub(crate) async fn probe(api: &Api, path: &str, verbose: bool, excluded: &[String]) -> Option<(u16, String)> {
    let (endpoint, single) = match path.trim_start_matches('/').split_once('/') {
        Some((endpoint, single)) => (endpoint, Some(single)),
        None => (path.trim_start_matches('/'), None),
    };
    if !ENDPOINTS.contains(&endpoint) {
        return None;
    }
    let checks = State::of(api).await.checks(endpoint);
    Some(told(endpoint, single, &checks, verbose, excluded))
}

fn told(
    endpoint: &str,
    single: Option<&str>,
    checks: &[(&str, bool)],
    verbose: bool,
    excluded: &[String],
) -> (u16, String) {
    if let Some(single) = single {
        return match checks.iter().find(|(name, _)| *name == single) {
            Some((_, true)) => (200, "ok".into()),
            Some((name, false)) => (500, format!("internal server error: {name} failed\n")),
            None => (404, "404 page not found\n".into()),
        };
    }
    let is_excluded = |name: &str| excluded.iter().any(|e| e == name);
    let well = checks.iter().all(|(name, ok)| *ok || is_excluded(name));
    if well && !verbose {
        return (200, "ok".into());
    }
    let mut text = String::new();
    for (name, ok) in checks {
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
    (if well { 200 } else { 500 }, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_told_as_upstream_tells_it() {
        let state = State { store: false, policy: true, staying: true };
        let checks = state.checks("livez");
        assert_eq!(told("livez", Some("ping"), &checks, false, &[]), (200, "ok".into()));
        assert_eq!(told("livez", Some("etcd"), &checks, false, &[]).0, 500);
        assert_eq!(told("livez", Some("shutdown"), &checks, false, &[]).0, 404);
        assert_eq!(told("livez", Some(""), &checks, false, &[]).0, 404);
        let (code, text) = told("livez", None, &checks, false, &[]);
        assert!(code == 500 && text.contains("[+]ping ok\n") && text.contains("[-]etcd failed: reason withheld\n"));
        assert!(text.ends_with("livez check failed\n"));
        let excluded = ["etcd", "poststarthook/storage-readiness"].map(String::from);
        assert_eq!(told("livez", None, &checks, false, &excluded), (200, "ok".into()));
        let (_, text) = told("livez", None, &checks, true, &[&excluded[..], &["nope".into()]].concat());
        assert!(text.contains("[+]etcd excluded: ok\n"));
        assert!(text.ends_with("no matches for \"nope\"\nlivez check passed\n"));
        let leaving = State { store: true, policy: true, staying: false }.checks("readyz");
        assert!(told("readyz", None, &leaving, false, &[]).1.contains("[-]shutdown failed"));
    }
}
