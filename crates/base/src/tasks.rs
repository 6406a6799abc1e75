//! Owned tasks: every spawned future has a parent that cancels and awaits it.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// A set of named tasks under one cancellation. Dropping it aborts what still runs; [`Tasks::shutdown`] is the orderly way.
pub struct Tasks {
    set: JoinSet<&'static str>,
    token: CancellationToken,
}

impl Tasks {
    /// An empty set whose token is a child of `parent`.
    pub fn new(parent: &CancellationToken) -> Self {
        Self { set: JoinSet::new(), token: parent.child_token() }
    }

    /// The token that [`Tasks::shutdown`] cancels.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Spawns `task` under `name`. It should end soon after the token is cancelled.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns: the set owns the task")]
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let span = tracing::info_span!("task", name);
        self.set.spawn(
            async move {
                task.await;
                name
            }
            .instrument(span),
        );
    }

    /// The name of the next task that ended (`None`: no tasks are left). A panic is reported as `Err` with its text.
    pub async fn next_ended(&mut self) -> Option<Result<&'static str, String>> {
        let ended = self.set.join_next().await?;
        Some(ended.map_err(|e| e.to_string()))
    }

    /// Cancels the token and waits for all tasks.
    pub async fn shutdown(mut self) {
        self.token.cancel();
        while let Some(ended) = self.next_ended().await {
            if let Err(error) = ended {
                tracing::error!(error, "a task failed");
            }
        }
    }
}
