//! Load: callers that send as fast as replies come, or at a fixed rate.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use hdrhistogram::Histogram;

use crate::process::{self, Usage};
use crate::report::Sample;
use crate::wire::{Endpoint, Http1, Http2, Reply, Request, Stream};

/// Someone who sends one request at a time.
pub(crate) enum Caller {
    /// With a connection of its own.
    Alone(Box<Http1>),
    /// On a connection that it shares.
    Sharing(Stream),
}

impl Caller {
    pub(crate) async fn call(&mut self, request: &Request, keep: bool) -> anyhow::Result<Reply> {
        match self {
            Self::Alone(connection) => connection.call(request, keep).await,
            Self::Sharing(stream) => stream.call(request, keep).await,
        }
    }
}

/// Callers with a connection each.
pub(crate) async fn alone(endpoint: &Endpoint, count: usize) -> anyhow::Result<Vec<Caller>> {
    let mut callers = Vec::with_capacity(count);
    for _ in 0..count {
        callers.push(Caller::Alone(Box::new(endpoint.http1().await?)));
    }
    Ok(callers)
}

/// `count` callers on `connections` HTTP/2 connections; these are to be kept as long as the callers.
pub(crate) async fn sharing(
    endpoint: &Endpoint,
    connections: usize,
    count: usize,
) -> anyhow::Result<(Vec<Http2>, Vec<Caller>)> {
    let mut shared = Vec::with_capacity(connections);
    for _ in 0..connections {
        shared.push(endpoint.http2().await?);
    }
    let callers = (0..count).map(|i| Caller::Sharing(shared[i % connections].caller())).collect();
    Ok((shared, callers))
}

/// Latencies from 1 µs to 100 s, to three digits.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 100_000_000, 3)?)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What one measurement collects.
pub(crate) struct Clock {
    server: Option<u32>,
    before: (Instant, Duration, Option<Usage>),
    latencies: RefCell<Histogram<u64>>,
    errors: RefCell<(usize, Option<String>)>,
    bytes: Cell<usize>,
}

impl Clock {
    /// Starts now; `server` is the process whose CPU time counts.
    pub(crate) fn start(server: Option<u32>) -> anyhow::Result<Self> {
        Ok(Self {
            server,
            before: (Instant::now(), process::own_cpu(), server.and_then(process::usage)),
            latencies: RefCell::new(histogram()?),
            errors: RefCell::new((0, None)),
            bytes: Cell::new(0),
        })
    }

    /// Notes a success.
    pub(crate) fn done(&self, latency: Duration, bytes: usize) {
        self.latencies.borrow_mut().saturating_record(micros(latency));
        self.bytes.set(bytes);
    }

    fn note(&self, since: Instant, reply: anyhow::Result<Reply>) {
        match reply.and_then(Reply::ok) {
            Ok(reply) => self.done(since.elapsed(), reply.length),
            Err(error) => {
                let (count, first) = &mut *self.errors.borrow_mut();
                *count += 1;
                first.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }

    /// Ends the measurement.
    pub(crate) fn stop(self) -> Sample {
        let (started, client, server) = self.before;
        let (errors, first_error) = self.errors.into_inner();
        let after = self.server.and_then(process::usage);
        Sample {
            seconds: started.elapsed().as_secs_f64(),
            client_cpu: process::own_cpu().saturating_sub(client),
            server: server.zip(after),
            latencies: self.latencies.into_inner(),
            errors,
            first_error,
            bytes: self.bytes.get(),
            load_average: process::load_average(),
        }
    }
}

/// Sends `count` requests, each caller its next as soon as it has the reply to its last.
pub(crate) async fn flat_out(
    callers: &mut [Caller],
    count: usize,
    server: Option<u32>,
    request: impl Fn(usize) -> Request,
) -> anyhow::Result<Sample> {
    let next = Cell::new(0);
    let clock = Clock::start(server)?;
    let work = callers.iter_mut().map(async |caller| {
        loop {
            let index = next.get();
            if index >= count {
                return anyhow::Ok(());
            }
            next.set(index + 1);
            let request = request(index);
            let sent = Instant::now();
            clock.note(sent, caller.call(&request, false).await);
        }
    });
    try_join_all(work).await?;
    Ok(clock.stop())
}

/// Sends `rate` requests a second for some time, whether or not replies come. A request's latency counts from when it was due, so
/// that a server which stands still is not measured by what was held back meanwhile (no coordinated omission).
pub(crate) async fn at_rate(
    callers: &mut [Caller],
    rate: f64,
    time: Duration,
    server: Option<u32>,
    request: impl Fn(usize) -> Request,
) -> anyhow::Result<Sample> {
    let next = Cell::new(0_u32);
    let clock = Clock::start(server)?;
    let began = Instant::now();
    let work = callers.iter_mut().map(async |caller| {
        loop {
            let index = next.get();
            next.set(index + 1);
            let due = Duration::from_secs_f64(f64::from(index) / rate);
            if due >= time {
                return anyhow::Ok(());
            }
            let due = began + due;
            tokio::time::sleep_until(due.into()).await;
            clock.note(due, caller.call(&request(index as usize), false).await);
        }
    });
    try_join_all(work).await?;
    Ok(clock.stop())
}
