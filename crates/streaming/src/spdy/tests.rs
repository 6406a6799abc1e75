use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::frame::{Decoder, Encoder, Error, Frame};
use super::*;

fn encoded(frames: &[Frame]) -> BytesMut {
    let (mut encoder, mut out) = (Encoder::new().unwrap(), BytesMut::new());
    frames.iter().for_each(|frame| encoder.write(frame, &mut out).unwrap());
    out
}

/// Frames out of portions of these sizes; pieces of data that belong together are joined.
fn decoded(bytes: &[u8], portions: &[usize]) -> Result<Vec<Frame>, Error> {
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
    let mut frames: Vec<Frame> = Vec::new();
    let (mut rest, mut portions) = (bytes, portions.iter().cycle());
    while !rest.is_empty() {
        let count = portions.next().copied().unwrap_or(1).clamp(1, rest.len());
        buffer.extend_from_slice(&rest[..count]);
        rest = &rest[count..];
        while let Some(frame) = decoder.next(&mut buffer)? {
            if let (Some(Frame::Data { stream, fin: false, bytes }), Frame::Data { stream: same, fin, bytes: more }) =
                (frames.last_mut(), &frame)
                && *stream == *same
            {
                let joined = [&bytes[..], more].concat().into();
                *frames.last_mut().unwrap() = Frame::Data { stream: *same, fin: *fin, bytes: joined };
                continue;
            }
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

#[test]
fn known_bytes() {
    let check = |frame: Frame, bytes: &str| {
        assert_eq!(encoded(std::slice::from_ref(&frame)), hex(bytes));
        assert_eq!(decoded(&hex(bytes), &[100]).unwrap(), [frame]);
    };
    check(Frame::Ping(1), "80030006 00000004 00000001");
    check(Frame::Reset { stream: 3, code: 5 }, "80030003 00000008 00000003 00000005");
    check(Frame::GoAway { last: 7 }, "80030007 00000008 00000007 00000000");
    check(Frame::Window { stream: 1, more: 32768 }, "80030009 00000008 00000001 00008000");
    check(Frame::Settings { initial_window: Some(65536) }, "80030004 0000000c 00000001 00000007 00010000");
    check(Frame::Data { stream: 5, fin: true, bytes: Bytes::from_static(b"hi") }, "00000005 01000002 6869");
    check(Frame::Data { stream: 5, fin: true, bytes: Bytes::new() }, "00000005 01000000");
}

/// What kubectl 1.29 sends to open the streams of an exec: later blocks refer to earlier ones.
#[test]
fn headers_of_kubectl() {
    let bytes = hex(KUBECTL);
    for portion in [1, 7, 1000] {
        let headers: Vec<_> = decoded(&bytes, &[portion])
            .unwrap()
            .into_iter()
            .map(|frame| match frame {
                Frame::Open { stream, headers, .. } => {
                    format!("{stream} {}", headers.get("StreamType").unwrap_or("-"))
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(headers, ["1 error", "3 stdout", "5 stderr"]);
    }
}

const KUBECTL: &str = "
    80030001 00000029 00000001 00000000 0000 78f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff
    80030001 00000019 00000003 00000000 0000 c22ac5565c92925f5a02000000ffff
    80030001 00000015 00000005 00000000 0000 c229975a5404000000ffff";

#[test]
fn refusals() {
    let check = |bytes: &str, error: Error| assert_eq!(decoded(&hex(bytes), &[100]), Err(error), "{bytes}");
    check("80020006 00000004 00000001", Error::Version);
    check("80030006 00000002 0000", Error::Malformed);
    check("80030001 00ffffff 00000001", Error::TooLarge);
    check("80030004 00000004 ffffffff", Error::TooLarge);
    check("80030002 00000008 00000001 deadbeef", Error::Compression);
    // The same dictionary, but another checksum than ours.
    check("80030002 0000000a 00000001 78bb 00000000", Error::Compression);
}

#[test]
fn a_bomb_is_refused() {
    let headers = Headers(vec![("a".into(), "x".repeat(200_000))]);
    let bytes = encoded(&[Frame::Open { stream: 1, fin: false, headers }]);
    assert!(bytes.len() < 10_000, "it compresses well");
    assert_eq!(decoded(&bytes, &[100_000]), Err(Error::TooLarge));
}

fn any_headers() -> impl Strategy<Value = Headers> {
    prop::collection::vec(("[a-z-]{1,20}", ".{0,200}"), 0..8).prop_map(Headers)
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let stream = 1..0x7fff_ffffu32;
    prop_oneof![
        (stream.clone(), any::<bool>(), any_headers()).prop_map(|(stream, fin, headers)| Frame::Open {
            stream,
            fin,
            headers
        }),
        (stream.clone(), any::<bool>(), any_headers()).prop_map(|(stream, fin, headers)| Frame::Reply {
            stream,
            fin,
            headers
        }),
        (stream.clone(), any_headers()).prop_map(|(stream, headers)| Frame::Headers { stream, fin: false, headers }),
        (stream.clone(), prop::collection::vec(any::<u8>(), 1..3000)).prop_map(|(stream, bytes)| Frame::Data {
            stream,
            fin: true,
            bytes: bytes.into()
        }),
        (stream.clone(), any::<u32>()).prop_map(|(stream, code)| Frame::Reset { stream, code }),
        any::<u32>().prop_map(Frame::Ping),
        (stream, 0..0x7fff_ffffu32).prop_map(|(stream, more)| Frame::Window { stream, more }),
        (10..100u16).prop_map(Frame::Unknown),
    ]
}

proptest! {
    #[test]
    fn frames_survive_any_portions(
        frames in prop::collection::vec(any_frame(), 1..12),
        portions in prop::collection::vec(1usize..700, 1..10),
    ) {
        prop_assert_eq!(decoded(&encoded(&frames), &portions).unwrap(), frames);
    }

    #[test]
    fn garbage_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), kind in 0u16..12, cut in 0usize..40) {
        let _ = decoded(&bytes, &[100]);
        // The same behind a head that makes sense.
        let mut framed = BytesMut::from(&[0x80, 3, 0, kind as u8, 0, 0, (bytes.len() >> 8) as u8, bytes.len() as u8][..]);
        framed.extend_from_slice(&bytes);
        let _ = decoded(&framed, &[1000]);
        // A good frame with a hole in it.
        let mut good = encoded(&[Frame::Open { stream: 1, fin: false, headers: [("streamtype", "data")].into() }]);
        let cut = cut.min(good.len() - 1);
        good[cut] ^= bytes.first().copied().unwrap_or(1) | 1;
        let _ = decoded(&good, &[3]);
    }
}

fn pair() -> (Connection, Connection) {
    let (near, far) = tokio::io::duplex(1000);
    (Connection::new(near, Role::Client).unwrap(), Connection::new(far, Role::Server).unwrap())
}

async fn read_all(reader: &mut Reader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test]
async fn streams_carry_both_ways_and_end_one_by_one() {
    let (client, mut server) = pair();
    let serve = async move {
        let mut echoes = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let stream = server.accept().await.unwrap();
            stream.reply().await.unwrap();
            echoes.spawn(async move {
                let (mut reader, mut writer) = (stream.reader, stream.writer);
                while let Some(bytes) = reader.next().await {
                    writer.send(bytes).await.unwrap();
                }
                writer.finish().await;
            });
        }
        while echoes.join_next().await.is_some() {}
        server.close().await;
    };
    let ask = async move {
        let ask = async |n: u8| {
            let mut stream = client.open([("n", n.to_string().as_str())].into()).await.unwrap();
            let sent: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8 ^ n).collect();
            let bytes = Bytes::from(sent.clone());
            let (mut writer, reader) = (stream.writer, &mut stream.reader);
            let (received, ()) = tokio::join!(read_all(reader), async {
                writer.send(bytes).await.unwrap();
                writer.finish().await;
            });
            assert!(received == sent);
        };
        futures::future::join_all((0..10).map(ask)).await;
        client.gone().cancelled().await;
        drop(client);
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn drops_reset_and_an_end_of_the_transport_ends_all() {
    let (client, mut server) = pair();
    let (opened, accepted) = tokio::join!(client.open(Headers::default()), async {
        let stream = server.accept().await.unwrap();
        stream.reply().await.unwrap();
        stream
    });
    let mut opened = opened.unwrap();
    drop(accepted);
    assert!(opened.reader.next().await.is_none() && opened.reader.was_reset());
    opened.writer.send(Bytes::from_static(b"x")).await.unwrap_err();
    // A second one, cut with the connection.
    let (second, mut accepted) = tokio::join!(client.open(Headers::default()), async {
        let stream = server.accept().await.unwrap();
        stream.reply().await.unwrap();
        stream
    });
    let second = second.unwrap();
    drop(client);
    assert!(accepted.reader.next().await.is_none());
    server.gone().cancelled().await;
    accepted.writer.send(Bytes::from_static(b"x")).await.unwrap_err();
    drop(second);
}
