//! Clients that dribble, do not read, or flood: they are let go, and others are served meanwhile.

use std::future::Future;
use std::time::Duration;

use apiserver::{Limits, Security};
use client::Resource;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::task::JoinSet;

use crate::over_tls::{admin, ask, connect, open};
use crate::world::{World, config_maps, map_of};

/// A server that does not wait for long.
async fn impatient() -> World {
    let short = Duration::from_millis(300);
    let limits = Limits { request: short, idle: short, ..Limits::default() };
    World::with(Security { limits, ..Security::default() }).await
}

/// What must happen before anybody loses patience with this test.
async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), happens).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Others are served.
async fn serves(world: &World) {
    assert_eq!(&connect(world, admin(world)).raw_get("/readyz").await.unwrap()[..], b"ok");
}

/// More than sockets hold: 24 MB in 48 objects.
async fn fill(world: &World) {
    let maps = Resource::collection(&config_maps(), Some("default"));
    for index in 0..48 {
        let mut map = map_of(&format!("m{index}"), "x");
        map["data"]["key"] = "x".repeat(500_000).into();
        world.client.create(&maps, &map).await.unwrap();
    }
}

const LIST: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn who_dribbles_is_let_go() {
    let world = impatient().await;
    let half_a_body = format!(
        "POST {LIST} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{\"apiVersion\":"
    );
    for (request, wanted) in
        [("", ""), ("GET /readyz HTTP/1.1\r\nHost: a\r\nX-Sl", ""), (&half_a_body, "HTTP/1.1 504 ")]
    {
        let mut stream = ask(&world, request).await;
        serves(&world).await;
        let mut reply = Vec::new();
        // However the connection ends, it does.
        let _ = soon("the connection ends", stream.read_to_end(&mut reply)).await;
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.starts_with(wanted) && reply.is_empty() == wanted.is_empty(), "{request:?}: {reply}");
    }
    world.stop().await;
}

#[tokio::test]
async fn who_does_not_read_is_let_go() {
    let world = impatient().await;
    fill(&world).await;
    for query in ["", "?watch=1", "?pretty=true"] {
        let stream = ask(&world, &format!("GET {LIST}{query} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        serves(&world).await;
        soon("the connection is reset", stream.get_ref().0.ready(Interest::ERROR)).await.unwrap();
    }
    // Of two streams of one connection neither is read, while pings are answered: they are reset, and the connection goes on.
    let (mut requests, connection) = h2::client::handshake(open(&world, "h2").await).await.unwrap();
    let mut replies = Vec::new();
    for query in ["", "?watch=1"] {
        let request = http::Request::get(format!("https://a{LIST}{query}")).body(()).unwrap();
        replies.push(requests.send_request(request, true).unwrap());
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    for (reply, _) in replies {
        let mut body = soon("the reply begins", reply).await.unwrap().into_body();
        // What is read and not said to be is as good as unread.
        let reset = async {
            loop {
                if let Err(error) = body.data().await.expect("the stream does not end by itself") {
                    return error;
                }
            }
        };
        let error = soon("the stream is reset", reset).await;
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
    }
    let ready = http::Request::get("https://a/readyz").body(()).unwrap();
    let reply = soon("the connection serves", requests.send_request(ready, true).unwrap().0).await.unwrap();
    assert_eq!(reply.status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn floods_end_their_connection() {
    let world = World::new().await;
    // Rapid reset (CVE-2023-44487).
    let (mut requests, connection) = h2::client::handshake(open(&world, "h2").await).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let flood = async {
        while let Ok(mut ready) = requests.clone().ready().await {
            let request = http::Request::get(format!("https://a{LIST}")).body(()).unwrap();
            let Ok((_, mut stream)) = ready.send_request(request, true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            requests = ready;
            // The connection has its turn.
            tokio::task::yield_now().await;
        }
    };
    soon("who resets all the time is told to be calm", flood).await;
    // The word may get lost in the flood.
    let ended = soon("the connection ends", tasks.join_next()).await.unwrap().unwrap().unwrap_err();
    assert!(ended.is_io() || ended.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM), "{ended}");
    serves(&world).await;

    // A head that goes on and on (CVE-2024-27316).
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let mut stream = open(&world, "h2").await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[frame(4, 0, 0, b""), frame(1, 0, 1, &[0x82, 0x87])].concat()).await.unwrap();
    // A literal header field without indexing: `x: yyy`.
    let field = [&[0x00, 0x01, b'x', 0x7f, 0xa9, 0x0f][..], &[b'y'; 2088]].concat();
    let more = frame(9, 0, 1, &field);
    let flood = async { while stream.write_all(&more).await.is_ok() && stream.flush().await.is_ok() {} };
    soon("the connection ends", flood).await;

    let mut stream = ask(&world, "GET /readyz HTTP/1.1\r\nHost: a\r\n").await;
    let line = format!("X: {}\r\n", "y".repeat(10_000));
    let flood = async { while stream.write_all(line.as_bytes()).await.is_ok() && stream.flush().await.is_ok() {} };
    soon("the connection ends", flood).await;
    serves(&world).await;
    world.stop().await;
}
