//! Over WebSocket channels: two for each port that the query names, data and errors.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Target, forward};
use crate::queue::queue;
use crate::websocket::{Channels, Codec, Socket};
use crate::wire::{MOST_WAITING, Sink};

/// Channels are numbered by a byte.
const MOST_PORTS: usize = 127;

/// The ports of a query: `port=80&port=443,8080`.
pub(crate) fn ports(query: &str) -> Result<Vec<u16>, String> {
    let values = query.split('&').filter_map(|pair| pair.strip_prefix("port="));
    let mut ports = Vec::new();
    for value in values {
        let value = value.replace("%2C", ",").replace("%2c", ",");
        if value.is_empty() {
            return Err("query parameter \"port\" cannot be empty".into());
        }
        for text in value.split(',') {
            let port: u16 = text.parse().map_err(|_| format!("unable to parse {value:?} as a port"))?;
            if port == 0 {
                return Err(format!("port {value:?} must be > 0"));
            }
            ports.push(port);
        }
    }
    match ports.len() {
        0 => Err("query parameter \"port\" is required".into()),
        count if count > MOST_PORTS => Err(format!("at most {MOST_PORTS} ports can be forwarded at once")),
        _ => Ok(ports),
    }
}

/// One connection to each port, until the pod or the client ends.
pub(crate) async fn serve(socket: Socket, protocol: &str, ports: Vec<u16>, target: Target) {
    let codec = Codec { base64: protocol.contains("base64"), closes: false };
    let (mut feeders, mut inlets) = (Vec::new(), Vec::new());
    for _ in &ports {
        let (feeder, inlet) = queue(MOST_WAITING);
        feeders.extend([Some(feeder), None]);
        inlets.push(inlet);
    }
    let channels = Channels::new(socket, codec, feeders);
    let mut forwards = JoinSet::new();
    for (index, (port, inlet)) in ports.into_iter().zip(inlets).enumerate() {
        let first = u8::try_from(2 * index).unwrap_or(u8::MAX);
        let (mut data, mut errors) = (channels.sink(first), channels.sink(first + 1));
        let target = target.clone();
        forwards.spawn(async move {
            let announced = Bytes::copy_from_slice(&port.to_le_bytes());
            if data.send(announced.clone()).await.is_ok() && errors.send(announced).await.is_ok() {
                forward(&target, port, inlet, data, errors).await;
            }
        });
    }
    let gone = channels.gone();
    tokio::select! {
        () = async { while forwards.join_next().await.is_some() {} } => {}
        () = gone.cancelled() => return,
    }
    channels.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        assert_eq!(ports("port=80&x=1&port=443%2C8080"), Ok(vec![80, 443, 8080]));
        for (query, error) in [
            ("", "query parameter \"port\" is required"),
            ("port=", "query parameter \"port\" cannot be empty"),
            ("port=http", "unable to parse \"http\" as a port"),
            ("port=0", "port \"0\" must be > 0"),
        ] {
            assert_eq!(ports(query), Err(error.into()));
        }
    }
}
