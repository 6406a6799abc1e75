//! gRPC health checks (`grpc.health.v1.Health/Check`) over plain HTTP/2. The two messages have one field each, so they
//! are read and written by hand.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::net;

const SERVING: u8 = 1;

/// Asks whether `service` is serving.
pub(crate) async fn check(host: &str, port: u16, service: &str, timeout: Duration) -> Result<(), String> {
    let address = net::address(host, port);
    let stream = net::connect(host, port, timeout)
        .await
        .map_err(|e| format!("error: failed to connect service at {address:?}: {e}"))?;
    let call = call(stream, &address, service);
    match tokio::time::timeout(timeout, call).await {
        Ok(result) => result,
        Err(_) => Err(format!("timeout: health rpc did not complete within {}s", timeout.as_secs())),
    }
}

async fn call(stream: tokio::net::TcpStream, address: &str, service: &str) -> Result<(), String> {
    let failed = |e: hyper::Error| format!("error: health rpc probe failed: {}", base::Chain(&e));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", format!("kube-probe/{}.{}", crate::MAJOR, crate::MINOR))
        .body(Full::new(message(service)))
        .map_err(|e| e.to_string())?;
    let talk = async {
        let reply = sender.send_request(request).await.map_err(failed)?;
        let early = grpc_status(reply.headers());
        let body = reply.into_body().collect().await.map_err(failed)?;
        let status = early.or_else(|| body.trailers().and_then(grpc_status));
        verdict(status, &body.to_bytes())
    };
    tokio::pin!(talk);
    tokio::pin!(connection);
    let mut is_open = true;
    loop {
        tokio::select! {
            result = &mut talk => return result,
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

fn grpc_status(headers: &http::HeaderMap) -> Option<(u32, String)> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let code = text("grpc-status")?.parse().ok()?;
    Some((code, text("grpc-message").unwrap_or_default().to_owned()))
}

fn verdict(status: Option<(u32, String)>, body: &[u8]) -> Result<(), String> {
    match status {
        Some((0, _)) => {}
        Some((12, message)) => {
            return Err(format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
            ));
        }
        Some((code, message)) => {
            return Err(format!("error: health rpc probe failed: rpc error: code = {code} desc = {message}"));
        }
        None => return Err("error: health rpc probe failed: no grpc status".into()),
    }
    // 5 bytes of frame, then field 1 as a varint; an absent field is 0.
    let serving = match body.get(5..) {
        Some([8, value, ..]) => *value,
        _ => 0,
    };
    match serving {
        SERVING => Ok(()),
        other => {
            let name = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"].get(usize::from(other));
            Err(format!("service unhealthy (responded with {:?})", name.copied().unwrap_or("UNKNOWN")))
        }
    }
}

fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() {
        body.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            body.put_u8((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        body.put_u8(length as u8);
        body.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(body.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(body.len()).unwrap_or(0));
    frame.extend_from_slice(&body);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert!(verdict(Some((0, String::new())), &[0, 0, 0, 0, 2, 8, 1]).is_ok());
        assert!(verdict(Some((0, String::new())), &[0, 0, 0, 0, 2, 8, 2]).unwrap_err().contains("NOT_SERVING"));
        assert!(verdict(Some((12, "x".into())), &[]).is_err());
    }
}
