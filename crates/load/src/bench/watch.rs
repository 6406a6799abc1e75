//! Watches: one change to many watchers, many changes to some.

use std::cell::Cell;
use std::time::Instant;

use bytes::Bytes;
use futures::future::{join, try_join_all};
use serde_json::json;

use super::{Bench, NAMESPACE};
use crate::drive::{Clock, alone};
use crate::report::Sample;
use crate::wire::{Http1, Request};

/// One change to this many.
const MANY: usize = 1000;
/// Changes one after the other, each waited for.
const CHANGES: usize = 10;
/// As apibench.py: this many watchers, and changes as fast as they go.
const WATCHERS: usize = 100;
const EVENTS: usize = 200;
/// Concurrent writers of those.
const WRITERS: usize = 10;

pub(super) async fn run(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let one =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "watched", "labels": {"app": "one"}}});
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let request = Request::new("POST", &*path).body("application/json", one.to_string());
    bench.subject.ask(&request, &[409]).await?;
    if bench.wants("watch_one_change") {
        let mut best = None;
        for _ in 0..bench.options.rounds {
            let sample = one_change(bench).await?;
            bench.keep("watch_one_change", &mut best, sample);
        }
    }
    if bench.wants("watch_fanout") {
        let mut best = None;
        for round in 0..bench.options.rounds {
            let sample = fan_out(bench, round).await?;
            bench.keep("watch_fanout", &mut best, sample);
        }
    }
    Ok(())
}

/// Open watches of ConfigMaps with a label.
async fn watchers(bench: &Bench<'_>, label: &str, count: usize) -> anyhow::Result<Vec<Http1>> {
    let revision = {
        let list = Request::get(format!("/api/v1/namespaces/{NAMESPACE}/configmaps?limit=1"));
        let list: serde_json::Value = serde_json::from_slice(&bench.subject.ask(&list, &[]).await?)?;
        list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned()
    };
    let path = format!(
        "/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1&labelSelector=app%3D{label}&resourceVersion={revision}"
    );
    let mut open = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = bench.subject.endpoint.http1().await?;
        connection.watch(&Request::get(&*path)).await?;
        open.push(connection);
    }
    Ok(open)
}

/// The time from a change's request to each watcher's line.
async fn one_change(bench: &Bench<'_>) -> anyhow::Result<Sample> {
    let mut open = watchers(bench, "one", MANY).await?;
    let mut writer = alone(&bench.subject.endpoint, 1).await?;
    let clock = Clock::start(bench.subject.pid)?;
    for change in 0..CHANGES {
        let body = json!({"data": {"change": format!("{change} {:?}", Instant::now())}}).to_string();
        let request = Request::new("PATCH", format!("/api/v1/namespaces/{NAMESPACE}/configmaps/watched"))
            .body("application/merge-patch+json", body);
        let sent = Instant::now();
        let hearing = try_join_all(open.iter_mut().map(async |watcher| {
            let mut bytes = 0;
            while watcher.lines(&mut |chunk| bytes = chunk.len()).await? == 0 {}
            clock.done(sent.elapsed(), bytes);
            anyhow::Ok(())
        }));
        let (heard, reply) = join(hearing, writer[0].call(&request, false)).await;
        heard?;
        reply?.ok()?;
    }
    Ok(clock.stop())
}

/// Many creates, each to be seen by all watchers.
async fn fan_out(bench: &Bench<'_>, round: usize) -> anyhow::Result<Sample> {
    let label = format!("fan{round}");
    let mut open = watchers(bench, &label, WATCHERS).await?;
    let mut writers = alone(&bench.subject.endpoint, WRITERS).await?;
    let began: Vec<Cell<Option<Instant>>> = vec![Cell::new(None); EVENTS];
    let clock = Clock::start(bench.subject.pid)?;
    let hearing = try_join_all(open.iter_mut().map(async |watcher| {
        let mut seen = 0;
        while seen < EVENTS {
            let mut bytes = 0;
            let lines = watcher
                .lines(&mut |chunk| {
                    bytes = chunk.len();
                    for line in chunk.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                        let sent = index_of(line).and_then(|i| began.get(i)?.get());
                        clock.done(sent.map_or_else(Default::default, |sent: Instant| sent.elapsed()), bytes);
                    }
                })
                .await?;
            seen += lines;
        }
        anyhow::Ok(())
    }));
    let next = Cell::new(0);
    let writing = try_join_all(writers.iter_mut().map(async |writer| {
        loop {
            let index = next.get();
            if index >= EVENTS {
                return anyhow::Ok(());
            }
            next.set(index + 1);
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("fan-{round}-{index}"),
                "labels": {"app": label}}, "data": {"index": format!("#{index}#"), "fill": "x".repeat(200)}});
            began[index].set(Some(Instant::now()));
            let request = Request::new("POST", format!("/api/v1/namespaces/{NAMESPACE}/configmaps"))
                .body("application/json", Bytes::from(body.to_string()));
            writer.call(&request, false).await?.ok()?;
        }
    }));
    let (heard, written) = join(hearing, writing).await;
    heard?;
    written?;
    Ok(clock.stop())
}

/// The number between the two `#` of a line.
fn index_of(line: &[u8]) -> Option<usize> {
    let from = memchr::memchr(b'#', line)? + 1;
    let length = memchr::memchr(b'#', &line[from..])?;
    std::str::from_utf8(&line[from..from + length]).ok()?.parse().ok()
}
