//! Pods by the thousand: create, list in all forms, memory, and reads while others list.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::future::try_join_all;

use super::{Bench, NAMESPACE};
use crate::drive::{Clock, alone, at_rate, flat_out};
use crate::objects;
use crate::process;
use crate::report::Sample;
use crate::wire::{Endpoint, Request};

/// Lists in a round.
const REPEATS: usize = 5;
/// Clients that list all the time while others read.
const LISTERS: usize = 10;
/// Reads a second meanwhile, and for how long.
const READS: f64 = 1000.0;
const READING: Duration = Duration::from_secs(10);

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    create(bench).await?;
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let kinds = [
        ("list_pods_json_consistent", String::new(), "application/json"),
        ("list_pods_json_rv0", "?resourceVersion=0".into(), "application/json"),
        ("list_pods_proto_rv0", "?resourceVersion=0".into(), PROTOBUF),
        ("list_pods_label_selector_rv0", "?resourceVersion=0&labelSelector=shard%3D3".into(), "application/json"),
        ("list_pods_table_rv0", "?resourceVersion=0".into(), TABLE),
    ];
    for (phase, query, accept) in kinds {
        let request = Request::get(format!("{pods}{query}")).accept(accept);
        let mut best = None;
        for _ in 0..bench.options.rounds.min(if bench.wants(phase) { usize::MAX } else { 0 }) {
            let mut callers = alone(&bench.subject.endpoint, 1).await?;
            let sample = flat_out(&mut callers, REPEATS, bench.subject.pid, |_| request.clone()).await?;
            bench.keep(phase, &mut best, sample);
        }
    }
    if bench.wants("watchlist_pods") {
        let mut best = None;
        for _ in 0..bench.options.rounds {
            let sample = streamed(bench).await?;
            bench.keep("watchlist_pods", &mut best, sample);
        }
    }
    if bench.wants("get_under_lists") {
        let sample = under_lists(bench, &pods).await?;
        bench.keep("get_under_lists", &mut None, sample);
    }
    Ok(())
}

/// Creates the pods, and sees what they take.
async fn create(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let count = bench.options.pods;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let bodies: Vec<Bytes> = (0..count).map(objects::pod).collect();
    let before = bench.subject.pid.and_then(process::usage);
    let mut callers = alone(&bench.subject.endpoint, bench.options.connections).await?;
    let request = |index: usize| Request::new("POST", &*path).body("application/json", bodies[index].clone());
    let sample = flat_out(&mut callers, count, bench.subject.pid, request).await?;
    bench.keep("create_pod", &mut None, sample);
    drop(callers);
    let after = bench.subject.pid.and_then(process::usage);
    if let (Some(before), Some(after)) = (before, after) {
        let grown = after.rss_kib.saturating_sub(before.rss_kib) * 1024;
        bench.report.number("pod_memory_bytes", grown as f64 / count as f64);
    }
    let one = bench.subject.ask(&Request::get(format!("{path}/pod-0")), &[]).await?;
    bench.report.number("pod_stored_bytes", one.len() as f64);
    Ok(())
}

/// A streaming list: the present state as events, up to the bookmark that ends it.
async fn streamed(bench: &Bench<'_>) -> anyhow::Result<Sample> {
    let mut connection = bench.subject.endpoint.http1().await?;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let request = Request::get(format!("/api/v1/namespaces/{NAMESPACE}/pods?{query}"));
    let clock = Clock::start(bench.subject.pid)?;
    let began = Instant::now();
    connection.watch(&request).await?;
    let (mut lines, mut bytes, mut over) = (0, 0, false);
    while !over {
        lines += connection
            .lines(&mut |chunk| {
                bytes += chunk.len();
                // The bookmark is the last line, and nothing follows it.
                let tail = &chunk[chunk.len().saturating_sub(400)..];
                over = memchr::memmem::find(tail, b"k8s.io/initial-events-end").is_some();
            })
            .await?;
    }
    ensure!(lines == bench.options.pods + 1, "{lines} lines for {} pods", bench.options.pods);
    clock.done(began.elapsed(), bytes);
    Ok(clock.stop())
}

/// Reads at a fixed rate while others list in a loop, from a thread of their own: what they take off the wire must not keep the
/// readers from seeing their replies.
async fn under_lists(bench: &Bench<'_>, pods: &str) -> anyhow::Result<Sample> {
    let mut readers = alone(&bench.subject.endpoint, bench.options.connections).await?;
    let over = Arc::new(AtomicBool::new(false));
    let listing = std::thread::spawn({
        let (over, endpoint, pods) = (over.clone(), bench.subject.endpoint.clone(), pods.to_owned());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(list_until(&over, &endpoint, &pods))
        }
    });
    let path = |index: usize| format!("{pods}/pod-{}", index % bench.options.pods);
    let sample = at_rate(&mut readers, READS, READING, bench.subject.pid, |i| Request::get(path(i))).await;
    over.store(true, Ordering::Relaxed);
    listing.join().map_err(|_| anyhow::anyhow!("the listing thread panicked"))?.context("a list failed")?;
    sample
}

async fn list_until(over: &AtomicBool, endpoint: &Endpoint, pods: &str) -> anyhow::Result<()> {
    let list = Request::get(pods);
    try_join_all(alone(endpoint, LISTERS).await?.into_iter().map(async |mut lister| {
        while !over.load(Ordering::Relaxed) {
            lister.call(&list, false).await?.ok()?;
        }
        anyhow::Ok(())
    }))
    .await
    .map(drop)
}
