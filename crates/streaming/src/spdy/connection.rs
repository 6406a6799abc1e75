//! A connection and its streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::control::Control;
use super::frame::{Decoder, Encoder, Error, Frame, PROTOCOL_ERROR, REFUSED_STREAM};
use super::headers::Headers;
use super::window::Windows;
use crate::queue::{Feeder, Inlet, queue};
use crate::wire::{Gone, LINGER, MOST_WAITING, PIECE, PING_EVERY, SILENCE};

/// Streams that may be open at once.
const MOST_STREAMS: usize = 2048;
/// Frames that may wait to be written; those of data have `PIECE` bytes at most.
const QUEUE: usize = 32;
/// Frames are written together up to about this size.
const BATCH: usize = 64 * 1024;

/// Says that we mind windows; that they begin with what a queue holds is no news.
const SETTINGS: Frame = Frame::Settings { initial_window: Some(MOST_WAITING as u32) };

/// Which side of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens streams.
    Client,
    /// Takes them.
    Server,
}

struct Entry {
    /// Until the other side has said all, or nobody listens any more.
    feeder: Option<Arc<Feeder>>,
    /// Who waits for the reply to a stream that we opened.
    replied: Option<oneshot::Sender<()>>,
}

struct Shared {
    outgoing: mpsc::Sender<Frame>,
    /// Cancelled when the transport has ended or failed.
    gone: CancellationToken,
    windows: Windows,
    control: Control,
    entries: Mutex<HashMap<u32, Entry>>,
    /// The next stream of ours; held while it is opened, so that numbers go up on the wire too.
    next: tokio::sync::Mutex<u32>,
    newest: AtomicU32,
}

/// A connection. Dropped, it is cut; [`Connection::close`] is the orderly way.
pub struct Connection {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Stream>,
    tasks: JoinSet<()>,
}

/// A stream.
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What it was opened with.
    pub headers: Headers,
    /// What the other side says.
    pub reader: Reader,
    /// What is said to it.
    pub writer: Writer,
}

/// Reads a stream.
pub struct Reader {
    id: u32,
    inlet: Inlet,
    shared: Arc<Shared>,
}

/// Writes a stream. Dropped unfinished, it resets the stream.
pub struct Writer {
    id: u32,
    shared: Arc<Shared>,
    over: bool,
}

impl Connection {
    /// Takes over a transport.
    pub fn new<T>(transport: T, role: Role) -> Result<Self, Error>
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let (accepted, incoming) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            outgoing,
            gone: CancellationToken::new(),
            windows: Windows::default(),
            control: Control::default(),
            entries: Mutex::default(),
            next: tokio::sync::Mutex::new(if role == Role::Client { 1 } else { 2 }),
            newest: AtomicU32::new(0),
        });
        if role == Role::Client {
            // The queue is empty: nothing can be before it.
            let _ = shared.outgoing.try_send(SETTINGS);
        }
        let (source, sink) = tokio::io::split(transport);
        let encoder = Encoder::new()?;
        let mut tasks = JoinSet::new();
        let wire = shared.clone();
        tasks.spawn(async move {
            let gone = wire.gone.clone();
            let mut reading = Reading { shared: wire, role, accepted, has_settings: false };
            let over = tokio::select! { over = reading.run(source) => over, () = gone.cancelled() => Ok(()) };
            if let Err(error) = over {
                tracing::debug!(%error, "a SPDY connection was broken off");
            }
            reading.shared.cut();
        });
        let wire = shared.clone();
        tasks.spawn(async move {
            let written = tokio::select! {
                written = write(sink, queue, &wire, encoder, role) => written,
                () = wire.gone.cancelled() => return,
            };
            if written.is_err() {
                wire.gone.cancel();
            }
        });
        Ok(Self { shared, incoming, tasks })
    }

    /// The next stream that the other side opens; `None` when there will be none.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.incoming.recv().await
    }

    /// Cancelled when the other side is gone.
    pub fn gone(&self) -> CancellationToken {
        self.shared.gone.clone()
    }

    /// Opens a stream and waits until it is accepted.
    pub async fn open(&self, headers: Headers) -> Result<Stream, Gone> {
        let (sender, replied) = oneshot::channel();
        let mut next = self.shared.next.lock().await;
        let id = *next;
        *next += 2;
        let stream = self.shared.begin(id, headers.clone(), Some(sender));
        self.shared.send(Frame::Open { stream: id, fin: false, headers }).await?;
        drop(next);
        tokio::select! {
            replied = replied => replied.map_err(|_| Gone)?,
            () = self.shared.gone.cancelled() => return Err(Gone),
        }
        Ok(stream)
    }

    /// Says that all is said, and gives the other side some time to read it. Streams should be gone by now.
    pub async fn close(mut self) {
        let last = self.shared.newest.load(Ordering::Relaxed);
        self.incoming.close();
        let said = async {
            if self.shared.send(Frame::GoAway { last }).await.is_ok() {
                while self.tasks.join_next().await.is_some() {}
            }
        };
        // Closing with input unread would throw away what the other side has not read yet.
        let _ = timeout(LINGER, said).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.cut();
    }
}

impl Shared {
    /// Ends everything that waits for the other side.
    fn cut(&self) {
        self.gone.cancel();
        self.entries.lock().clear();
    }

    async fn send(&self, frame: Frame) -> Result<(), Gone> {
        tokio::select! {
            sent = self.outgoing.send(frame) => sent.map_err(|_| Gone),
            () = self.gone.cancelled() => Err(Gone),
        }
    }

    fn begin(self: &Arc<Self>, id: u32, headers: Headers, replied: Option<oneshot::Sender<()>>) -> Stream {
        let (feeder, inlet) = queue(MOST_WAITING);
        self.windows.open(id);
        self.entries.lock().insert(id, Entry { feeder: Some(Arc::new(feeder)), replied });
        Stream {
            id,
            headers,
            reader: Reader { id, inlet, shared: self.clone() },
            writer: Writer { id, shared: self.clone(), over: false },
        }
    }

    /// Streams that are open in one direction at least.
    fn count(&self) -> usize {
        self.windows.count().max(self.entries.lock().len())
    }

    /// The other side says no more on this stream.
    fn end(&self, id: u32) -> Option<Arc<Feeder>> {
        self.control.forget(id);
        self.entries.lock().remove(&id).and_then(|e| e.feeder)
    }
}

impl Stream {
    /// Accepts a stream that the other side opened.
    pub async fn reply(&self) -> Result<(), Gone> {
        self.writer.shared.send(Frame::Reply { stream: self.id, fin: false, headers: Headers::default() }).await
    }
}

impl Reader {
    /// The next bytes; `None` when the other side has said all.
    pub async fn next(&mut self) -> Option<Bytes> {
        let bytes = self.inlet.next().await?;
        let is_open = self.shared.entries.lock().contains_key(&self.id);
        self.shared.control.took(is_open.then_some(self.id), bytes.len());
        Some(bytes)
    }

    /// True when the other side threw the stream away.
    pub fn was_reset(&self) -> bool {
        self.inlet.was_reset()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.end(self.id);
        self.shared.control.took(None, self.inlet.close());
    }
}

impl Writer {
    /// Sends bytes; waits while the other side has no room.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let reserved = tokio::select! {
                reserved = self.shared.windows.reserve(self.id, bytes.len().min(PIECE)) => reserved.map_err(|_| Gone)?,
                () = self.shared.gone.cancelled() => return Err(Gone),
            };
            let bytes = bytes.split_to(reserved);
            self.shared.send(Frame::Data { stream: self.id, fin: false, bytes }).await?;
        }
        Ok(())
    }

    /// All is said.
    pub async fn finish(mut self) {
        self.over = true;
        let end = Frame::Data { stream: self.id, fin: true, bytes: Bytes::new() };
        // Whoever is gone needs no end.
        let _ = self.shared.send(end).await;
    }

    /// Throws the stream away, after what was sent before.
    pub async fn reset(mut self, code: u32) {
        self.over = true;
        let _ = self.shared.send(Frame::Reset { stream: self.id, code }).await;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.windows.close(self.id);
        if !self.over {
            self.shared.control.reset(self.id);
        }
    }
}

struct Reading {
    shared: Arc<Shared>,
    role: Role,
    accepted: mpsc::Sender<Stream>,
    has_settings: bool,
}

impl Reading {
    async fn run<T: AsyncRead>(&mut self, mut source: ReadHalf<T>) -> Result<(), Error> {
        let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
        loop {
            while let Some(frame) = decoder.next(&mut buffer)? {
                self.take(frame).await;
            }
            buffer.reserve(PIECE);
            match timeout(SILENCE, source.read_buf(&mut buffer)).await {
                Ok(Ok(count)) if count > 0 => {}
                _ => return Ok(()),
            }
        }
    }

    async fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Open { stream, fin, headers } => {
                self.open(stream, headers).await;
                self.ended(stream, fin);
            }
            Frame::Reply { stream, fin, .. } => {
                let waiting = self.shared.entries.lock().get_mut(&stream).and_then(|e| e.replied.take());
                if let Some(waiting) = waiting {
                    // Whoever opened it may have lost interest.
                    let _ = waiting.send(());
                }
                self.ended(stream, fin);
            }
            Frame::Data { stream, fin, bytes } => {
                let feeder = self.shared.entries.lock().get(&stream).and_then(|e| e.feeder.clone());
                let count = bytes.len();
                let taken = match feeder {
                    Some(feeder) => feeder.push(bytes).await.is_ok(),
                    None => false,
                };
                if !taken {
                    // Thrown away, but it took its part of the connection's window.
                    self.shared.control.took(None, count);
                }
                self.ended(stream, fin);
            }
            Frame::Headers { stream, fin, .. } => self.ended(stream, fin),
            Frame::Reset { stream, .. } => {
                self.shared.windows.close(stream);
                if let Some(feeder) = self.shared.end(stream) {
                    feeder.reset();
                }
            }
            // Our own pings come back with our kind of number.
            Frame::Ping(id) if (id % 2 == 1) == (self.role == Role::Server) => {
                let _ = self.shared.send(Frame::Ping(id)).await;
            }
            Frame::Settings { initial_window } => {
                if let Some(size) = initial_window {
                    self.shared.windows.set_initial(size);
                }
                // Who has settings minds windows, and is told that we do before it sends its first byte.
                if self.role == Role::Server && !std::mem::replace(&mut self.has_settings, true) {
                    let _ = self.shared.send(SETTINGS).await;
                }
            }
            Frame::Window { stream, more } => self.shared.windows.grow(stream, more),
            // The streams that there are go on; nobody waits for new ones.
            Frame::GoAway { .. } => self.accepted = mpsc::channel(1).0,
            Frame::Ping(_) | Frame::Unknown(_) => {}
        }
    }

    fn ended(&self, stream: u32, fin: bool) {
        if fin {
            self.shared.end(stream);
        }
    }

    async fn open(&self, id: u32, headers: Headers) {
        let newest = self.shared.newest.load(Ordering::Relaxed);
        let refusal = if id <= newest || (id % 2 == 1) != (self.role == Role::Server) {
            Some(PROTOCOL_ERROR)
        } else if self.shared.count() >= MOST_STREAMS || self.accepted.is_closed() {
            Some(REFUSED_STREAM)
        } else {
            None
        };
        if let Some(code) = refusal {
            let _ = self.shared.send(Frame::Reset { stream: id, code }).await;
            return;
        }
        self.shared.newest.store(id, Ordering::Relaxed);
        let stream = self.shared.begin(id, headers, None);
        // One that nobody accepts is dropped, which resets it.
        let _ = self.accepted.send(stream).await;
    }
}

async fn write<T: AsyncWrite>(
    mut sink: WriteHalf<T>,
    mut queue: mpsc::Receiver<Frame>,
    shared: &Shared,
    mut encoder: Encoder,
    role: Role,
) -> std::io::Result<()> {
    let mut out = BytesMut::with_capacity(BATCH);
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ping: u32 = if role == Role::Client { 1 } else { 2 };
    loop {
        let mut frame = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => Some(frame),
                None => return Ok(()),
            },
            () = shared.control.wait() => None,
            _ = pings.tick() => {
                ping = ping.checked_add(2).unwrap_or(ping % 2 + 2);
                Some(Frame::Ping(ping))
            }
        };
        for told in shared.control.frames() {
            encoder.write(&told, &mut out).map_err(std::io::Error::other)?;
        }
        let mut is_last = false;
        while let Some(next) = frame {
            is_last |= matches!(next, Frame::GoAway { .. });
            encoder.write(&next, &mut out).map_err(std::io::Error::other)?;
            frame = if out.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        sink.write_all(&out).await?;
        sink.flush().await?;
        out.clear();
        if is_last {
            return sink.shutdown().await;
        }
    }
}
