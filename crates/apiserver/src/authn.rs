//! Who a request is from: client certificate, service account token, or nobody.

use std::collections::BTreeMap;

use object::{Reason, Status};
use serde_json::{Value, json};

use crate::api::Api;
use crate::user::User;

/// Tells one credential of a user from another (KEP-4193).
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// Service account tokens are good for an hour unless asked otherwise; at least ten minutes.
const DEFAULT_SECONDS: i64 = 3600;
pub(crate) const LEAST_SECONDS: i64 = 600;

pub(crate) fn unauthorized() -> Status {
    Status::new(Reason::Unauthorized, "Unauthorized")
}

impl Api {
    /// The user of a verified client certificate.
    pub(crate) fn certificate_user(identity: pki::Identity) -> User {
        let groups: Vec<&str> = identity.groups.iter().map(String::as_str).collect();
        let mut user = User::new(&identity.user, &groups);
        user.extra.insert(CREDENTIAL.to_owned(), vec![format!("X509SHA256={}", identity.fingerprint)]);
        user
    }

    /// The user of a bearer token; 401 when it is not one of ours, too old, or its account or pod is gone.
    pub(crate) fn token_user(&self, token: &str, audiences: &[String]) -> Result<User, Status> {
        let claims = self.pki.tokens.verify(token).map_err(|error| {
            tracing::debug!(%error, "a bearer token was refused");
            unauthorized()
        })?;
        let now = base::time::now_seconds();
        let fits = claims["iss"] == self.issuer.as_str()
            && claims["exp"].as_i64().is_some_and(|exp| now < exp)
            && claims["nbf"].as_i64().is_none_or(|nbf| nbf <= now + 60);
        let audience =
            claims["aud"].as_array().into_iter().flatten().any(|a| audiences.iter().any(|w| a == w.as_str()));
        let bound = &claims["kubernetes.io"];
        let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
        let (namespace, name) = (text(&bound["namespace"]), text(&bound["serviceaccount"]["name"]));
        if !fits || !audience || !self.lives("serviceaccounts", &namespace, &bound["serviceaccount"]) {
            return Err(unauthorized());
        }
        let mut user = User::service_account(&namespace, &name);
        user.uid = text(&bound["serviceaccount"]["uid"]);
        let mut extra = BTreeMap::new();
        if let Some(id) = claims["jti"].as_str() {
            extra.insert(CREDENTIAL.to_owned(), vec![format!("JTI={id}")]);
        }
        if bound["node"].is_object() {
            extra.insert("authentication.kubernetes.io/node-name".to_owned(), vec![text(&bound["node"]["name"])]);
            extra.insert("authentication.kubernetes.io/node-uid".to_owned(), vec![text(&bound["node"]["uid"])]);
        }
        if bound["pod"].is_object() {
            if !self.lives("pods", &namespace, &bound["pod"]) {
                return Err(unauthorized());
            }
            extra.insert("authentication.kubernetes.io/pod-name".to_owned(), vec![text(&bound["pod"]["name"])]);
            extra.insert("authentication.kubernetes.io/pod-uid".to_owned(), vec![text(&bound["pod"]["uid"])]);
        }
        if bound["secret"].is_object() && !self.lives("secrets", &namespace, &bound["secret"]) {
            return Err(unauthorized());
        }
        user.extra = extra;
        Ok(user)
    }

    /// True when the object that a claim names exists with the claimed uid.
    fn lives(&self, resource: &str, namespace: &str, claim: &Value) -> bool {
        let key = format!("/registry/{resource}/{namespace}/{}", claim["name"].as_str().unwrap_or(""));
        self.store.get(&key).is_some_and(|v| claim["uid"] == v.object.head.uid.as_str())
    }

    /// Audiences that this server itself accepts.
    pub(crate) fn audiences(&self) -> Vec<String> {
        vec![self.issuer.clone()]
    }

    /// `POST serviceaccounts/<name>/token`: signs a token for the account (KEP-1205).
    pub(crate) fn issue_token(&self, namespace: &str, name: &str, request: &Value) -> Result<Value, Status> {
        let key = format!("/registry/serviceaccounts/{namespace}/{name}");
        let account = self.store.get(&key).ok_or_else(|| Status::not_found("", "serviceaccounts", name))?;
        let spec = &request["spec"];
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
        if seconds < LEAST_SECONDS {
            let error = object::Invalid::invalid(
                "spec.expirationSeconds",
                &seconds.into(),
                "may not specify a duration less than 10 minutes",
            );
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]));
        }
        let audiences = match spec["audiences"].as_array() {
            Some(given) if !given.is_empty() => Value::Array(given.clone()),
            _ => json!(self.audiences()),
        };
        let mut bound =
            json!({"namespace": namespace, "serviceaccount": {"name": name, "uid": account.object.head.uid}});
        let reference = &spec["boundObjectRef"];
        if reference.is_object() {
            let (kind, of) = (reference["kind"].as_str().unwrap_or(""), reference["name"].as_str().unwrap_or(""));
            let (field, resource) = match kind {
                "Pod" => ("pod", "pods"),
                "Secret" => ("secret", "secrets"),
                other => {
                    let gvk = object::Gvk::from_api_version(reference["apiVersion"].as_str().unwrap_or(""), other);
                    return Err(Status::bad_request(format!(
                        "cannot bind token to object of type {}/{}, Kind={}",
                        gvk.group, gvk.version, gvk.kind
                    )));
                }
            };
            let found = self.store.get(&format!("/registry/{resource}/{namespace}/{of}"));
            let found = found.ok_or_else(|| Status::not_found("", resource, of))?;
            if reference["uid"].as_str().is_some_and(|uid| uid != found.object.head.uid) {
                let why = format!(
                    "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                    reference["uid"].as_str().unwrap_or("")
                );
                return Err(Status::conflict("", resource, of, &why));
            }
            bound[field] = json!({"name": of, "uid": found.object.head.uid});
            let node = found.object.value().map_err(Status::internal)?["spec"]["nodeName"].take();
            if let Some(node) = node.as_str().filter(|n| !n.is_empty() && kind == "Pod") {
                bound["node"] = json!({"name": node});
                if let Some(node) = self.store.get(&format!("/registry/minions/{node}")) {
                    bound["node"]["uid"] = node.object.head.uid.as_str().into();
                }
            }
        }
        let now = base::time::now_seconds();
        let claims = json!({
            "iss": self.issuer, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": audiences,
            "iat": now, "nbf": now, "exp": now + seconds, "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": bound,
        });
        let token = self.pki.tokens.sign(&claims).ok_or_else(|| Status::internal("the system has no randomness"))?;
        let mut reply = request.clone();
        reply["apiVersion"] = "authentication.k8s.io/v1".into();
        reply["kind"] = "TokenRequest".into();
        reply["metadata"] = json!({"name": name, "namespace": namespace, "uid": account.object.head.uid,
            "creationTimestamp": base::time::now()});
        reply["spec"]["audiences"] = audiences;
        reply["spec"]["expirationSeconds"] = seconds.into();
        reply["status"] = json!({"token": token, "expirationTimestamp": base::time::format_seconds(now + seconds)});
        Ok(reply)
    }
}
