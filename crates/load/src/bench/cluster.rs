//! Whole clusters: size, start, pods.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::Options;
use crate::drive::{alone, flat_out};
use crate::objects;
use crate::process;
use crate::report::Report;
use crate::rig::{Rig, Subject};
use crate::wire::Request;

/// How long a cluster is left alone before it counts as idle, and how long it is then watched.
const SETTLE: Duration = Duration::from_secs(10);
/// Pods that are started at once.
const SLEEPERS: usize = 50;
/// Objects that a full store has.
const STORED: usize = 100_000;

async fn object(subject: &Subject, path: &str) -> Option<Value> {
    serde_json::from_slice(&subject.ask(&Request::get(path), &[]).await.ok()?).ok()
}

fn is_ready(node: &Value) -> bool {
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Starts a cluster with a node; how long until the API and until the node were ready.
async fn whole(rig: &mut Rig) -> anyhow::Result<(Subject, Duration, Duration)> {
    let began = Instant::now();
    let (subject, api) = rig.start(&[]).await?;
    let node = async || object(&subject, &subject.node).await.filter(is_ready);
    rig.wait("the node is ready", node).await?;
    let ready = began.elapsed();
    Ok((subject, api, ready))
}

pub(super) async fn size(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let binary = std::fs::metadata(&options.server).with_context(|| format!("no {}", options.server.display()))?;
    report.number("binary_bytes", binary.len() as f64);
    let mut rig = Rig::new(&options.server, options.scratch.as_deref(), "size")?;
    let (subject, ..) = whole(&mut rig).await?;
    tokio::time::sleep(SETTLE).await;
    let usage = || subject.pid.and_then(process::usage).context("the server is gone");
    let before = usage()?;
    tokio::time::sleep(SETTLE).await;
    let after = usage()?;
    report.number("idle_rss_kib", after.rss_kib as f64);
    report.number("idle_cpu", (after.cpu - before.cpu).as_secs_f64() / SETTLE.as_secs_f64());
    Ok(())
}

pub(super) async fn start(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let (mut api, mut node) = (Duration::MAX, Duration::MAX);
    for _ in 0..options.rounds {
        let mut rig = Rig::new(&options.server, options.scratch.as_deref(), "start")?;
        let (_, to_api, to_node) = whole(&mut rig).await?;
        (api, node) = (api.min(to_api), node.min(to_node));
    }
    report.number("start_ready_s", api.as_secs_f64());
    report.number("start_node_s", node.as_secs_f64());

    let mut rig = Rig::new(&options.server, options.scratch.as_deref(), "full")?;
    let (subject, _) = rig.start(&["--disable-agent"]).await?;
    let bodies: Vec<Bytes> = (0..STORED).map(|i| objects::config_map(&format!("cm-{i}"))).collect();
    let mut callers = alone(&subject.endpoint, options.connections).await?;
    let request = |index: usize| {
        Request::new("POST", "/api/v1/namespaces/default/configmaps").body("application/json", bodies[index].clone())
    };
    let sample = flat_out(&mut callers, STORED, subject.pid, request).await?;
    ensure!(sample.errors == 0, "{:?}", sample.first_error);
    let mut full = Duration::MAX;
    for _ in 0..options.rounds {
        rig.kill();
        full = full.min(rig.start(&["--disable-agent"]).await?.1);
    }
    report.number("start_full_s", full.as_secs_f64());
    Ok(())
}

pub(super) async fn pods(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let mut best = Duration::MAX;
    for _ in 0..options.rounds {
        let mut rig = Rig::new(&options.server, options.scratch.as_deref(), "pods")?;
        rig.add_image()?;
        let (subject, ..) = whole(&mut rig).await?;
        let account = async || object(&subject, "/api/v1/namespaces/default/serviceaccounts/default").await;
        rig.wait("the default service account", account).await?;
        let pods = "/api/v1/namespaces/default/pods";
        let mut callers = alone(&subject.endpoint, 10).await?;
        let request = |index| Request::new("POST", pods).body("application/json", objects::sleeper(index));
        let began = Instant::now();
        let sample = flat_out(&mut callers, SLEEPERS, subject.pid, request).await?;
        ensure!(sample.errors == 0, "{:?}", sample.first_error);
        let running = async || {
            let list = object(&subject, pods).await?;
            let items = list["items"].as_array()?;
            (items.iter().filter(|p| p["status"]["phase"] == "Running").count() == SLEEPERS).then_some(())
        };
        rig.wait("all pods run", running).await?;
        best = best.min(began.elapsed());
        // The node takes its pods away while it still can: cgroups, links, mounts.
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
        let delete = Request::new("DELETE", pods).body("application/json", options.to_string());
        subject.ask(&delete, &[]).await?;
        let gone = async || object(&subject, pods).await?["items"].as_array()?.is_empty().then_some(());
        rig.wait("all pods are gone", gone).await?;
    }
    report.number("pods_running_s", best.as_secs_f64());
    Ok(())
}
