//! Who sends long replies takes turns: at most half of the processors are busy with them, so that what is short finds one free.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

use crate::owed::Owed;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new((processors / 2).max(1)))
});

/// A connection that waits for its turn while it sends something long. A turn is over as soon as the connection waits for anything, so
/// a client that does not read has none.
pub(crate) struct InTurns<F> {
    connection: Pin<Box<F>>,
    owed: Arc<Owed>,
    turns: PollSemaphore,
}

impl<F> InTurns<F> {
    pub(crate) fn new(connection: F, owed: Arc<Owed>) -> Self {
        Self { connection: Box::pin(connection), owed, turns: PollSemaphore::new(TURNS.clone()) }
    }
}

impl<F: Future> Future for InTurns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _turn = match self.owed.is_long() {
            true => ready!(self.turns.poll_acquire(cx)),
            false => None,
        };
        self.connection.as_mut().poll(cx)
    }
}
