//! Requests to upgrade that are handed on: once both sides have switched, bytes go both ways.

use http::header::{self, HeaderMap};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

/// True when a request asks for another protocol.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter();
    values.filter_map(|v| v.to_str().ok()).any(|v| v.to_ascii_lowercase().contains("upgrade"))
}

/// Joins two connections until one of them ends. `driver` is what the second one needs to get there.
pub(crate) async fn join(client: OnUpgrade, server: OnUpgrade, driver: JoinSet<()>) {
    let (client, server) = match tokio::try_join!(client, server) {
        Ok((client, server)) => (TokioIo::new(client), TokioIo::new(server)),
        Err(error) => return tracing::debug!(%error, "a connection was not upgraded"),
    };
    let _driver = driver;
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    // As upstream: when one side has said all, both are closed.
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::Request;
    use http_body_util::Empty;
    use hyper::service::service_fn;
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;
    use crate::egress::Egress;
    use crate::http::{incoming, proxy};

    /// Switches protocols, and says everything twice from then on.
    async fn backend(mut stream: tokio::io::DuplexStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8_lossy(&head).to_ascii_lowercase().contains("upgrade: twice"));
        let switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: twice\r\n\r\n";
        stream.write_all(switched).await.unwrap();
        while let Ok(byte) = stream.read_u8().await {
            stream.write_all(&[byte, byte]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_once_both_have_switched() {
        let ((client, front), (near, far)) = (duplex(1000), duplex(1000));
        let egress = Arc::new(Egress::default());
        let near = Arc::new(Mutex::new(Some(near)));
        let serve = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (egress, near) = (egress.clone(), near.lock().take());
            async move { proxy::exchange(&egress, near.ok_or("one request only")?, request.map(incoming)).await }
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(backend(far));
        let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(front), serve);
        tasks.spawn(async move { server.with_upgrades().await.unwrap() });
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        tasks.spawn(async move { connection.with_upgrades().await.unwrap() });
        let request = Request::get("/").header("connection", "Upgrade").header("upgrade", "twice");
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["upgrade"].to_str().unwrap()), (101, &"twice"));
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(b"ab").await.unwrap();
        let mut said = [0; 4];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"aabb");
    }
}
