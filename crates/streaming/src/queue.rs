//! Bytes on their way from a connection to whoever takes them, bounded by their size.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What the smallest piece counts for: a queue of single bytes is not cheap either.
const LEAST: usize = 64;

enum Piece {
    Data(Bytes, OwnedSemaphorePermit),
    Reset,
}

/// Where a connection puts what it received. Dropped: the other side has said all.
pub(crate) struct Feeder {
    room: Arc<Semaphore>,
    most: usize,
    pieces: mpsc::UnboundedSender<Piece>,
}

/// Where it is taken from.
pub(crate) struct Inlet {
    pieces: mpsc::UnboundedReceiver<Piece>,
    was_reset: bool,
}

/// Nobody takes anything any more.
#[derive(Debug)]
pub(crate) struct Untaken;

/// A queue that holds about `most` bytes.
pub(crate) fn queue(most: usize) -> (Feeder, Inlet) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let feeder = Feeder { room: Arc::new(Semaphore::new(most)), most, pieces: sender };
    (feeder, Inlet { pieces: receiver, was_reset: false })
}

impl Feeder {
    /// Waits for room.
    pub(crate) async fn push(&self, bytes: Bytes) -> Result<(), Untaken> {
        if bytes.is_empty() {
            return Ok(());
        }
        // A piece larger than the queue goes in when the queue is empty.
        let size = bytes.len().clamp(LEAST, self.most);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let permit = self.room.clone().acquire_many_owned(size).await.map_err(|_| Untaken)?;
        self.pieces.send(Piece::Data(bytes, permit)).map_err(|_| Untaken)
    }

    /// The other side has thrown the stream away.
    pub(crate) fn reset(&self) {
        // Whoever is gone needs not know.
        let _ = self.pieces.send(Piece::Reset);
    }
}

impl Inlet {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        match self.pieces.recv().await? {
            Piece::Data(bytes, room) => {
                drop(room);
                Some(bytes)
            }
            Piece::Reset => {
                self.was_reset = true;
                None
            }
        }
    }

    /// Takes nothing any more; how many bytes are thrown away.
    pub(crate) fn close(&mut self) -> usize {
        self.pieces.close();
        let mut count = 0;
        while let Ok(piece) = self.pieces.try_recv() {
            if let Piece::Data(bytes, _) = piece {
                count += bytes.len();
            }
        }
        count
    }

    /// True when the end was no orderly one.
    pub(crate) fn was_reset(&self) -> bool {
        self.was_reset
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
