//! One pod's life on this node: observe, plan, act, tell; again when something changed.

mod end;
mod round;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use object::Object;
use protos::cri::v1::UpdateContainerResourcesRequest;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::admit;
use super::kill;
use super::observed::{Observed, observe};
use super::plan::{self, Plan};
use super::resize::{self, Change};
use super::stage::{Stage, stage};
use super::start::{self, Starter};
use super::status::{self, Blocked};
use super::writer::Desired;
use crate::api::{Pod, PodStatus};
use crate::clock::SECOND;
use crate::events::About;
use crate::objects;
use crate::probes::{PodProbes, ProbeTarget};
use crate::shared::{Known, Shared};
use crate::volumes::SetUp;
use round::{Holds, Started, start_all};

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
    /// It was found to fit beside the other pods of the node.
    is_admitted: bool,
    holds: Holds,
    probes: PodProbes,
    retry: Retry,
    volume_retry: Retry,
}

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
            is_admitted: false,
            holds: Holds::new(),
            retry: Retry::new(FIRST_RETRY, LAST_RETRY),
            volume_retry: Retry::new(Duration::from_millis(500), Duration::from_secs(122)),
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
                if let Some(verdict) = self.refusal(&input.pod, &observed) {
                    self.shared.events.warning(About::pod(&input.pod), &verdict.reason, &verdict.message);
                    return self.end(input, observed, Some(verdict)).await;
                }
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

    /// Looks once, before anything of the pod exists here, whether it fits.
    fn refusal(&mut self, pod: &Pod, observed: &Observed) -> Option<Blocked> {
        if self.is_admitted || !observed.sandboxes.is_empty() || !observed.containers.is_empty() {
            self.is_admitted = true;
            return None;
        }
        let registry = self.shared.registry.read();
        let others = registry
            .iter()
            .filter(|(uid, known)| **uid != self.uid && !known.pod.is_terminating() && !known.status.is_terminal());
        let refusal = admit::refusal(pod, others.map(|(_, known)| &*known.pod), &self.shared.node);
        drop(registry);
        self.is_admitted = refusal.is_none();
        refusal
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
        if !plan.kill_pod && self.resize(input, observed).await {
            return Next::Now;
        }
        let volumes = match self.shared.volumes.set_up(pod, observed.ips()).await {
            Ok(volumes) => {
                self.volume_retry.reset();
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

    /// Gives running containers the resources that their spec has by now; true when one was ended to start anew with them.
    async fn resize(&mut self, input: &Input, observed: &Observed) -> bool {
        let pod = &input.pod;
        let changes = resize::changes(pod, observed, self.shared.node.memory_bytes);
        if changes.is_empty() {
            return false;
        }
        let mut is_restart = false;
        for change in changes {
            match change {
                Change::Restart(kill) => {
                    kill::kill_one(&self.shared, pod, &kill, observed.ips()).await;
                    is_restart = true;
                }
                Change::Update { id, resources } => {
                    let request = UpdateContainerResourcesRequest {
                        container_id: id.clone(),
                        linux: Some(resources),
                        ..UpdateContainerResourcesRequest::default()
                    };
                    if let Err(error) = self.shared.runtime.update_container_resources(request).await {
                        let message = format!("Error resizing container: {error}");
                        self.shared.events.warning(About::pod(pod), "ResizeError", message);
                    }
                }
            }
        }
        if let Ok(after) = observe(&self.shared.runtime, &self.uid).await {
            self.publish(input, &after, false, None);
        }
        is_restart
    }

    fn volume_failed(&mut self, pod: &Pod, message: &str) -> Next {
        tracing::info!(pod = pod.key(), message, "a volume cannot be set up");
        self.shared.events.warning(About::pod(pod), "FailedMount", message);
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
            if let Some(why) = start::network_not_ready(&self.shared, pod).await {
                self.shared.events.warning(About::pod(pod), "NetworkNotReady", why);
                return self.after_error();
            }
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
            volume_images: Default::default(),
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
}
