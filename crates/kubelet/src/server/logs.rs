//! `/containerLogs/{namespace}/{pod}/{container}`.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use protos::cri::v1::{ContainerState, ContainerStatusRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::query::Query;
use super::{Handled, Refusal, pods};
use crate::logs::follow::{self, Options};
use crate::shared::Shared;

/// Chunks that wait for a slow reader.
const QUEUE: usize = 16;

pub(crate) async fn serve(shared: &Arc<Shared>, namespace: &str, pod: &str, container: &str, query: &Query) -> Handled {
    let options =
        options(query, shared.clock.nanos()).map_err(|text| Refusal(StatusCode::UNPROCESSABLE_ENTITY, text))?;
    let known = pods::find(shared, namespace, pod, None)?;
    if known.pod.container(container).is_none() {
        return Err(Refusal::not_found(format!("container {container:?} not found in pod {pod:?}")));
    }
    let id = pods::logged_container(&known, container, options.previous)?;
    let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
    let status = shared.runtime.container_status(request).await;
    let unable =
        |_| Refusal::bad_request(format!("unable to retrieve container logs for {}://{id}", shared.runtime_name));
    let path = status.map_err(unable)?.status.map(|s| PathBuf::from(s.log_path)).unwrap_or_default();
    if !path.exists() {
        return Err(Refusal::internal(format!(
            "failed to try resolving symlinks in path {:?}: lstat {}: no such file or directory",
            path.display().to_string(),
            path.display()
        )));
    }
    let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
    let runtime = shared.runtime.clone();
    let reading = async move {
        let is_running = || {
            let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
            let asked = runtime.container_status(request);
            async move {
                let state = asked.await.ok().and_then(|reply| reply.status).map(|s| s.state);
                state == Some(ContainerState::ContainerRunning as i32)
            }
        };
        if let Err(error) = follow::send(path, options, sender, is_running).await {
            tracing::debug!(%error, "a log could not be read to its end");
        }
    };
    // The reader runs inside the body: it ends when the client goes.
    let frames = ReceiverStream::new(receiver);
    let reading = futures::stream::once(reading).filter_map(|()| async { None });
    let frames = futures::stream::select(frames, reading).map(|bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn options(query: &Query, now: i64) -> Result<Options, String> {
    let tail_lines = match query.get("tail") {
        Some("all") => None,
        Some(_) => query.number("tail")?,
        None => query.number("tailLines")?,
    };
    let since_seconds = query.number("sinceSeconds")?.map(|s| i128::from(now) - i128::from(s) * 1_000_000_000);
    let since_time = match query.get("sinceTime").filter(|t| !t.is_empty()) {
        Some(text) => {
            let time: jiff::Timestamp = text.parse().map_err(|_| format!("invalid sinceTime: {text:?}"))?;
            Some(time.as_nanosecond())
        }
        None => None,
    };
    if since_seconds.is_some() && since_time.is_some() {
        return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".into());
    }
    Ok(Options {
        follow: query.is_set("follow"),
        previous: query.is_set("previous"),
        timestamps: query.is_set("timestamps"),
        tail_lines,
        limit_bytes: query.number("limitBytes")?,
        since: since_seconds.or(since_time),
        stream: query.get("stream").map(str::to_owned),
    })
}
