//! Tokens of service accounts: bound ones (KEP-1205), good while account and bound object live, and legacy ones that lie in a Secret.

use client::Resource;
use object::{Gvr, Object, Status};
use serde_json::{Value, json};

use super::{Authenticated, CREDENTIAL, bootstrap_token, common, unauthorized};
use crate::api::Api;
use crate::metrics::ServiceAccountTokens;
use crate::user::User;
use crate::write::{Part, WriteQuery};

/// Who issued the tokens in Secrets.
const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Clocks differ by so much, and what is deleted stays good for so long.
const LEEWAY_SECONDS: i64 = 60;

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// A number of seconds that may be written with a fraction.
fn seconds(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|s| s as i64))
}

impl Api {
    /// The account of a token that this cluster signed; `None` when it did not.
    pub(super) async fn service_account_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Option<Result<Authenticated, Status>> {
        let claims = self.pki.tokens.verify(token).ok()?;
        let outcome = match text(&claims["iss"]) {
            LEGACY_ISSUER => self.legacy_account(token, &claims, audiences).await,
            issuer if issuer == self.issuer => self.bound_account(&claims, audiences, base::time::now_seconds()),
            _ => Err("another issuer"),
        };
        Some(outcome.map_err(|why| {
            tracing::debug!(why, "a service account token was refused");
            unauthorized()
        }))
    }

    fn bound_account(&self, claims: &Value, audiences: &[String], now: i64) -> Result<Authenticated, &'static str> {
        if seconds(&claims["exp"]).is_none_or(|exp| now > exp + LEEWAY_SECONDS) {
            return Err("service account token has expired");
        }
        if [&claims["nbf"], &claims["iat"]].into_iter().filter_map(seconds).any(|at| at > now + LEEWAY_SECONDS) {
            return Err("service account token is not valid yet");
        }
        let given: Vec<String> = claims["aud"].as_array().into_iter().flatten().map(|a| text(a).to_owned()).collect();
        let audiences = common(audiences, &given);
        if audiences.is_empty() {
            return Err("token audiences are not what is wanted");
        }
        let bound = &claims["kubernetes.io"];
        let (namespace, account) = (text(&bound["namespace"]), &bound["serviceaccount"]);
        let lives = |resource: &str, namespace: &str, of: &Value| {
            let key = match namespace {
                "" => format!("/registry/{resource}/{}", text(&of["name"])),
                namespace => format!("/registry/{resource}/{namespace}/{}", text(&of["name"])),
            };
            self.store.get(&key).is_some_and(|v| of["uid"] == v.object.head.uid.as_str() && !is_gone(&v.object, now))
        };
        if !lives("serviceaccounts", namespace, account) {
            return Err("the service account is gone");
        }
        let mut user = User::service_account(namespace, text(&account["name"]));
        user.uid = text(&account["uid"]).into();
        let mut note = |key: &str, value: &Value| {
            if let Some(value) = value.as_str() {
                user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.into()]);
            }
        };
        if bound["secret"].is_object() && !lives("secrets", namespace, &bound["secret"]) {
            return Err("service account token has been invalidated");
        }
        let (pod, node) = (&bound["pod"], &bound["node"]);
        if pod.is_object() {
            if !lives("pods", namespace, pod) {
                return Err("service account token has been invalidated");
            }
            note("pod-name", &pod["name"]);
            note("pod-uid", &pod["uid"]);
        } else if node.is_object() && !lives("minions", "", node) {
            return Err("service account token has been invalidated");
        }
        note("node-name", &node["name"]);
        note("node-uid", &node["uid"]);
        if let Some(id) = claims["jti"].as_str() {
            user.extra.insert(CREDENTIAL.into(), vec![format!("JTI={id}")]);
        }
        ServiceAccountTokens::get().valid.inc();
        Ok(Authenticated { user, audiences })
    }

    /// The account of a token out of a Secret; the secret is labelled with the day.
    async fn legacy_account(
        &self,
        token: &str,
        claims: &Value,
        audiences: &[String],
    ) -> Result<Authenticated, &'static str> {
        let claim = |name: &str| text(&claims[format!("kubernetes.io/serviceaccount/{name}")]);
        let (namespace, name) = (claim("namespace"), claim("service-account.name"));
        let (uid, secret_name) = (claim("service-account.uid"), claim("secret.name"));
        if [namespace, name, uid, secret_name].contains(&"") {
            return Err("a claim is missing");
        }
        if text(&claims["sub"]) != format!("system:serviceaccount:{namespace}:{name}") {
            return Err("sub claim is invalid");
        }
        let audiences = common(audiences, &self.audiences());
        if audiences.is_empty() {
            return Err("token audiences are not what is wanted");
        }
        let secret = self.store.get(&format!("/registry/secrets/{namespace}/{secret_name}"));
        let secret = secret.filter(|v| !v.object.head.is_terminating()).ok_or("Token has been invalidated")?;
        let value = secret.object.value().unwrap_or_default();
        let stored = bootstrap_token::data(&value, "token").unwrap_or_default();
        if !bootstrap_token::same(stored.as_bytes(), token.as_bytes()) {
            return Err("Token does not match server's copy");
        }
        let account = self.store.get(&format!("/registry/serviceaccounts/{namespace}/{name}"));
        let account = account.filter(|a| a.object.head.uid == uid && !a.object.head.is_terminating());
        let account = account.ok_or("the service account is gone")?.object.value().unwrap_or_default();
        self.note_use(&secret.object).await;
        let used = ServiceAccountTokens::get();
        used.legacy.inc();
        let is_auto = account["secrets"].as_array().into_iter().flatten().any(|s| s["name"] == secret_name);
        if is_auto { &used.auto } else { &used.manual }.inc();
        if secret.object.head.labels.contains_key(INVALID_SINCE) {
            if is_auto {
                used.invalid.inc();
            }
            return Err("the token has been marked invalid");
        }
        let mut user = User::service_account(namespace, name);
        user.uid = uid.into();
        Ok(Authenticated { user, audiences })
    }

    /// Labels a token's Secret with the day of its last use.
    async fn note_use(&self, secret: &Object) {
        let now = base::time::now_seconds();
        let day = |seconds: i64| base::time::format_seconds(seconds)[..10].to_owned();
        let today = day(now);
        let noted = secret.head.labels.get(LAST_USED);
        if noted.is_some_and(|noted| *noted == today || *noted == day(now + 86_400)) {
            return;
        }
        let at = Resource::object(&Gvr::new("", "v1", "secrets"), Some(&secret.head.namespace), &secret.head.name);
        let Ok(kind) = self.stored_kind_of(&at.gvr) else { return };
        let change = |old: &Value| {
            let mut new = old.clone();
            if !new["metadata"]["labels"].is_object() {
                new["metadata"]["labels"] = json!({});
            }
            new["metadata"]["labels"][LAST_USED] = today.as_str().into();
            Ok(new)
        };
        let query = WriteQuery { manager: Some("navarch-apiserver".into()), ..WriteQuery::default() };
        if let Err(error) = self.change(&User::superuser(), &kind, &at, Part::Main, &query, change).await {
            tracing::warn!(%error, secret = secret.head.key(), "cannot note the use of a token");
        }
    }
}

/// True when an object has been going for longer than clocks differ.
fn is_gone(object: &Object, now: i64) -> bool {
    if !object.head.is_terminating() {
        return false;
    }
    let value = object.value().unwrap_or_default();
    let since = value["metadata"]["deletionTimestamp"].as_str().and_then(base::time::parse_seconds);
    since.is_none_or(|since| since < now - LEEWAY_SECONDS)
}
