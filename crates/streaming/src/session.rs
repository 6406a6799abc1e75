//! exec and attach: a session of the runtime's on a client's streams, whatever wire these come over.

mod channels;
mod spdy;

use std::future::Future;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use protos::cri::{self, Session, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::outcome;
use crate::upgrade::Offer;
use crate::wire::{LINGER, PIECE, Sink, Source};

pub(crate) use channels::{refuse, serve as over_websocket};
pub(crate) use spdy::serve as over_spdy;

/// Protocols, the newest first.
pub(crate) const OFFER: Offer = Offer {
    spdy: &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"],
    websocket: &[
        "v5.channel.k8s.io",
        "v4.channel.k8s.io",
        "v4.base64.channel.k8s.io",
        "channel.k8s.io",
        "base64.channel.k8s.io",
    ],
};

/// Output that a command's children still hold open is waited for so long, each time.
const QUIET: Duration = Duration::from_secs(1);
/// Bytes of terminal sizes that may be incomplete.
const MOST_SIZE: usize = 1024;

/// What a session carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Standard input goes in.
    pub stdin: bool,
    /// Standard output comes out.
    pub stdout: bool,
    /// Standard error comes out.
    pub stderr: bool,
    /// A terminal: its output is one stream.
    pub tty: bool,
}

/// The client's ends of a session.
struct Ends<I, O> {
    stdin: Option<I>,
    stdout: Option<O>,
    stderr: Option<O>,
    outcome: O,
    resize: Option<I>,
    /// The outcome is told as a `Status`, and not as text, and that only when it is bad.
    is_status: bool,
}

/// Carries a session until the command has ended and all was told, or the client is gone. What a client said before it went is still
/// handed on: it may write and leave.
async fn carry<I: Source, O: Sink>(
    ends: Ends<I, O>,
    open: impl Future<Output = cri::Result<Session>> + Send,
    gone: CancellationToken,
) {
    let fed = CancellationToken::new();
    let cut = async {
        gone.cancelled().await;
        // A command that does not read is not waited for without end.
        let _ = tokio::time::timeout(LINGER, fed.cancelled()).await;
    };
    tokio::select! {
        () = play(ends, open, fed.clone().drop_guard()) => {}
        () = cut => {}
    }
}

/// `fed` goes when there is no more input to hand on.
async fn play<I: Source, O: Sink>(
    ends: Ends<I, O>,
    open: impl Future<Output = cri::Result<Session>> + Send,
    fed: DropGuard,
) {
    let Ends { stdin, stdout, stderr, mut outcome, resize, is_status } = ends;
    let fed = stdin.is_some().then_some(fed);
    let ended = match open.await {
        Ok(session) => {
            let exited = CancellationToken::new();
            let mut outputs = JoinSet::new();
            for (stream, sink) in [(session.stdout, stdout), (session.stderr, stderr)] {
                match (stream, sink) {
                    (Some(stream), Some(sink)) => drop(outputs.spawn(pump(stream, sink, exited.clone()))),
                    (Some(stream), None) => drop(outputs.spawn(pump(stream, Nowhere, exited.clone()))),
                    (None, Some(sink)) => drop(outputs.spawn(sink.finish())),
                    (None, None) => {}
                }
            }
            // Owned by this future: they end with it.
            let mut inputs = JoinSet::new();
            if let (Some(source), Some(target)) = (stdin, session.stdin) {
                inputs.spawn(async move {
                    feed(source, target).await;
                    drop(fed);
                });
            } else {
                drop(fed);
            }
            if let Some(source) = resize {
                inputs.spawn(follow_sizes(source, session.resize));
            }
            let ended = session.exit.await.unwrap_or_else(|_| Err(cri::Error::unknown("the command was lost")));
            exited.cancel();
            // All output comes before the outcome.
            while outputs.join_next().await.is_some() {}
            ended
        }
        Err(error) => {
            for sink in [stdout, stderr].into_iter().flatten() {
                sink.finish().await;
            }
            Err(error)
        }
    };
    let status = outcome::status(ended);
    let told = match is_status {
        true => status.to_string(),
        false if status["status"] == "Success" => String::new(),
        false => status["message"].as_str().unwrap_or_default().to_owned(),
    };
    // A client that is gone needs no outcome.
    let _ = outcome.send(told.into()).await;
    outcome.finish().await;
}

/// Output that the client did not ask for.
struct Nowhere;

impl Sink for Nowhere {
    async fn send(&mut self, _: Bytes) -> Result<(), crate::Gone> {
        Ok(())
    }
    async fn finish(self) {}
    async fn abort(self) {}
}

/// Copies output to its end; once the command has exited, to what is there.
async fn pump(mut stream: Box<dyn AsyncRead + Send + Unpin>, mut sink: impl Sink, exited: CancellationToken) {
    let quiet = async || {
        exited.cancelled().await;
        tokio::time::sleep(QUIET).await;
    };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let mut room = BufMut::limit(&mut buffer, PIECE);
        tokio::select! {
            biased;
            read = stream.read_buf(&mut room) => if !read.is_ok_and(|count| count > 0) { break },
            () = quiet() => break,
        }
        if sink.send(buffer.split().freeze()).await.is_err() {
            return;
        }
    }
    sink.finish().await;
}

/// Copies input; the end of it closes the command's stdin.
async fn feed(mut source: impl Source, mut target: Box<dyn AsyncWrite + Send + Unpin>) {
    while let Some(bytes) = source.next().await {
        if target.write_all(&bytes).await.is_err() || target.flush().await.is_err() {
            // The command reads no more: what else comes is thrown away.
            return;
        }
    }
    // A reader that is gone has its end anyway.
    let _ = target.shutdown().await;
}

/// Terminal sizes as JSON objects, one after the other, in whatever pieces.
async fn follow_sizes(mut source: impl Source, sizes: mpsc::Sender<TerminalSize>) {
    let mut text = BytesMut::new();
    while let Some(bytes) = source.next().await {
        text.extend_from_slice(&bytes);
        let mut parsed = serde_json::Deserializer::from_slice(&text).into_iter::<TerminalSize>();
        let mut newest = None;
        let broken = loop {
            match parsed.next() {
                Some(Ok(size)) => newest = Some(size),
                Some(Err(error)) => break !error.is_eof(),
                None => break false,
            }
        };
        let used = parsed.byte_offset();
        // Without a terminal nobody listens.
        if newest.is_some_and(|size| sizes.try_send(size).is_err()) && sizes.is_closed() {
            return;
        }
        let _ = text.split_to(used);
        if broken || text.len() > MOST_SIZE {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
