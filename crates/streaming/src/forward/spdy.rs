//! Over SPDY: a pair of streams for each connection, one for errors and one for data, joined by their `requestID`.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Target, forward};
use crate::spdy::frame::CANCEL;
use crate::spdy::{Connection, Headers, Stream};

/// How long a client may take to open the second stream of a pair, and how often that is looked at.
const OPENING: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Error,
    Data,
}

/// What a stream's headers ask for.
fn wanted(headers: &Headers) -> Result<(Kind, u16), String> {
    let given = |name: &str| headers.get(name).filter(|v| !v.is_empty()).ok_or(format!("{name:?} header is required"));
    let text = given("port")?;
    let port: u16 = text.parse().map_err(|_| format!("unable to parse {text:?} as a port"))?;
    if port == 0 {
        return Err(format!("port {text:?} must be > 0"));
    }
    match given("streamType")? {
        "error" => Ok((Kind::Error, port)),
        "data" => Ok((Kind::Data, port)),
        other => Err(format!("invalid stream type {other:?}")),
    }
}

/// The pair that a stream belongs to. Clients of long ago gave none: there the data stream followed on the error stream.
fn request(stream: &Stream, kind: Kind) -> String {
    let given = stream.headers.get("requestID").filter(|id| !id.is_empty());
    given.map_or_else(
        || match kind {
            Kind::Error => stream.id.to_string(),
            Kind::Data => stream.id.saturating_sub(2).to_string(),
        },
        str::to_owned,
    )
}

/// Carries connections until the client is gone.
pub(crate) async fn serve(mut connection: Connection, target: Target) {
    let gone = connection.gone();
    let mut half: HashMap<String, (Stream, Kind, Instant)> = HashMap::new();
    let mut forwards = JoinSet::new();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_open = true;
    while is_open || !forwards.is_empty() {
        let stream = tokio::select! {
            () = gone.cancelled() => return,
            stream = connection.accept(), if is_open => stream,
            Some(_) = forwards.join_next() => continue,
            _ = look.tick() => {
                let late = half.extract_if(|_, (_, _, since)| since.elapsed() > OPENING);
                for (id, (stream, kind, _)) in late.collect::<Vec<_>>() {
                    expire(stream, kind, &id).await;
                }
                continue;
            }
        };
        let Some(stream) = stream else {
            is_open = false;
            continue;
        };
        let (kind, port) = match wanted(&stream.headers) {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!(error, "a stream is refused");
                stream.writer.reset(CANCEL).await;
                continue;
            }
        };
        if stream.reply().await.is_err() {
            return;
        }
        let id = request(&stream, kind);
        let (other, kind_of_other) = match half.remove(&id) {
            None => {
                half.insert(id, (stream, kind, Instant::now()));
                continue;
            }
            Some((other, same, since)) if same == kind => {
                // The first one stays; the second is one too many.
                tracing::debug!(id, "a stream was given twice");
                half.insert(id, (other, same, since));
                continue;
            }
            Some((other, kind, _)) => (other, kind),
        };
        let (data, errors) = if kind_of_other == Kind::Error { (stream, other) } else { (other, stream) };
        let target = target.clone();
        forwards.spawn(async move { forward(&target, port, data.reader, data.writer, errors.writer).await });
    }
    connection.close().await;
}

async fn expire(mut stream: Stream, kind: Kind, id: &str) {
    if kind == Kind::Error {
        let text = format!("(request={id}) timed out waiting for streams");
        let _ = stream.writer.send(text.into()).await;
        stream.writer.finish().await;
    }
}
