#![no_main]
//! Upgrades, and what comes over them: WebSocket channels, SPDY within a WebSocket, port-forward.
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use streaming::{Options, Streams};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

const PROTOCOLS: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "SPDY/3.1+portforward.k8s.io",
    "v4.channel.k8s.io",
];

/// A frame of a WebSocket client's; the mask is zeros.
fn frame(u: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let payload: Vec<u8> = u.arbitrary()?;
    let opcode = if u.ratio(1, 6)? { u.arbitrary()? } else { 0x82 };
    out.push(opcode);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    Ok(())
}

fn refused<T>() -> protos::cri::Result<T> {
    Err(protos::cri::Error::unknown("nothing runs"))
}

fn run(data: &[u8]) -> Result<()> {
    let u = &mut Unstructured::new(data);
    let protocol = *u.choose(PROTOCOLS)?;
    let forwards: bool = u.arbitrary()?;
    let options = Options { stdin: u.arbitrary()?, stdout: true, stderr: u.arbitrary()?, tty: u.arbitrary()? };
    let path = *u.choose(&["/", "/?ports=80", "/?ports=80,81", "/?port=80", "/?ports=0", "/?ports=x"])?;
    let mut sent = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..u.int_in_range(0..=6)? {
        frame(u, &mut sent)?;
    }
    sent.extend(u.bytes(u.len())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (near, mut far) = duplex(1 << 18);
        let streams = Arc::new(Streams::default());
        let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let request = request.map(|_| Empty::new().boxed_unsync());
            let response = if forwards {
                streams.port_forward(request, "a", Arc::new(move |_| Box::pin(async move { refused() })))
            } else {
                streams.session(request, options, async move { refused() })
            };
            async { Ok::<_, Infallible>(response) }
        });
        let serving =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(near), service).with_upgrades();
        let speaking = async {
            let _ = far.write_all(&sent).await;
            let _ = far.shutdown().await;
            let _ = far.read_to_end(&mut Vec::new()).await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(20), async { tokio::join!(serving, speaking) }).await;
    });
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let _ = run(data);
});
