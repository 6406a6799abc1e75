//! The audit log: who asked for what, and what came of it, as a policy wants it (`audit.k8s.io/v1`).
//!
//! A request that the policy passes over costs one look at the rules. Events are written in order by one task; when it cannot keep
//! up, requests wait for it: none is lost.

mod event;
mod log;
pub(crate) mod policy;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use base::Tasks;
use tokio::sync::mpsc;

pub(crate) use event::{Asked, Recording};
use policy::Policy;
pub(crate) use policy::{Level, Stage};

/// `--audit-*`.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// What is written down (`--audit-policy-file`); nothing without it.
    pub policy_file: Option<PathBuf>,
    /// Where to (`--audit-log-path`); `-` is the standard output.
    pub log_path: Option<PathBuf>,
    /// Megabytes at which the file is rotated; 0: 100 (`--audit-log-maxsize`).
    pub max_megabytes: u64,
    /// Rotated files that are kept; 0: all (`--audit-log-maxbackup`).
    pub max_backups: usize,
    /// Days for which rotated files are kept; 0: for ever (`--audit-log-maxage`).
    pub max_days: u64,
}

tokio::task_local! {
    /// What is noted about the request that this task handles.
    static NOTES: RefCell<BTreeMap<String, String>>;
}

/// Notes something in the annotations of the event of the request that is handled; nothing where no audit log wants to know.
pub(crate) fn annotate(key: String, value: String) {
    // Not within a request that is recorded: nobody reads it.
    let _ = NOTES.try_with(|notes| notes.borrow_mut().insert(key, value));
}

/// Does the work of a request, and says what was noted meanwhile.
pub(crate) async fn noting<T>(work: impl Future<Output = T>) -> (T, BTreeMap<String, String>) {
    let scope = NOTES.scope(RefCell::default(), async {
        let done = work.await;
        (done, NOTES.with(RefCell::take))
    });
    scope.await
}

/// Events that may wait to be written.
const QUEUE: usize = 10_000;

/// The policy, and the way to the log.
pub(crate) struct Audit {
    policy: Policy,
    lines: mpsc::Sender<String>,
}

impl Audit {
    /// Reads the policy and opens the log; `None` when there is nothing to write down, or nowhere. The error says what is wrong.
    pub(crate) fn open(options: &AuditOptions, tasks: &mut Tasks) -> Result<Option<Self>, String> {
        let (Some(rules), Some(path)) = (&options.policy_file, &options.log_path) else { return Ok(None) };
        let text = std::fs::read_to_string(rules).map_err(|e| format!("cannot read {}: {e}", rules.display()))?;
        let policy = Policy::parse(&text).map_err(|e| format!("{}: {e}", rules.display()))?;
        let file = log::File::open(path, options).map_err(|e| format!("cannot open {}: {e}", path.display()))?;
        let (lines, queue) = mpsc::channel(QUEUE);
        tasks.spawn("audit log", log::write(file, queue, tasks.token().clone()));
        Ok(Some(Self { policy, lines }))
    }

    /// Starts the record of a request; `None` when the policy wants none.
    pub(crate) fn begin(&self, asked: &Asked<'_>) -> Option<Recording> {
        let rule = self.policy.decide(asked);
        (rule.level > Level::None).then(|| Recording::new(asked, rule, self.lines.clone()))
    }
}
