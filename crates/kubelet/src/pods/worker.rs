//! One pod's life on this node: observe, plan, act, tell; again when something changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use object::Object;
use protos::cri::v1::{RemoveContainerRequest, RemovePodSandboxRequest};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::kill::{self, KillAll};
use super::observed::{Observed, observe};
use super::plan::{self, Plan};
use super::stage::{Stage, stage};
use super::start::{self, Starter};
use super::status::{self, Blocked};
use super::writer::Desired;
use crate::api::{Pod, PodStatus, Role};
use crate::clock::SECOND;
use crate::config::sandbox;
use crate::events::About;
use crate::probes::{PodProbes, ProbeTarget};
use crate::shared::{Known, Shared};
use crate::volumes::SetUp;
use crate::{labels, objects};

/// How long to wait after a failure that has no back-off of its own; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What the API says of the pod.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) pod: Arc<Pod>,
    pub(crate) object: Arc<Object>,
    /// The object was deleted: the pod must go whatever it says.
    pub(crate) is_gone: bool,
}

/// What a worker is made of.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) input: watch::Receiver<Input>,
    pub(crate) desired: watch::Sender<Desired>,
    pub(crate) wake: Arc<Notify>,
}

/// The worker.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    input: watch::Receiver<Input>,
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    uid: String,
    last: Option<PodStatus>,
    blocked: HashMap<String, Blocked>,
    holds: Holds,
    probes: PodProbes,
    retry: Retry,
    volume_retry: Retry,
    volume_error: Option<String>,
}

/// Until when (nanoseconds since the epoch) a container of this hash is not tried again, by its name. News of any kind
/// wake the worker, its own status among them: without this every failure would be tried twice at once.
type Holds = HashMap<String, (u64, i64)>;

/// A doubling wait.
struct Retry {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Retry {
    fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }
    fn reset(&mut self) {
        self.next = self.first;
    }
    fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        wait
    }
}

/// When a worker looks again.
enum Next {
    /// At once: something was done.
    Now,
    /// When woken, or at this time.
    At(Option<i64>),
}

impl Worker {
    /// A worker for the pod that `input` holds.
    pub(crate) fn new(parts: Parts) -> Self {
        let uid = parts.input.borrow().pod.metadata.uid.clone();
        Self {
            probes: PodProbes::new(parts.shared.clone(), parts.wake.clone()),
            shared: parts.shared,
            input: parts.input,
            desired: parts.desired,
            wake: parts.wake,
            uid,
            last: None,
            blocked: HashMap::new(),
            holds: Holds::new(),
            retry: Retry::new(FIRST_RETRY, LAST_RETRY),
            volume_retry: Retry::new(Duration::from_millis(500), Duration::from_secs(122)),
            volume_error: None,
        }
    }

    /// Runs until the pod is gone from the node, or `token` is cancelled (then everything is left as it is).
    pub(crate) async fn run(mut self, token: CancellationToken) {
        loop {
            let input = self.input.borrow_and_update().clone();
            let turn = async { self.turn(&input).await };
            let next = tokio::select! {
                () = token.cancelled() => return,
                next = turn => next,
            };
            match next {
                None => return,
                Some(Next::Now) => {}
                Some(Next::At(at)) => {
                    let wait = at.map_or(Duration::from_secs(3600), |at| self.shared.clock.until(at));
                    tokio::select! {
                        () = token.cancelled() => return,
                        changed = self.input.changed() => if changed.is_err() { return },
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    /// One observation and what follows from it; `None` when the pod is gone.
    async fn turn(&mut self, input: &Input) -> Option<Next> {
        let observed = match observe(&self.shared.runtime, &self.uid).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(pod = input.pod.key(), %error, "the runtime does not answer");
                return Some(self.after_error());
            }
        };
        let newest = self.last.as_ref().unwrap_or(&input.pod.status);
        match stage(&input.pod, input.is_gone, newest, self.shared.clock.seconds()) {
            Stage::Run { deadline } => {
                let next = self.advance(input, &observed).await;
                let deadline = deadline.map(|seconds| seconds * SECOND);
                Some(match next {
                    Next::Now => Next::Now,
                    Next::At(at) => Next::At([at, deadline].into_iter().flatten().min()),
                })
            }
            Stage::End { verdict } => self.end(input, observed, verdict).await,
        }
    }

    fn after_error(&mut self) -> Next {
        let wait = self.retry.wait();
        Next::At(Some(self.shared.clock.nanos() + i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX / 2)))
    }

    /// Makes the status of what was observed and hands it on.
    fn publish(&mut self, input: &Input, observed: &Observed, is_ending: bool, verdict: Option<&Blocked>) -> PodStatus {
        let old = self.last.clone().unwrap_or_else(|| input.pod.status.clone());
        let status = status::generate(&status::Inputs {
            pod: &input.pod,
            old: &old,
            observed,
            probes: &self.probes.results(),
            blocked: &self.blocked,
            runtime_name: &self.shared.runtime_name,
            node_ip: &self.shared.node.node_ip,
            now: self.shared.clock.seconds(),
            is_ending,
            verdict,
        });
        self.last = Some(status.clone());
        let known = Known { pod: input.pod.clone(), object: input.object.clone(), status: Arc::new(status.clone()) };
        self.shared.registry.write().insert(self.uid.clone(), known);
        self.probes.publish(ProbeTarget { pod: input.pod.clone(), status: Arc::new(status.clone()) });
        self.hand_on(input, Some(&status), false);
        status
    }

    fn hand_on(&self, input: &Input, status: Option<&PodStatus>, delete: bool) {
        let revision = input.object.head.resource_version;
        self.desired.send_if_modified(|desired| {
            let is_news = status.is_some_and(|s| desired.status.as_ref() != Some(s))
                || desired.known_revision != revision
                || (delete && !desired.delete)
                || input.is_gone != desired.is_gone;
            if let Some(status) = status {
                desired.status = Some(status.clone());
            }
            desired.known = input.pod.status.clone();
            desired.known_revision = revision;
            desired.delete |= delete;
            desired.is_gone |= input.is_gone;
            is_news
        });
    }

    /// A pod that shall run.
    async fn advance(&mut self, input: &Input, observed: &Observed) -> Next {
        let pod = &input.pod;
        self.publish(input, observed, false, None);
        self.probes.ensure(pod);
        self.shared.objects.register(&self.uid, &pod.metadata.namespace, &objects::referenced(pod), &self.wake);
        let plan = plan::plan(pod, observed, &self.probes.results());
        if plan.kill_pod && plan.create_sandbox.is_none() {
            return self.stop_for_good(input, observed).await;
        }
        let volumes = match self.shared.volumes.set_up(pod, observed.ips()).await {
            Ok(volumes) => {
                self.volume_retry.reset();
                self.volume_error = None;
                volumes
            }
            Err(error) => {
                let next = self.volume_failed(pod, &error.to_string());
                // Running containers go on with the volumes as they are; new ones wait.
                let kills = !plan.kills.is_empty();
                self.kill_some(pod, observed, &plan).await;
                return if kills { Next::Now } else { next };
            }
        };
        let renew = volumes.renew_at.map(|seconds| seconds * SECOND);
        if plan.is_empty() {
            return Next::At(renew);
        }
        match self.act(input, observed, &plan, &volumes).await {
            Next::Now => Next::Now,
            Next::At(at) => Next::At([at, renew].into_iter().flatten().min()),
        }
    }

    fn volume_failed(&mut self, pod: &Pod, message: &str) -> Next {
        tracing::info!(pod = pod.key(), message, "a volume cannot be set up");
        self.shared.events.warning(About::pod(pod), "FailedMount", message);
        self.volume_error = Some(message.to_owned());
        let wait = self.volume_retry.wait();
        Next::At(Some(self.shared.clock.nanos() + i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX / 2)))
    }

    /// All containers have ended and none starts again: the sandbox is not needed any more.
    async fn stop_for_good(&mut self, input: &Input, observed: &Observed) -> Next {
        if !observed.is_alive() {
            return Next::At(None);
        }
        self.kill_everything(&input.pod, observed).await;
        Next::Now
    }

    async fn kill_some(&self, pod: &Arc<Pod>, observed: &Observed, plan: &Plan) {
        let kills = plan.kills.iter().map(|kill| kill::kill_one(&self.shared, pod, kill, observed.ips()));
        futures::future::join_all(kills).await;
    }

    async fn act(&mut self, input: &Input, observed: &Observed, plan: &Plan, volumes: &SetUp) -> Next {
        let pod = &input.pod;
        if plan.kill_pod {
            if !observed.sandboxes.is_empty() && observed.is_alive() {
                let message = "Pod sandbox changed, it will be killed and re-created.";
                self.shared.events.normal(About::pod(pod), "SandboxChanged", message);
            }
            self.kill_everything(pod, observed).await;
            self.purge_init(pod, observed).await;
        }
        self.kill_some(pod, observed, plan).await;
        if !plan.kills.is_empty() {
            // What starts in their place is planned on what they left.
            return Next::Now;
        }
        let (sandbox_id, attempt) = match (&plan.sandbox, plan.create_sandbox) {
            (_, Some(attempt)) => (None, attempt),
            (Some(id), None) => (Some(id.clone()), observed.sandboxes.first().map_or(0, |s| s.attempt)),
            (None, None) => return Next::At(None),
        };
        let config = match start::sandbox_config(&self.shared, pod, attempt).await {
            Ok(config) => config,
            Err(error) => return self.sandbox_failed(pod, &error),
        };
        let Some(sandbox_id) = sandbox_id else {
            return match start::run_sandbox(&self.shared, pod, &config).await {
                Ok(_) => {
                    self.retry.reset();
                    Next::Now
                }
                Err(error) => self.sandbox_failed(pod, &error),
            };
        };
        let stop = CancellationToken::new();
        let starter = Starter {
            shared: &self.shared,
            pod,
            observed,
            volumes,
            sandbox_id: &sandbox_id,
            sandbox: &config,
            ips: observed.ips(),
            stop: &stop,
        };
        let mut input_now = self.input.clone();
        let ends = async {
            // Resolves when the pod is to end while containers are being started; else never.
            loop {
                if input_now.changed().await.is_err() {
                    return std::future::pending().await;
                }
                let now = input_now.borrow();
                if now.is_gone || now.pod.is_terminating() {
                    return;
                }
            }
        };
        let mut blocked = self.blocked.clone();
        let mut holds = std::mem::take(&mut self.holds);
        let outcome = {
            let starts = start_all(&starter, plan, &mut blocked, &mut holds);
            tokio::pin!(starts, ends);
            tokio::select! {
                outcome = &mut starts => outcome,
                () = &mut ends => {
                    stop.cancel();
                    starts.await
                }
            }
        };
        self.blocked = blocked;
        self.holds = holds;
        if outcome.is_news {
            self.publish(input, observed, false, None);
        }
        self.after_starts(&outcome)
    }

    fn after_starts(&mut self, outcome: &Started) -> Next {
        if outcome.any {
            self.retry.reset();
            return Next::Now;
        }
        let usual = match (!outcome.without_time.is_empty()).then(|| self.after_error()) {
            Some(Next::At(at)) => at,
            Some(Next::Now) | None => None,
        };
        for (name, hash) in &outcome.without_time {
            self.holds.insert(name.clone(), (*hash, usual.unwrap_or(0)));
        }
        Next::At([outcome.retry_at, usual].into_iter().flatten().min())
    }

    fn sandbox_failed(&mut self, pod: &Pod, error: &str) -> Next {
        let message = format!("Failed to create pod sandbox: {error}");
        self.shared.events.warning(About::pod(pod), "FailedCreatePodSandBox", message);
        self.after_error()
    }

    /// Stops containers and sandboxes. Shorter grace periods that arrive meanwhile are obeyed.
    async fn kill_everything(&mut self, pod: &Arc<Pod>, observed: &Observed) -> bool {
        let mut grace = grace_of(&self.input.borrow());
        let shared = self.shared.clone();
        let mut all = KillAll::begin(&shared, pod, observed, grace);
        let mut input = self.input.clone();
        let mut is_open = true;
        loop {
            tokio::select! {
                () = all.containers_ended() => break,
                changed = input.changed(), if is_open => {
                    is_open = changed.is_ok();
                    let now = grace_of(&input.borrow());
                    if now < grace {
                        grace = now;
                        all.hasten(grace);
                    }
                }
            }
        }
        kill::stop_sandboxes(&self.shared, observed).await
    }

    /// In a new sandbox initialization begins anew: what is known of the init containers must not say otherwise.
    async fn purge_init(&self, pod: &Pod, observed: &Observed) {
        for record in &observed.containers {
            if !matches!(pod.container(&record.name), Some((Role::Init, _))) {
                continue;
            }
            let request = RemoveContainerRequest { container_id: record.id.clone() };
            if let Err(error) = self.shared.runtime.remove_container(request).await {
                tracing::debug!(container = record.id, %error, "cannot remove an init container");
            }
        }
    }

    /// A pod that ends, or has ended and waits for its deletion.
    async fn end(&mut self, input: &Input, observed: Observed, verdict: Option<Blocked>) -> Option<Next> {
        self.probes.pod_ends();
        self.blocked.clear();
        if observed.is_alive() {
            self.publish(input, &observed, false, verdict.as_ref());
            if !self.kill_everything(&input.pod, &observed).await {
                return Some(self.after_error());
            }
            let Ok(after) = observe(&self.shared.runtime, &self.uid).await else { return Some(self.after_error()) };
            if after.is_alive() {
                return Some(self.after_error());
            }
            let newest = self.input.borrow().clone();
            return self.ended(&newest, &after, verdict).await;
        }
        self.ended(input, &observed, verdict).await
    }

    /// Nothing runs any more.
    async fn ended(&mut self, input: &Input, observed: &Observed, verdict: Option<Blocked>) -> Option<Next> {
        let pod = &input.pod;
        self.publish(input, observed, true, verdict.as_ref());
        self.probes.stop().await;
        self.shared.objects.release(&self.uid);
        self.shared.puller.forget(&self.uid);
        self.shared.crashes.lock().forget(&format!("{}_", self.uid));
        if let Err(error) = self.shared.volumes.tear_down(&self.uid).await {
            tracing::warn!(pod = pod.key(), %error, "volumes of the pod are left behind for now");
            return Some(self.after_error());
        }
        let is_to_go = input.is_gone || pod.is_terminating();
        if !is_to_go {
            return Some(Next::At(None));
        }
        self.hand_on(input, None, true);
        if !input.is_gone {
            // The API object goes when the final status is written; then this worker sees it gone.
            return Some(Next::At(None));
        }
        self.remove(pod, observed).await;
        self.shared.registry.write().remove(&self.uid);
        None
    }

    /// Nothing of the pod is left on the node.
    async fn remove(&self, pod: &Pod, observed: &Observed) {
        for sandbox in &observed.sandboxes {
            let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            if let Err(error) = self.shared.runtime.remove_pod_sandbox(request).await {
                tracing::warn!(sandbox = sandbox.id, %error, "cannot remove the sandbox");
            }
        }
        for record in &observed.containers {
            let request = RemoveContainerRequest { container_id: record.id.clone() };
            if let Err(error) = self.shared.runtime.remove_container(request).await {
                tracing::debug!(container = record.id, %error, "cannot remove the container");
            }
        }
        let m = &pod.metadata;
        let logs = sandbox::log_directory(&self.shared.node, &m.namespace, &m.name, &m.uid);
        let links = self.shared.links_dir.clone();
        let prefix = format!("{}_{}_", m.name, m.namespace);
        let ids: Vec<String> = observed.containers.iter().map(|c| format!("-{}.log", c.id)).collect();
        let work = move || {
            // What cannot be removed now is found again by the garbage collector.
            let _ = std::fs::remove_dir_all(logs);
            for entry in std::fs::read_dir(links).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(&prefix) && ids.iter().any(|id| name.ends_with(id)) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        };
        let _ = tokio::task::spawn_blocking(work).await;
    }
}

/// How long containers may take to end. A pod that is removed from the API while it runs was deleted by force.
fn grace_of(input: &Input) -> i64 {
    if input.is_gone { 0 } else { input.pod.grace_seconds() }
}

/// What came of a round of starts.
#[derive(Default)]
struct Started {
    any: bool,
    /// Something that is shown as waiting changed.
    is_news: bool,
    retry_at: Option<i64>,
    /// What failed and has no time of its own: name and hash.
    without_time: Vec<(String, u64)>,
}

async fn start_all(
    starter: &Starter<'_>,
    plan: &Plan,
    blocked: &mut HashMap<String, Blocked>,
    holds: &mut Holds,
) -> Started {
    let mut out = Started::default();
    for (role, index) in &plan.starts {
        if starter.stop.is_cancelled() {
            break;
        }
        let Some(container) = starter.pod.containers(*role).get(*index) else { continue };
        let hash = labels::hash(container);
        let held =
            holds.get(&container.name).filter(|(of, until)| *of == hash && starter.shared.clock.nanos() < *until);
        let failed = match held {
            Some((_, until)) => {
                out.wait_until(*until);
                true
            }
            None => match starter.start(container).await {
                Ok(()) => {
                    blocked.remove(&container.name);
                    holds.remove(&container.name);
                    out.any = true;
                    false
                }
                Err(failure) => {
                    out.is_news |= blocked.get(&container.name) != Some(&failure.blocked);
                    match failure.retry_at {
                        Some(at) => {
                            holds.insert(container.name.clone(), (hash, at));
                            out.wait_until(at);
                        }
                        // What is missing is watched: its arrival must not have to wait.
                        None if failure.blocked.reason == "CreateContainerConfigError" => {
                            holds.remove(&container.name);
                            out.wait_until(starter.shared.clock.nanos() + 10 * SECOND);
                        }
                        None => out.without_time.push((container.name.clone(), hash)),
                    }
                    blocked.insert(container.name.clone(), failure.blocked);
                    true
                }
            },
        };
        // The next init container waits for this one.
        if failed && *role == Role::Init {
            break;
        }
    }
    out
}

impl Started {
    fn wait_until(&mut self, at: i64) {
        self.retry_at = Some(self.retry_at.map_or(at, |before| before.min(at)));
    }
}
