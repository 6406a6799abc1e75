//! Which authorizers decide, in which order: `--authorization-mode`, or `--authorization-config` (`AuthorizationConfiguration`,
//! checked in upstream's words).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use object::Invalid;
use serde::Deserialize;

use super::abac;
use super::webhook::{Webhook, conditions};

/// `--authorization-*`.
#[derive(Clone, Debug)]
pub struct AuthorizationOptions {
    /// Names of authorizers, in the order in which they are asked (`--authorization-mode`); `Node`, `RBAC` when there are none.
    pub modes: Vec<String>,
    /// The policies of `ABAC`, one a line (`--authorization-policy-file`).
    pub policy_file: Option<PathBuf>,
    /// The kubeconfig of `Webhook` (`--authorization-webhook-config-file`).
    pub webhook_config_file: Option<PathBuf>,
    /// The version of the reviews that it is sent: `v1` or `v1beta1` (`--authorization-webhook-version`).
    pub webhook_version: String,
    /// How long it is believed when it allows (`--authorization-webhook-cache-authorized-ttl`).
    pub authorized_ttl: Duration,
    /// How long otherwise (`--authorization-webhook-cache-unauthorized-ttl`).
    pub unauthorized_ttl: Duration,
    /// Everything in a file instead; it is read again when it changes (`--authorization-config`).
    pub config_file: Option<PathBuf>,
}

impl Default for AuthorizationOptions {
    fn default() -> Self {
        Self {
            modes: Vec::new(),
            policy_file: None,
            webhook_config_file: None,
            webhook_version: "v1beta1".into(),
            authorized_ttl: AUTHORIZED,
            unauthorized_ttl: UNAUTHORIZED,
            config_file: None,
        }
    }
}

const AUTHORIZED: Duration = Duration::from_secs(300);
const UNAUTHORIZED: Duration = Duration::from_secs(30);
const MOST_TIMEOUT: Duration = Duration::from_secs(30);
/// What upstream knows.
const MODES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

/// One who decides.
#[derive(Debug)]
pub(super) enum Authorizer {
    Abac(Vec<abac::Policy>),
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(Box<Webhook>),
}

impl Authorizer {
    fn name(&self) -> &'static str {
        match self {
            Self::Abac(_) => "ABAC",
            Self::AlwaysAllow => "AlwaysAllow",
            Self::AlwaysDeny => "AlwaysDeny",
            Self::Node => "Node",
            Self::Rbac => "RBAC",
            Self::Webhook(_) => "Webhook",
        }
    }

    fn named(name: &str) -> Result<Self, String> {
        match name {
            "AlwaysAllow" => Ok(Self::AlwaysAllow),
            "AlwaysDeny" => Ok(Self::AlwaysDeny),
            "Node" => Ok(Self::Node),
            "RBAC" => Ok(Self::Rbac),
            other => Err(format!("authorization-mode {other:?} is not a valid mode")),
        }
    }
}

impl AuthorizationOptions {
    /// The authorizers, and the text of the file that they are from.
    pub(super) fn read(&self) -> Result<(Vec<Authorizer>, String), String> {
        if let Some(path) = &self.config_file {
            if !self.modes.is_empty() || self.webhook_config_file.is_some() {
                return Err(
                    "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined"
                        .into(),
                );
            }
            let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
            let read = self.parse(&text).map_err(|why| format!("{}: {why}", path.display()))?;
            return Ok((read, text));
        }
        if self.policy_file.is_some() && !self.modes.iter().any(|mode| mode == "ABAC") {
            return Err("cannot specify --authorization-policy-file without mode ABAC".into());
        }
        let mut all = Vec::new();
        let default = ["Node".to_owned(), "RBAC".to_owned()];
        let modes = if self.modes.is_empty() { &default[..] } else { &self.modes };
        for (index, mode) in modes.iter().enumerate() {
            if modes[..index].contains(mode) {
                return Err(format!("authorization-mode {mode:?} has mode specified more than once"));
            }
            all.push(match (mode.as_str(), &self.webhook_config_file) {
                ("ABAC", _) => self.policies()?,
                ("Webhook", Some(file)) => Authorizer::Webhook(Box::new(Webhook {
                    name: "default".into(),
                    server: crate::answers::server(file)?,
                    version: version(&self.webhook_version)?,
                    timeout: MOST_TIMEOUT,
                    ttls: (self.authorized_ttl, self.unauthorized_ttl),
                    caches: (true, true),
                    denies_on_failure: false,
                    conditions: Vec::new(),
                    known: Default::default(),
                })),
                ("Webhook", None) => {
                    return Err("authorization-mode Webhook's authorization config file not passed".into());
                }
                (mode, _) => Authorizer::named(mode)?,
            });
        }
        if self.webhook_config_file.is_some() && !modes.iter().any(|mode| mode == "Webhook") {
            return Err("cannot specify --authorization-webhook-config-file without mode Webhook".into());
        }
        Ok((all, String::new()))
    }

    fn policies(&self) -> Result<Authorizer, String> {
        let missing = "authorization-mode ABAC's authorization policy file not passed";
        abac::read(self.policy_file.as_deref().ok_or(missing)?).map(Authorizer::Abac)
    }

    /// Reads the file's text.
    fn parse(&self, text: &str) -> Result<Vec<Authorizer>, String> {
        parse(text, || self.policies())
    }

    /// Reads the file's text anew. As upstream: who decides besides webhooks is settled at the start, and so are policies of ABAC.
    pub(super) fn parse_again(&self, text: &str, before: &[Authorizer]) -> Result<Vec<Authorizer>, String> {
        let policies = || {
            let known = before.iter().find_map(|one| match one {
                Authorizer::Abac(policies) => Some(Authorizer::Abac(policies.clone())),
                _ => None,
            });
            known.ok_or_else(|| late("ABAC"))
        };
        let now = parse(text, policies)?;
        for one in now.iter().filter(|one| matches!(one, Authorizer::Node | Authorizer::Rbac)) {
            if !before.iter().any(|old| old.name() == one.name()) {
                return Err(late(one.name()));
            }
        }
        let settled = before.iter().map(Authorizer::name).filter(|name| *name != "Webhook");
        let gone: Vec<&str> = settled.filter(|name| !now.iter().any(|one| one.name() == *name)).collect();
        match gone.as_slice() {
            [] => Ok(now),
            _ => Err(format!("missing required types: [{}]", gone.join(" "))),
        }
    }
}

fn late(name: &str) -> String {
    format!("authorizer type {name} is not allowed if it was not enabled at initial server startup")
}

fn version(text: &str) -> Result<&'static str, String> {
    match text {
        "v1" => Ok("v1"),
        "v1beta1" => Ok("v1beta1"),
        other => Err(format!("unsupported webhook authorizer version {other:?}: supported versions are v1, v1beta1")),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    authorizers: Vec<Declared>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Declared {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    webhook: Option<Hook>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Hook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: String,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: String,
    cache_unauthorized_requests: Option<bool>,
    timeout: String,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    match_conditions: Vec<Match>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Connection {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Match {
    expression: String,
}

/// Reads the file's text; `policies` are those of ABAC.
fn parse(text: &str, policies: impl Fn() -> Result<Authorizer, String>) -> Result<Vec<Authorizer>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|e| format!("strict decoding error: {e}"))?;
    let version = file.api_version.strip_prefix("apiserver.config.k8s.io/").unwrap_or("");
    if file.kind != "AuthorizationConfiguration" || !VERSIONS.contains(&version) {
        return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
    }
    let mut errors = Vec::new();
    let mut all = Vec::new();
    if file.authorizers.is_empty() {
        errors.push(Invalid::required("authorizers", "at least one authorization mode must be defined"));
    }
    let (mut kinds_seen, mut names) = (HashSet::new(), HashSet::new());
    for (index, declared) in file.authorizers.iter().enumerate() {
        let at = format!("authorizers[{index}]");
        let kind = declared.kind.as_str();
        if kind.is_empty() {
            errors.push(Invalid::required(&format!("{at}.type"), ""));
            continue;
        }
        if !MODES.contains(&kind) {
            errors.push(Invalid::not_supported(&format!("{at}.type"), &kind.into(), &MODES));
            continue;
        }
        if !kinds_seen.insert(kind) && kind != "Webhook" {
            errors.push(Invalid::duplicate(&format!("{at}.type"), &kind.into()));
            continue;
        }
        let (name, name_at) = (declared.name.as_str(), format!("{at}.name"));
        let problems = kinds::names::subdomain(name);
        if name.is_empty() {
            errors.push(Invalid::required(&name_at, ""));
        } else if names.contains(name) {
            errors.push(Invalid::duplicate(&name_at, &name.into()));
        } else if !problems.is_empty() {
            let why = format!("authorizer name is invalid: {}", problems.join(", "));
            errors.push(Invalid::invalid(&name_at, &name.into(), why));
        }
        names.insert(name);
        match (kind, &declared.webhook) {
            ("Webhook", None) => {
                errors.push(Invalid::required(&format!("{at}.webhook"), "required when type=Webhook"));
            }
            ("Webhook", Some(hook)) => {
                all.extend(hook.read(name, &at, &mut errors).map(|hook| Authorizer::Webhook(Box::new(hook))));
            }
            (_, Some(_)) => {
                let why = "may only be specified when type=Webhook";
                errors.push(Invalid::invalid(&format!("{at}.webhook"), &"non-null".into(), why));
            }
            ("ABAC", None) => all.push(policies()?),
            (kind, None) => all.push(Authorizer::named(kind)?),
        }
    }
    match errors.as_slice() {
        [] => Ok(all),
        [one] => Err(one.to_string()),
        several => {
            let lines: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(format!("[{}]", lines.join(", ")))
        }
    }
}

impl Hook {
    fn read(&self, name: &str, at: &str, errors: &mut Vec<Invalid>) -> Option<Webhook> {
        let before = errors.len();
        let mut time = |field: &str, text: &str, default: Option<Duration>, most: Option<Duration>| {
            let at = format!("{at}.{field}");
            let seconds = crate::http::go_duration(text).unwrap_or(0.0);
            let asked = Duration::try_from_secs_f64(seconds.abs()).unwrap_or_default();
            match default {
                _ if seconds < 0.0 || most.is_some_and(|most| asked > most) => {
                    let why = if most.is_some() { "must be > 0s and <= 30s" } else { "must be > 0s" };
                    errors.push(Invalid::invalid(&at, &text.into(), why));
                    asked
                }
                Some(default) if asked.is_zero() => default,
                None if asked.is_zero() => {
                    errors.push(Invalid::required(&at, ""));
                    asked
                }
                _ => asked,
            }
        };
        let timeout = time("timeout", &self.timeout, None, Some(MOST_TIMEOUT));
        let authorized = time("authorizedTTL", &self.authorized_ttl, Some(AUTHORIZED), None);
        let unauthorized = time("unauthorizedTTL", &self.unauthorized_ttl, Some(UNAUTHORIZED), None);
        let review = self.subject_access_review_version.as_str();
        let at_version = format!("{at}.subjectAccessReviewVersion");
        match review {
            "" => errors.push(Invalid::required(&at_version, "")),
            "v1" | "v1beta1" => {}
            other => errors.push(Invalid::not_supported(&at_version, &other.into(), &["v1", "v1beta1"])),
        }
        let at_version = format!("{at}.matchConditionSubjectAccessReviewVersion");
        match self.match_condition_subject_access_review_version.as_str() {
            "" if !self.match_conditions.is_empty() => {
                errors.push(Invalid::required(&at_version, "required if match conditions are specified"));
            }
            "" | "v1" => {}
            other => errors.push(Invalid::not_supported(&at_version, &other.into(), &["v1"])),
        }
        match self.failure_policy.as_str() {
            "" => errors.push(Invalid::required(&format!("{at}.failurePolicy"), "")),
            "NoOpinion" | "Deny" => {}
            other => {
                let known = ["NoOpinion", "Deny"];
                errors.push(Invalid::not_supported(&format!("{at}.failurePolicy"), &other.into(), &known));
            }
        }
        let server = self.connection_info.server(&format!("{at}.connectionInfo"), errors);
        let sources = self.match_conditions.iter().map(|one| one.expression.as_str());
        let conditions = conditions(sources, &format!("{at}.matchConditions"), errors);
        if errors.len() > before {
            return None;
        }
        Some(Webhook {
            name: name.into(),
            server: server?,
            version: version(review).ok()?,
            timeout,
            ttls: (authorized, unauthorized),
            caches: (self.cache_authorized_requests.unwrap_or(true), self.cache_unauthorized_requests.unwrap_or(true)),
            denies_on_failure: self.failure_policy == "Deny",
            conditions,
            known: Default::default(),
        })
    }
}

impl Connection {
    fn server(&self, at: &str, errors: &mut Vec<Invalid>) -> Option<client::Https> {
        let file_at = format!("{at}.kubeConfigFile");
        let file = self.kube_config_file.as_deref().unwrap_or(Path::new(""));
        let shown = file.display().to_string();
        let mut refuse = |why: String| errors.push(Invalid::invalid(&file_at, &shown.as_str().into(), why));
        match self.kind.as_str() {
            "KubeConfigFile" if file.as_os_str().is_empty() => errors.push(Invalid::required(&file_at, "")),
            "KubeConfigFile" if !file.is_absolute() => refuse("must be an absolute path".into()),
            "KubeConfigFile" => match std::fs::metadata(file) {
                Err(error) => refuse(format!("error loading file: {error}")),
                Ok(found) if !found.is_file() => refuse("must be a regular file".into()),
                Ok(_) => match crate::answers::server(file) {
                    Ok(server) => return Some(server),
                    Err(why) => refuse(why),
                },
            },
            "" => errors.push(Invalid::required(&format!("{at}.type"), "")),
            "InClusterConfig" if self.kube_config_file.is_some() => {
                refuse("can only be set when type=KubeConfigFile".into());
            }
            "InClusterConfig" => {
                let why = "this server runs in no pod";
                errors.push(Invalid::invalid(&format!("{at}.type"), &"InClusterConfig".into(), why));
            }
            other => {
                let known = ["InClusterConfig", "KubeConfigFile"];
                errors.push(Invalid::not_supported(&format!("{at}.type"), &other.into(), &known));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abac_is_settled_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (file, policies) = (dir.path().join("authorization.yaml"), dir.path().join("policies"));
        let text = |types: &[&str]| {
            let all: String = types.iter().map(|t| format!("- {{type: {t}, name: {}}}\n", t.to_lowercase())).collect();
            format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n{all}")
        };
        let abac = text(&["ABAC", "RBAC"]);
        std::fs::write(&file, &abac).unwrap();
        std::fs::write(&policies, "{}\n").unwrap();
        let mut options = AuthorizationOptions { config_file: Some(file), ..AuthorizationOptions::default() };
        assert!(options.read().unwrap_err().contains("authorization policy file not passed"));
        options.policy_file = Some(policies.clone());
        let (read, _) = options.read().unwrap();
        assert!(matches!(read.as_slice(), [Authorizer::Abac(lines), Authorizer::Rbac] if lines.len() == 1));
        // What the file says now does not matter.
        std::fs::write(&policies, "{").unwrap();
        assert_eq!(options.parse_again(&abac, &read).unwrap().len(), 2);
        let refused = |types: &[&str]| options.parse_again(&text(types), &read).unwrap_err();
        assert!(refused(&["ABAC", "RBAC", "Node"]).contains("Node is not allowed"));
        assert!(refused(&["RBAC"]).contains("missing required types: [ABAC]"));
        assert!(options.parse_again(&abac, &[Authorizer::Rbac]).unwrap_err().contains("ABAC is not allowed"));
        options.config_file = None;
        assert_eq!(options.read().unwrap_err(), "cannot specify --authorization-policy-file without mode ABAC");
    }

    #[test]
    fn bad_files_are_refused_in_upstreams_words() {
        let check = |authorizers: &str, wanted: &str| {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: [{authorizers}]"
            );
            assert_eq!(AuthorizationOptions::default().parse(&text).unwrap_err(), wanted);
        };
        check("", "authorizers: Required value: at least one authorization mode must be defined");
        check("{name: a}", "authorizers[0].type: Required value");
        check(
            "{type: Foo, name: a}",
            "authorizers[0].type: Unsupported value: \"Foo\": supported values: \"ABAC\", \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"",
        );
        check(
            "{type: RBAC, name: a}, {type: RBAC, name: b}, {type: Node, name: a}, {type: AlwaysDeny}",
            "[authorizers[1].type: Duplicate value: \"RBAC\", authorizers[2].name: Duplicate value: \"a\", authorizers[3].name: Required value]",
        );
        check("{type: Webhook, name: a}", "authorizers[0].webhook: Required value: required when type=Webhook");
        check(
            "{type: Webhook, name: a, webhook: {timeout: 40s, authorizedTTL: -1s, matchConditions: [{expression: request.user}]}}",
            "[authorizers[0].timeout: Invalid value: \"40s\": must be > 0s and <= 30s, authorizers[0].authorizedTTL: Invalid value: \"-1s\": must be > 0s, authorizers[0].subjectAccessReviewVersion: Required value, authorizers[0].matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified, authorizers[0].failurePolicy: Required value, authorizers[0].connectionInfo.type: Required value, authorizers[0].matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool]",
        );
        check(
            "{type: Webhook, name: a, webhook: {timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, connectionInfo: {type: KubeConfigFile, kubeConfigFile: a}}}",
            "authorizers[0].connectionInfo.kubeConfigFile: Invalid value: \"a\": must be an absolute path",
        );
    }
}
