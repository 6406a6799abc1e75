//! A WebSocket, as channels (the first byte of a message says which) or as a tunnel.

pub(crate) mod messages;
mod tunnel;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::queue::{Feeder, Inlet};
use crate::wire::{Gone, LINGER, PING_EVERY, SILENCE, Sink, Source};

pub(crate) use tunnel::Tunnel;

/// A message from a client; upstream's limit too.
const MOST_MESSAGE: usize = 32 << 20;
/// Messages that may wait for the client.
const QUEUE: usize = 32;
/// The channel whose messages close others.
const CLOSE: u8 = 255;

pub(crate) type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// The socket of a connection that was upgraded.
pub(crate) async fn accept(upgraded: hyper::upgrade::Upgraded) -> Socket {
    let config = WebSocketConfig::default().max_message_size(Some(MOST_MESSAGE)).max_frame_size(Some(MOST_MESSAGE));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// The message that ends a connection in good order.
fn farewell() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codec {
    /// As text: a digit and base64.
    pub(crate) base64: bool,
    /// Clients may close single channels.
    pub(crate) closes: bool,
}

impl Codec {
    fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            let mut text = char::from(b'0' + channel).to_string();
            STANDARD.encode_string(bytes, &mut text);
            return Message::text(text);
        }
        let mut framed = Vec::with_capacity(bytes.len() + 1);
        framed.push(channel);
        framed.extend_from_slice(bytes);
        Message::Binary(framed.into())
    }

    /// The channel and what is for it; `None` for nonsense.
    fn decode(self, message: &Bytes) -> Option<(u8, Bytes)> {
        let channel = *message.first()?;
        if !self.base64 {
            return Some((channel, message.slice(1..)));
        }
        Some((channel.checked_sub(b'0')?, STANDARD.decode(&message[1..]).ok()?.into()))
    }
}

/// Channels over a socket. Dropped, it is cut.
pub(crate) struct Channels {
    codec: Codec,
    outgoing: mpsc::Sender<Message>,
    gone: CancellationToken,
    tasks: JoinSet<()>,
}

impl Channels {
    /// `feeders` take what comes in, by channel; what is for none is ignored.
    pub(crate) fn new(socket: Socket, codec: Codec, feeders: Vec<Option<Feeder>>) -> Self {
        let (sink, source) = socket.split();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let gone = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let over = gone.clone().drop_guard();
        tasks.spawn(async move {
            let _over = over;
            read(source, codec, feeders).await;
        });
        let failed = gone.clone();
        tasks.spawn(async move {
            if write(sink, queue).await.is_err() {
                failed.cancel();
            }
        });
        Self { codec, outgoing, gone, tasks }
    }

    pub(crate) fn sink(&self, channel: u8) -> ChannelSink {
        ChannelSink { channel, codec: self.codec, outgoing: self.outgoing.clone(), gone: self.gone.clone() }
    }

    /// Cancelled when the client is gone.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Says that all is said, and gives the client some time to read it.
    pub(crate) async fn close(mut self) {
        let said = async {
            if self.outgoing.send(farewell()).await.is_ok() {
                while self.tasks.join_next().await.is_some() {}
            }
        };
        let _ = timeout(LINGER, said).await;
    }
}

/// A channel to the client.
pub(crate) struct ChannelSink {
    channel: u8,
    codec: Codec,
    outgoing: mpsc::Sender<Message>,
    gone: CancellationToken,
}

impl Sink for ChannelSink {
    async fn send(&mut self, bytes: Bytes) -> Result<(), Gone> {
        tokio::select! {
            sent = self.outgoing.send(self.codec.encode(self.channel, &bytes)) => sent.map_err(|_| Gone),
            () = self.gone.cancelled() => Err(Gone),
        }
    }

    // A channel ends with the connection.
    async fn finish(self) {}

    async fn abort(self) {}
}

impl Source for Inlet {
    async fn next(&mut self) -> Option<Bytes> {
        Self::next(self).await
    }

    fn was_reset(&self) -> bool {
        Self::was_reset(self)
    }
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut queue: mpsc::Receiver<Message>,
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = queue.recv() => match message {
                Some(message) => message,
                None => return Ok(()),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        let is_last = matches!(message, Message::Close(_));
        sink.send(message).await?;
        if is_last {
            return Ok(());
        }
    }
}

/// Takes in what the client sends, until it is gone. Pings are answered by the library.
async fn read(mut source: SplitStream<Socket>, codec: Codec, mut feeders: Vec<Option<Feeder>>) {
    loop {
        let bytes = match timeout(SILENCE, source.next()).await {
            Ok(Some(Ok(Message::Binary(bytes)))) => bytes,
            Ok(Some(Ok(Message::Text(text)))) => text.into(),
            Ok(Some(Ok(Message::Close(_)))) => break,
            Ok(Some(Ok(_))) => continue,
            Ok(None | Some(Err(_))) | Err(_) => return,
        };
        let Some((channel, data)) = codec.decode(&bytes) else { continue };
        if codec.closes && channel == CLOSE {
            // Upstream ends a connection that closes what there is not.
            match data.first().and_then(|c| feeders.get_mut(usize::from(*c))) {
                Some(feeder) => *feeder = None,
                None => return,
            }
        } else if let Some(Some(feeder)) = feeders.get(usize::from(channel)) {
            // Who takes no more has its reasons.
            let _ = feeder.push(data).await;
        }
    }
    // The answer to the client's farewell is sent while the rest is read.
    let farewell = async { while let Some(Ok(_)) = source.next().await {} };
    let _ = timeout(LINGER / 10, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let binary = Codec { base64: false, closes: true };
        assert_eq!(binary.encode(1, b"foo"), Message::Binary(Bytes::from_static(b"\x01foo")));
        assert_eq!(binary.decode(&Bytes::from_static(b"\x00bar")), Some((0, Bytes::from_static(b"bar"))));
        let text = Codec { base64: true, closes: false };
        assert_eq!(text.encode(1, b"\n"), Message::text("1Cg=="));
        assert_eq!(text.decode(&Bytes::from_static(b"0Zm9vCg==")), Some((0, Bytes::from_static(b"foo\n"))));
        for nonsense in [&b""[..], b"\x00Zm9v", b"0%%"] {
            assert_eq!(text.decode(&Bytes::copy_from_slice(nonsense)), None);
        }
    }
}
