//! Sessions over WebSocket channels.

use std::future::Future;

use bytes::Bytes;
use protos::cri::{self, Session};

use super::{Ends, Options, carry};
use crate::outcome;
use crate::queue::queue;
use crate::websocket::{Channels, Codec, Socket};
use crate::wire::{MOST_WAITING, Sink};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;

/// The lowest channel to the client says that the connection is there.
fn first(options: Options) -> u8 {
    match options {
        Options { stdout: true, .. } => STDOUT,
        Options { stderr: true, .. } => STDERR,
        _ => OUTCOME,
    }
}

/// Tells why there is no session.
pub(crate) async fn refuse(socket: Socket, protocol: &str, options: Options, why: &str) {
    let codec = Codec { base64: protocol.contains("base64"), closes: protocol.starts_with("v5.") };
    let channels = Channels::new(socket, codec, (0..5).map(|_| None).collect());
    let mut outcome = channels.sink(OUTCOME);
    // A client that is gone needs no outcome.
    let _ = channels.sink(first(options)).send(Bytes::new()).await;
    let _ = outcome.send(outcome::internal(why).to_string().into()).await;
    outcome.finish().await;
    channels.close().await;
}

/// Carries a session over channels: 0 stdin, 1 stdout, 2 stderr, 3 outcome, 4 terminal sizes.
pub(crate) async fn serve(
    socket: Socket,
    protocol: &str,
    options: Options,
    open: impl Future<Output = cri::Result<Session>> + Send,
) {
    let codec = Codec { base64: protocol.contains("base64"), closes: protocol.starts_with("v5.") };
    let inlet = |wanted: bool| wanted.then(|| queue(MOST_WAITING)).unzip();
    let ((stdin_feeder, stdin), (size_feeder, resize)) = (inlet(options.stdin), inlet(options.tty));
    let channels = Channels::new(socket, codec, vec![stdin_feeder, None, None, None, size_feeder]);
    if channels.sink(first(options)).send(Bytes::new()).await.is_err() {
        return;
    }
    debug_assert_eq!(STDIN, 0, "the first feeder");
    let ends = Ends {
        stdin,
        stdout: options.stdout.then(|| channels.sink(STDOUT)),
        stderr: options.stderr.then(|| channels.sink(STDERR)),
        outcome: channels.sink(OUTCOME),
        resize,
        is_status: protocol.starts_with('v'),
    };
    carry(ends, open, channels.gone()).await;
    channels.close().await;
}
