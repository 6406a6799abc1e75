//! What the labels of a namespace ask for.

use std::collections::BTreeMap;
use std::fmt;

use object::Invalid;

/// How much pods may do, from all to little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    /// `privileged`, `baseline`, `restricted`; the error is upstream's.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

/// A version of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Version {
    /// `v1.x`.
    Minor(u32),
    Latest,
}

impl Version {
    /// `latest` or `v1.x`; the error is upstream's.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let digits = text.strip_prefix("v1.").filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
        let canonical = digits.filter(|d| *d == "0" || !d.starts_with('0'));
        canonical.and_then(|d| d.parse().ok()).map(Self::Minor).ok_or("must be \"latest\" or \"v1.x\"")
    }

    pub(super) fn minor(self) -> Option<u32> {
        match self {
            Self::Minor(minor) => Some(minor),
            Self::Latest => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// `restricted:v1.30`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

impl LevelVersion {
    /// Everything is allowed.
    pub const PRIVILEGED: Self = Self { level: Level::Privileged, version: Version::Latest };

    fn is_equivalent(&self, other: &Self) -> bool {
        (self.level == Level::Privileged && other.level == Level::Privileged) || self == other
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What holds in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What refuses pods.
    pub enforce: LevelVersion,
    /// What is written into the audit log.
    pub audit: LevelVersion,
    /// What users are warned of.
    pub warn: LevelVersion,
}

impl Default for Policy {
    fn default() -> Self {
        Self { enforce: LevelVersion::PRIVILEGED, audit: LevelVersion::PRIVILEGED, warn: LevelVersion::PRIVILEGED }
    }
}

const PREFIX: &str = "pod-security.kubernetes.io/";

impl Policy {
    /// The policy of a namespace with these labels. Bad labels are reported, and mean `restricted` and `latest` where pods are refused,
    /// `privileged` elsewhere.
    pub fn of(labels: &BTreeMap<String, String>, defaults: &Self) -> (Self, Vec<Invalid>) {
        let mut policy = *defaults;
        let mut errors = Vec::new();
        let mut level_given = false;
        for (mode, at, fallback) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            let mut invalid = |label: &str, value: &str, why: &str| {
                let path = format!("metadata.labels[{label}]");
                errors.push(Invalid::invalid(&path, &value.into(), why));
            };
            let label = format!("{PREFIX}{mode}");
            if let Some(value) = labels.get(&label) {
                let parsed = Level::parse(value);
                level_given |= mode == "enforce" && parsed.is_ok();
                at.level = parsed.unwrap_or(fallback);
                parsed.err().into_iter().for_each(|why| invalid(&label, value, why));
            }
            let label = format!("{label}-version");
            if let Some(value) = labels.get(&label) {
                let parsed = Version::parse(value);
                at.version = parsed.unwrap_or(Version::Latest);
                parsed.err().into_iter().for_each(|why| invalid(&label, value, why));
            }
        }
        // Whoever is refused something is warned of it in templates, too.
        let warns = labels.contains_key("pod-security.kubernetes.io/warn");
        if !warns && level_given && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !labels.contains_key("pod-security.kubernetes.io/warn-version") {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// True when nothing is refused, audited or warned of.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|at| at.level == Level::Privileged)
    }

    /// What a namespace is told whose labels have no effect, because it is exempt.
    pub fn exempt_warning(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        defaults: &Self,
    ) -> Option<String> {
        let modes = [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)];
        let by_default = [defaults.enforce, defaults.audit, defaults.warn];
        if self.is_privileged() || modes.iter().zip(&by_default).all(|((_, at), default)| at.is_equivalent(default)) {
            return None;
        }
        let is_set = |mode: &str| {
            labels.contains_key(&format!("{PREFIX}{mode}")) || labels.contains_key(&format!("{PREFIX}{mode}-version"))
        };
        let set = modes.iter().filter(|(mode, at)| at.level != Level::Privileged && is_set(mode));
        let set: Vec<String> = set.map(|(mode, at)| format!("{mode}={at}")).collect();
        Some(format!(
            "namespace {namespace:?} is exempt from Pod Security, and the policy ({}) will be ignored",
            set.join(", ")
        ))
    }
}
