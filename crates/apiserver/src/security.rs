//! How strict the server is and whom it believes, beyond what every cluster has: read once, at the start.

use std::path::PathBuf;

use base::Tasks;

use crate::admission::Settled;
use crate::audit::{Audit, AuditOptions};
use crate::authn::Authenticators;
use crate::authn::oidc::Oidc;
use crate::authn::static_tokens::StaticTokens;

pub use crate::admission::AdmissionOptions;
pub use crate::authn::oidc::OidcOptions;

/// Settings under upstream's names.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// `--token-auth-file`: `token,user,uid,"group1,group2"` in each line.
    pub token_auth_file: Option<PathBuf>,
    /// `--oidc-*`.
    pub oidc: Option<OidcOptions>,
    /// `--audit-*`.
    pub audit: AuditOptions,
    /// `--*-admission-*`.
    pub admission: AdmissionOptions,
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

    pub(crate) fn authenticators(&self) -> Result<Authenticators, SecurityError> {
        let static_tokens = self.token_auth_file.as_deref().map(StaticTokens::load).transpose();
        let oidc = self.oidc.clone().map(Oidc::new).transpose();
        Ok(Authenticators {
            static_tokens: static_tokens.map_err(SecurityError)?.unwrap_or_default(),
            oidc: oidc.map_err(SecurityError)?,
        })
    }
}
