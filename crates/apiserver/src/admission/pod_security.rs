//! PodSecurity: pods keep to the Pod Security Standards, as their namespace's labels ask. The checks are in `kinds::podsecurity`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kinds::podsecurity::{self, Level, LevelVersion, Policy, Version};
use object::{Invalid, Object, Status};
use serde::Deserialize;
use serde_json::Value;

use super::{Attributes, Operation};
use crate::api::Api;
use crate::audit::annotate;
use crate::metrics::pod_security as metrics;

/// Pods of a namespace that are looked at when its labels change, and for how long.
const MOST_PODS: usize = 3000;
/// See `MOST_PODS`.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is forbidden where labels say nothing, and who is exempt.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) defaults: Policy,
    exemptions: Exemptions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Exemptions {
    usernames: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
struct Defaults {
    enforce: Option<String>,
    enforce_version: Option<String>,
    audit: Option<String>,
    audit_version: Option<String>,
    warn: Option<String>,
    warn_version: Option<String>,
}

/// `pod-security.admission.config.k8s.io PodSecurityConfiguration`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    kind: String,
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

impl Settings {
    /// Reads the plugin's configuration; the error says what is wrong.
    pub(super) fn parse(configuration: &Value) -> Result<Self, String> {
        let given: Configuration = serde_json::from_value(configuration.clone()).map_err(|e| e.to_string())?;
        if given.kind != "PodSecurityConfiguration" {
            return Err(format!("kind {:?} is not PodSecurityConfiguration", given.kind));
        }
        let of = given.defaults;
        let modes = [
            ("enforce", of.enforce, of.enforce_version),
            ("audit", of.audit, of.audit_version),
            ("warn", of.warn, of.warn_version),
        ];
        let [enforce, audit, warn] = modes.map(|(mode, level, version)| {
            let invalid = |field: &str, value: &str, why: &str| {
                Invalid::invalid(&format!("defaults.{field}"), &value.into(), why).to_string()
            };
            let level = level.unwrap_or_else(|| "privileged".into());
            let version = version.unwrap_or_else(|| "latest".into());
            Ok::<_, String>(LevelVersion {
                level: Level::parse(&level).map_err(|why| invalid(mode, &level, why))?,
                version: Version::parse(&version).map_err(|why| invalid(&format!("{mode}-version"), &version, why))?,
            })
        });
        Ok(Self { defaults: Policy { enforce: enforce?, audit: audit?, warn: warn? }, exemptions: given.exemptions })
    }

    fn is_exempt(&self, at: &Attributes<'_>) -> Option<&'static str> {
        if self.exemptions.namespaces.iter().any(|n| n == at.namespace) {
            Some("namespace")
        } else if self.exemptions.usernames.contains(&at.user.name) {
            Some("user")
        } else {
            None
        }
    }

    fn exempts_class(&self, spec: &Value) -> bool {
        let class = spec["runtimeClassName"].as_str().filter(|c| !c.is_empty());
        class.is_some_and(|class| self.exemptions.runtime_classes.iter().any(|c| c == class))
    }
}

fn note(key: &str, value: impl Into<String>) {
    annotate(format!("pod-security.kubernetes.io/{key}"), value.into());
}

pub(super) async fn validate(
    api: &Api,
    at: &Attributes<'_>,
    new: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if !matches!(at.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    if at.is("", "namespaces") {
        return if at.subresource.is_empty() { namespace(api, at, new, old, warnings).await } else { Ok(()) };
    }
    let is_pod = at.is("", "pods");
    let concerned = at.subresource.is_empty() || (is_pod && matches!(at.subresource, "ephemeralcontainers" | "resize"));
    let Some((metadata, spec)) = podsecurity::template(&at.kind.group, &at.kind.plural, new).filter(|_| concerned)
    else {
        return Ok(());
    };
    let settings = &api.admission.pod_security;
    if let Some(why) = settings.is_exempt(at) {
        note("exempt", why);
        metrics::exempt(at);
        return Ok(());
    }
    let found = api.store.get(&format!("/registry/namespaces/{}", at.namespace));
    let Some(found) = found else {
        let text = format!("failed to lookup namespace {:?}", at.namespace);
        return if is_pod { Err(Status::internal(text)) } else { Ok(()) };
    };
    let (policy, errors) = Policy::of(&found.object.head.labels.to_map(), &settings.defaults);
    if errors.is_empty() {
        if is_pod && policy.is_privileged() {
            note("enforce-policy", LevelVersion::PRIVILEGED.to_string());
            metrics::evaluated(at, "enforce", policy.enforce, false);
            return Ok(());
        }
        if !is_pod && policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged {
            return Ok(());
        }
    }
    if is_pod && at.operation == Operation::Update && !podsecurity::is_significant(new, old) {
        return Ok(());
    }
    if settings.exempts_class(spec) {
        note("exempt", "runtimeClass");
        metrics::exempt(at);
        return Ok(());
    }
    if !errors.is_empty() {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let errors = if errors.len() == 1 { errors.concat() } else { format!("[{}]", errors.join(", ")) };
        note("error", format!("Failed to parse policy: {errors}"));
    }
    let violated = |mode: &str, policy: LevelVersion| {
        let violations = podsecurity::evaluate(policy, metadata, spec);
        if mode == "enforce" || !violations.is_empty() {
            metrics::evaluated(at, mode, policy, !violations.is_empty());
        }
        let detail = || format!("violate PodSecurity \"{policy}\": {}", podsecurity::detail(&violations));
        (!violations.is_empty()).then(detail)
    };
    if let Some(text) = violated("audit", policy.audit) {
        note("audit-violations", format!("would {text}"));
    }
    if is_pod {
        note("enforce-policy", policy.enforce.to_string());
        if let Some(text) = violated("enforce", policy.enforce) {
            let text = text.replacen("violate", "violates", 1);
            return Err(Status::forbidden(&at.kind.group, &at.kind.plural, at.name, &text));
        }
    }
    warnings.extend(violated("warn", policy.warn).map(|text| format!("would {text}")));
    Ok(())
}

/// The labels of a namespace are good, and its pods are looked at when it becomes stricter.
async fn namespace(
    api: &Api,
    at: &Attributes<'_>,
    new: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let settings = &api.admission.pod_security;
    let labels = labels(new);
    let (policy, errors) = Policy::of(&labels, &settings.defaults);
    let is_new = at.operation == Operation::Create;
    let (before, old_errors) =
        if is_new { (policy, Vec::new()) } else { Policy::of(&self::labels(old), &settings.defaults) };
    if !errors.is_empty() && errors != old_errors {
        return Err(Status::invalid("", "Namespace", at.name, &errors));
    }
    let (is, was) = (policy.enforce, before.enforce);
    if !is_new && (is == was || is.level == Level::Privileged || (is.version == was.version && is.level <= was.level)) {
        return Ok(());
    }
    if settings.exemptions.namespaces.iter().any(|n| n == at.name) {
        warnings.extend(policy.exempt_warning(at.name, &labels, &settings.defaults));
        return Ok(());
    }
    if is_new {
        return Ok(());
    }
    let page = api.store.range(&format!("/registry/pods/{}/", at.name), None, 0, 0);
    let pods = page.map_err(|e| crate::api::store_status(&e))?.items.into_iter().map(|v| v.object).collect();
    let classes: HashSet<String> = settings.exemptions.runtime_classes.iter().cloned().collect();
    let name = at.name.to_owned();
    let looked = tokio::task::spawn_blocking(move || existing(pods, &classes, is, &name)).await;
    warnings.extend(looked.map_err(Status::internal)?);
    Ok(())
}

fn labels(namespace: &Value) -> BTreeMap<String, String> {
    let all = namespace["metadata"]["labels"].as_object().into_iter().flatten();
    all.map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").to_owned())).collect()
}

/// What is said of the pods that there are. Those of one controller are alike: the others come last.
fn existing(pods: Vec<Arc<Object>>, exempt: &HashSet<String>, at: LevelVersion, namespace: &str) -> Vec<String> {
    let end = tokio::time::Instant::now() + PATIENCE;
    let (mut first, mut alike, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for pod in pods {
        let Ok(value) = pod.value() else { continue };
        if value["spec"]["runtimeClassName"].as_str().is_some_and(|class| exempt.contains(class)) {
            continue;
        }
        let owners = value["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let owner = owners.into_iter().find(|o| o["controller"] == true).map(|o| o["uid"].to_string());
        if owner.is_none_or(|owner| seen.insert(owner)) {
            first.push(value);
        } else {
            alike.push(value);
        }
    }
    first.append(&mut alike);
    let total = first.len();
    let mut checked = total.min(MOST_PODS);
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for (index, pod) in first.iter().take(MOST_PODS).enumerate() {
        let violations = podsecurity::evaluate(at, &pod["metadata"], &pod["spec"]);
        if !violations.is_empty() {
            let name = pod["metadata"]["name"].as_str().unwrap_or("").to_owned();
            let (least, count) = found.entry(podsecurity::reason(&violations)).or_insert_with(|| (name.clone(), 0));
            *count += 1;
            if name < *least {
                *least = name;
            }
        }
        if tokio::time::Instant::now() > end {
            checked = index + 1;
            break;
        }
    }
    let mut said = Vec::new();
    if checked < total {
        said.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        said.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{at}\""
        ));
    }
    let line = |(reason, (name, count)): (String, (String, usize))| match count {
        1 => format!("{name}: {reason}"),
        2 => format!("{name} (and 1 other pod): {reason}"),
        more => format!("{name} (and {} other pods): {reason}", more - 1),
    };
    let mut lines: Vec<String> = found.into_iter().map(line).collect();
    lines.sort();
    said.append(&mut lines);
    said
}
