//! gRPC over HTTP/2, as much of it as etcd needs: unary calls, and calls whose answers stream in.
//!
//! A message is five bytes (not compressed; its length) and protobuf; the verdict comes as `grpc-status` in the trailers,
//! or in the headers when there is nothing else.

use std::time::Duration;

use base::percent;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::endpoints::Endpoint;

type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// etcd's `UNAVAILABLE`.
pub(super) const UNAVAILABLE: u32 = 14;
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);
/// etcd cuts off clients that ping more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
/// A peer that does not answer a ping within this is gone.
const PING_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes in flight towards us: a first load is large.
const WINDOW: u32 = 8 << 20;
/// The largest answer that is read (a watch's batch holds up to 1,000 revisions).
const MOST_ANSWER: usize = 1 << 30;

/// How a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The request never left.
    #[error("cannot connect to {endpoint}: {why}")]
    Unreachable { endpoint: String, why: String },
    /// The connection broke, or time was up: nobody knows whether the request took effect.
    #[error("the connection to {endpoint} failed: {why}")]
    Broken { endpoint: String, why: String },
    /// etcd's answer.
    #[error("{message}")]
    Status { code: u32, message: String },
}

/// One HTTP/2 connection to one member.
pub(super) struct Channel {
    endpoint: Endpoint,
    sender: SendRequest<Body>,
    /// Drives the connection; ends with the channel.
    _driver: JoinSet<()>,
}

fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.encoded_len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    // The buffer grows as needed.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// Takes the first whole message out of `buffer`.
fn unframe(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    if buffer.len() < 5 {
        return Ok(None);
    }
    let length =
        usize::try_from(u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]])).unwrap_or(usize::MAX);
    if buffer[0] != 0 || length > MOST_ANSWER {
        return Err(format!("an answer of {length} bytes is compressed or too long"));
    }
    if buffer.len() < length + 5 {
        buffer.reserve(length + 5 - buffer.len());
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The verdict, if these headers or trailers have one. Messages are percent-encoded.
fn verdict(headers: &HeaderMap) -> Option<Result<(), CallError>> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().unwrap_or(2);
    if code == 0 {
        return Some(Ok(()));
    }
    let message = headers.get("grpc-message").map_or(&b""[..], |m| m.as_bytes());
    Some(Err(CallError::Status { code, message: String::from_utf8_lossy(&percent::decoded(message)).into_owned() }))
}

impl Channel {
    pub(super) async fn connect(endpoint: &Endpoint, tls: Option<&TlsConnector>) -> Result<Self, CallError> {
        let failed = |why: String| CallError::Unreachable { endpoint: endpoint.to_string(), why };
        let connecting = Self::open(endpoint, tls);
        let (sender, driver) = match tokio::time::timeout(CONNECT, connecting).await {
            Ok(opened) => opened.map_err(failed)?,
            Err(_) => return Err(failed("it does not answer".into())),
        };
        Ok(Self { endpoint: endpoint.clone(), sender, _driver: driver })
    }

    async fn open(endpoint: &Endpoint, tls: Option<&TlsConnector>) -> Result<(SendRequest<Body>, JoinSet<()>), String> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_PATIENCE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let mut driver = JoinSet::new();
        let text = |e: hyper::Error| base::Chain(&e).to_string();
        let sender = match tls.filter(|_| endpoint.secure) {
            Some(tls) => {
                let name = ServerName::try_from(endpoint.host.clone()).map_err(|e| e.to_string())?;
                let stream = tls.connect(name, stream).await.map_err(|e| e.to_string())?;
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(text)?;
                driver.spawn(async move { drop(connection.await) });
                sender
            }
            None => {
                let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(text)?;
                driver.spawn(async move { drop(connection.await) });
                sender
            }
        };
        Ok((sender, driver))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    fn broken(&self, why: impl std::fmt::Display) -> CallError {
        CallError::Broken { endpoint: self.endpoint.to_string(), why: why.to_string() }
    }

    async fn send(&self, path: &str, body: Body) -> Result<Response<Incoming>, CallError> {
        let scheme = if self.endpoint.secure { "https" } else { "http" };
        let request = Request::post(format!("{scheme}://{}{path}", self.endpoint.authority()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            // A member without a leader says so at once, instead of trying for seconds.
            .header("hasleader", "true")
            .body(body)
            .map_err(|e| self.broken(e))?;
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|e| CallError::Unreachable {
            endpoint: self.endpoint.to_string(),
            why: base::Chain(&e).to_string(),
        })?;
        let response = sender.send_request(request).await.map_err(|e| self.broken(base::Chain(&e)))?;
        if let Some(Err(error)) = verdict(response.headers()) {
            return Err(error);
        }
        if !response.status().is_success() {
            return Err(self.broken(format!("HTTP {}: this is no etcd", response.status())));
        }
        Ok(response)
    }

    /// One message there, one back.
    pub(super) async fn unary<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
        patience: Duration,
    ) -> Result<A, CallError> {
        let body = Full::new(framed(request)).boxed_unsync();
        let answer = async {
            let response = self.send(path, body).await?;
            let collected = response.into_body().collect().await.map_err(|e| self.broken(base::Chain(&e)))?;
            if let Some(Err(error)) = collected.trailers().and_then(verdict) {
                return Err(error);
            }
            let mut bytes = BytesMut::from(collected.to_bytes());
            let message = unframe(&mut bytes).map_err(|e| self.broken(e))?;
            let message = message.ok_or_else(|| self.broken("the answer is cut short"))?;
            A::decode(message).map_err(|e| self.broken(e))
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(self.broken(format!("no answer within {patience:?}"))),
        }
    }

    /// One message there, and answers until one side ends the call.
    pub(super) async fn stream<A: Message + Default>(
        &self,
        path: &str,
        request: &impl Message,
        patience: Duration,
    ) -> Result<Answers<A>, CallError> {
        // The request's side stays open: etcd ends the call with it.
        let first = futures::stream::iter([Ok(Frame::data(framed(request)))]);
        let body = StreamBody::new(futures::StreamExt::chain(first, futures::stream::pending())).boxed_unsync();
        let response = match tokio::time::timeout(patience, self.send(path, body)).await {
            Ok(response) => response?,
            Err(_) => return Err(self.broken(format!("no answer within {patience:?}"))),
        };
        let endpoint = self.endpoint.to_string();
        Ok(Answers { endpoint, body: response.into_body(), buffer: BytesMut::new(), kind: std::marker::PhantomData })
    }
}

/// The answers of a streaming call.
pub(super) struct Answers<A> {
    endpoint: String,
    body: Incoming,
    buffer: BytesMut,
    kind: std::marker::PhantomData<fn() -> A>,
}

impl<A: Message + Default> Answers<A> {
    /// The next answer; the end of the call is an error.
    pub(super) async fn next(&mut self) -> Result<A, CallError> {
        let broken = |endpoint: &str, why: String| CallError::Broken { endpoint: endpoint.into(), why };
        loop {
            if let Some(message) = unframe(&mut self.buffer).map_err(|e| broken(&self.endpoint, e))? {
                return A::decode(message).map_err(|e| broken(&self.endpoint, e.to_string()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        if let Some(Err(error)) = frame.trailers_ref().and_then(verdict) {
                            return Err(error);
                        }
                    }
                },
                Some(Err(error)) => return Err(broken(&self.endpoint, base::Chain(&error).to_string())),
                None => return Err(broken(&self.endpoint, "the call has ended".into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_any_pieces() {
        let wanted = protos::etcd::RangeRequest { key: "k".into(), ..Default::default() };
        let both = [framed(&wanted), framed(&wanted)].concat();
        let mut buffer = BytesMut::new();
        let mut found = 0;
        for byte in both {
            buffer.put_u8(byte);
            while let Some(message) = unframe(&mut buffer).unwrap() {
                assert_eq!(protos::etcd::RangeRequest::decode(message).unwrap(), wanted);
                found += 1;
            }
        }
        assert_eq!((found, buffer.len()), (2, 0));
        assert!(unframe(&mut BytesMut::from(&[1, 0, 0, 0, 0][..])).is_err(), "compressed");
    }
}
