//! HTTP/2: many requests at a time over one connection.

use anyhow::Context;
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::{Reply, Request};

/// Large enough that flow control is not what is measured.
const WINDOW_BYTES: u32 = 4 << 20;

/// A connection; [`Http2::caller`] gives one stream's worth of it.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    authority: String,
    token: Option<String>,
    /// Moves the frames for as long as this lives.
    _driver: JoinSet<()>,
}

/// Sends one request at a time over a shared connection.
pub(crate) struct Stream {
    sender: SendRequest<Bytes>,
    authority: String,
    token: Option<String>,
}

impl Http2 {
    pub(super) async fn new(
        stream: TlsStream<TcpStream>,
        authority: &str,
        token: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = builder.handshake(stream).await.context("cannot agree on HTTP/2")?;
        let mut driver = JoinSet::new();
        // Its end shows in the requests that are on it.
        driver.spawn(async move { drop(connection.await) });
        Ok(Self { sender, authority: authority.into(), token: token.map(Into::into), _driver: driver })
    }

    pub(crate) fn caller(&self) -> Stream {
        Stream { sender: self.sender.clone(), authority: self.authority.clone(), token: self.token.clone() }
    }
}

impl Stream {
    /// As [`super::Http1::call`].
    pub(crate) async fn call(&mut self, request: &Request, keep: bool) -> anyhow::Result<Reply> {
        let uri = format!("https://{}{}", self.authority, request.path);
        let mut head = http::Request::builder().method(request.method).uri(uri).header("accept", request.accept);
        if !request.body.is_empty() {
            head = head.header("content-type", request.content_type);
        }
        if let Some(token) = &self.token {
            head = head.header("authorization", format!("Bearer {token}"));
        }
        let mut sender = self.sender.clone().ready().await.context("cannot send")?;
        let (response, mut body) = sender.send_request(head.body(())?, request.body.is_empty())?;
        if !request.body.is_empty() {
            body.send_data(request.body.clone(), true)?;
        }
        let response = response.await.context("cannot receive")?;
        let mut reply = Reply { status: response.status().as_u16(), ..Reply::default() };
        let keep = keep || reply.status >= 300;
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let data = data?;
            reply.length += data.len();
            if keep {
                reply.body.extend_from_slice(&data);
            }
            body.flow_control().release_capacity(data.len())?;
        }
        Ok(reply)
    }
}
