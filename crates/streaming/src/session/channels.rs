//! Sessions over WebSocket channels.

use std::future::Future;

use bytes::Bytes;
use protos::cri::{self, Session};

use super::{Ends, Options, carry};
use crate::queue::queue;
use crate::websocket::{Channels, Codec, Socket};
use crate::wire::{MOST_WAITING, Sink};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;

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
    // The lowest channel to the client says that the connection is there.
    let first = if options.stdout {
        STDOUT
    } else if options.stderr {
        STDERR
    } else {
        OUTCOME
    };
    if channels.sink(first).send(Bytes::new()).await.is_err() {
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
