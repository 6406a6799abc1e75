//! The plugins by upstream's names and in its order, and which of them run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::attributes::Operation;
use super::event_rate_limit::{self, Limiter};
use super::image_policy::{self, ImagePolicy};
use super::pod_restrictions::{NodeSelectors, Tolerations};
use super::pod_security::Settings;
use super::resource_quota::{self, Limited};

/// `--enable-admission-plugins`, `--disable-admission-plugins`, `--admission-control-config-file`.
#[derive(Clone, Debug, Default)]
pub struct AdmissionOptions {
    /// Plugins that run although they do not by default.
    pub enable: Vec<String>,
    /// Plugins that do not run.
    pub disable: Vec<String>,
    /// `apiserver.config.k8s.io/v1 AdmissionConfiguration`.
    pub config_file: Option<PathBuf>,
}

macro_rules! plugins {
    ($($name:ident: $on:literal,)*) => {
        /// A plugin.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Plugin { $($name,)* }

        impl Plugin {
            /// How many there are.
            pub(crate) const COUNT: usize = PLUGINS.len();

            /// What upstream calls it.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }

        /// All of them with their names, and whether they run by default.
        const PLUGINS: &[(Plugin, &str, bool)] = &[$((Plugin::$name, stringify!($name), $on),)*];
    };
}

plugins! {
    AlwaysAdmit: false,
    NamespaceAutoProvision: false,
    NamespaceLifecycle: true,
    NamespaceExists: false,
    LimitPodHardAntiAffinityTopology: false,
    LimitRanger: true,
    ServiceAccount: true,
    NodeRestriction: true,
    TaintNodesByCondition: true,
    AlwaysPullImages: false,
    ImagePolicyWebhook: false,
    PodSecurity: true,
    PodNodeSelector: false,
    Priority: true,
    DefaultTolerationSeconds: true,
    PodTolerationRestriction: false,
    EventRateLimit: false,
    ExtendedResourceToleration: false,
    DefaultStorageClass: true,
    StorageObjectInUseProtection: true,
    OwnerReferencesPermissionEnforcement: false,
    PersistentVolumeClaimResize: true,
    RuntimeClass: true,
    CertificateApproval: true,
    CertificateSigning: true,
    CertificateSubjectRestriction: true,
    DefaultIngressClass: true,
    DenyServiceExternalIPs: false,
    PodTopologyLabels: true,
    PodResizeValidator: true,
    MutatingAdmissionPolicy: true,
    MutatingAdmissionWebhook: true,
    ValidatingAdmissionPolicy: true,
    ValidatingAdmissionWebhook: true,
    ResourceQuota: true,
    AlwaysDeny: false,
}

impl Plugin {
    /// Whether it looks at such operations at all.
    pub(crate) fn handles(self, operation: Operation) -> bool {
        use Operation::{Create, Delete, Update};
        match self {
            Self::AlwaysAdmit
            | Self::AlwaysDeny
            | Self::MutatingAdmissionPolicy
            | Self::MutatingAdmissionWebhook
            | Self::ValidatingAdmissionPolicy
            | Self::ValidatingAdmissionWebhook => true,
            Self::NamespaceExists | Self::NamespaceLifecycle | Self::NodeRestriction | Self::Priority => {
                matches!(operation, Create | Update | Delete)
            }
            Self::AlwaysPullImages
            | Self::DefaultTolerationSeconds
            | Self::DenyServiceExternalIPs
            | Self::EventRateLimit
            | Self::ExtendedResourceToleration
            | Self::ImagePolicyWebhook
            | Self::LimitPodHardAntiAffinityTopology
            | Self::LimitRanger
            | Self::OwnerReferencesPermissionEnforcement
            | Self::PodSecurity
            | Self::PodTolerationRestriction
            | Self::ResourceQuota
            | Self::ServiceAccount => matches!(operation, Create | Update),
            Self::CertificateSubjectRestriction
            | Self::DefaultIngressClass
            | Self::DefaultStorageClass
            | Self::NamespaceAutoProvision
            | Self::PodNodeSelector
            | Self::PodTopologyLabels
            | Self::RuntimeClass
            | Self::StorageObjectInUseProtection
            | Self::TaintNodesByCondition => operation == Create,
            Self::CertificateApproval
            | Self::CertificateSigning
            | Self::PersistentVolumeClaimResize
            | Self::PodResizeValidator => operation == Update,
        }
    }
}

/// Upstream's plugins that are off there by default, and not here at all; they may be disabled.
const ABSENT: [&str; 5] = [
    "ClusterTrustBundleAttest",
    "JobValidation",
    "NodeDeclaredFeatureValidator",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
];

/// Which plugins run, and how.
#[derive(Debug)]
pub(crate) struct Settled {
    on: u64,
    pub(crate) pod_security: Settings,
    /// ResourceQuota: what is consumed only under a quota.
    pub(super) limited: Vec<Limited>,
    pub(super) node_selectors: NodeSelectors,
    pub(super) tolerations: Tolerations,
    pub(super) event_limits: Vec<Limiter>,
    pub(super) images: Option<ImagePolicy>,
}

impl Default for Settled {
    fn default() -> Self {
        let on = PLUGINS.iter().filter(|(_, _, on)| *on).fold(0, |on, (plugin, _, _)| on | bit(*plugin));
        Self {
            on,
            pod_security: Settings::default(),
            limited: Vec::new(),
            node_selectors: NodeSelectors::default(),
            tolerations: Tolerations::default(),
            event_limits: Vec::new(),
            images: None,
        }
    }
}

const fn bit(plugin: Plugin) -> u64 {
    1 << plugin as u64
}

impl Settled {
    /// Whether the plugin runs.
    pub(crate) fn runs(&self, plugin: Plugin) -> bool {
        self.on & bit(plugin) != 0
    }
}

/// `apiserver.config.k8s.io/v1 AdmissionConfiguration`.
#[derive(Deserialize)]
struct File {
    kind: String,
    #[serde(default)]
    plugins: Vec<FilePlugin>,
}

#[derive(Deserialize)]
struct FilePlugin {
    name: String,
    /// A file beside this one.
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Value,
}

impl AdmissionOptions {
    /// Reads what the options name; the error says what is wrong.
    pub(crate) fn settle(&self) -> Result<Settled, String> {
        let mut settled = Settled::default();
        for name in &self.enable {
            let known = PLUGINS.iter().find(|(_, known, _)| known == name);
            let (plugin, _, _) = known.ok_or_else(|| unknown("enable", name))?;
            if self.disable.contains(name) {
                return Err(format!("[{name}] in enable-admission-plugins and disable-admission-plugins overlapped"));
            }
            settled.on |= bit(*plugin);
        }
        for name in &self.disable {
            match PLUGINS.iter().find(|(_, known, _)| known == name) {
                Some((plugin, _, _)) => settled.on &= !bit(*plugin),
                None if ABSENT.contains(&name.as_str()) => {}
                None => return Err(unknown("disable", name)),
            }
        }
        if let Some(path) = &self.config_file {
            for (name, configuration) in read(path)? {
                match name.as_str() {
                    "ResourceQuota" => settled.limited = resource_quota::parse(&configuration)?,
                    "EventRateLimit" => settled.event_limits = event_rate_limit::parse(&configuration)?,
                    "ImagePolicyWebhook" if !settled.runs(Plugin::ImagePolicyWebhook) => {}
                    "ImagePolicyWebhook" => settled.images = Some(image_policy::parse(&configuration)?),
                    "PodNodeSelector" => settled.node_selectors = as_given(&name, configuration)?,
                    "PodTolerationRestriction" => settled.tolerations = as_given(&name, configuration)?,
                    "PodSecurity" => settled.pod_security = Settings::parse(&configuration)?,
                    _ => return Err(format!("{}: no configuration is known for {name:?}", path.display())),
                }
            }
        }
        if settled.runs(Plugin::EventRateLimit) && settled.event_limits.is_empty() {
            return Err("EventRateLimit has no configuration (hint: --admission-control-config-file)".into());
        }
        if settled.runs(Plugin::ImagePolicyWebhook) && settled.images.is_none() {
            return Err("ImagePolicyWebhook has no configuration (hint: --admission-control-config-file)".into());
        }
        Ok(settled)
    }
}

fn as_given<T: serde::de::DeserializeOwned>(plugin: &str, configuration: Value) -> Result<T, String> {
    serde_json::from_value(configuration).map_err(|e| format!("{plugin}: {e}"))
}

fn unknown(which: &str, name: &str) -> String {
    format!("{which}-admission-plugins plugin {name:?} is unknown")
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let tree = crate::decode::parse(text.as_bytes(), "application/yaml").map_err(|status| status.message);
    let tree = tree.map_err(|why| format!("{}: {why}", path.display()))?.value;
    serde_json::from_value(tree).map_err(|e| format!("{}: {e}", path.display()))
}

/// The plugins' configurations.
fn read(path: &Path) -> Result<BTreeMap<String, Value>, String> {
    let file: File = parse(path)?;
    if file.kind != "AdmissionConfiguration" {
        return Err(format!("{}: kind {:?} is not AdmissionConfiguration", path.display(), file.kind));
    }
    let one = |plugin: FilePlugin| {
        let configuration = match plugin.path.as_str() {
            "" => plugin.configuration,
            beside => parse(&path.parent().unwrap_or(Path::new("")).join(beside))?,
        };
        Ok((plugin.name, configuration))
    };
    file.plugins.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(enable: &[&str], disable: &[&str]) -> Result<Settled, String> {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        AdmissionOptions { enable: names(enable), disable: names(disable), config_file: None }.settle()
    }

    #[test]
    fn plugins_are_switched() {
        let settled = of(&["AlwaysPullImages"], &["LimitRanger", "JobValidation"]).unwrap();
        assert!(settled.runs(Plugin::AlwaysPullImages) && !settled.runs(Plugin::LimitRanger));
        assert!(settled.runs(Plugin::ResourceQuota) && !settled.runs(Plugin::DenyServiceExternalIPs));
        assert_eq!(of(&["Nope"], &[]).unwrap_err(), "enable-admission-plugins plugin \"Nope\" is unknown");
        assert!(of(&["LimitRanger"], &["LimitRanger"]).unwrap_err().contains("overlapped"));
    }

    #[test]
    fn pod_security_is_configured() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("admission.yaml");
        let text = |defaults: &str| {
            format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    defaults: {{{defaults}}}\n    exemptions: {{namespaces: [kube-system], usernames: [ann], runtimeClasses: [r]}}\n"
            )
        };
        let options = AdmissionOptions { config_file: Some(file.clone()), ..AdmissionOptions::default() };
        std::fs::write(&file, text("enforce: baseline, enforce-version: v1.30")).unwrap();
        assert_eq!(options.settle().unwrap().pod_security.defaults.enforce.to_string(), "baseline:v1.30");
        std::fs::write(&file, text("enforce: strict")).unwrap();
        assert_eq!(
            options.settle().unwrap_err(),
            "defaults.enforce: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
        );
    }
}
