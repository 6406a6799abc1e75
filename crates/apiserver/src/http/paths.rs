//! Requests that are not about a resource: health, metrics, keys, documents.

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use object::{Reason, Status};
use rbac::Attributes;
use serde_json::json;

use super::reply::{self, ok_json};
use super::route::Query;
use super::{Handled, Service, documents, header_text, status};
use crate::api::not_allowed;
use crate::user::User;
use crate::{health, metrics};

/// What a request wants to do to a path.
pub(super) fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "options",
    }
}

impl Service {
    /// Requests that are not about a resource.
    pub(super) async fn path(
        &self,
        user: &User,
        path: &str,
        query: &Query,
        method: &Method,
        headers: &HeaderMap,
    ) -> Handled {
        let verb = verb(method);
        self.api.authorize(user, &Attributes { verb, path, ..Attributes::default() }).await?;
        if let Some((code, text)) =
            health::probe(&self.api, path, query.get("verbose").is_some(), &query.all("exclude")).await
        {
            return Ok(reply::text(code, text));
        }
        let is_rest = documents::is_rest(path);
        if verb != "get" && (verb != "head" || is_rest) {
            let known = matches!(path, "/metrics" | "/metrics/slis" | "/openid/v1/jwks")
                || path == "/.well-known/openid-configuration"
                || (is_rest && self.api.document(path, "").is_some());
            if known {
                return Err(not_allowed());
            }
        }
        match path {
            "/statusz" => return status::answer(headers),
            "/flagz" => return self.debug.flagz(headers),
            "/metrics" => return Ok(reply::bytes(StatusCode::OK, self.metrics().await?, base::metrics::CONTENT_TYPE)),
            "/metrics/slis" => {
                let text = metrics::of_checks(&health::all(&self.api).await);
                return Ok(reply::bytes(StatusCode::OK, text.into(), base::metrics::CONTENT_TYPE));
            }
            "/openid/v1/jwks" => {
                return Ok(reply::public(reply::typed(&self.api.pki.tokens.jwks(), "application/jwk-set+json")));
            }
            "/.well-known/openid-configuration" => {
                return Ok(reply::public(ok_json(&json!({
                    "issuer": self.api.issuer, "jwks_uri": format!("https://{}:{}/openid/v1/jwks", self.api.advertise, self.api.port),
                    "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["ES256"],
                }))));
            }
            _ => {}
        }
        if let Some(page) = self.debug.page(path) {
            return Ok(page);
        }
        if let Some(dump) = self.api.flow_dump(path) {
            return Ok(reply::text(200, dump));
        }
        if let Some(missing) = documents::missing(path) {
            return Ok(missing);
        }
        let document = self.api.document(path, &header_text(headers, header::ACCEPT));
        if let Some(merged) = self.api.merged(path, document.as_deref()) {
            return documents::answer(path, &merged, query, headers);
        }
        if let Some(document) = document {
            return documents::answer(path, &document, query, headers);
        }
        // Paths of groups that are served have the API's words.
        let group = path.strip_prefix("/apis/").and_then(|path| path.split('/').next());
        if path.starts_with("/api/")
            || path.starts_with("/version/")
            || group.is_some_and(|group| self.api.registry.has_group(group))
        {
            return Err(Status::new(Reason::NotFound, "the server could not find the requested resource"));
        }
        Ok(reply::page_not_found())
    }

    /// Counting what is stored takes a while where much is.
    async fn metrics(&self) -> Result<Bytes, Status> {
        let api = self.api.clone();
        let text = tokio::task::spawn_blocking(move || api.metrics()).await;
        text.map(Bytes::from).map_err(Status::internal)
    }
}
