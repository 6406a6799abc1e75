//! Probes: a task per probe of a container, thresholds as a small state machine, results for the pod worker.

pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod net;
mod run;
mod state;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::api::{Container, Pod, PodStatus, Probe, Role};
use crate::pods::plan::{ProbeKind, ProbeResults};
use crate::shared::Shared;
use state::{ProbeState, Step};

/// What probes look at: the newest pod and status.
#[derive(Clone, Debug)]
pub(crate) struct ProbeTarget {
    pub(crate) pod: Arc<Pod>,
    pub(crate) status: Arc<PodStatus>,
}

type Results = Arc<RwLock<ProbeResults>>;

/// The probes of one pod.
pub(crate) struct PodProbes {
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    results: Results,
    target: watch::Sender<Option<ProbeTarget>>,
    tasks: JoinSet<()>,
    known: HashSet<(String, ProbeKind)>,
    born: Instant,
}

impl PodProbes {
    /// No probes yet; `wake` is notified when a result changes.
    pub(crate) fn new(shared: Arc<Shared>, wake: Arc<Notify>) -> Self {
        Self {
            shared,
            wake,
            results: Results::default(),
            target: watch::channel(None).0,
            tasks: JoinSet::new(),
            known: HashSet::new(),
            born: Instant::now(),
        }
    }

    /// What is known now.
    pub(crate) fn results(&self) -> ProbeResults {
        self.results.read().clone()
    }

    /// Tells the probes what there is to probe.
    pub(crate) fn publish(&self, target: ProbeTarget) {
        self.target.send_replace(Some(target));
    }

    /// Starts the probes that the pod asks for and that do not run yet.
    pub(crate) fn ensure(&mut self, pod: &Pod) {
        for (role, container) in pod.all_containers() {
            if role == Role::Ephemeral || (role == Role::Init && !container.is_sidecar()) {
                continue;
            }
            for (kind, probe) in of_container(container) {
                if self.known.insert((container.name.clone(), kind)) {
                    self.spawn(container, kind, probe.clone());
                }
            }
        }
    }

    fn spawn(&mut self, container: &Container, kind: ProbeKind, probe: Probe) {
        let worker = ProbeWorker {
            shared: self.shared.clone(),
            wake: self.wake.clone(),
            results: self.results.clone(),
            target: self.target.subscribe(),
            name: container.name.clone(),
            kind,
            state: ProbeState::new(kind, &probe),
            probe,
            born: self.born,
        };
        self.tasks.spawn(worker.run());
    }

    /// The pod is being ended: liveness no longer matters, readiness still does.
    pub(crate) fn pod_ends(&mut self) {
        let mut results = self.results.write();
        for ((_, kind), result) in &mut results.0 {
            if *kind != ProbeKind::Readiness {
                *result = Some(true);
            }
        }
    }

    /// Ends all probes.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }
}

fn of_container(container: &Container) -> impl Iterator<Item = (ProbeKind, &Probe)> {
    [
        (ProbeKind::Startup, &container.startup_probe),
        (ProbeKind::Readiness, &container.readiness_probe),
        (ProbeKind::Liveness, &container.liveness_probe),
    ]
    .into_iter()
    .filter_map(|(kind, probe)| Some((kind, probe.as_ref()?)))
}

/// `Readiness` ...: as events name the kind.
pub(crate) fn kind_name(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Liveness => "Liveness",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Startup => "Startup",
    }
}

struct ProbeWorker {
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    results: Results,
    target: watch::Receiver<Option<ProbeTarget>>,
    name: String,
    kind: ProbeKind,
    probe: Probe,
    state: ProbeState,
    born: Instant,
}

impl ProbeWorker {
    async fn run(mut self) {
        let period = Duration::from_secs(u64::try_from(self.probe.period_seconds.max(1)).unwrap_or(10));
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut container_id = String::new();
        loop {
            let Some(target) = self.target.borrow_and_update().clone() else {
                if self.target.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let step = self.step(&target);
            if self.state.container_id() != container_id {
                container_id = self.state.container_id().to_owned();
                // A new container is probed at once, one that was adopted after a restart at a random moment.
                ticks.reset_after(self.first_wait(&target, period));
            }
            match step {
                Step::Stop => return,
                Step::Wait(more) => {
                    let more = more.unwrap_or(Duration::from_secs(3600));
                    tokio::select! {
                        changed = self.target.changed() => if changed.is_err() { return },
                        () = tokio::time::sleep(more) => {}
                    }
                    continue;
                }
                Step::Probe => {}
            }
            tokio::select! {
                _ = ticks.tick() => self.probe_once().await,
                changed = self.target.changed() => if changed.is_err() { return },
            }
        }
    }

    fn first_wait(&self, target: &ProbeTarget, period: Duration) -> Duration {
        let status = target.status.container(&self.name);
        let running = status.and_then(|s| s.state.running.as_ref()).and_then(|r| r.started_at.as_deref());
        let started = running.and_then(base::time::parse_seconds).unwrap_or(0);
        let is_adopted = self.born.elapsed() < period && self.shared.clock.seconds() - started > 10;
        if is_adopted { period.mul_f64(rand::random::<f64>()) } else { Duration::ZERO }
    }

    fn step(&mut self, target: &ProbeTarget) -> Step {
        let step = self.state.look(target, &self.name, self.shared.clock.seconds());
        for (id, result) in self.state.take_changes() {
            let key = (id, self.kind);
            let mut results = self.results.write();
            match result {
                Some(result) => drop(results.0.insert(key, result)),
                None => drop(results.0.remove(&key)),
            }
        }
        step
    }

    async fn probe_once(&mut self) {
        let Some(target) = self.target.borrow().clone() else { return };
        let Some((_, container)) = target.pod.container(&self.name) else { return };
        let id = self.state.container_id().to_owned();
        let Some(success) = run::run(&self.shared, &target, container, &id, self.kind, &self.probe).await else {
            return;
        };
        let Some(result) = self.state.record(success) else { return };
        let key = (id, self.kind);
        let before = self.results.write().0.insert(key, Some(result));
        if before != Some(Some(result)) {
            self.wake.notify_one();
        }
    }
}
