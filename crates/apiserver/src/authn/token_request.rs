//! `POST serviceaccounts/<name>/token`: signs a token for the account (KEP-1205).

use object::{Invalid, Object, Status};
use serde_json::{Value, json};

use crate::api::Api;

/// Tokens are good for an hour unless asked otherwise; at least ten minutes.
const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;
/// What admission asks for on behalf of pods. Such a token goes on for a year, for clients that do not read it anew; only the
/// claim `warnafter` tells that it is old.
const WARN_ONLY_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 86_400;

const GROUP: &str = "authentication.k8s.io";

/// What a token is bound to, besides its account.
#[derive(Default)]
struct Bound {
    claims: Vec<(&'static str, Value)>,
    uid: String,
    is_pod: bool,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

fn reference(object: &Object) -> Value {
    json!({"name": object.head.name, "uid": object.head.uid})
}

/// Why no object has that name.
fn segment_error(name: &str) -> Option<String> {
    match name {
        "" => Some("Name parameter required.".into()),
        name => {
            let why = kinds::names::path_segment(name);
            (!why.is_empty()).then(|| format!("Name parameter invalid: {name:?}: {}", why.join(";")))
        }
    }
}

impl Api {
    /// Signs a token for the account.
    pub(crate) fn issue_token(&self, namespace: &str, name: &str, request: &Value) -> Result<Value, Status> {
        let metadata = &request["metadata"];
        for (field, is, what) in [("name", name, "name"), ("namespace", namespace, "namespace")] {
            let given = text(metadata, field);
            if !given.is_empty() && given != is {
                let why = format!("must match the service account {what} if specified");
                let error = Invalid::invalid(&format!("metadata.{field}"), &given.into(), why);
                return Err(Status::invalid(GROUP, "TokenRequest", name, &[error]));
            }
        }
        let account = self.stored("serviceaccounts", Some(namespace), name)?;
        let given = text(metadata, "uid");
        if !given.is_empty() && given != account.head.uid {
            let why = format!(
                "the UID in the token request ({given}) does not match the UID of the service account ({})",
                account.head.uid
            );
            return Err(Status::conflict(GROUP, "TokenRequest", name, &why));
        }
        let spec = &request["spec"];
        let seconds = lifetime(spec)?;
        let own = self.audiences();
        let audiences: Vec<String> = match spec["audiences"].as_array() {
            Some(given) if !given.is_empty() => given.iter().filter_map(Value::as_str).map(Into::into).collect(),
            _ => own.clone(),
        };
        let bound = match &spec["boundObjectRef"] {
            reference if reference.is_object() => self.bound(namespace, name, reference)?,
            _ => Bound::default(),
        };
        let mut claims = json!({"namespace": namespace, "serviceaccount": reference(&account)});
        for (key, value) in bound.claims {
            claims[key] = value;
        }
        let now = base::time::now_seconds();
        let mut lasts = seconds;
        if bound.is_pod && seconds == WARN_ONLY_SECONDS && audiences.iter().all(|a| own.contains(a)) {
            claims["warnafter"] = (now + seconds).into();
            lasts = EXTENDED_SECONDS;
        }
        let claims = json!({
            "iss": self.issuer, "sub": format!("system:serviceaccount:{namespace}:{name}"), "aud": audiences,
            "iat": now, "nbf": now, "exp": now + lasts, "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": claims,
        });
        let token = self.pki.tokens.sign(&claims).ok_or_else(|| Status::internal("the system has no randomness"))?;
        let mut reply = request.clone();
        reply["apiVersion"] = "authentication.k8s.io/v1".into();
        reply["kind"] = "TokenRequest".into();
        reply["metadata"] = json!({"name": name, "namespace": namespace, "uid": account.head.uid, "creationTimestamp": base::time::format_seconds(now)});
        reply["spec"]["audiences"] = json!(audiences);
        reply["spec"]["expirationSeconds"] = seconds.into();
        if reply["spec"].get("boundObjectRef").is_none() {
            reply["spec"]["boundObjectRef"] = Value::Null;
        }
        reply["status"] = json!({"token": token, "expirationTimestamp": base::time::format_seconds(now + seconds)});
        Ok(reply)
    }

    fn stored(&self, resource: &str, namespace: Option<&str>, name: &str) -> Result<std::sync::Arc<Object>, Status> {
        let directory = if resource == "nodes" { "minions" } else { resource };
        let key = match namespace {
            Some(namespace) => format!("/registry/{directory}/{namespace}/{name}"),
            None => format!("/registry/{directory}/{name}"),
        };
        self.store.get(&key).map(|v| v.object).ok_or_else(|| Status::not_found("", resource, name))
    }

    fn bound(&self, namespace: &str, account: &str, wanted: &Value) -> Result<Bound, Status> {
        let (kind, name) = (text(wanted, "kind"), text(wanted, "name"));
        if let Some(why) = segment_error(name).filter(|_| matches!(kind, "Pod" | "Node" | "Secret")) {
            return Err(Status::bad_request(why));
        }
        // As upstream: versions do not matter, and what cannot be read is of no group.
        let (group, _) = object::names::split_api_version(text(wanted, "apiVersion"));
        let readable = text(wanted, "apiVersion").matches('/').count() < 2;
        let bound = match (if readable { group } else { "" }, kind) {
            ("", "Pod") => {
                let pod = self.stored("pods", Some(namespace), name)?;
                let value = pod.value().map_err(Status::internal)?;
                if text(&value["spec"], "serviceAccountName") != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                let mut claims = vec![("pod", reference(&pod))];
                let node = text(&value["spec"], "nodeName");
                if !node.is_empty() {
                    let found = self.stored("nodes", None, node).map(|node| reference(&node));
                    claims.push(("node", found.unwrap_or_else(|_| json!({"name": node}))));
                }
                Bound { claims, uid: pod.head.uid.clone(), is_pod: true }
            }
            ("", "Node") => {
                let node = self.stored("nodes", None, name)?;
                Bound { claims: vec![("node", reference(&node))], uid: node.head.uid.clone(), is_pod: false }
            }
            ("", "Secret") => {
                let secret = self.stored("secrets", Some(namespace), name)?;
                Bound { claims: vec![("secret", reference(&secret))], uid: secret.head.uid.clone(), is_pod: false }
            }
            (_, kind) => {
                let (group, version) = object::names::split_api_version(text(wanted, "apiVersion"));
                let text = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
                return Err(Status::bad_request(text));
            }
        };
        let uid = text(wanted, "uid");
        if !uid.is_empty() && uid != bound.uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict("", kind, name, &why));
        }
        Ok(bound)
    }
}

fn lifetime(spec: &Value) -> Result<i64, Status> {
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    let why = match seconds {
        ..LEAST_SECONDS => "may not specify a duration less than 10 minutes",
        LEAST_SECONDS..=MOST_SECONDS => return Ok(seconds),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let error = Invalid::invalid("spec.expirationSeconds", &seconds.into(), why);
    Err(Status::invalid(GROUP, "TokenRequest", "", &[error]))
}
