//! Runs all controllers: shared informers, queues, workers, restarts.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use client::{Change, Client, Informer, ListOptions, Recorder, Resource};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::kinds::Kind;
use crate::world::{Caches, World};
use crate::{CONTROLLERS, Controller, Options, certificates, garbage, namespace, owner, resourcequota};

mod execute;
mod room;
#[cfg(test)]
mod tests;

pub(crate) use execute::Outcome;
use room::Room;

/// The client of a service account in `kube-system`, by its name (`deployment-controller`).
pub type Identities = Arc<dyn Fn(&str) -> Client + Send + Sync>;

/// Runs all controllers until `token` is cancelled. `client` follows all collections (it needs the rights of
/// `system:kube-controller-manager`); each controller writes as who `identities` says.
pub async fn run(client: Client, identities: Identities, options: Options, token: CancellationToken) {
    let mut tasks = start(CONTROLLERS, &client, &identities, options, &token);
    let (follow, writer) = (client.clone(), identities("generic-garbage-collector"));
    let stop = tasks.token().clone();
    let collector = move || garbage::run(follow.clone(), writer.clone(), stop.clone()).boxed();
    let stop = tasks.token().clone();
    tasks.spawn("garbage-collector", restarted("garbage-collector", stop, collector));
    let (follow, writer) = (client.clone(), identities("certificate-controller"));
    let stop = tasks.token().clone();
    let approver = move || certificates::approving::run(follow.clone(), writer.clone(), stop.clone()).boxed();
    let stop = tasks.token().clone();
    tasks.spawn("certificate-approver", restarted("certificate-approver", stop, approver));
    let (follow, writer) = (client.clone(), identities("resourcequota-controller"));
    let stop = tasks.token().clone();
    let counter = move || resourcequota::others::run(follow.clone(), writer.clone(), stop.clone()).boxed();
    let stop = tasks.token().clone();
    tasks.spawn("quota-counter", restarted("quota-counter", stop, counter));
    let (follow, writer) = (client, identities("namespace-controller"));
    let stop = tasks.token().clone();
    let emptier = move || namespace::run(follow.clone(), writer.clone(), stop.clone()).boxed();
    let stop = tasks.token().clone();
    tasks.spawn("namespace-controller", restarted("namespace-controller", stop, emptier));
    let stop = tasks.token().clone();
    stop.cancelled().await;
    tasks.shutdown().await;
}

/// Starts these controllers and what they need.
pub(crate) fn start(
    controllers: &'static [&'static Controller],
    client: &Client,
    identities: &Identities,
    options: Options,
    token: &CancellationToken,
) -> Tasks {
    let mut tasks = Tasks::new(token);
    let mut caches = Caches::default();
    let mut informers = Vec::new();
    for kind in kinds(controllers).into_values() {
        let mut informer =
            Informer::new(client.clone(), Resource::collection(&kind.gvr(), None), ListOptions::default());
        caches.insert(kind, informer.lister());
        let (changes, synced) = (informer.subscribe(), informer.synced());
        informers.push((kind, informer, changes, synced));
    }
    let options = Arc::new(options);
    let mut rooms: Vec<Arc<Room>> = Vec::new();
    for controller in controllers {
        let client = identities(controller.name);
        let (recorder, writer) = Recorder::new(client.clone(), controller.name, "");
        let stop = tasks.token().clone();
        tasks.spawn("events", writer.run(stop));
        rooms.push(Arc::new(Room::new(controller, client, recorder, caches.clone(), options.clone())));
    }
    let mut synced = Vec::new();
    for (kind, informer, changes, sync) in informers {
        synced.push(sync);
        let stop = tasks.token().clone();
        tasks.spawn("informer", informer.run(stop));
        let routes = Routes { kind, rooms: rooms.clone() };
        tasks.spawn("routes", routes.run(changes, tasks.token().clone()));
    }
    for room in rooms {
        for _ in 0..room.controller.workers {
            let (room, synced, stop) = (room.clone(), synced.clone(), tasks.token().clone());
            tasks.spawn(room.controller.name, work(room, synced, stop));
        }
    }
    tasks
}

async fn work(room: Arc<Room>, synced: Vec<watch::Receiver<bool>>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = all_synced(synced) => {}
    }
    let worker = room.clone();
    let task = move || worker.clone().work().boxed();
    tokio::select! {
        () = stop.cancelled() => {}
        () = restarted(room.controller.name, stop.clone(), task) => {}
    }
    room.queue.shut_down();
}

async fn all_synced(synced: Vec<watch::Receiver<bool>>) {
    for mut one in synced {
        // An informer that ended was cancelled, and so will be the worker.
        let _ = one.wait_for(|synced| *synced).await;
    }
}

/// Runs `task` again after a panic, until it ends or `stop` is cancelled.
async fn restarted(name: &'static str, stop: CancellationToken, mut task: impl FnMut() -> BoxFuture<'static, ()>) {
    let mut backoff = base::Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
    while let Err(panic) = AssertUnwindSafe(task()).catch_unwind().await {
        tracing::error!(controller = name, panic = panic_text(&*panic), "a controller panicked and is started again");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

/// Every kind that one of these controllers follows.
fn kinds(controllers: &[&'static Controller]) -> BTreeMap<&'static str, &'static Kind> {
    let mut kinds = BTreeMap::new();
    for controller in controllers {
        let watched = controller.watches.iter().map(|watch| watch.kind);
        for kind in [controller.of].into_iter().chain(controller.owns.iter().copied()).chain(watched) {
            kinds.insert(kind.resource, kind);
        }
        kinds.extend(controller.reads.iter().map(|kind| (kind.resource, *kind)));
    }
    kinds
}

/// Takes the changes of one kind to the queues of the controllers that they wake.
struct Routes {
    kind: &'static Kind,
    rooms: Vec<Arc<Room>>,
}

impl Routes {
    async fn run(self, mut changes: mpsc::Receiver<Change>, stop: CancellationToken) {
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
            };
            let Some(change) = change else { return };
            for room in &self.rooms {
                self.wake(room, &change);
            }
        }
    }

    fn wake(&self, room: &Room, change: &Change) {
        let controller = room.controller;
        if controller.of == self.kind {
            room.queue.add(change.object().head.key());
        }
        let owned = controller.owns.contains(&self.kind);
        let watched = || controller.watches.iter().filter(|watch| watch.kind == self.kind);
        if !owned && watched().next().is_none() {
            return;
        }
        let world = room.world();
        let wakes = AssertUnwindSafe(|| {
            let mut keys = if owned { owner::owners(controller.of, change, &world) } else { Vec::new() };
            keys.extend(watched().flat_map(|watch| (watch.wakes)(change, &world)));
            keys
        });
        match std::panic::catch_unwind(wakes) {
            Ok(keys) => keys.into_iter().for_each(|key| room.queue.add(key)),
            Err(panic) => {
                let text = panic_text(&*panic);
                tracing::error!(controller = controller.name, panic = text, "panicked over a change");
            }
        }
    }
}

/// Starts and forgets nothing: for tests that run some controllers only.
#[cfg(test)]
pub(crate) fn start_for_test(
    controllers: &'static [&'static Controller],
    server: &client::testing::FakeServer,
    options: Options,
) -> Tasks {
    let of = server.clone();
    let identities: Identities = Arc::new(move |name| of.client(name));
    start(controllers, &server.client("informers"), &identities, options, &CancellationToken::new())
}

impl Room {
    fn world(&self) -> World {
        World::new(self.caches.clone(), self.options.clone(), base::time::now_seconds())
    }
}
