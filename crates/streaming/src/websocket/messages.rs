//! A reply's body as messages: how browsers and some clients read logs and watch.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Socket, farewell};
use crate::upgrade::{Body, Offer};
use crate::wire::LINGER;

const BASE64: &str = "base64.binary.k8s.io";
/// What upstream's readers speak; a client need not name any.
pub(crate) const OFFER: Offer = Offer { spdy: &[], websocket: &["binary.k8s.io", BASE64] };

/// How a message carries bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    Text,
    Base64,
}

impl Form {
    /// Text stays text; other bytes go as the client's protocol wants them.
    pub(crate) fn new(is_text: bool, protocol: &str) -> Self {
        match protocol {
            BASE64 => Self::Base64,
            _ if is_text => Self::Text,
            _ => Self::Binary,
        }
    }

    fn message(self, bytes: Bytes) -> Message {
        match self {
            Self::Base64 => Message::text(STANDARD.encode(&bytes)),
            Self::Binary => Message::Binary(bytes),
            Self::Text => Utf8Bytes::try_from(bytes.clone()).map_or(Message::Binary(bytes), Message::Text),
        }
    }
}

/// Sends each piece of a body as a message, until it ends or the client goes.
pub(crate) async fn send(socket: Socket, mut body: Body, form: Form) {
    let (mut sink, mut source) = socket.split();
    loop {
        tokio::select! {
            frame = body.frame() => {
                let Some(Ok(frame)) = frame else { break };
                let Ok(bytes) = frame.into_data() else { continue };
                if sink.send(form.message(bytes)).await.is_err() {
                    return;
                }
            }
            // Clients have nothing to say here; the library answers their pings.
            said = source.next() => match said {
                Some(Ok(message)) if !message.is_close() => {}
                _ => return,
            },
        }
    }
    let end = async {
        if sink.send(farewell()).await.is_ok() {
            while let Some(Ok(_)) = source.next().await {}
        }
    };
    let _ = timeout(LINGER, end).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let bytes = Bytes::from_static(b"a\n");
        assert_eq!(Form::new(true, "").message(bytes.clone()), Message::text("a\n"));
        assert_eq!(Form::new(false, "binary.k8s.io").message(bytes.clone()), Message::Binary(bytes.clone()));
        assert_eq!(Form::new(true, BASE64).message(bytes), Message::text("YQo="));
        let no_text = Bytes::from_static(b"\xff");
        assert_eq!(Form::Text.message(no_text.clone()), Message::Binary(no_text));
    }
}
