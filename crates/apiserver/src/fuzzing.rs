//! Doors for the fuzz targets (`fuzz/`) to what is private otherwise. Built by cargo-fuzz only.

use std::path::Path;
use std::sync::Arc;

use http::{Request, Response};
use serde_json::Value;
use store::Transform;

use crate::admission::hooks::review;
use crate::audit::policy::Policy;
use crate::authn::config::Settings;
use crate::authn::static_tokens::StaticTokens;
use crate::http::{Body, Service};
use crate::{Encryption, Server, conversion};

/// What answers requests, without connections.
pub struct Door(Service);

impl Door {
    /// Into a server.
    pub fn new(server: &Server) -> Self {
        let kubelet_tls = Arc::new(pki::credulous_client_config(None).expect("a configuration"));
        Self(Service {
            api: server.api.clone(),
            nodes: None,
            kubelet_tls,
            sockets: streaming::Streams::default(),
            debug: crate::Debug::default(),
        })
    }

    /// Answers a request of somebody who has no certificate, or of a superuser.
    pub async fn ask(&self, is_superuser: bool, request: Request<Body>) -> Response<Body> {
        let identity = is_superuser.then(|| pki::Identity {
            user: "fuzz".into(),
            groups: vec!["system:masters".into()],
            fingerprint: String::new(),
            issuer: Vec::new(),
            not_after: i64::MAX,
        });
        self.0.handle(identity, request).await
    }
}

/// Files that administrators write: audit policies, static tokens, encryption; and what such an encryption makes of a stored value.
pub fn files(path: &Path, text: &str, stored: &[u8]) {
    let _ = Policy::parse(text);
    let _ = StaticTokens::load(path);
    let _ = Settings::parse(text, "https://own");
    if let Ok(encryption) = Encryption::load(path, false) {
        let key = "/registry/secrets/default/a";
        let _ = encryption.open(key, stored);
        if let Ok(sealed) = encryption.seal(key, stored) {
            assert_eq!(encryption.open(key, &sealed).map(|(opened, _)| opened), Ok(stored.to_vec()));
        }
    }
}

/// What webhooks answer about an object.
pub fn answers(answer: Value, mut object: Value) {
    let _ = conversion::read(answer.clone(), "", vec![object.clone()], "example.com/v1");
    let Ok(answer) = review::response(answer, "", &Value::Null) else { return };
    if let Some(denied) = answer.denied {
        review::denial("fuzz", &denied);
    }
    if let Some(patch) = answer.patch {
        let _ = ::object::patch::json::apply(&mut object, &patch);
    }
}
