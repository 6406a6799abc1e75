//! Carries out a plan: steps in order, the operations of a step in parallel, a few first and then more.

use std::collections::HashMap;
use std::sync::Arc;

use client::{Client, Recorder};
use futures::future::join_all;
use object::{Object, Status};

use crate::plan::{Event, Op, Plan, Verb};
use crate::world::{Caches, Failure};

/// Operations that run at the same time, at most.
const PARALLEL: usize = 128;

pub(crate) struct Executor<'a> {
    pub(crate) client: &'a Client,
    pub(crate) recorder: &'a Recorder,
    pub(crate) caches: &'a Caches,
}

/// How a plan went.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What the caches are to see before the key is looked at again.
    pub(crate) expected: Vec<Expected>,
    /// The first operation that failed.
    pub(crate) failure: Option<Failure>,
}

/// A write that a cache is to see.
#[derive(Debug)]
pub(crate) enum Expected {
    /// Everything of this kind up to this revision.
    Revision(&'static crate::kinds::Kind, u64),
    /// The object with this uid is gone or going.
    Gone(&'static crate::kinds::Kind, String, String),
}

impl Expected {
    pub(crate) fn is_met(&self, caches: &Caches) -> bool {
        match self {
            Self::Revision(kind, revision) => caches.lister(kind).is_none_or(|lister| lister.revision() >= *revision),
            Self::Gone(kind, key, uid) => {
                let cached = caches.lister(kind).and_then(|lister| lister.get(key));
                cached.is_none_or(|object| object.head.uid != *uid || object.head.is_terminating())
            }
        }
    }
}

/// What an operation came to.
enum Done {
    Written(Arc<Object>),
    Deleted,
    /// It does not apply any more, and that is fine.
    Moot,
}

impl Executor<'_> {
    pub(crate) async fn execute(&self, plan: &Plan) -> Outcome {
        let mut outcome = Outcome::default();
        // What this plan wrote: a second update of an object builds on the first.
        let mut written: HashMap<(&str, String), Arc<Object>> = HashMap::new();
        for step in &plan.steps {
            let mut size = 1;
            let mut rest = step.as_slice();
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(size.min(rest.len()));
                rest = later;
                size = (size * 2).min(PARALLEL);
                let failed = outcome.failure.is_some();
                let wanted = batch.iter().filter(|op| !failed || op.regardless);
                let results = join_all(wanted.map(|op| self.one(op, &written))).await;
                for (op, result) in results {
                    self.settle(op, result, &mut outcome, &mut written);
                }
            }
        }
        outcome
    }

    async fn one<'p>(
        &self,
        op: &'p Op,
        written: &HashMap<(&str, String), Arc<Object>>,
    ) -> (&'p Op, client::Result<Done>) {
        let result = match &op.verb {
            Verb::Create(body) => self.client.create(&op.at, body).await.map(Done::Written),
            Verb::Patch(patch) => self.client.patch(&op.at, patch).await.map(Done::Written),
            Verb::Delete(options) => self.client.delete(&op.at, options).await.map(|kept| match kept {
                Some(object) => Done::Written(object),
                None => Done::Deleted,
            }),
            Verb::Update(base, change) => {
                let base = written.get(&(op.kind.resource, base.head.key())).unwrap_or(base);
                match base.value() {
                    Err(error) => Err(Status::internal(error)),
                    Ok(mut value) => {
                        object::patch::merge(&mut value, change);
                        self.client.update(&op.at, &value).await.map(Done::Written)
                    }
                }
            }
        };
        (op, result.or_else(|status| forgive(op, status)))
    }

    fn settle(
        &self,
        op: &Op,
        result: client::Result<Done>,
        outcome: &mut Outcome,
        written: &mut HashMap<(&str, String), Arc<Object>>,
    ) {
        match result {
            Ok(Done::Moot) => {}
            Ok(Done::Written(object)) => {
                self.say(&op.done, &object.head.name, "");
                // What a subresource like `binding` returns is no state of the object.
                if op.at.subresource.as_deref().is_none_or(|sub| sub == "status") {
                    outcome.expected.push(Expected::Revision(op.kind, object.head.resource_version));
                    written.insert((op.kind.resource, object.head.key()), object);
                }
            }
            Ok(Done::Deleted) => {
                let name = op.at.name.as_deref().unwrap_or_default();
                self.say(&op.done, name, "");
                let key = crate::owner::key_of(op.at.namespace.as_deref().unwrap_or_default(), name);
                if let Some(cached) = self.caches.lister(op.kind).and_then(|lister| lister.get(&key)) {
                    outcome.expected.push(Expected::Gone(op.kind, key, cached.head.uid.clone()));
                }
            }
            Err(status) => {
                if status.is_conflict() {
                    tracing::debug!(%op, error = %status, "conflict: once more with newer caches");
                } else {
                    tracing::info!(%op, error = %status, "an operation failed");
                    self.say(&op.failed, op.at.name.as_deref().unwrap_or_default(), &status.message);
                }
                let create = matches!(op.verb, Verb::Create(_));
                let failure = || Failure { kind: op.kind, create, status };
                outcome.failure.get_or_insert_with(failure);
            }
        }
    }

    fn say(&self, event: &Option<Event>, name: &str, error: &str) {
        if let Some(event) = event {
            let message = event.message.replace("{name}", name).replace("{error}", error);
            self.recorder.record(event.about.clone(), event.severity, event.reason, message);
        }
    }
}

/// Errors that are none: what was to be deleted or changed is gone, or its namespace goes with everything in it.
fn forgive(op: &Op, status: Status) -> client::Result<Done> {
    let terminating = status.causes.iter().any(|cause| cause.reason == "NamespaceTerminating");
    let moot = match op.verb {
        Verb::Create(_) => terminating,
        Verb::Update(..) | Verb::Patch(_) | Verb::Delete(_) => status.is_not_found(),
    };
    // A delete under a uid that meets another object under the name: the one that was meant is gone.
    let replaced = matches!(op.verb, Verb::Delete(_)) && status.is_conflict();
    if moot || replaced { Ok(Done::Moot) } else { Err(status) }
}
