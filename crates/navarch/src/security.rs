//! Flags of authentication, admission and audit, under the names that upstream's API server gives them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use apiserver::{
    AdmissionOptions, AuditOptions, AuthorizationOptions, Encryption, Limits, OidcOptions, Security,
    TokenWebhookOptions,
};
use clap::Args;

/// See each flag.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Security")]
#[group(skip)] // a group is named after its struct, and there is another `Flags`
pub(crate) struct Flags {
    /// File of static tokens: token,user,uid,"group1,group2" in each line.
    #[arg(long, env = "NAVARCH_TOKEN_AUTH_FILE")]
    token_auth_file: Option<PathBuf>,
    /// OpenID issuer whose tokens are accepted; https only.
    #[arg(long, env = "NAVARCH_OIDC_ISSUER_URL", requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,
    /// Client that OpenID tokens must be for.
    #[arg(long, env = "NAVARCH_OIDC_CLIENT_ID", requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// Authorities of the OpenID issuer, PEM; this machine's own when not given.
    #[arg(long, env = "NAVARCH_OIDC_CA_FILE")]
    oidc_ca_file: Option<PathBuf>,
    /// Claim that is the user's name.
    #[arg(long, env = "NAVARCH_OIDC_USERNAME_CLAIM", default_value = "sub")]
    oidc_username_claim: String,
    /// What is put before the user's name; `-` for nothing. The issuer's URL and `#` when not given, unless the claim is `email`.
    #[arg(
        long,
        env = "NAVARCH_OIDC_USERNAME_PREFIX",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    oidc_username_prefix: String,
    /// Claim that lists the user's groups.
    #[arg(long, env = "NAVARCH_OIDC_GROUPS_CLAIM", default_value = "", hide_default_value = true)]
    oidc_groups_claim: String,
    /// What is put before each group.
    #[arg(long, env = "NAVARCH_OIDC_GROUPS_PREFIX", default_value = "", hide_default_value = true)]
    oidc_groups_prefix: String,
    /// `claim=value` that a token must have; may be given several times.
    #[arg(long, env = "NAVARCH_OIDC_REQUIRED_CLAIM")]
    oidc_required_claim: Vec<String>,
    /// Accepted signatures.
    #[arg(long, env = "NAVARCH_OIDC_SIGNING_ALGS", value_delimiter = ',', default_value = "RS256")]
    oidc_signing_algs: Vec<String>,
    /// Issuers of tokens, and what anonymous requests may reach (apiserver.config.k8s.io/v1 AuthenticationConfiguration).
    #[arg(long, env = "NAVARCH_AUTHENTICATION_CONFIG", conflicts_with = "oidc_issuer_url")]
    authentication_config: Option<PathBuf>,
    /// Kubeconfig of a server that knows tokens.
    #[arg(long, env = "NAVARCH_AUTHENTICATION_TOKEN_WEBHOOK_CONFIG_FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// Version of the reviews that it is sent.
    #[arg(long, env = "NAVARCH_AUTHENTICATION_TOKEN_WEBHOOK_VERSION", default_value = "v1beta1")]
    authentication_token_webhook_version: String,
    /// How long its answers are believed.
    #[arg(long, env = "NAVARCH_AUTHENTICATION_TOKEN_WEBHOOK_CACHE_TTL", default_value = "2m", value_parser = span)]
    authentication_token_webhook_cache_ttl: Duration,
    /// Whether requests without a credential are looked at.
    #[arg(long, env = "NAVARCH_ANONYMOUS_AUTH", default_value_t = true, action = clap::ArgAction::Set)]
    anonymous_auth: bool,
    /// Who decides what is allowed, in order: Node, RBAC, ABAC, Webhook, AlwaysAllow, AlwaysDeny; Node,RBAC when not given.
    #[arg(long, env = "NAVARCH_AUTHORIZATION_MODE", value_delimiter = ',')]
    authorization_mode: Vec<String>,
    /// Policies of mode ABAC, one on each line (abac.authorization.kubernetes.io/v1beta1 Policy).
    #[arg(long, env = "NAVARCH_AUTHORIZATION_POLICY_FILE")]
    authorization_policy_file: Option<PathBuf>,
    /// Kubeconfig of the server that mode Webhook asks.
    #[arg(long, env = "NAVARCH_AUTHORIZATION_WEBHOOK_CONFIG_FILE")]
    authorization_webhook_config_file: Option<PathBuf>,
    /// Version of the reviews that it is sent.
    #[arg(long, env = "NAVARCH_AUTHORIZATION_WEBHOOK_VERSION", default_value = "v1beta1")]
    authorization_webhook_version: String,
    /// How long it is believed when it allows.
    #[arg(long, env = "NAVARCH_AUTHORIZATION_WEBHOOK_CACHE_AUTHORIZED_TTL", default_value = "5m", value_parser = span)]
    authorization_webhook_cache_authorized_ttl: Duration,
    /// How long it is believed when it does not.
    #[arg(long, env = "NAVARCH_AUTHORIZATION_WEBHOOK_CACHE_UNAUTHORIZED_TTL", default_value = "30s", value_parser = span)]
    authorization_webhook_cache_unauthorized_ttl: Duration,
    /// All of that in a file (apiserver.config.k8s.io/v1 AuthorizationConfiguration).
    #[arg(long, env = "NAVARCH_AUTHORIZATION_CONFIG", conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    authorization_config: Option<PathBuf>,
    /// Which resources the store keeps encrypted, and how (apiserver.config.k8s.io/v1 EncryptionConfiguration).
    #[arg(long, env = "NAVARCH_ENCRYPTION_PROVIDER_CONFIG")]
    encryption_provider_config: Option<PathBuf>,
    /// Read that file again when it changes.
    #[arg(long, env = "NAVARCH_ENCRYPTION_PROVIDER_CONFIG_AUTOMATIC_RELOAD", requires = "encryption_provider_config")]
    encryption_provider_config_automatic_reload: bool,
    /// Policy of what is written to the audit log (audit.k8s.io/v1).
    #[arg(long, env = "NAVARCH_AUDIT_POLICY_FILE", requires = "audit_log_path")]
    audit_policy_file: Option<PathBuf>,
    /// The audit log; `-` is the standard output.
    #[arg(long, env = "NAVARCH_AUDIT_LOG_PATH")]
    audit_log_path: Option<PathBuf>,
    /// Megabytes at which the audit log is rotated.
    #[arg(long, env = "NAVARCH_AUDIT_LOG_MAXSIZE", default_value_t = 100)]
    audit_log_maxsize: u64,
    /// Rotated audit logs that are kept; 0 for all.
    #[arg(long, env = "NAVARCH_AUDIT_LOG_MAXBACKUP", default_value_t = 0)]
    audit_log_maxbackup: usize,
    /// Days for which rotated audit logs are kept; 0 for ever.
    #[arg(long, env = "NAVARCH_AUDIT_LOG_MAXAGE", default_value_t = 0)]
    audit_log_maxage: u64,
    /// Admission plugins that run besides those that do by default.
    #[arg(long, env = "NAVARCH_ENABLE_ADMISSION_PLUGINS", value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    /// Admission plugins that do not run.
    #[arg(long, env = "NAVARCH_DISABLE_ADMISSION_PLUGINS", value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    /// Settings of admission plugins (apiserver.config.k8s.io/v1 AdmissionConfiguration): PodSecurity's defaults and exemptions.
    #[arg(long, env = "NAVARCH_ADMISSION_CONTROL_CONFIG_FILE")]
    admission_control_config_file: Option<PathBuf>,
    /// How long a request may take, and a client to take some of its reply.
    #[arg(long, env = "NAVARCH_REQUEST_TIMEOUT", default_value = "1m0s", value_parser = timeout)]
    request_timeout: Duration,
    /// Seconds that a watch lasts at least, if it does not say; twice as long at most.
    #[arg(long, env = "NAVARCH_MIN_REQUEST_TIMEOUT", default_value_t = 1800)]
    min_request_timeout: u64,
    /// Requests at a time on one HTTP/2 connection.
    #[arg(long, env = "NAVARCH_HTTP2_MAX_STREAMS_PER_CONNECTION", default_value_t = Limits::default().streams)]
    http2_max_streams_per_connection: u32,
    /// Requests at a time that read; priority and fairness hands these and the next out together.
    #[arg(long, env = "NAVARCH_MAX_REQUESTS_INFLIGHT", default_value_t = 400)]
    max_requests_inflight: usize,
    /// Requests at a time that write.
    #[arg(long, env = "NAVARCH_MAX_MUTATING_REQUESTS_INFLIGHT", default_value_t = 200)]
    max_mutating_requests_inflight: usize,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time = span(text)?;
    if time.is_zero() { Err("it takes longer than nothing, like 1m0s".into()) } else { Ok(time) }
}

/// A span of time as Go's flags take it.
fn span(text: &str) -> Result<Duration, String> {
    apiserver::go_duration(text).and_then(|s| Duration::try_from_secs_f64(s).map_err(|e| e.to_string()))
}

impl Flags {
    /// How the store's values are kept; `None`: as they are.
    pub(crate) fn encryption(&self) -> anyhow::Result<Option<Arc<Encryption>>> {
        let Some(path) = &self.encryption_provider_config else { return Ok(None) };
        let encryption = Encryption::load(path, self.encryption_provider_config_automatic_reload);
        Ok(Some(Arc::new(encryption.context("cannot use --encryption-provider-config")?)))
    }

    pub(crate) fn settings(&self) -> anyhow::Result<Security> {
        let pair = |text: &String| match text.split_once('=') {
            Some((claim, value)) => Ok((claim.to_owned(), value.to_owned())),
            None => anyhow::bail!("--oidc-required-claim {text:?} is not claim=value"),
        };
        let required_claims = self.oidc_required_claim.iter().map(pair).collect::<anyhow::Result<_>>()?;
        let oidc = self.oidc_issuer_url.as_ref().map(|issuer| OidcOptions {
            issuer: issuer.clone(),
            client_id: self.oidc_client_id.clone().unwrap_or_default(),
            ca_file: self.oidc_ca_file.clone(),
            username_claim: self.oidc_username_claim.clone(),
            username_prefix: self.oidc_username_prefix.clone(),
            groups_claim: self.oidc_groups_claim.clone(),
            groups_prefix: self.oidc_groups_prefix.clone(),
            required_claims,
            algorithms: self.oidc_signing_algs.clone(),
        });
        let audit = AuditOptions {
            policy_file: self.audit_policy_file.clone(),
            log_path: self.audit_log_path.clone(),
            max_megabytes: self.audit_log_maxsize,
            max_backups: self.audit_log_maxbackup,
            max_days: self.audit_log_maxage,
        };
        let admission = AdmissionOptions {
            enable: self.enable_admission_plugins.clone(),
            disable: self.disable_admission_plugins.clone(),
            config_file: self.admission_control_config_file.clone(),
        };
        let limits = Limits {
            request: self.request_timeout,
            watch: Duration::from_secs(self.min_request_timeout),
            streams: self.http2_max_streams_per_connection,
            in_flight: self.max_requests_inflight.saturating_add(self.max_mutating_requests_inflight),
            ..Limits::default()
        };
        Ok(Security {
            token_auth_file: self.token_auth_file.clone(),
            oidc,
            authentication_config: self.authentication_config.clone(),
            token_webhook: self.authentication_token_webhook_config_file.clone().map(|config_file| {
                let version = self.authentication_token_webhook_version.clone();
                TokenWebhookOptions { config_file, version, cache_ttl: self.authentication_token_webhook_cache_ttl }
            }),
            refuses_anonymous: !self.anonymous_auth,
            authorization: AuthorizationOptions {
                modes: self.authorization_mode.clone(),
                policy_file: self.authorization_policy_file.clone(),
                webhook_config_file: self.authorization_webhook_config_file.clone(),
                webhook_version: self.authorization_webhook_version.clone(),
                authorized_ttl: self.authorization_webhook_cache_authorized_ttl,
                unauthorized_ttl: self.authorization_webhook_cache_unauthorized_ttl,
                config_file: self.authorization_config.clone(),
            },
            audit,
            admission,
            limits,
        })
    }
}
