//! Pulling images as `imagePullPolicy` says, with back-off, credentials and upstream's events.

mod credentials;

use std::sync::Arc;
use std::time::Duration;

use client::ObjectReference;
use parking_lot::Mutex;
use protos::cri::v1::{AuthConfig, Image, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest};
use protos::cri::{Error, ImageService};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::api::{Container, ImageSource, Pod};
use crate::clock::{Clock, go_duration};
use crate::config::security::ImageUser;
use crate::events::{About, Events};
use crate::objects::{ObjectKind, Objects};
use crate::pods::backoff::Backoffs;
use crate::pods::status::Blocked;

/// An image that is on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pulled {
    pub(crate) id: String,
    pub(crate) user: ImageUser,
}

/// Why a container's image is not there.
#[derive(Clone, Debug)]
pub(crate) struct PullFailure {
    pub(crate) blocked: Blocked,
    /// When trying again makes sense (nanoseconds since the epoch).
    pub(crate) retry_at: Option<i64>,
}

/// An image that a pod wants, for a container or as a volume.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// As the pod names it.
    pub(crate) image: String,
    /// `imagePullPolicy` or `pullPolicy`; empty for the tag's default.
    pub(crate) policy: String,
    /// What events are about.
    pub(crate) about: ObjectReference,
}

impl Wanted {
    /// A container's own.
    pub(crate) fn of_container(pod: &Pod, container: &Container) -> Self {
        let (image, policy) = (container.image.clone(), container.image_pull_policy.clone());
        Self { image, policy, about: About::container(pod, container) }
    }

    /// An image volume's.
    pub(crate) fn of_volume(pod: &Pod, source: &ImageSource) -> Self {
        Self { image: source.reference.clone(), policy: source.pull_policy.clone(), about: About::pod(pod) }
    }
}

/// Pulls for all pods of the node; pods pull in parallel.
pub(crate) struct Puller {
    images: Arc<dyn ImageService>,
    objects: Objects,
    events: Events,
    clock: Clock,
    backoffs: Mutex<Backoffs>,
    /// What the last failed pull said, for the message while waiting.
    failures: Mutex<std::collections::HashMap<String, String>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Puller {
    /// A puller without history.
    pub(crate) fn new(images: Arc<dyn ImageService>, objects: Objects, events: Events, clock: Clock) -> Self {
        let backoffs = Backoffs::new(Duration::from_secs(10), Duration::from_secs(300));
        Self {
            images,
            objects,
            events,
            clock,
            backoffs: Mutex::new(backoffs),
            failures: Mutex::default(),
            tasks: Mutex::default(),
        }
    }

    /// The pod is gone: its back-offs are forgotten.
    pub(crate) fn forget(&self, uid: &str) {
        let prefix = format!("{uid}_");
        self.backoffs.lock().forget(&prefix);
        self.failures.lock().retain(|key, _| !key.starts_with(&prefix));
    }

    /// Makes sure that the image is there.
    pub(crate) async fn ensure(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        sandbox: &PodSandboxConfig,
    ) -> Result<Pulled, PullFailure> {
        let about = || wanted.about.clone();
        let Some(image) = with_default_tag(&wanted.image) else {
            let message = format!(
                "Failed to apply default image tag {:?}: couldn't parse image name {:?}: invalid reference format",
                wanted.image, wanted.image
            );
            self.events.warning(about(), "InspectFailed", &message);
            return Err(failed("InvalidImageName", message, None));
        };
        let policy = match wanted.policy.as_str() {
            "" if image.ends_with(":latest") => "Always",
            "" => "IfNotPresent",
            policy => policy,
        };
        if policy != "Always" {
            match self.lookup(&image).await {
                Ok(Some(found)) => {
                    let message = format!(
                        "Container image {:?} already present on machine and can be accessed by the pod",
                        wanted.image
                    );
                    self.events.normal(about(), "Pulled", message);
                    return Ok(found);
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("Failed to inspect image {:?}: {error}", "");
                    self.events.warning(about(), "InspectFailed", &message);
                    return Err(failed("ImageInspectError", message, None));
                }
            }
        }
        if policy == "Never" {
            let message = format!("Container image {:?} is not present with pull policy of Never", wanted.image);
            self.events.warning(about(), "ErrImageNeverPull", &message);
            return Err(failed("ErrImageNeverPull", message, None));
        }
        self.pull(pod, wanted, &image, sandbox).await
    }

    async fn pull(
        &self,
        pod: &Pod,
        wanted: &Wanted,
        image: &str,
        sandbox: &PodSandboxConfig,
    ) -> Result<Pulled, PullFailure> {
        let about = || wanted.about.clone();
        let named = &wanted.image;
        let key = format!("{}_{named}", pod.metadata.uid);
        if let Some(until) = self.backoffs.lock().waits(&key, self.clock.nanos()) {
            let mut message = format!("Back-off pulling image {named:?}");
            self.events.normal(about(), "BackOff", &message);
            if let Some(failure) = self.failures.lock().get(&key) {
                message.push_str(&format!(": {failure}"));
            }
            return Err(failed("ImagePullBackOff", message, Some(until)));
        }
        self.failures.lock().remove(&key);
        self.events.normal(about(), "Pulling", format!("Pulling image {named:?}"));
        let started = self.clock.nanos();
        match self.pull_with_credentials(pod, image, sandbox).await {
            Ok(()) => {}
            Err(error) => {
                let now = self.clock.nanos();
                self.events.warning(about(), "Failed", format!("Failed to pull image {named:?}: {error}"));
                self.backoffs.lock().next(&key, now, now);
                let (reason, message) = reason_of(named, &error);
                self.failures.lock().insert(key.clone(), format!("{reason}: {message}"));
                let retry_at = self.backoffs.lock().waits(&key, now);
                // The next look shows the back-off, as upstream does a moment after the failure.
                let soon = now + 2 * crate::clock::SECOND;
                return Err(failed(reason, message, Some(retry_at.map_or(soon, |at| at.min(soon)))));
            }
        }
        let took = Duration::from_nanos(u64::try_from(self.clock.nanos() - started).unwrap_or(0));
        let found = self.status(image).await.ok().flatten();
        let size = found.as_ref().map_or(0, |i| i.size);
        let took = go_duration(took);
        let message = format!(
            "Successfully pulled image {named:?} in {took} ({took} including waiting). Image size: {size} bytes."
        );
        self.events.normal(about(), "Pulled", message);
        match found {
            Some(image) => Ok(pulled(image)),
            None => Err(failed("ErrImagePull", format!("image {named:?} is gone right after it was pulled"), None)),
        }
    }

    /// Tries each credential that fits; without any, anonymously.
    async fn pull_with_credentials(&self, pod: &Pod, image: &str, sandbox: &PodSandboxConfig) -> Result<(), Error> {
        let mut last = Error::unknown("no credentials to try");
        for auth in self.credentials(pod, image).await {
            match self.pull_once(image, auth, sandbox).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn credentials(&self, pod: &Pod, image: &str) -> Vec<Option<AuthConfig>> {
        let mut out = Vec::new();
        for secret in &pod.spec.image_pull_secrets {
            match self.objects.get(ObjectKind::Secret, &pod.metadata.namespace, &secret.name).await {
                Ok(object) => out.extend(credentials::matching(&object, image).into_iter().map(Some)),
                Err(error) => {
                    tracing::warn!(pod = pod.key(), secret = secret.name, %error, "unable to retrieve pull secret")
                }
            }
        }
        if out.is_empty() {
            out.push(None);
        }
        out
    }

    /// The pull goes on when nobody waits any more: the next pod gets what it brought.
    async fn pull_once(&self, image: &str, auth: Option<AuthConfig>, sandbox: &PodSandboxConfig) -> Result<(), Error> {
        let (done, result) = oneshot::channel();
        let images = self.images.clone();
        let spec = ImageSpec { image: image.into(), ..ImageSpec::default() };
        let request = PullImageRequest { image: Some(spec), auth, sandbox_config: Some(sandbox.clone()) };
        {
            let mut tasks = self.tasks.lock();
            while tasks.try_join_next().is_some() {}
            tasks.spawn(async move {
                // A dropped receiver means that the pod has gone.
                let _ = done.send(images.pull_image(request).await.map(drop));
            });
        }
        result.await.unwrap_or_else(|_| Err(Error::unknown("the pull was cut off")))
    }

    async fn lookup(&self, image: &str) -> Result<Option<Pulled>, Error> {
        Ok(self.status(image).await?.map(pulled))
    }

    async fn status(&self, image: &str) -> Result<Option<Image>, Error> {
        let spec = ImageSpec { image: image.into(), ..ImageSpec::default() };
        let request = ImageStatusRequest { image: Some(spec), verbose: false };
        Ok(self.images.image_status(request).await?.image)
    }
}

fn pulled(image: Image) -> Pulled {
    Pulled { id: image.id, user: ImageUser { uid: image.uid.map(|u| u.value), name: image.username } }
}

fn failed(reason: &str, message: String, retry_at: Option<i64>) -> PullFailure {
    PullFailure { blocked: Blocked { reason: reason.into(), message }, retry_at }
}

/// CRI runtimes name two causes by a prefix.
fn reason_of(image: &str, error: &Error) -> (&'static str, String) {
    let text = error.to_string();
    for (reason, words) in [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ] {
        if let Some(rest) = text.strip_prefix(reason) {
            return (reason, format!("image pull failed for {image} because {words}{rest}"));
        }
    }
    ("ErrImagePull", text)
}

/// The name with `:latest` when it has neither tag nor digest; `None` when it is no image name.
pub(crate) fn with_default_tag(image: &str) -> Option<String> {
    let (name, digest) = image.split_once('@').map_or((image, None), |(n, d)| (n, Some(d)));
    let last = name.rsplit('/').next().unwrap_or(name);
    let (path, tag) = match last.rsplit_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let tag_fits =
        tag.is_none_or(|t| !t.is_empty() && t.len() <= 128 && t.chars().all(is_word) && !t.starts_with(['.', '-']));
    let digest_fits = digest.is_none_or(|d| d.split_once(':').is_some_and(|(_, hex)| hex.len() >= 32));
    let mut parts = path.split('/').peekable();
    let first = parts.peek().copied().unwrap_or_default();
    let has_host = path.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if has_host {
        parts.next();
    }
    let is_lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part_fits = |p: &str| {
        p.starts_with(is_lower)
            && p.ends_with(is_lower)
            && p.chars().all(|c| is_lower(c) || matches!(c, '.' | '_' | '-'))
    };
    let fits = !path.is_empty() && parts.all(part_fits) && tag_fits && digest_fits;
    fits.then(|| if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, expect) in [
            ("nginx", Some("nginx:latest")),
            ("nginx:1.22", Some("nginx:1.22")),
            ("localhost:5000/a/b", Some("localhost:5000/a/b:latest")),
            ("localhost:5000/a/b:v1", Some("localhost:5000/a/b:v1")),
            ("Nginx", None),
            ("nginx:", None),
            ("", None),
            ("a//b", None),
            ("x@sha256:0123456789abcdef0123456789abcdef", Some("x@sha256:0123456789abcdef0123456789abcdef")),
            ("bad name", None),
        ] {
            assert_eq!(with_default_tag(name).as_deref(), expect, "{name}");
        }
    }
}
