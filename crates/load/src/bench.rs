//! The benches: which there are, and what they have in common.

mod api;
mod cluster;
mod lists;
mod watch;

use serde_json::Value;

use crate::Options;
use crate::report::{Report, Sample};
use crate::rig::{Rig, Subject};
use crate::wire::{Endpoint, Request};

/// A bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// The binary's size, memory and CPU time at rest.
    Size,
    /// Start on an empty and on a full store.
    Start,
    /// Pods from their creation until they run.
    Pods,
    /// Small objects: create, read, patch, apply, delete.
    Api,
    /// Pods by the thousand: create, list, memory, reads meanwhile.
    Lists,
    /// Watches: one change to many, many changes to some.
    Watch,
}

const ALL: &[Name] = &[Name::Size, Name::Start, Name::Pods, Name::Api, Name::Lists, Name::Watch];

/// Where the objects of the benches are.
const NAMESPACE: &str = "apibench";

/// Runs what was asked for, and says how it went.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let names = if options.benches.is_empty() { ALL } else { &options.benches };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::load(&options.out);
    for name in names {
        runtime.block_on(one(*name, options, &mut report))?;
        report.save(&options.out)?;
    }
    println!("{}", report.table());
    options.page.iter().try_for_each(|page| report.write_page(page))
}

async fn one(name: Name, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    match name {
        Name::Size => return cluster::size(options, report).await,
        Name::Start => return cluster::start(options, report).await,
        Name::Pods => return cluster::pods(options, report).await,
        Name::Api | Name::Lists | Name::Watch => {}
    }
    let mut rig = None;
    let subject = match &options.kubeconfig {
        Some(kubeconfig) => Subject { endpoint: Endpoint::of(kubeconfig)?, pid: options.pid, node: String::new() },
        None => {
            let rig = rig.insert(Rig::new(&options.server, options.scratch.as_deref(), "api")?);
            rig.start(&["--disable-agent"]).await?.0
        }
    };
    let mut bench = Bench { options, subject, report };
    bench.prepare().await?;
    match name {
        Name::Api => api::run(&mut bench).await,
        Name::Lists => lists::run(&mut bench).await,
        _ => watch::run(&mut bench).await,
    }
}

/// A bench of a running server.
struct Bench<'a> {
    options: &'a Options,
    subject: Subject,
    report: &'a mut Report,
}

impl Bench<'_> {
    async fn prepare(&self) -> anyhow::Result<()> {
        let make = |path: &str, body: Value| Request::new("POST", path).body("application/json", body.to_string());
        let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        self.subject.ask(&make("/api/v1/namespaces", namespace), &[409]).await?;
        let account =
            serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
        self.subject.ask(&make(&path, account), &[409]).await?;
        Ok(())
    }

    /// False when only other phases were asked for.
    fn wants(&self, phase: &str) -> bool {
        self.options.only.is_empty() || self.options.only.iter().any(|only| only == phase)
    }

    /// Keeps a sample if it is the best so far of its phase in this run. A phase that fails is a result, too.
    fn keep(&mut self, phase: &str, best: &mut Option<Sample>, sample: Sample) {
        let failed = sample.errors > 0 || sample.operations() == 0;
        if failed || best.as_ref().is_none_or(|b| b.per_second() < sample.per_second()) {
            self.report.add(phase, if failed { sample.failure() } else { sample.to_value() });
            *best = Some(sample);
        }
    }
}
