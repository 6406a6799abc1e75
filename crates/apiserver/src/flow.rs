//! Priority and fairness (KEP-1040): each request belongs to a flow of a priority level; a level has seats, and what finds none free
//! waits in one of its queues, where flows take turns, or is told to come again.
//!
//! ```text
//! request --classify: FlowSchemas by precedence--> level, flow --acquire--> seat (freed when the reply begins) | 429
//! ```
//! A level that is busy borrows seats that others may lend and do not use. Requests of components in this process are not counted.

mod classify;
mod level;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use object::{Object, Reason, Status};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::metrics::flow::{Executing, Pair};
use crate::user::User;
use classify::{Schema, Wanted};
use level::{Level, Seat, Settings};

const SCHEMAS: &str = "/registry/flowschemas/";
const LEVELS: &str = "/registry/prioritylevelconfigurations/";

/// Seats of all levels together: upstream's 400 for reads and 200 for writes.
const SEATS: usize = 600;
/// How long a request waits for a seat at most: a quarter of a minute.
const PATIENCE: Duration = Duration::from_secs(15);

/// Schemas in the order in which they are tried, and the levels.
#[derive(Default)]
struct Plan {
    schemas: Vec<(Schema, Pair)>,
    levels: BTreeMap<String, Arc<Level>>,
}

/// The limiter.
#[derive(Default)]
pub(crate) struct Flow {
    plan: ArcSwap<Plan>,
}

/// A request that may go on, and what it was taken for.
pub(crate) struct Admitted {
    /// Freed when it is dropped; none for exempt requests.
    pub(crate) seat: Option<Seat>,
    /// Counts it as long as it is handled.
    pub(crate) executing: Option<Executing>,
    /// UIDs of FlowSchema and PriorityLevelConfiguration, for the reply's headers.
    pub(crate) uids: Option<(String, String)>,
}

impl Flow {
    /// A seat for the request; 429 when there is none in time.
    pub(crate) async fn admit(&self, user: &User, wanted: Wanted<'_>) -> Result<Admitted, Status> {
        let plan = self.plan.load_full();
        let Some((schema, pair, level)) = plan.schemas.iter().find_map(|(schema, pair)| {
            let level = plan.levels.get(&schema.level)?;
            schema.matches(user, &wanted).then_some((schema, pair, level))
        }) else {
            return Ok(Admitted { seat: None, executing: None, uids: None });
        };
        let uids = Some((schema.uid.clone(), level.uid().to_owned()));
        let waiting = pair.waiting();
        if level.is_exempt() {
            return Ok(Admitted { seat: None, executing: Some(waiting.dispatched()), uids });
        }
        let flow = schema.flow(user, &wanted);
        let others: Vec<Arc<Level>> = plan.levels.values().filter(|l| !Arc::ptr_eq(l, level)).cloned().collect();
        match tokio::time::timeout(PATIENCE, level.clone().acquire(&flow, &others)).await {
            Ok(Some(seat)) => Ok(Admitted { seat: Some(seat), executing: Some(waiting.dispatched()), uids }),
            refused => {
                waiting.rejected(if refused.is_ok() { "queue-full" } else { "time-out" });
                let mut status = Status::new(Reason::TooManyRequests, "Too many requests, please try again later.");
                status.retry_after_seconds = 1;
                Err(status)
            }
        }
    }

    fn rebuild(&self, schemas: &[Arc<Object>], levels: &[Arc<Object>]) {
        let mut parsed: Vec<Schema> = schemas.iter().filter_map(|o| Schema::of(o)).collect();
        parsed.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        let settings: Vec<Settings> = levels.iter().filter_map(|o| Settings::of(o)).collect();
        let shares: u64 = settings.iter().map(|s| s.shares).sum();
        let before = self.plan.load();
        let levels = settings.into_iter().map(|settings| {
            let seats = (SEATS as u64 * settings.shares).div_ceil(shares.max(1)) as usize;
            let level = match before.levels.get(&settings.name) {
                // Requests hold seats of the level that there is.
                Some(known) if known.uid() == settings.uid => {
                    known.set(&settings, seats);
                    known.clone()
                }
                _ => Arc::new(Level::new(&settings, seats)),
            };
            (settings.name, level)
        });
        let schemas = parsed.into_iter().map(|schema| {
            let pair = Pair::of(&schema.name, &schema.level);
            (schema, pair)
        });
        self.plan.store(Arc::new(Plan { schemas: schemas.collect(), levels: levels.collect() }));
    }
}

impl Api {
    /// Reads schemas and levels anew; the revision that they were read at.
    pub(crate) fn reload_flows(&self) -> u64 {
        let read = |prefix: &str| self.store.range(prefix, None, 0, 0).map(|page| (page.revision, page.items));
        let (Ok((one, schemas)), Ok((two, levels))) = (read(SCHEMAS), read(LEVELS)) else {
            return self.store.revision();
        };
        let objects = |items: Vec<store::Versioned>| items.into_iter().map(|v| v.object).collect::<Vec<_>>();
        self.flow.rebuild(&objects(schemas), &objects(levels));
        one.min(two)
    }

    /// Keeps them current until the token is cancelled.
    pub(crate) async fn follow_flows(self: Arc<Self>, token: CancellationToken) {
        loop {
            let revision = self.reload_flows();
            let watches: Vec<_> = [SCHEMAS, LEVELS].iter().filter_map(|p| self.store.watch(p, revision).ok()).collect();
            let mut changes = futures::stream::select_all(watches);
            tokio::select! {
                () = token.cancelled() => return,
                change = changes.next() => if change.is_none() { return },
            }
        }
    }
}

pub(crate) use classify::Wanted as Request;
