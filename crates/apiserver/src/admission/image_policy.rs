//! ImagePolicyWebhook: a server of the administrator's that says which images pods may run. Runs only where it is asked for.

use std::path::PathBuf;
use std::time::Duration;

use object::Status;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Attributes;
use crate::answers::{self, Answers};
use crate::audit;

/// Answers that are remembered.
const MOST_KNOWN: usize = 1024;
/// How long each attempt may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Annotations of pods that the server is told.
const TOLD: &str = ".image-policy.k8s.io/";
/// What is put before annotations of the audit log.
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    image_policy: Given,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Given {
    kube_config_file: PathBuf,
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    retry_backoff: i64,
    default_allow: bool,
}

/// The server, and how it is believed.
pub(super) struct ImagePolicy {
    server: client::Https,
    allow_ttl: Duration,
    deny_ttl: Duration,
    retry: Duration,
    default_allow: bool,
    known: Answers<String, Value, MOST_KNOWN>,
}

impl std::fmt::Debug for ImagePolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImagePolicy").field("default_allow", &self.default_allow).finish_non_exhaustive()
    }
}

/// A time in its unit: 0 is the default, -1 none at all.
fn time(given: i64, unit: Duration, most: Duration, default: Duration) -> Result<Duration, String> {
    let asked = match given {
        0 => return Ok(default),
        -1 => return Ok(Duration::ZERO),
        given => u32::try_from(given).ok().and_then(|given| unit.checked_mul(given)),
    };
    let wrong = || format!("valid value is between {unit:?} and {most:?}, got {given}");
    asked.filter(|asked| *asked <= most).ok_or_else(wrong)
}

/// `imagePolicy` of the plugin's configuration.
pub(super) fn parse(configuration: &Value) -> Result<ImagePolicy, String> {
    let wrong = |why: String| format!("ImagePolicyWebhook: {why}");
    let read: Configuration = serde_json::from_value(configuration.clone()).map_err(|e| wrong(e.to_string()))?;
    let given = read.image_policy;
    let (second, half_an_hour) = (Duration::from_secs(1), Duration::from_secs(1800));
    let retry = time(given.retry_backoff, Duration::from_millis(1), Duration::from_secs(300), answers::FIRST_WAIT);
    Ok(ImagePolicy {
        server: answers::server(&given.kube_config_file).map_err(wrong)?,
        allow_ttl: time(given.allow_ttl, second, half_an_hour, Duration::from_secs(300)).map_err(wrong)?,
        deny_ttl: time(given.deny_ttl, second, half_an_hour, Duration::from_secs(30)).map_err(wrong)?,
        retry: retry.map_err(wrong)?,
        default_allow: given.default_allow,
        known: Answers::default(),
    })
}

/// The spec of an ImageReview; `None` where there is nothing to ask.
fn question(at: &Attributes<'_>, pod: &Value) -> Option<Value> {
    let lists: &[&str] = match at.subresource {
        "" => &["containers", "initContainers"],
        "ephemeralcontainers" => &["ephemeralContainers"],
        _ => return None,
    };
    if !at.is("", "pods") || !at.writes() {
        return None;
    }
    let containers = lists.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let images: Vec<Value> = containers.map(|container| json!({"image": container["image"]})).collect();
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let told: Map<String, Value> =
        annotations.filter(|(key, _)| key.contains(TOLD)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut spec = json!({"namespace": at.namespace});
    if !images.is_empty() {
        spec["containers"] = images.into();
    }
    if !told.is_empty() {
        spec["annotations"] = told.into();
    }
    Some(spec)
}

/// Refuses pods whose images the server does not want.
pub(super) async fn check(policy: Option<&ImagePolicy>, at: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let (Some(policy), Some(spec)) = (policy, question(at, pod)) else { return Ok(()) };
    let key = spec.to_string();
    let status = match policy.known.get(&key) {
        Some(status) => status,
        None => {
            let review = json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview", "metadata": {}, "spec": spec, "status": {"allowed": false}});
            match answers::ask_patiently(&policy.server, &review, PATIENCE, policy.retry).await {
                Ok(status) => {
                    let ttl = if status["allowed"] == true { policy.allow_ttl } else { policy.deny_ttl };
                    policy.known.remember(key, status.clone(), ttl);
                    status
                }
                Err(why) if policy.default_allow => {
                    tracing::warn!(why, "the image policy webhook failed: its pods are allowed");
                    audit::annotate(format!("{AUDIT}failed-open"), "true".into());
                    return Ok(());
                }
                Err(why) => return Err(at.forbidden(&why)),
            }
        }
    };
    for (key, value) in status["auditAnnotations"].as_object().into_iter().flatten() {
        audit::annotate(format!("{AUDIT}{key}"), value.as_str().unwrap_or("").into());
    }
    match (status["allowed"] == true, status["reason"].as_str().unwrap_or("")) {
        (true, _) => Ok(()),
        (false, "") => Err(at.forbidden("one or more images rejected by webhook backend")),
        (false, reason) => {
            Err(at.forbidden(&format!("image policy webhook backend denied one or more images: {reason}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_bounds() {
        let second = Duration::from_secs(1);
        let of = |given| time(given, second, 30 * second, 5 * second);
        assert_eq!([of(0), of(-1), of(7)], [Ok(5 * second), Ok(Duration::ZERO), Ok(7 * second)]);
        for wrong in [31, -2, i64::MAX] {
            assert!(of(wrong).unwrap_err().starts_with("valid value is between 1s and 30s"), "{wrong}");
        }
        assert!(parse(&json!({})).is_err() && parse(&json!({"imagePolicy": {}})).is_err());
    }
}
