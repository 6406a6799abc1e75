//! What a connection owes its client, and since when: a client that takes none of it for too long is let go.
//!
//! A socket that takes no bytes tells of HTTP/1.1, and of HTTP/2 as a whole ([`Owing`]): the connection ends. Of a stream within HTTP/2
//! it shows in the body not being asked for more ([`Sent`]): the stream is reset, and others of its connection go on ([`Streams`]).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{AbortHandle, abortable};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::{Body, Extent};

/// See the module.
#[derive(Default)]
pub(crate) struct Owed {
    debts: Mutex<Debts>,
    /// There is a debt where there was none.
    begun: Notify,
    /// Long replies that are being sent.
    long: AtomicUsize,
}

#[derive(Default)]
struct Debts {
    owed: BTreeMap<u64, Debt>,
    next: u64,
    is_forgiven: bool,
    is_given_up: bool,
}

struct Debt {
    since: Instant,
    /// What is given up with it; without one, the connection is.
    stream: Option<AbortHandle>,
}

impl Owed {
    /// A number for something that can be owed.
    fn number(&self) -> u64 {
        let mut debts = self.debts.lock();
        debts.next += 1;
        debts.next
    }

    fn owe(&self, number: u64, stream: Option<&AbortHandle>) {
        let mut debts = self.debts.lock();
        let is_first = debts.owed.is_empty();
        debts.owed.insert(number, Debt { since: Instant::now(), stream: stream.cloned() });
        drop(debts);
        if is_first {
            self.begun.notify_one();
        }
    }

    fn taken(&self, number: u64) {
        self.debts.lock().owed.remove(&number);
    }

    /// True while a long reply is being sent.
    pub(crate) fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed) > 0
    }

    /// This client may take as long as it likes, from now on.
    pub(crate) fn forgive(&self) {
        self.debts.lock().is_forgiven = true;
    }

    /// Gives up streams that have been owed something for longer than `limit`; ends when the connection has.
    pub(crate) async fn overdue(&self, limit: Duration) {
        loop {
            let next = self.debts.lock().settle(limit);
            match next {
                Next::None => self.begun.notified().await,
                Next::At(due) => tokio::time::sleep_until(due).await,
                Next::Never => std::future::pending().await,
                Next::GivenUp => return,
            }
        }
    }
}

/// What comes next of debts.
enum Next {
    None,
    At(Instant),
    /// They are all forgiven.
    Never,
    GivenUp,
}

impl Debts {
    /// The oldest debt: since when, and its number.
    fn first(&self) -> Option<(Instant, u64)> {
        self.owed.iter().map(|(number, debt)| (debt.since, *number)).min()
    }

    /// Gives up what has been owed for longer than `limit`.
    fn settle(&mut self, limit: Duration) -> Next {
        let now = Instant::now();
        while let Some((since, number)) = self.first() {
            if since + limit > now {
                return Next::At(since + limit);
            }
            if self.is_forgiven {
                return Next::Never;
            }
            match self.owed.remove(&number).and_then(|debt| debt.stream) {
                Some(stream) => stream.abort(),
                None => {
                    self.is_given_up = true;
                    return Next::GivenUp;
                }
            }
        }
        Next::None
    }
}

tokio::task_local! {
    /// Of the HTTP/2 stream that a task is for.
    static STREAM: AbortHandle;
}

/// Runs the streams of HTTP/2 connections, each until it ends or is given up: then it is reset.
#[derive(Clone, Copy)]
pub(crate) struct Streams;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, work: F) {
        let (work, handle) = abortable(work);
        TokioExecutor::new().execute(STREAM.scope(handle, work));
    }
}

/// A socket that notes when it takes no bytes.
pub(crate) struct Owing {
    socket: TcpStream,
    owed: Arc<Owed>,
    number: u64,
    is_full: bool,
}

impl Owing {
    pub(crate) fn new(socket: TcpStream, owed: Arc<Owed>) -> Self {
        let number = owed.number();
        Self { socket, owed, number, is_full: false }
    }

    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if self.is_full != written.is_pending() {
            self.is_full = written.is_pending();
            if self.is_full { self.owed.owe(self.number, None) } else { self.owed.taken(self.number) }
        }
        written
    }
}

impl AsyncRead for Owing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl Drop for Owing {
    fn drop(&mut self) {
        // What the kernel still has for such a client is given up with it.
        if self.owed.debts.lock().is_given_up {
            let _ = self.socket.set_zero_linger();
        }
    }
}

impl AsyncWrite for Owing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A body that notes when nobody asks for more of it.
pub(crate) struct Sent {
    body: Body,
    owed: Arc<Owed>,
    number: u64,
    stream: Option<AbortHandle>,
    is_owed: bool,
    extent: Extent,
}

impl Sent {
    pub(crate) fn new(body: Body, owed: Arc<Owed>, extent: Extent) -> Self {
        let number = owed.number();
        let stream = STREAM.try_with(AbortHandle::clone).ok();
        owed.owe(number, stream.as_ref());
        if extent == Extent::Finite {
            owed.long.fetch_add(1, Ordering::Relaxed);
        }
        Self { body, owed, number, stream, is_owed: true, extent }
    }
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // A list that says nothing has its next piece in a moment; a watch may have none for long.
        let owes = match &frame {
            Poll::Ready(frame) => frame.is_some() && !self.body.is_end_stream(),
            Poll::Pending => self.extent == Extent::Finite,
        };
        if owes {
            self.owed.owe(self.number, self.stream.as_ref());
        } else if self.is_owed {
            self.owed.taken(self.number);
        }
        self.is_owed = owes;
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.owed.taken(self.number);
        if self.extent == Extent::Finite {
            self.owed.long.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn what_is_not_taken_is_overdue() {
        let owed = Owed::default();
        let is_overdue = |limit| owed.overdue(limit).now_or_never().is_some();
        assert!(!is_overdue(Duration::ZERO), "nothing is owed");
        let (one, other) = (owed.number(), owed.number());
        owed.owe(one, None);
        owed.owe(other, None);
        assert!(!is_overdue(Duration::from_secs(3600)), "there is time");
        owed.taken(one);
        assert!(is_overdue(Duration::ZERO), "the other was not taken");
        owed.taken(other);
        assert!(!is_overdue(Duration::ZERO));
        let (_, stream) = abortable(std::future::pending::<()>());
        owed.owe(one, Some(&stream));
        assert!(!is_overdue(Duration::ZERO) && stream.is_aborted(), "a stream is given up by itself");
        owed.owe(one, None);
        owed.forgive();
        assert!(!is_overdue(Duration::ZERO));
    }
}
