//! The loop: informers in, batches out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Chain, Tasks};
use client::{Change, Client, Informer, ListOptions, Lister, Resource};
use object::{FieldSelector, Gvr, Object};
use tokio_util::sync::CancellationToken;

use crate::fronts;
use crate::kernel::{Kernel, Network};
use crate::table::{Delta, Table};

/// What the proxy needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's name: `Local` traffic policies keep to its pods.
    pub node_name: String,
    /// `10.42.0.0/16`: what leaves it is masqueraded.
    pub cluster_cidr: String,
    /// `10.43.0.0/16`: what has no backend in it is rejected.
    pub service_cidr: String,
}

/// Why the proxy cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Not an IPv4 network.
    #[error("not an IPv4 network: {0:?}")]
    Network(String),
}

/// The label that ties a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Keys of pods in the table; no namespace of a service has a slash at its beginning.
const POD: char = '/';

struct Proxy {
    config: Config,
    services: Lister,
    slices: Lister,
    pods: Lister,
    table: Table,
    kernel: Kernel,
}

/// `client` reads services, `of_node` the pods of this node. Programs this network namespace until `token` is cancelled. The rules stay behind, so that traffic goes on while the agent restarts.
pub async fn run(client: Client, of_node: Client, config: Config, token: CancellationToken) -> Result<(), ProxyError> {
    let network = |text: &String| Network::parse(text).ok_or_else(|| ProxyError::Network(text.clone()));
    let kernel = Kernel::new(network(&config.cluster_cidr)?, network(&config.service_cidr)?);
    let informer = |group, resource| {
        let gvr = Gvr::new(group, "v1", resource);
        Informer::new(client.clone(), Resource::collection(&gvr, None), ListOptions::default())
    };
    let (mut services, mut slices) = (informer("", "services"), informer("discovery.k8s.io", "endpointslices"));
    let fields = FieldSelector { terms: vec![("spec.nodeName".into(), true, config.node_name.clone())] };
    let here = ListOptions { fields, ..ListOptions::default() };
    let mut pods = Informer::new(of_node, Resource::collection(&Gvr::new("", "v1", "pods"), None), here);
    let (mut service_changes, mut slice_changes) = (services.subscribe(), slices.subscribe());
    let mut pod_changes = pods.subscribe();
    let mut proxy = Proxy {
        config,
        services: services.lister(),
        slices: slices.lister(),
        pods: pods.lister(),
        table: Table::default(),
        kernel,
    };
    let mut all_synced_now = [services.synced(), slices.synced(), pods.synced()];
    let mut tasks = Tasks::new(&token);
    let child = tasks.token().clone();
    tasks.spawn("services informer", services.run(child.clone()));
    tasks.spawn("endpointslices informer", slices.run(child.clone()));
    tasks.spawn("pods informer", pods.run(child));

    let mut dirty = BTreeSet::new();
    let mut programmed = false;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    let all_synced = async {
        for synced in &mut all_synced_now {
            // An informer that is gone means that we shut down; the loop below sees the token.
            let _ = synced.wait_for(|s| *s).await;
        }
    };
    tokio::pin!(all_synced);
    let mut synced = false;
    loop {
        tokio::select! {
            () = token.cancelled() => break,
            Some(change) = service_changes.recv() => { dirty.insert(change.object().head.key()); }
            Some(change) = slice_changes.recv() => dirty.extend(owners(&change)),
            Some(change) = pod_changes.recv() => { dirty.insert(pod_key(&change)); }
            () = &mut all_synced, if !synced => synced = true,
        }
        while let Ok(change) = service_changes.try_recv() {
            dirty.insert(change.object().head.key());
        }
        while let Ok(change) = slice_changes.try_recv() {
            dirty.extend(owners(&change));
        }
        while let Ok(change) = pod_changes.try_recv() {
            dirty.insert(pod_key(&change));
        }
        if !synced {
            continue;
        }
        let delta = proxy.update(std::mem::take(&mut dirty));
        if programmed && delta.is_empty() {
            continue;
        }
        match proxy.program(&delta, !programmed).await {
            Ok(()) => {
                programmed = true;
                backoff.reset();
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "cannot program the service proxy; the whole table is tried again");
                programmed = false;
                // Any service is a reason to come back here.
                dirty.extend(proxy.table.services());
                let wait = backoff.next_wait();
                tokio::select! { () = token.cancelled() => break, () = tokio::time::sleep(wait) => {} }
                if proxy.program(&Delta::default(), true).await.is_ok() {
                    programmed = true;
                }
            }
        }
    }
    tasks.shutdown().await;
    Ok(())
}

/// The services that a slice's change touches: by its labels now and before.
fn owners(change: &Change) -> Vec<String> {
    let service = |o: &Arc<Object>| Some(format!("{}/{}", o.head.namespace, o.head.labels.get(SERVICE_NAME)?));
    let old = match change {
        Change::Applied { old, .. } => old.as_ref().and_then(service),
        Change::Deleted(_) => None,
    };
    old.into_iter().chain(service(change.object())).collect()
}

fn pod_key(change: &Change) -> String {
    format!("{POD}{}", change.object().head.key())
}

impl Proxy {
    /// Brings the table up to date for these services; what the kernel must learn.
    fn update(&mut self, dirty: BTreeSet<String>) -> Delta {
        let mut delta = Delta::default();
        for key in dirty {
            if let Some(pod) = key.strip_prefix(POD) {
                let wanted = self.pods.get(pod).map(|pod| fronts::of_pod(&pod)).unwrap_or_default();
                merge(&mut delta, self.table.replace(&key, wanted));
                continue;
            }
            let wanted = match self.services.get(&key) {
                Some(service) => {
                    let namespace = &service.head.namespace;
                    let mine = |o: &Arc<Object>| o.head.labels.get(SERVICE_NAME) == Some(&*service.head.name);
                    let slices: Vec<_> = self.slices.list_namespace(namespace).into_iter().filter(mine).collect();
                    fronts::of(&service, &slices, &self.config.node_name)
                }
                None => Default::default(),
            };
            merge(&mut delta, self.table.replace(&key, wanted));
        }
        delta
    }

    async fn program(&mut self, delta: &Delta, whole: bool) -> Result<(), netfilter::NetfilterError> {
        let batch = if whole { self.kernel.rebuild(&self.table.full()) } else { self.kernel.change(delta) };
        let started = tokio::time::Instant::now();
        let outcome = tokio::task::spawn_blocking(move || batch.commit()).await;
        tracing::debug!(took = ?started.elapsed(), added = delta.added.len(), removed = delta.removed.len(), whole, "programmed");
        outcome.unwrap_or_else(|error| {
            Err(netfilter::NetfilterError::Socket { operation: "run a batch", source: std::io::Error::other(error) })
        })
    }
}

/// Adds a later delta to an earlier one. A front may go and come back within one batch: removals come first there, so a
/// front that was added and is removed again is dropped from `added` instead.
fn merge(all: &mut Delta, next: Delta) {
    for (front, target) in next.removed {
        match all.added.iter().position(|(f, _)| *f == front) {
            Some(at) => drop(all.added.swap_remove(at)),
            None => all.removed.push((front, target)),
        }
    }
    all.added.extend(next.added);
    for ip in next.hairpins_removed {
        if !all.hairpins_added.remove(&ip) {
            all.hairpins_removed.insert(ip);
        }
    }
    for ip in next.hairpins_added {
        if !all.hairpins_removed.remove(&ip) {
            all.hairpins_added.insert(ip);
        }
    }
}
