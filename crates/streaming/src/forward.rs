//! port-forward: connections to a pod's ports on a client's streams.

mod channels;
mod spdy;

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
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
async fn forward<I: Source, O: Sink>(target: &Target, port: u16, from: I, to: O, errors: O) {
    let (to, mut errors, error) = match (target.open)(port).await {
        Ok(connection) => match exchange(connection, from, to, errors).await {
            Ok(()) => return,
            Err((to, errors, error)) => (to, errors, error.to_string()),
        },
        Err(error) => (to, errors, error.to_string()),
    };
    tracing::debug!(port, error, "a connection to a pod failed");
    let text = format!("error forwarding port {port} to pod {}, uid : {error}", target.name);
    // A client that is gone needs no words.
    let _ = errors.send(text.into()).await;
    to.abort().await;
    errors.abort().await;
}

/// Copies both ways; each side hears of the other's end. Over when the pod has said all, and the client too or for long nothing.
async fn exchange<I: Source, O: Sink>(
    connection: Box<dyn Duplex>,
    mut from: I,
    mut to: O,
    errors: O,
) -> Result<(), (O, O, std::io::Error)> {
    let (mut source, mut target) = tokio::io::split(connection);
    let up = async move {
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
    let down = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            let mut room = BufMut::limit(&mut buffer, PIECE);
            match source.read_buf(&mut room).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err((to, errors, error)),
            }
            if to.send(buffer.split().freeze()).await.is_err() {
                return Ok(());
            }
        }
        to.finish().await;
        errors.finish().await;
        Ok(())
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::mpsc;

    use super::*;
    use crate::Gone;
    use crate::queue::queue;

    struct Teller(mpsc::UnboundedSender<String>);

    impl Sink for Teller {
        async fn send(&mut self, bytes: bytes::Bytes) -> Result<(), Gone> {
            self.0.send(String::from_utf8_lossy(&bytes).into_owned()).map_err(|_| Gone)
        }
        async fn finish(self) {
            let _ = self.0.send("<end>".into());
        }
        async fn abort(self) {
            let _ = self.0.send("<reset>".into());
        }
    }

    #[tokio::test]
    async fn ends_pass_at_once_and_errors_are_told() {
        let open: OpenPort = Arc::new(|port| {
            async move {
                if port == 81 {
                    return Err(cri::Error::unknown("connection refused"));
                }
                let (near, mut far) = tokio::io::duplex(100);
                far.write_all(b"welcome").await.unwrap();
                drop(far);
                Ok(Box::new(near) as Box<dyn Duplex>)
            }
            .boxed()
        });
        let target = Target { name: "box".into(), open };
        let ((told, mut data), (complain, mut errors)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        // The client says nothing more, and does not end either.
        let (_client, from) = queue(10);
        let carried = forward(&target, 80, from, Teller(told.clone()), Teller(complain.clone()));
        tokio::select! {
            () = carried => {}
            () = async {
                while data.recv().await.unwrap() != "<end>" {}
                assert_eq!(errors.recv().await.unwrap(), "<end>");
            } => {}
        }
        let (_client, from) = queue(10);
        forward(&target, 81, from, Teller(told), Teller(complain)).await;
        assert_eq!(data.recv().await.unwrap(), "<reset>");
        assert_eq!(errors.recv().await.unwrap(), "error forwarding port 81 to pod box, uid : connection refused");
        assert_eq!(errors.recv().await.unwrap(), "<reset>");
    }
}
