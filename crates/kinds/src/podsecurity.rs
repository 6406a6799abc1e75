//! The Pod Security Standards: what a namespace's level lets its pods do. A check is a pure function of a pod; a file per subject.
//!
//! Checks change with versions of the policy, and a namespace may pin one: each check lists the versions that it changed in. Baseline
//! checks hold at `restricted`, too, unless a stricter one takes their place.

mod apparmor;
mod capabilities;
mod host;
mod policy;
mod privilege;
mod probes;
mod proc_mount;
mod seccomp;
mod selinux;
mod sysctls;
#[cfg(test)]
mod tests;
mod users;
mod volumes;

use serde_json::Value;

use crate::tree::{list, text};
pub use policy::{Level, LevelVersion, Policy, Version};

/// The first version of the policy's last change: what is newer is the same.
const NEWEST: u32 = 35;

/// A pod, or what a template makes.
struct Pod<'a> {
    metadata: &'a Value,
    spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// All containers in upstream's order.
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |of| list(&spec[of]))
    }

    fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Root in a user namespace is nobody on the node (KEP-127).
    fn has_user_namespace(&self) -> bool {
        self.spec["hostUsers"] == false
    }

    /// Names of the containers that `is_bad` is true for.
    fn bad(&self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|&c| is_bad(c)).map(|c| text(&c["name"])).collect()
    }

    /// Who sets something bad in a security context: the pod, containers.
    fn setters(&self, mut is_bad: impl FnMut(&'a Value) -> bool) -> Setters<'a> {
        let pod = is_bad(&self.spec["securityContext"]);
        Setters { pod, containers: self.bad(|c| is_bad(&c["securityContext"])) }
    }
}

/// The pod and containers that set something bad.
struct Setters<'a> {
    pod: bool,
    containers: Vec<&'a str>,
}

impl Setters<'_> {
    fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty()
    }

    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.pod {
            words.push("pod".to_owned());
        }
        if !self.containers.is_empty() {
            words.push(containers(&self.containers));
        }
        words
    }

    /// `pod and containers "a", "b"`.
    fn shown(&self) -> String {
        self.words().join(" and ")
    }
}

/// `"a", "b"`.
fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    items.join(", ")
}

/// One word for one, another for more.
fn plural<'a>(count: usize, one: &'a str, more: &'a str) -> &'a str {
    if count == 1 { one } else { more }
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural(names.len(), "container", "containers"), quoted(names))
}

/// What a check forbids: in a word, and exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The least that is always said.
    pub reason: &'static str,
    /// What and where.
    pub detail: String,
}

type Check = fn(&Pod<'_>) -> Option<Violation>;

/// A check with the versions since which it is done so.
struct Rule {
    versions: &'static [(u32, Check)],
    /// Index of the baseline check whose place it takes.
    instead: Option<usize>,
}

impl Rule {
    fn at(&self, version: u32) -> Option<Check> {
        self.versions.iter().rev().find(|(since, _)| *since <= version).map(|(_, check)| *check)
    }
}

const fn rule(versions: &'static [(u32, Check)]) -> Rule {
    Rule { versions, instead: None }
}

const fn instead(of: usize, versions: &'static [(u32, Check)]) -> Rule {
    Rule { versions, instead: Some(of) }
}

const CAPABILITIES: usize = 1;
const HOST_PATHS: usize = 3;
const PROC_MOUNT: usize = 7;
const SECCOMP: usize = 9;

/// In the order in which upstream reports, which is that of its names for them.
const BASELINE: [Rule; 12] = [
    rule(&[(0, apparmor::baseline)]),
    rule(&[(0, capabilities::baseline)]),
    rule(&[(0, host::namespaces)]),
    rule(&[(0, volumes::host_paths)]),
    rule(&[(0, host::ports)]),
    rule(&[(34, probes::hosts)]),
    rule(&[(0, privilege::privileged)]),
    rule(&[(0, proc_mount::always), (35, proc_mount::outside_user_namespaces)]),
    rule(&[(0, selinux::since_1_0), (31, selinux::since_1_31)]),
    rule(&[(0, seccomp::annotations), (19, seccomp::baseline)]),
    rule(&[(0, sysctls::since_1_0), (27, sysctls::since_1_27), (29, sysctls::since_1_29), (32, sysctls::since_1_32)]),
    rule(&[(0, privilege::windows_host_process)]),
];

const RESTRICTED: [Rule; 7] = [
    rule(&[(8, privilege::escalation), (25, privilege::escalation_but_windows)]),
    instead(CAPABILITIES, &[(22, capabilities::restricted), (25, capabilities::restricted_but_windows)]),
    instead(PROC_MOUNT, &[(35, proc_mount::always)]),
    instead(HOST_PATHS, &[(0, volumes::restricted)]),
    rule(&[(0, users::non_root), (35, users::non_root_outside_user_namespaces)]),
    rule(&[(23, users::not_zero), (35, users::not_zero_outside_user_namespaces)]),
    instead(SECCOMP, &[(19, seccomp::restricted), (25, seccomp::restricted_but_windows)]),
];

/// What of a pod (its metadata and spec) the level forbids.
pub fn evaluate(at: LevelVersion, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let version = at.version.minor().map_or(NEWEST, |minor| minor.min(NEWEST));
    let pod = Pod { metadata, spec };
    let strict: Vec<(&Rule, Check)> = match at.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => Vec::new(),
        Level::Restricted => RESTRICTED.iter().filter_map(|rule| Some((rule, rule.at(version)?))).collect(),
    };
    let replaced = |index: usize| strict.iter().any(|(rule, _)| rule.instead == Some(index));
    let common = BASELINE.iter().enumerate().filter(|(index, _)| !replaced(*index));
    let common: Vec<Check> = common.filter_map(|(_, rule)| rule.at(version)).collect();
    common.into_iter().chain(strict.iter().map(|(_, check)| *check)).filter_map(|check| check(&pod)).collect()
}

/// All of it in one line: `host namespaces (hostNetwork=true), privileged (...)`.
pub fn detail(violations: &[Violation]) -> String {
    let one = |v: &Violation| match v.detail.as_str() {
        "" => v.reason.to_owned(),
        detail => format!("{} ({detail})", v.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The same in fewer words.
pub fn reason(violations: &[Violation]) -> String {
    violations.iter().map(|v| v.reason).collect::<Vec<_>>().join(", ")
}

/// Metadata and spec of the pods that an object makes; `None` for a kind that makes none, or an object without a template.
pub fn template<'a>(group: &str, resource: &str, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let template = match (group, resource) {
        ("", "pods") => object,
        ("", "podtemplates") => &object["template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &object["spec"]["template"],
        ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    template.is_object().then(|| (&template["metadata"], &template["spec"]))
}

/// Whether an update of a pod changes what the checks look at: its containers and their images.
pub fn is_significant(new: &Value, old: &Value) -> bool {
    let (new, old) = (&new["spec"], &old["spec"]);
    let in_place = ["containers", "initContainers"].into_iter().any(|of| {
        let (new, old) = (list(&new[of]), list(&old[of]));
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new["image"] != old["image"])
    });
    let before = list(&old["ephemeralContainers"]);
    in_place
        || list(&new["ephemeralContainers"])
            .iter()
            .any(|c| before.iter().find(|b| b["name"] == c["name"]).is_none_or(|b| b["image"] != c["image"]))
}
