//! Priority and fairness (KEP-1040): each request belongs to a flow of a priority level; a level has seats, and what finds none free
//! waits in one of its queues, where flows take turns, or is told to come again.
//!
//! ```text
//! request --classify: FlowSchemas by precedence--> level, flow --acquire--> seats (freed when the reply begins) | 429
//! ```
//! A level that is busy borrows seats that others may lend and do not use. A list takes a seat for each hundred objects that it looks at.
//! Requests of components in this process are not counted, and neither are those that last (exec, logs, proxies).

mod classify;
mod dump;
mod level;
mod objects;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use http::HeaderValue;
use object::Object;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::metrics::flow::{Executing, Pair};
use crate::user::User;
pub(crate) use classify::Wanted as Request;
use classify::{Schema, Wanted};
pub(crate) use level::Seat;
use level::{Asked, Level, Outcome, Settings};

const SCHEMAS: &str = "/registry/flowschemas/";
const LEVELS: &str = "/registry/prioritylevelconfigurations/";

/// How long a request waits for a seat at most: a quarter of a minute.
const PATIENCE: Duration = Duration::from_secs(15);
/// Objects that a list looks at for each of its seats.
const OBJECTS_PER_SEAT: usize = 100;
/// How long the number of a resource's objects is believed.
const COUNT_LIFE: Duration = Duration::from_secs(10);
/// How often the default objects are looked after, besides when one changes.
const LOOK: Duration = Duration::from_secs(60);

/// Schemas in the order in which they are tried, and the levels.
#[derive(Default)]
struct Plan {
    schemas: Vec<(Arc<Schema>, Pair)>,
    levels: BTreeMap<String, Arc<Level>>,
}

/// The limiter.
#[derive(Default)]
pub(crate) struct Flow {
    plan: ArcSwap<Plan>,
    /// Number of objects under a prefix, and when they were counted.
    counts: Mutex<HashMap<String, (Instant, usize)>>,
    /// Seats of all levels together.
    seats: usize,
}

/// UIDs of FlowSchema and PriorityLevelConfiguration, for the reply's headers.
pub(crate) type Uids = (HeaderValue, HeaderValue);

/// A request that may go on, and what it was taken for.
pub(crate) struct Admitted {
    /// Freed when it is dropped.
    pub(crate) seat: Option<Seat>,
    /// Counts it as long as it is handled.
    pub(crate) executing: Option<Executing>,
    pub(crate) uids: Option<Uids>,
}

/// What a list is about, for the estimate of its work.
pub(crate) struct Work<'a> {
    /// Prefix of the keys that it looks at.
    pub(crate) prefix: &'a str,
    pub(crate) limit: usize,
    /// By labels or fields: more is looked at than is found.
    pub(crate) selective: bool,
}

impl Flow {
    /// A limiter of so many seats, without levels yet.
    pub(crate) fn of(seats: usize) -> Self {
        Self { seats, ..Self::default() }
    }

    /// Seats for the request; what it was taken for when there are none in time.
    pub(crate) async fn admit(
        &self,
        user: &User,
        wanted: &Wanted<'_>,
        seats: impl FnOnce() -> usize,
    ) -> Result<Admitted, Uids> {
        let plan = self.plan.load_full();
        let Some((schema, pair, level)) = plan.schemas.iter().find_map(|(schema, pair)| {
            let level = plan.levels.get(&schema.level)?;
            schema.matches(user, wanted).then_some((schema, pair, level))
        }) else {
            return Ok(Admitted { seat: None, executing: None, uids: None });
        };
        let uids = (schema.uid.clone(), level.uid().clone());
        let mut counted = pair.waiting();
        if level.is_exempt() {
            // Upstream's estimate, though nobody counts the seats of this level.
            let executing = Some(counted.dispatched(1, wanted.verb == "watch"));
            return Ok(Admitted { seat: Some(level.pass()), executing, uids: Some(uids) });
        }
        let asked = Asked { schema: schema.clone(), flow: schema.distinguisher(user, wanted), seats: seats() };
        let outcome = level.acquire(asked, || {
            let others = plan.levels.values().filter(|other| !Arc::ptr_eq(other, level));
            others.map(|other| other.lent()).sum()
        });
        let seat = match outcome {
            Outcome::Seat(seat) => seat,
            Outcome::Refused => {
                counted.rejected("queue-full");
                return Err(uids);
            }
            Outcome::Wait(waiting, seats) => {
                counted.queued(seats);
                match tokio::time::timeout(PATIENCE, waiting).await {
                    Ok(Ok(seat)) => seat,
                    Ok(Err(_)) | Err(_) => {
                        level.timed_out();
                        counted.rejected("time-out");
                        return Err(uids);
                    }
                }
            }
        };
        let executing = Some(counted.dispatched(seat.seats(), wanted.verb == "watch"));
        Ok(Admitted { seat: Some(seat), executing, uids: Some(uids) })
    }

    /// Seats that a list needs, as upstream estimates it.
    pub(crate) fn seats_of(&self, work: &Work<'_>, count: impl FnOnce(&str) -> usize) -> usize {
        let objects = match work.limit {
            limit if limit > 0 && !work.selective => limit,
            limit => {
                let now = Instant::now();
                let known = self.counts.lock().get(work.prefix).filter(|(at, _)| now - *at < COUNT_LIFE).copied();
                let count = known.map_or_else(
                    || {
                        let counted = count(work.prefix);
                        self.counts.lock().insert(work.prefix.to_owned(), (now, counted));
                        counted
                    },
                    |(_, count)| count,
                );
                count + limit
            }
        };
        objects.div_ceil(OBJECTS_PER_SEAT).max(1)
    }

    fn rebuild(&self, schemas: &[Arc<Object>], levels: &[Arc<Object>]) {
        let mut parsed: Vec<Schema> = schemas.iter().filter_map(|o| Schema::of(o)).collect();
        parsed.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        let settings: Vec<Settings> = levels.iter().filter_map(|o| Settings::of(o)).collect();
        let shares: u64 = settings.iter().map(|s| s.shares).sum();
        let before = self.plan.load();
        let levels = settings.into_iter().map(|settings| {
            let seats = (self.seats as u64 * settings.shares).div_ceil(shares.max(1)) as usize;
            let level = match before.levels.get(&settings.name) {
                // Requests hold seats of the level that there is.
                Some(known) if known.is_still(&settings) => {
                    known.set(&settings, seats);
                    known.clone()
                }
                _ => Arc::new(Level::new(&settings, seats)),
            };
            (settings.name, level)
        });
        let levels = levels.collect();
        let schemas = parsed.into_iter().map(|schema| {
            let pair = Pair::of(&schema.name, &schema.level);
            (Arc::new(schema), pair)
        });
        self.plan.store(Arc::new(Plan { schemas: schemas.collect(), levels }));
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

    /// Keeps them current, and the default ones in being, until the token is cancelled.
    pub(crate) async fn follow_flows(self: Arc<Self>, token: CancellationToken) {
        loop {
            let revision = self.reload_flows();
            let watches: Vec<_> = [SCHEMAS, LEVELS].iter().filter_map(|p| self.store.watch(p, revision).ok()).collect();
            let mut changes = futures::stream::select_all(watches);
            tokio::select! {
                () = token.cancelled() => return,
                () = self.keep_flows() => {}
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                change = changes.next() => if change.is_none() { return },
            }
        }
    }

    /// Tells the metrics how many seats the levels have.
    pub(crate) fn tell_flows(&self) {
        for (name, level) in &self.flow.plan.load().levels {
            crate::metrics::flow::limits(name, &level.limits(self.flow.seats));
        }
    }

    /// What `/debug/api_priority_and_fairness/...` shows; `None` for other paths.
    pub(crate) fn flow_dump(&self, path: &str) -> Option<String> {
        let plan = self.flow.plan.load();
        match path.strip_prefix("/debug/api_priority_and_fairness/")? {
            "dump_priority_levels" => Some(dump::levels(&plan)),
            "dump_queues" => Some(dump::queues(&plan)),
            "dump_requests" => Some(dump::requests(&plan)),
            _ => None,
        }
    }
}
