//! One round of starts, and who is left out of it.

use std::collections::HashMap;

use crate::api::Role;
use crate::clock::SECOND;
use crate::labels;
use crate::pods::plan::Plan;
use crate::pods::start::Starter;
use crate::pods::status::Blocked;

/// Until when (nanoseconds since the epoch) a container of this hash is not tried again, by its name. News of any kind
/// wake the worker, its own status among them: without this every failure would be tried twice at once.
pub(super) type Holds = HashMap<String, (u64, i64)>;

/// What came of a round of starts.
#[derive(Default)]
pub(super) struct Started {
    pub(super) any: bool,
    /// Something that is shown as waiting changed.
    pub(super) is_news: bool,
    pub(super) retry_at: Option<i64>,
    /// What failed and has no time of its own: name and hash.
    pub(super) without_time: Vec<(String, u64)>,
}

/// Starts what the plan says, in its order.
pub(super) async fn start_all(
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
