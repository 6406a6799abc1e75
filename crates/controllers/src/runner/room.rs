//! One controller at work: its queue, what it waits for, what failed.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use client::{Client, Recorder, WorkQueue};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Instrument;

use super::execute::{Executor, Expected};
use crate::world::{Caches, Failure};
use crate::{Controller, Options, Plan};

/// Writes that the caches have not seen after this time are given up on (a watch hangs, or an event was missed).
const PATIENCE: Duration = Duration::from_secs(300);
/// How soon a key that waits for the caches is looked at again if no change wakes it.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Room {
    pub(super) controller: &'static Controller,
    pub(super) queue: WorkQueue<String>,
    pub(super) caches: Caches,
    pub(super) options: Arc<Options>,
    client: Client,
    recorder: Recorder,
    keys: Mutex<HashMap<String, Notes>>,
}

/// What is remembered of a key between its reconciliations.
#[derive(Default)]
struct Notes {
    expected: Vec<Expected>,
    since: Option<Instant>,
    failure: Option<Failure>,
}

impl Room {
    pub(super) fn new(
        controller: &'static Controller,
        client: Client,
        recorder: Recorder,
        caches: Caches,
        options: Arc<Options>,
    ) -> Self {
        Self {
            controller,
            queue: WorkQueue::named(controller.name),
            caches,
            options,
            client,
            recorder,
            keys: Mutex::default(),
        }
    }

    /// A worker: takes keys until the queue is shut down.
    pub(super) async fn work(self: Arc<Self>) {
        while let Some(key) = self.queue.get().await {
            let span = tracing::debug_span!("reconcile", controller = self.controller.name, key);
            self.reconcile(&key).instrument(span).await;
            self.queue.done(&key);
        }
    }

    async fn reconcile(&self, key: &str) {
        if !self.caught_up(key) {
            self.queue.add_after(key.into(), LOOK_AGAIN);
            return;
        }
        let Some(plan) = self.plan(key) else {
            self.queue.add_rate_limited(key.into());
            return;
        };
        for event in &plan.events {
            self.recorder.record(event.about.clone(), event.severity, event.reason, event.message.clone());
        }
        let executor = Executor { client: &self.client, recorder: &self.recorder, caches: &self.caches };
        let outcome = executor.execute(&plan).await;
        let failed = outcome.failure.is_some();
        self.note(key, outcome);
        if failed {
            self.queue.add_rate_limited(key.into());
        } else {
            self.queue.forget(&key.to_owned());
        }
        if let Some(wait) = plan.requeue {
            self.queue.add_after(key.into(), wait);
        }
    }

    /// The plan for a key; `None` when the controller panicked over it.
    fn plan(&self, key: &str) -> Option<Plan> {
        let failure = self.keys.lock().get(key).and_then(|notes| notes.failure.clone());
        let world = self.world().after(failure);
        let decide = AssertUnwindSafe(|| match world.get(self.controller.of, key) {
            Some(object) => (self.controller.reconcile)(&object, &world),
            None => (self.controller.gone)(key, &world),
        });
        match std::panic::catch_unwind(decide) {
            Ok(plan) => {
                if !plan.is_empty() {
                    tracing::debug!(%plan, "planned");
                }
                Some(plan)
            }
            Err(panic) => {
                let text = super::panic_text(&*panic);
                tracing::error!(controller = self.controller.name, key, panic = text, "panicked over an object");
                None
            }
        }
    }

    /// True when the caches have seen what was written for this key.
    fn caught_up(&self, key: &str) -> bool {
        let mut keys = self.keys.lock();
        let Some(notes) = keys.get_mut(key) else { return true };
        notes.expected.retain(|expected| !expected.is_met(&self.caches));
        if notes.expected.is_empty() {
            return true;
        }
        let waited = notes.since.map_or(Duration::ZERO, |since| since.elapsed());
        if waited < PATIENCE {
            return false;
        }
        tracing::warn!(
            controller = self.controller.name,
            key,
            "the caches have not seen our writes for long: going on"
        );
        notes.expected.clear();
        true
    }

    fn note(&self, key: &str, outcome: super::Outcome) {
        let mut keys = self.keys.lock();
        if outcome.expected.is_empty() && outcome.failure.is_none() {
            keys.remove(key);
            return;
        }
        let since = Some(Instant::now());
        keys.insert(key.into(), Notes { expected: outcome.expected, since, failure: outcome.failure });
    }
}
