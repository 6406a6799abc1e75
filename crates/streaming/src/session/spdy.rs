//! Sessions over SPDY streams: each says by its `streamType` what it is for.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use protos::cri::{self, Session};
use tokio::time::timeout;

use super::{Ends, Options, carry};
use crate::spdy::{Connection, Reader, Stream, Writer};
use crate::wire::{Gone, Sink, Source};

/// How long a client may take to open its streams.
const OPENING: Duration = Duration::from_secs(30);

impl Source for Reader {
    async fn next(&mut self) -> Option<Bytes> {
        Self::next(self).await
    }

    fn was_reset(&self) -> bool {
        Self::was_reset(self)
    }
}

impl Sink for Writer {
    async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        Self::send(self, bytes).await
    }

    async fn finish(self) {
        Self::finish(self).await;
    }

    async fn abort(self) {
        Self::reset(self, crate::spdy::frame::CANCEL).await;
    }
}

/// Streams as they come, by their types.
#[derive(Default)]
struct Opened {
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    outcome: Option<Writer>,
    resize: Option<Reader>,
    /// The directions that nobody uses: kept, for dropping them would reset their streams.
    unused: Vec<Writer>,
}

impl Opened {
    fn count(&self) -> usize {
        let readers = [&self.stdin, &self.resize].into_iter().flatten().count();
        readers + [&self.stdout, &self.stderr, &self.outcome].into_iter().flatten().count()
    }

    fn add(&mut self, stream: Stream) {
        let kind = stream.headers.get("streamType").unwrap_or_default().to_owned();
        let (reader, writer) = (stream.reader, stream.writer);
        match kind.as_str() {
            "stdin" | "resize" => {
                let slot = if kind == "stdin" { &mut self.stdin } else { &mut self.resize };
                *slot = Some(reader);
                self.unused.push(writer);
            }
            "stdout" => self.stdout = Some(writer),
            "stderr" => self.stderr = Some(writer),
            "error" => self.outcome = Some(writer),
            _ => tracing::debug!(kind, "a stream of a kind that is not known"),
        }
    }
}

/// Waits for the streams that the client has announced by its query; then carries the session.
pub(crate) async fn serve(
    mut connection: Connection,
    protocol: &str,
    options: Options,
    open: impl Future<Output = cri::Result<Session>> + Send,
) {
    let resizes = options.tty && matches!(protocol, "v4.channel.k8s.io" | "v3.channel.k8s.io");
    let wanted = [true, options.stdin, options.stdout, options.stderr, resizes].into_iter().filter(|w| *w).count();
    let mut opened = Opened::default();
    let all = async {
        while opened.count() < wanted {
            let stream = connection.accept().await?;
            stream.reply().await.ok()?;
            opened.add(stream);
        }
        Some(())
    };
    match timeout(OPENING, all).await {
        Ok(Some(())) => {}
        Ok(None) => return,
        Err(_) => tracing::debug!("a client did not open its streams in time"),
    }
    let Opened { stdin, stdout, stderr, outcome, resize, unused } = opened;
    if let Some(outcome) = outcome {
        let is_status = protocol == "v4.channel.k8s.io";
        let ends = Ends { stdin, stdout, stderr, outcome, resize, is_status };
        carry(ends, open, connection.gone()).await;
    }
    drop(unused);
    connection.close().await;
}
