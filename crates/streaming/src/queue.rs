//! Bytes on their way from a connection to whoever takes them, bounded by their size.
//!
//! Only bytes count, not the pieces that they come in: what fits into a window of a connection must fit in here, or the connection
//! would wait for the taker, and the taker perhaps for what the connection brings next.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

/// A piece for so many bytes of a queue's size at the most: single bytes are not cheap either.
const LEAST: usize = 64;

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// What came when there were enough pieces.
    tail: BytesMut,
    ended: bool,
    was_reset: bool,
    untaken: bool,
}

impl State {
    fn take(&mut self) -> Option<Bytes> {
        let tail = || (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).freeze());
        self.pieces.pop_front().or_else(tail)
    }
}

struct Shared {
    most: usize,
    room: Semaphore,
    state: Mutex<State>,
    news: Notify,
}

/// Where a connection puts what it received. Dropped: the other side has said all.
pub(crate) struct Feeder {
    shared: Arc<Shared>,
}

/// Where it is taken from.
pub(crate) struct Inlet {
    shared: Arc<Shared>,
    was_reset: bool,
}

/// Nobody takes anything any more.
#[derive(Debug)]
pub(crate) struct Untaken;

/// A queue that holds `most` bytes.
pub(crate) fn queue(most: usize) -> (Feeder, Inlet) {
    let shared = Shared { most, room: Semaphore::new(most), state: Mutex::default(), news: Notify::new() };
    let shared = Arc::new(shared);
    (Feeder { shared: shared.clone() }, Inlet { shared, was_reset: false })
}

impl Feeder {
    /// Waits for room.
    pub(crate) async fn push(&self, bytes: Bytes) -> Result<(), Untaken> {
        if bytes.is_empty() {
            return Ok(());
        }
        // A piece larger than the queue goes in when the queue is empty.
        let most = self.shared.most;
        let size = u32::try_from(bytes.len().min(most)).unwrap_or(u32::MAX);
        self.shared.room.acquire_many(size).await.map_err(|_| Untaken)?.forget();
        self.tell(|state| {
            if state.untaken {
                return Err(Untaken);
            }
            if state.tail.is_empty() && state.pieces.len() < most.div_ceil(LEAST) {
                state.pieces.push_back(bytes);
            } else {
                state.tail.extend_from_slice(&bytes);
            }
            Ok(())
        })
    }

    /// The other side has thrown the stream away.
    pub(crate) fn reset(&self) {
        self.tell(|state| state.was_reset = true);
    }

    fn tell<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let outcome = change(&mut self.shared.state.lock());
        self.shared.news.notify_one();
        outcome
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.tell(|state| state.ended = true);
    }
}

impl Inlet {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.shared.state.lock();
                if let Some(bytes) = state.take() {
                    self.shared.room.add_permits(bytes.len().min(self.shared.most));
                    return Some(bytes);
                }
                self.was_reset |= state.was_reset;
                if state.was_reset || state.ended {
                    return None;
                }
            }
            self.shared.news.notified().await;
        }
    }

    /// Takes nothing any more; how many bytes are thrown away.
    pub(crate) fn close(&mut self) -> usize {
        self.shared.room.close();
        let mut state = self.shared.state.lock();
        state.untaken = true;
        std::iter::from_fn(|| state.take()).map(|bytes| bytes.len()).sum()
    }

    /// True when the end was no orderly one.
    pub(crate) fn was_reset(&self) -> bool {
        self.was_reset
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_waits_and_an_abandoned_one_refuses() {
        let (feeder, mut inlet) = queue(100);
        feeder.push(Bytes::from(vec![1; 80])).await.unwrap();
        let second = feeder.push(Bytes::from(vec![2; 500]));
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(inlet.next().await.unwrap().len(), 80);
        second.await.unwrap();
        let third = feeder.push(Bytes::from(vec![3; 1]));
        tokio::pin!(third);
        assert!(futures::poll!(&mut third).is_pending());
        drop(inlet);
        assert!(third.await.is_err());
    }

    #[tokio::test]
    async fn a_windows_bytes_fit_whatever_pieces_they_come_in() {
        let (feeder, mut inlet) = queue(100);
        for _ in 0..100 {
            let push = feeder.push(Bytes::from_static(b"x"));
            tokio::pin!(push);
            assert!(futures::poll!(&mut push).is_ready());
        }
        drop(feeder);
        let mut count = 0;
        while let Some(bytes) = inlet.next().await {
            count += bytes.len();
        }
        assert_eq!(count, 100);
    }

    #[tokio::test]
    async fn ends_and_resets_are_told_apart() {
        let (feeder, mut inlet) = queue(100);
        feeder.push(Bytes::from_static(b"x")).await.unwrap();
        drop(feeder);
        assert!(inlet.next().await.is_some() && inlet.next().await.is_none() && !inlet.was_reset());
        let (feeder, mut inlet) = queue(100);
        feeder.reset();
        drop(feeder);
        assert!(inlet.next().await.is_none() && inlet.was_reset());
    }
}
