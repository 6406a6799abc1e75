//! Writes one pod's status to the API, newest first, only what changed; and deletes the pod when it has ended.
//!
//! A worker never waits for the API: it leaves the newest status here and goes on.

use std::time::Duration;

use base::Backoff;
use client::{Client, DeleteOptions, Patch, Resource};
use object::Gvr;
use tokio::sync::watch;

use super::status::diff;
use crate::api::PodStatus;

/// What the API shall know.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desired {
    /// The status; `None` until there is one.
    pub(crate) status: Option<PodStatus>,
    /// What the API is known to have, and at which revision.
    pub(crate) known: PodStatus,
    pub(crate) known_revision: u64,
    /// After this status, delete the pod for good.
    pub(crate) delete: bool,
    /// The pod's object is gone: nothing more to write.
    pub(crate) is_gone: bool,
}

/// Writes for one pod.
pub(crate) struct Writer {
    client: Client,
    at: Resource,
    uid: String,
    desired: watch::Receiver<Desired>,
}

enum Step {
    Done,
    Gone,
    Retry,
}

impl Writer {
    /// A writer for the pod `namespace/name` with this uid.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        name: &str,
        uid: &str,
        desired: watch::Receiver<Desired>,
    ) -> Self {
        let at = Resource::object(&Gvr::new("", "v1", "pods"), Some(namespace), name);
        Self { client, at, uid: uid.to_owned(), desired }
    }

    /// Runs until the pod is gone or nobody leaves statuses any more.
    pub(crate) async fn run(mut self) {
        let mut known = PodStatus::default();
        let mut revision = None;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let desired = self.desired.borrow_and_update().clone();
            if desired.is_gone {
                return;
            }
            if revision.is_none_or(|r| desired.known_revision >= r) {
                known = desired.known.clone();
                revision = Some(desired.known_revision);
            }
            match self.write(&desired, &mut known, &mut revision).await {
                Step::Done => {
                    backoff.reset();
                    if self.desired.changed().await.is_err() {
                        return;
                    }
                }
                Step::Gone => return,
                Step::Retry => {
                    let wait = backoff.next_wait();
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        changed = self.desired.changed() => if changed.is_err() { return },
                    }
                }
            }
        }
    }

    async fn write(&self, desired: &Desired, known: &mut PodStatus, revision: &mut Option<u64>) -> Step {
        if let Some(status) = &desired.status
            && let Some(patch) = diff::patch(&self.uid, known, status)
        {
            let reply = self.client.patch(&self.at.clone().sub("status"), &Patch::Strategic(patch)).await;
            match reply {
                Ok(object) if object.head.uid == self.uid => {
                    known.clone_from(status);
                    *revision = Some(object.head.resource_version);
                }
                Ok(_) => return Step::Gone,
                Err(error) if error.is_not_found() => return Step::Gone,
                Err(error) => {
                    tracing::debug!(pod = ?self.at.name, %error, "the status could not be written");
                    return if error.is_conflict() { self.is_still_there().await } else { Step::Retry };
                }
            }
        }
        if desired.delete { self.delete().await } else { Step::Done }
    }

    /// A conflict means that the name now belongs to another pod, or that the patch met a newer object.
    async fn is_still_there(&self) -> Step {
        match self.client.get(&self.at).await {
            Ok(object) if object.head.uid == self.uid => Step::Retry,
            Ok(_) => Step::Gone,
            Err(error) if error.is_not_found() => Step::Gone,
            Err(_) => Step::Retry,
        }
    }

    async fn delete(&self) -> Step {
        let options =
            DeleteOptions { grace_period_seconds: Some(0), uid: Some(self.uid.clone()), ..DeleteOptions::default() };
        match self.client.delete(&self.at, &options).await {
            // Finalizers may still hold it; its end is then theirs to wait for.
            Ok(_) => Step::Done,
            Err(error) if error.is_not_found() => Step::Gone,
            Err(error) if error.is_conflict() => self.is_still_there().await,
            Err(error) => {
                tracing::debug!(pod = ?self.at.name, %error, "the pod could not be deleted");
                Step::Retry
            }
        }
    }
}
