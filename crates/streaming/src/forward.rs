//! port-forward: connections to a pod's ports on a client's streams.

mod channels;
mod spdy;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::future::BoxFuture;
use protos::cri::{self, Duplex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::upgrade::Offer;
use crate::wire::{PIECE, Sink, Source};

pub(crate) use channels::{ports, serve as over_websocket};
pub(crate) use spdy::serve as over_spdy;

/// SPDY within a WebSocket.
pub(crate) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
pub(crate) const OFFER: Offer =
    Offer { spdy: &["portforward.k8s.io"], websocket: &[TUNNEL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io"] };

/// After the pod's end, a client that says nothing more is waited for so long.
const AFTER_END: Duration = Duration::from_secs(60);

/// Opens one more connection to a port of the pod.
pub type OpenPort = Arc<dyn Fn(u16) -> BoxFuture<'static, cri::Result<Box<dyn Duplex>>> + Send + Sync>;

/// The pod and how to reach it.
#[derive(Clone)]
pub(crate) struct Target {
    /// What error messages call it.
    pub(crate) name: Arc<str>,
    pub(crate) open: OpenPort,
}

/// Carries one connection. What goes wrong is told on `errors`.
async fn forward<I: Source, O: Sink>(target: &Target, port: u16, mut from: I, mut to: O, mut errors: O) {
    let carried = match (target.open)(port).await {
        Ok(connection) => exchange(connection, &mut from, &mut to).await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match carried {
        Ok(()) => {
            to.finish().await;
            errors.finish().await;
        }
        Err(error) => {
            tracing::debug!(port, error, "a connection to a pod failed");
            let text = format!("error forwarding port {port} to pod {}, uid : {error}", target.name);
            // A client that is gone needs no words.
            let _ = errors.send(text.into()).await;
            to.abort().await;
            errors.abort().await;
        }
    }
}

/// Copies both ways until the pod has said all and the client too; each side hears of the other's end.
async fn exchange<I: Source, O: Sink>(
    connection: Box<dyn Duplex>,
    from: &mut I,
    to: &mut O,
) -> Result<(), std::io::Error> {
    let (mut source, mut target) = tokio::io::split(connection);
    let up = async {
        while let Some(bytes) = from.next().await {
            if target.write_all(&bytes).await.is_err() {
                // The pod listens no more; what it says is still wanted.
                return;
            }
        }
        if !from.was_reset() {
            let _ = target.shutdown().await;
        }
    };
    let down = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            let mut room = bytes::BufMut::limit(&mut buffer, PIECE);
            if source.read_buf(&mut room).await? == 0 {
                return Ok(());
            }
            if to.send(buffer.split().freeze()).await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::pin!(up, down);
    let mut is_up = true;
    let said = loop {
        tokio::select! {
            () = &mut up, if is_up => is_up = false,
            said = &mut down => break said,
        }
    };
    if said.is_ok() && is_up {
        let _ = timeout(AFTER_END, up).await;
    }
    said
}
