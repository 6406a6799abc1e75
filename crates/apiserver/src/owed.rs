//! What a connection owes its client, and since when: a client that takes none of it for too long is let go.
//!
//! A socket that takes no bytes tells of HTTP/1.1, and of HTTP/2 as a whole ([`Owing`]). Of a stream within HTTP/2 it shows in the body
//! not being asked for more ([`Sent`]).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
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
}

#[derive(Default)]
struct Debts {
    since: BTreeMap<u64, Instant>,
    next: u64,
    is_forgiven: bool,
    is_given_up: bool,
}

impl Owed {
    /// A number for something that can be owed.
    fn number(&self) -> u64 {
        let mut debts = self.debts.lock();
        debts.next += 1;
        debts.next
    }

    fn owe(&self, number: u64) {
        let mut debts = self.debts.lock();
        let is_first = debts.since.is_empty();
        debts.since.insert(number, Instant::now());
        drop(debts);
        if is_first {
            self.begun.notify_one();
        }
    }

    fn taken(&self, number: u64) {
        self.debts.lock().since.remove(&number);
    }

    /// This client may take as long as it likes, from now on.
    pub(crate) fn forgive(&self) {
        self.debts.lock().is_forgiven = true;
    }

    /// Ends when something has been owed for longer than `limit`.
    pub(crate) async fn overdue(&self, limit: Duration) {
        loop {
            let first = self.debts.lock().since.values().min().copied();
            match first.map(|since| since + limit) {
                None => self.begun.notified().await,
                Some(due) if due > Instant::now() => tokio::time::sleep_until(due).await,
                Some(_) if self.debts.lock().is_forgiven => std::future::pending().await,
                Some(_) => {
                    self.debts.lock().is_given_up = true;
                    return;
                }
            }
        }
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
            if self.is_full { self.owed.owe(self.number) } else { self.owed.taken(self.number) }
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
    is_owed: bool,
    extent: Extent,
}

impl Sent {
    pub(crate) fn new(body: Body, owed: Arc<Owed>, extent: Extent) -> Self {
        let number = owed.number();
        owed.owe(number);
        Self { body, owed, number, is_owed: true, extent }
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
            self.owed.owe(self.number);
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
        owed.owe(one);
        owed.owe(other);
        assert!(!is_overdue(Duration::from_secs(3600)), "there is time");
        owed.taken(one);
        assert!(is_overdue(Duration::ZERO), "the other was not taken");
        owed.taken(other);
        assert!(!is_overdue(Duration::ZERO));
        owed.owe(one);
        owed.forgive();
        assert!(!is_overdue(Duration::ZERO));
    }
}
