//! Leader election over a Lease, as upstream's `leaderelection`: of several candidates one leads at a time.
//!
//! A candidate judges by its own clock: a lease is free when its record has not changed for its duration.

use std::future::Future;
use std::time::Duration;

use object::Object;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::{LeaseSpec, leases};
use crate::{Client, Resource, Result};

/// Who runs for which lease.
#[derive(Clone)]
pub struct Election {
    /// Under whose rights.
    pub client: Client,
    /// The lease's namespace: `kube-system`.
    pub namespace: String,
    /// The lease's name: `kube-scheduler`.
    pub name: String,
    /// This candidate; unique.
    pub identity: String,
    /// How long others wait for a leader that is silent: 15 s.
    pub lease_duration: Duration,
    /// How long a leader that cannot renew goes on: 10 s.
    pub renew_deadline: Duration,
    /// The pause between attempts: 2 s.
    pub retry_period: Duration,
}

/// What was last seen of the lease, and when by our clock.
#[derive(Default)]
struct Seen {
    spec: LeaseSpec,
    revision: u64,
    at: Option<Instant>,
}

impl Election {
    /// With upstream's times.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            client,
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Waits until this candidate leads, then runs `lead` with a token that is cancelled when the lease is lost.
    /// Returns when `lead` has ended; true when the lease was lost (false: `token` was cancelled, or `lead` was done).
    pub async fn run<F, L>(self, token: CancellationToken, lead: L) -> bool
    where
        L: FnOnce(CancellationToken) -> F,
        F: Future<Output = ()>,
    {
        let mut seen = Seen::default();
        loop {
            tokio::select! {
                () = token.cancelled() => return false,
                taken = self.attempt(&mut seen) => match taken {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(status) => tracing::debug!(error = %status, lease = self.name, "cannot try to lead"),
                },
            }
            tokio::select! {
                () = token.cancelled() => return false,
                () = tokio::time::sleep(self.retry_period) => {}
            }
        }
        tracing::info!(lease = self.name, identity = self.identity, "became the leader");
        let leading = token.child_token();
        let led = lead(leading.clone());
        tokio::pin!(led);
        let lost = tokio::select! {
            () = &mut led => {
                self.release(&mut seen).await;
                return false;
            }
            lost = self.renew(&mut seen, &token) => lost,
        };
        leading.cancel();
        led.await;
        if !lost {
            self.release(&mut seen).await;
        }
        lost
    }

    /// Renews until the deadline passes without success (true) or `token` is cancelled (false).
    async fn renew(&self, seen: &mut Seen, token: &CancellationToken) -> bool {
        let mut deadline = Instant::now() + self.renew_deadline;
        loop {
            tokio::select! {
                () = token.cancelled() => return false,
                () = tokio::time::sleep(self.retry_period) => {}
            }
            match tokio::time::timeout_at(deadline, self.attempt(seen)).await {
                Ok(Ok(true)) => deadline = Instant::now() + self.renew_deadline,
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.name, holder = seen.spec.holder_identity, "another one leads");
                    return true;
                }
                Ok(Err(status)) => tracing::warn!(error = %status, lease = self.name, "cannot renew the lease"),
                Err(_) => {
                    tracing::error!(lease = self.name, "the lease is lost: it could not be renewed in time");
                    return true;
                }
            }
        }
    }

    /// Takes or renews the lease; false when another one holds it.
    async fn attempt(&self, seen: &mut Seen) -> Result<bool> {
        let at = Resource::object(&leases(), Some(&self.namespace), &self.name);
        let current = match self.client.get(&at).await {
            Ok(lease) => lease,
            Err(status) if status.is_not_found() => {
                let lease = self.body(&LeaseSpec::default(), None);
                let at = Resource::collection(&leases(), Some(&self.namespace));
                let made = self.client.create(&at, &lease).await;
                return match made {
                    Ok(lease) => {
                        seen.note(&lease);
                        Ok(true)
                    }
                    Err(status) if status.is_already_exists() => Ok(false),
                    Err(status) => Err(status),
                };
            }
            Err(status) => return Err(status),
        };
        seen.note(&current);
        if seen.held_by_another(&self.identity) {
            return Ok(false);
        }
        match self.client.update(&at, &self.body(&seen.spec, Some(&current))).await {
            Ok(lease) => {
                seen.note(&lease);
                Ok(true)
            }
            Err(status) if status.is_conflict() => Ok(false),
            Err(status) => Err(status),
        }
    }

    fn body(&self, before: &LeaseSpec, current: Option<&Object>) -> Value {
        let now = base::time::now_micros();
        let mine = before.holder_identity == self.identity;
        let mut lease = current.and_then(|o| o.value().ok()).unwrap_or_else(|| {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.name, "namespace": self.namespace}})
        });
        let first = current.is_none();
        lease["spec"] = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.lease_duration.as_secs(),
            "acquireTime": if mine { before.acquire_time.clone() } else { now.clone() },
            "renewTime": now,
            "leaseTransitions": before.lease_transitions + i64::from(!mine && !first),
        });
        lease
    }

    /// Gives the lease up, so that another candidate need not wait. Best effort.
    async fn release(&self, seen: &mut Seen) {
        if seen.spec.holder_identity != self.identity {
            return;
        }
        let now = base::time::now_micros();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self.namespace, "resourceVersion": seen.revision.to_string()},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now,
                "leaseTransitions": seen.spec.lease_transitions},
        });
        let at = Resource::object(&leases(), Some(&self.namespace), &self.name);
        let given = tokio::time::timeout(Duration::from_secs(3), self.client.update(&at, &lease)).await;
        if let Ok(Err(status)) = given {
            tracing::debug!(error = %status, lease = self.name, "the lease could not be given up");
        }
    }
}

impl Seen {
    fn note(&mut self, lease: &Object) {
        if self.at.is_none() || self.revision != lease.head.resource_version {
            self.at = Some(Instant::now());
            self.revision = lease.head.resource_version;
            self.spec = LeaseSpec::of(lease);
        }
    }

    fn held_by_another(&self, identity: &str) -> bool {
        let holder = &self.spec.holder_identity;
        let duration = Duration::from_secs(self.spec.lease_duration_seconds.max(0).unsigned_abs());
        !holder.is_empty() && holder != identity && self.at.is_some_and(|at| at.elapsed() < duration)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::testing::FakeServer;

    fn holder(server: &FakeServer) -> String {
        server.get(&leases(), "kube-system", "x").map(|l| LeaseSpec::of(&l).holder_identity).unwrap_or_default()
    }

    fn candidate(
        server: &FakeServer,
        identity: &'static str,
        tasks: &mut base::Tasks,
        log: &mpsc::Sender<String>,
    ) -> CancellationToken {
        let election = Election::new(server.client(identity), "kube-system", "x", identity);
        let token = tasks.token().child_token();
        let (log, until) = (log.clone(), token.clone());
        tasks.spawn("candidate", async move {
            let lost = election
                .run(until, |leading| async move {
                    log.send(format!("{identity} leads")).await.unwrap();
                    leading.cancelled().await;
                    log.send(format!("{identity} stops")).await.unwrap();
                })
                .await;
            assert!(!lost, "{identity} lost the lease");
        });
        token
    }

    #[tokio::test(start_paused = true)]
    async fn one_leads_and_gives_up_to_the_other() {
        let server = FakeServer::new();
        let (log, mut said) = mpsc::channel(9);
        let mut tasks = base::Tasks::new(&CancellationToken::new());
        let a = candidate(&server, "a", &mut tasks, &log);
        assert_eq!(said.recv().await.unwrap(), "a leads");
        candidate(&server, "b", &mut tasks, &log);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert!(said.try_recv().is_err(), "b waits as long as a renews");
        assert_eq!(holder(&server), "a");
        a.cancel();
        assert_eq!(said.recv().await.unwrap(), "a stops");
        assert_eq!(said.recv().await.unwrap(), "b leads");
        assert_eq!(holder(&server), "b");
        let spec = LeaseSpec::of(&server.get(&leases(), "kube-system", "x").unwrap());
        assert_eq!(spec.lease_transitions, 1);
        tasks.shutdown().await;
    }
}
