//! A session over a WebSocket.

use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use protos::cri::{self, Session, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::outcome;

/// Bodies of requests and responses.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a session carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Standard input goes in.
    pub stdin: bool,
    /// A terminal: its output is one stream.
    pub tty: bool,
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;
/// Versions that are spoken, the newest first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// Messages that may wait for the client.
const QUEUE: usize = 32;
const PIECE: usize = 32 * 1024;

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Serves sessions; owns the tasks behind them, which end with it.
#[derive(Default)]
pub struct Channels {
    sessions: Mutex<JoinSet<()>>,
}

fn plain(code: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = code;
    response
}

impl Channels {
    /// Answers a request to upgrade; `open` begins the session once the connection is the client's.
    pub fn serve<F>(&self, mut request: Request<Body>, options: Options, open: F) -> Response<Body>
    where
        F: Future<Output = cri::Result<Session>> + Send + 'static,
    {
        let headers = request.headers();
        let wants = |name, word: &str| {
            let value = headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("");
            value.split(',').any(|w| w.trim().eq_ignore_ascii_case(word))
        };
        if !wants(header::UPGRADE, "websocket") {
            return plain(
                StatusCode::BAD_REQUEST,
                "only WebSocket streams are served here: use a kubectl of 1.30 or newer",
            );
        }
        let offered: Vec<&str> = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .map(str::trim)
            .collect();
        let Some(protocol) = PROTOCOLS.into_iter().find(|p| offered.contains(p)) else {
            return plain(StatusCode::FORBIDDEN, "none of the offered stream protocols is spoken here");
        };
        let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
            return plain(StatusCode::BAD_REQUEST, "a WebSocket request needs a key");
        };
        let accept = derive_accept_key(key.as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        let session = async move {
            let stream = match upgrade.await {
                Ok(stream) => stream,
                Err(error) => return tracing::debug!(%error, "a stream was not upgraded"),
            };
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Server, None).await;
            carry(socket, options, open).await;
        };
        let mut sessions = self.sessions.lock();
        while sessions.try_join_next().is_some() {}
        sessions.spawn(session);
        drop(sessions);
        let mut response = Response::new(Empty::new().boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        if let Ok(accept) = HeaderValue::from_str(&accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut framed = Vec::with_capacity(bytes.len() + 1);
    framed.push(channel);
    framed.extend_from_slice(bytes);
    Message::Binary(framed.into())
}

/// Carries a session until the command has ended and all was told, or the client is gone.
async fn carry(socket: Socket, options: Options, open: impl Future<Output = cri::Result<Session>>) {
    let (sink, source) = socket.split();
    let (outgoing, queue) = mpsc::channel::<Message>(QUEUE);
    let mut tasks = JoinSet::new();
    tasks.spawn(write(sink, queue));
    let session = match open.await {
        Ok(session) => session,
        Err(error) => {
            finish(&outgoing, Err(error)).await;
            drop(outgoing);
            tasks.join_next().await;
            return;
        }
    };
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let mut reading = JoinSet::new();
    for (channel, stream) in [(STDOUT, stdout), (STDERR, stderr)] {
        if let Some(stream) = stream {
            reading.spawn(pump(channel, stream, outgoing.clone()));
        }
    }
    let mut input = JoinSet::new();
    input.spawn(read(source, stdin.filter(|_| options.stdin), resize, outgoing.clone()));
    let ended = async {
        let exit = exit.await.unwrap_or_else(|_| Err(cri::Error::unknown("the command was lost")));
        // All output comes before the outcome. A process that left children with its streams does not hold it up.
        let rest = async { while reading.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), rest).await;
        exit
    };
    tokio::select! {
        exit = ended => {
            finish(&outgoing, exit).await;
            drop(outgoing);
            input.shutdown().await;
            // The writer ends when nobody can queue any more.
            tasks.join_next().await;
        }
        // The client closed the connection.
        _ = gone(&mut input) => {}
    }
}

/// Resolves when the reader found the connection closed.
async fn gone(input: &mut JoinSet<bool>) {
    match input.join_next().await {
        Some(Ok(true)) | Some(Err(_)) => {}
        _ => std::future::pending().await,
    }
}

async fn finish(outgoing: &mpsc::Sender<Message>, exit: cri::Result<i32>) {
    let status = outcome::status(exit).to_string();
    // A client that is gone needs no outcome.
    let _ = outgoing.send(message(OUTCOME, status.as_bytes())).await;
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = outgoing.send(Message::Close(Some(normal))).await;
}

async fn write(mut sink: SplitSink<Socket, Message>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        let last = matches!(message, Message::Close(_));
        if sink.send(message).await.is_err() || last {
            return;
        }
    }
}

async fn pump(channel: u8, mut stream: Box<dyn AsyncRead + Send + Unpin>, outgoing: mpsc::Sender<Message>) {
    let mut piece = vec![0; PIECE];
    while let Ok(count) = stream.read(&mut piece).await {
        if count == 0 || outgoing.send(message(channel, &piece[..count])).await.is_err() {
            return;
        }
    }
}

/// Takes in what the client sends; true when the connection is over.
async fn read(
    mut source: SplitStream<Socket>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    resize: mpsc::Sender<TerminalSize>,
    outgoing: mpsc::Sender<Message>,
) -> bool {
    while let Some(received) = source.next().await {
        let bytes = match received {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Text(text)) => Bytes::from(text.as_str().as_bytes().to_vec()),
            Ok(Message::Ping(bytes)) => {
                if outgoing.send(Message::Pong(bytes)).await.is_err() {
                    return true;
                }
                continue;
            }
            Ok(Message::Close(_)) | Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => return true,
            Ok(_) => continue,
            Err(_) => return true,
        };
        let Some((channel, data)) = bytes.split_first() else { continue };
        match *channel {
            STDIN => {
                if let Some(target) = &mut stdin
                    && (target.write_all(data).await.is_err() || target.flush().await.is_err())
                {
                    stdin = None;
                }
            }
            RESIZE => {
                if let Ok(size) = serde_json::from_slice::<TerminalSize>(data) {
                    // Without a terminal nobody listens.
                    let _ = resize.try_send(size);
                }
            }
            CLOSE if data.first() == Some(&STDIN) => {
                if let Some(mut target) = stdin.take() {
                    // A reader that is gone has its end anyway.
                    let _ = target.shutdown().await;
                }
            }
            _ => {}
        }
    }
    true
}
