//! From the informer's changes to workers: one per uid, restarted when it panics, gone when its pod is.

use std::collections::HashMap;
use std::sync::Arc;

use client::Change;
use object::Object;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::worker::{Input, Parts, Worker};
use super::writer::{Desired, Writer};
use crate::api::{self, Pod};
use crate::shared::Shared;

/// Wakes workers from outside: by pod uid.
#[derive(Clone, Default)]
pub(crate) struct Wakers {
    by_uid: Arc<parking_lot::Mutex<HashMap<String, Arc<Notify>>>>,
}

impl Wakers {
    /// The runtime changed something of this pod.
    pub(crate) fn wake(&self, uid: &str) {
        if let Some(wake) = self.by_uid.lock().get(uid) {
            wake.notify_one();
        }
    }
    /// True when the pod has a worker.
    pub(crate) fn has(&self, uid: &str) -> bool {
        self.by_uid.lock().contains_key(uid)
    }
}

struct Running {
    input: watch::Sender<Input>,
}

/// Runs the workers.
pub(crate) struct Manager {
    shared: Arc<Shared>,
    wakers: Wakers,
    running: HashMap<String, Running>,
    tasks: JoinSet<String>,
    /// Which task serves which uid, to find it when it panics.
    ids: HashMap<tokio::task::Id, String>,
    token: CancellationToken,
}

impl Manager {
    /// A manager without pods.
    pub(crate) fn new(shared: Arc<Shared>, wakers: Wakers, token: CancellationToken) -> Self {
        Self { shared, wakers, running: HashMap::new(), tasks: JoinSet::new(), ids: HashMap::new(), token }
    }

    /// Follows the changes until cancelled; then waits for the workers to leave.
    pub(crate) async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        loop {
            let token = self.token.clone();
            tokio::select! {
                () = token.cancelled() => break,
                change = changes.recv() => match change {
                    Some(change) => self.apply(&change),
                    None => break,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Applied { old, new } => {
                if let Some(old) = old.as_ref().filter(|old| old.head.uid != new.head.uid) {
                    self.set(old, true);
                }
                self.set(new, false);
            }
            Change::Deleted(last) => self.set(last, true),
        }
    }

    fn set(&mut self, object: &Arc<Object>, is_gone: bool) {
        let pod: Pod = match api::view(object) {
            Ok(pod) => pod,
            Err(error) => {
                tracing::error!(pod = object.head.key(), %error, "the pod cannot be read");
                return;
            }
        };
        let uid = object.head.uid.clone();
        let input = Input { pod: Arc::new(pod), object: object.clone(), is_gone };
        match self.running.get(&uid) {
            Some(running) => {
                running.input.send_if_modified(|now| {
                    // Once gone, always gone: a late update cannot bring it back.
                    let keep = now.is_gone && !input.is_gone;
                    if !keep {
                        *now = input;
                    }
                    !keep
                });
            }
            None if is_gone => {}
            None => self.start(uid, input),
        }
    }

    fn start(&mut self, uid: String, input: Input) {
        let (sender, receiver) = watch::channel(input);
        self.running.insert(uid.clone(), Running { input: sender });
        self.spawn(uid, receiver);
    }

    fn spawn(&mut self, uid: String, input: watch::Receiver<Input>) {
        let wake = Arc::new(Notify::new());
        self.wakers.by_uid.lock().insert(uid.clone(), wake.clone());
        let pod = input.borrow().pod.clone();
        let (desired, to_write) = watch::channel(Desired::default());
        let m = &pod.metadata;
        let writer = Writer::new(self.shared.client.clone(), &m.namespace, &m.name, &m.uid, to_write);
        let worker = Worker::new(Parts { shared: self.shared.clone(), input, desired, wake });
        let span = tracing::info_span!("pod", name = pod.key());
        let token = self.token.clone();
        let key = uid.clone();
        let task = async move {
            let write = async {
                tokio::select! {
                    () = token.cancelled() => {}
                    () = writer.run() => {}
                }
            };
            futures::future::join(worker.run(token.clone()), write).await;
            uid
        };
        let id = self.tasks.spawn(task.instrument(span)).id();
        self.ids.insert(id, key);
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, String), tokio::task::JoinError>) {
        match ended {
            Ok((id, uid)) => {
                self.ids.remove(&id);
                self.wakers.by_uid.lock().remove(&uid);
                self.running.remove(&uid);
            }
            Err(error) => {
                let Some(uid) = self.ids.remove(&error.id()) else { return };
                tracing::error!(uid, %error, "a pod worker failed and is started again");
                let input = self.running.get(&uid).map(|r| r.input.subscribe());
                if let Some(input) = input.filter(|_| !self.token.is_cancelled()) {
                    self.spawn(uid, input);
                }
            }
        }
    }
}
