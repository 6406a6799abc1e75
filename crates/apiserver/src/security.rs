//! How strict the server is and whom it believes, beyond what every cluster has: read once, at the start.

use std::path::PathBuf;

use base::Tasks;

use crate::admission::Settled;
use crate::audit::{Audit, AuditOptions};
use crate::authn::Authenticators;
use crate::authz::Authorizers;
use crate::connection::Limits;

pub use crate::admission::AdmissionOptions;
pub use crate::authn::oidc::OidcOptions;
pub use crate::authn::webhook::TokenWebhookOptions;
pub use crate::authz::AuthorizationOptions;

/// Settings under upstream's names.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// `--token-auth-file`: `token,user,uid,"group1,group2"` in each line.
    pub token_auth_file: Option<PathBuf>,
    /// `--oidc-*`.
    pub oidc: Option<OidcOptions>,
    /// `--authentication-config`: issuers, and what anonymous requests may reach; read again when it changes.
    pub authentication_config: Option<PathBuf>,
    /// `--authentication-token-webhook-*`.
    pub token_webhook: Option<TokenWebhookOptions>,
    /// `--anonymous-auth=false`: nobody comes without a credential.
    pub refuses_anonymous: bool,
    /// `--authorization-*`.
    pub authorization: AuthorizationOptions,
    /// `--audit-*`.
    pub audit: AuditOptions,
    /// `--*-admission-*`.
    pub admission: AdmissionOptions,
    /// What connections and requests may take.
    pub limits: Limits,
}

/// A setting that cannot be used: what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SecurityError(String);

impl Security {
    pub(crate) fn audit(&self, tasks: &mut Tasks) -> Result<Option<Audit>, SecurityError> {
        Audit::open(&self.audit, tasks).map_err(SecurityError)
    }

    pub(crate) fn admission(&self) -> Result<Settled, SecurityError> {
        self.admission.settle().map_err(SecurityError)
    }

    /// `own` is the issuer of this cluster's service accounts.
    pub(crate) fn authenticators(&self, own: &str) -> Result<Authenticators, SecurityError> {
        Authenticators::new(self, own).map_err(SecurityError)
    }

    pub(crate) fn authorizers(&self) -> Result<Authorizers, SecurityError> {
        Authorizers::new(&self.authorization).map_err(SecurityError)
    }
}
