//! What both kinds of connections have in common: streams in, streams out, patience.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

/// Bytes of a stream that may wait to be taken.
pub(crate) const MOST_WAITING: usize = 64 * 1024;
/// What is read and sent at a time.
pub(crate) const PIECE: usize = 32 * 1024;
/// A connection whose other side has lost its power fails when a ping goes unacknowledged for long: that is TCP's to find out.
/// A missing answer alone proves nothing: the client may be stopped, or busy, and come back.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(30);
/// Upstream's idle timeout.
pub(crate) const SILENCE: Duration = Duration::from_secs(4 * 60 * 60);
/// How long the other side may take to read the rest once all is said.
pub(crate) const LINGER: Duration = Duration::from_secs(10);

/// The connection or the stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is over")]
pub struct Gone;

/// A stream from the client.
pub(crate) trait Source: Send + 'static {
    /// The next bytes; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
    /// True when the client threw the stream away.
    fn was_reset(&self) -> bool;
}

/// A stream to the client. Dropped unfinished, it is thrown away.
pub(crate) trait Sink: Send + 'static {
    /// Waits while there is no room.
    fn send(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), Gone>> + Send;
    /// All was said.
    fn finish(self) -> impl Future<Output = ()> + Send;
    /// Something went wrong: nothing more comes, after what was sent.
    fn abort(self) -> impl Future<Output = ()> + Send;
}
