//! The embedded store: sequencer, writer thread, and the [`Backend`] over them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use object::{Object, Texts};
use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::backend::{Backend, Committed, Compare, Event, EventKind, Op, Page, StoreError, Txn, Versioned, Watch};
use crate::disk::{self, Disk, Rest};
use crate::lock::lock;
use crate::memory::Memory;
use crate::parallel;
use crate::snapshot::FILE;
use crate::tally::Tally;
use crate::transform::{Sealing, Transform};
use crate::watching;

/// Places in the queue to the disk; a transaction takes one, and one more for each [`PLACE_BYTES`] (64 MiB in all).
/// Further transactions wait to be queued.
const MOST_QUEUED: u32 = 4096;
/// See [`MOST_QUEUED`].
const PLACE_BYTES: usize = 16 << 10;

/// How long nothing is written before the file is made ready for a quick start.
const PAUSE: Duration = Duration::from_secs(1);

/// How to open a store.
#[derive(Clone)]
pub struct Options {
    /// Computes `head.fields` of objects read from disk (they are not stored).
    pub fields: fn(&Object) -> Texts,
    /// What stands on disk, in snapshots and in etcd instead of values; `None`: the values.
    pub transform: Option<Arc<dyn Transform>>,
}

impl Default for Options {
    fn default() -> Self {
        Self { fields: |_| Texts::default(), transform: None }
    }
}

/// One durable store in one directory, used by one process at a time.
pub struct Embedded {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    file: PathBuf,
    /// Held for its lock.
    _lock: File,
}

struct Shared {
    memory: Arc<RwLock<Memory>>,
    sequencer: Mutex<Sequencer>,
    work: Condvar,
    places: Arc<Semaphore>,
    sealing: Arc<Sealing>,
    options: Options,
}

/// Orders transactions. Writes that are not durable yet are known here only.
struct Sequencer {
    next_revision: u64,
    /// Key -> its newest pending value.
    pending: HashMap<Arc<str>, Pending>,
    queue: Vec<Job>,
    closed: bool,
}

struct Pending {
    revision: u64,
    object: Option<Arc<Object>>,
}

struct Job {
    revision: u64,
    events: Vec<Event>,
    objects: Vec<Option<Arc<Object>>>,
    reply: oneshot::Sender<Result<Committed, StoreError>>,
    /// Given back when the job is done, even if its caller has gone away before.
    _place: OwnedSemaphorePermit,
}

/// However the writer ends, nobody waits for it any longer.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let left = {
            let mut sequencer = self.0.sequencer.lock();
            sequencer.closed = true;
            std::mem::take(&mut sequencer.queue)
        };
        // Without their reply, the callers hear that the store is closed.
        drop(left);
        self.0.memory.write().close();
    }
}

impl Embedded {
    /// Opens the store in `dir` (created if need be), checks it, and starts its writer. Refuses damaged files and a directory
    /// that another process uses.
    pub fn open(dir: &Path, options: Options) -> Result<Self, StoreError> {
        let failed = |operation: String| move |source| StoreError::Io { operation, source };
        fs::create_dir_all(dir).map_err(failed(format!("create {}", dir.display())))?;
        // Secrets are in there.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
            .map_err(failed(format!("protect {}", dir.display())))?;
        let lock = lock(dir)?;
        let sealing = Arc::new(Sealing::new(options.transform.clone()));
        let file = dir.join(FILE);
        let (disk, loaded) = Disk::open(file.clone(), sealing.clone())?;
        let objects = parallel::map(loaded.objects, |mut value| {
            let fields = (options.fields)(&value.object);
            if let Some(object) = Arc::get_mut(&mut value.object) {
                object.head.fields = fields;
            }
            value
        });
        let mut memory = Memory::new(loaded.revision, objects);
        memory.closed = loaded.closed.into_iter().collect();
        let sequencer =
            Sequencer { next_revision: loaded.revision + 1, pending: HashMap::new(), queue: Vec::new(), closed: false };
        let shared = Arc::new(Shared {
            memory: Arc::new(RwLock::new(memory)),
            sequencer: Mutex::new(sequencer),
            work: Condvar::new(),
            places: Arc::new(Semaphore::new(MOST_QUEUED as usize)),
            sealing,
            options,
        });
        let writer = std::thread::Builder::new()
            .name("store writer".into())
            .spawn({
                let shared = shared.clone();
                move || shared.write_loop(disk)
            })
            .map_err(failed("start the writer thread".into()))?;
        Ok(Self { shared, writer: Some(writer), file, _lock: lock })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.sequencer.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so; there is nobody to tell here.
            let _ = writer.join();
        }
    }
}

impl Shared {
    /// Drains the queue: everything that waits becomes one durable transaction.
    fn write_loop(&self, mut disk: Disk) {
        let _closing = Closing(self);
        loop {
            let Some(jobs) = self.next_jobs(&mut disk) else { return };
            let last = jobs.last().map_or(0, |j| j.revision);
            let events: Vec<Event> = jobs.iter().flat_map(|j| j.events.iter().cloned()).collect();
            match disk.write(&events, last) {
                Ok(()) => self.publish(jobs, events, last),
                Err(error) => self.fail(jobs, &error),
            }
        }
    }

    /// What is queued, once something is; `None` when the store closes. Meanwhile the file comes to rest.
    fn next_jobs(&self, disk: &mut Disk) -> Option<Vec<Job>> {
        let mut sequencer = self.sequencer.lock();
        while sequencer.queue.is_empty() && !sequencer.closed {
            let is_time = match disk.wants_rest() {
                Rest::Overdue => true,
                Rest::Wanted => self.work.wait_for(&mut sequencer, PAUSE).timed_out(),
                Rest::Done => {
                    self.work.wait(&mut sequencer);
                    false
                }
            };
            if is_time && sequencer.queue.is_empty() && !sequencer.closed {
                MutexGuard::unlocked(&mut sequencer, || disk.rest());
            }
        }
        (!sequencer.queue.is_empty()).then(|| std::mem::take(&mut sequencer.queue))
    }

    fn publish(&self, jobs: Vec<Job>, events: Vec<Event>, last: u64) {
        let watchers = {
            let mut memory = self.memory.write();
            let watchers = memory.publish(events);
            memory.advance(last);
            watchers
        };
        self.sequencer.lock().pending.retain(|_, p| p.revision > last);
        for job in jobs {
            // A caller that went away does not undo its write.
            let _ = job.reply.send(Ok(Committed { revision: job.revision, objects: job.objects }));
        }
        for watcher in watchers {
            watcher.send_replace(last);
        }
    }

    /// Nothing of these jobs is durable, and nothing of those that were queued on top of them can stand.
    fn fail(&self, mut jobs: Vec<Job>, error: &StoreError) {
        tracing::error!(error = %base::Chain(error), "the store cannot write");
        {
            let mut sequencer = self.sequencer.lock();
            jobs.append(&mut sequencer.queue);
            sequencer.pending.clear();
            sequencer.next_revision = self.memory.read().revision + 1;
        }
        for job in jobs {
            let source = match error {
                StoreError::Io { source, .. } => std::io::Error::new(source.kind(), source.to_string()),
                other => std::io::Error::other(other.to_string()),
            };
            let _ = job.reply.send(Err(StoreError::Io { operation: "commit a transaction".into(), source }));
        }
    }

    /// Checks, orders and queues a transaction.
    fn enqueue(
        &self,
        txn: Txn,
        place: OwnedSemaphorePermit,
    ) -> Result<oneshot::Receiver<Result<Committed, StoreError>>, StoreError> {
        let mut sequencer = self.sequencer.lock();
        if sequencer.closed {
            return Err(StoreError::Closed);
        }
        // Publication takes the memory lock first and this one after: holding this one, the newest value of a key is
        // its pending one if there is one, else the visible one.
        let memory = self.memory.read();
        let newest = |sequencer: &Sequencer, key: &Arc<str>| -> Option<(u64, Arc<Object>)> {
            match sequencer.pending.get(key) {
                Some(pending) => Some((pending.revision, pending.object.clone()?)),
                None => memory.get(key).map(|v| (v.mod_revision, v.object)),
            }
        };
        for compare in &txn.compares {
            let (key, holds, current) = match compare {
                Compare::ModRevision(key, revision) => {
                    let current = newest(&sequencer, key);
                    (key, current.as_ref().is_some_and(|(r, _)| r == revision), current)
                }
                Compare::Absent(key) => {
                    let current = newest(&sequencer, key);
                    // What is there and cannot be read is there.
                    let is_closed = current.is_none() && memory.closed.contains_key(key);
                    (key, current.is_none() && !is_closed, current)
                }
            };
            if !holds {
                let current =
                    current.map(|(mod_revision, object)| Versioned { key: key.clone(), mod_revision, object });
                return Err(StoreError::Conflict { key: key.clone(), current });
            }
        }
        let revision = sequencer.next_revision;
        sequencer.next_revision += 1;
        let mut job_events = Vec::with_capacity(txn.ops.len());
        let mut objects = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            let (key, kind, object, previous) = match op {
                Op::Put(key, draft) => {
                    let previous = newest(&sequencer, &key).map(|(_, o)| o);
                    (key, EventKind::Put, Some(Arc::new(draft.seal(revision))), previous)
                }
                Op::Delete(key) => {
                    let previous = newest(&sequencer, &key).map(|(_, o)| o);
                    // An object that was stored can be encoded again; the old revision is the harmless fallback.
                    let last =
                        previous.as_ref().map(|p| p.with_revision(revision).map_or_else(|_| p.clone(), Arc::new));
                    (key, EventKind::Delete, last, previous)
                }
            };
            objects.push(object.clone());
            let Some(object) = object else { continue };
            let visible = (kind == EventKind::Put).then(|| object.clone());
            sequencer.pending.insert(key.clone(), Pending { revision, object: visible });
            job_events.push(Event { revision, kind, key, object, previous });
        }
        let (reply, receiver) = oneshot::channel();
        sequencer.queue.push(Job { revision, events: job_events, objects, reply, _place: place });
        self.work.notify_one();
        Ok(receiver)
    }
}

/// How much of the queue a transaction takes.
fn places_of(txn: &Txn) -> u32 {
    let bytes_of = |op: &Op| match op {
        Op::Put(_, draft) => draft.len(),
        Op::Delete(_) => 0,
    };
    let bytes: usize = txn.ops.iter().map(bytes_of).sum();
    u32::try_from(1 + bytes / PLACE_BYTES).unwrap_or(MOST_QUEUED).min(MOST_QUEUED)
}

#[async_trait]
impl Backend for Embedded {
    fn revision(&self) -> u64 {
        self.shared.memory.read().revision
    }

    fn get(&self, key: &str) -> Option<Versioned> {
        self.shared.memory.read().get(key)
    }

    fn range(&self, prefix: &str, after: Option<&str>, limit: usize, revision: u64) -> Result<Page, StoreError> {
        self.shared.memory.read().range(prefix, after, limit, revision)
    }

    fn tally(&self, prefix: &str) -> Tally {
        self.shared.memory.read().tally(prefix)
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, StoreError> {
        let place = self.shared.places.clone().acquire_many_owned(places_of(&txn)).await;
        let place = place.map_err(|_| StoreError::Closed)?;
        self.shared.enqueue(txn, place)?.await.map_err(|_| StoreError::Closed)?
    }

    fn watch(&self, prefix: &str, after: u64) -> Result<Watch, StoreError> {
        if self.shared.sequencer.lock().closed {
            return Err(StoreError::Closed);
        }
        watching::watch(&self.shared.memory, prefix, after)
    }

    async fn wait(&self, revision: u64) -> Result<(), StoreError> {
        let newest = self.revision();
        if revision > newest { Err(StoreError::Future { wanted: revision, newest }) } else { Ok(()) }
    }

    fn bytes(&self) -> Option<u64> {
        Some(fs::metadata(&self.file).ok()?.len())
    }

    fn unreadable(&self, key: &str) -> Option<(Arc<str>, String)> {
        self.shared.memory.read().unreadable(key)
    }

    fn is_stale(&self, key: &str) -> bool {
        self.shared.sealing.is_stale(key)
    }

    fn reopen(&self) {
        let (_, _, closed) = self.shared.memory.read().everything();
        let opened = closed.into_iter().filter_map(|(key, row)| {
            let value = self.shared.sealing.open(&key, row.stored).ok()?;
            let mut object = Object::from_bytes(value).ok()?;
            object.head.fields = (self.shared.options.fields)(&object);
            Some(Versioned { mod_revision: object.head.resource_version, key, object: Arc::new(object) })
        });
        let opened = opened.collect();
        // Who lists was refused until now: nobody watches who would have to hear of it.
        self.shared.memory.write().take_in(opened);
    }

    fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        let (revision, objects, closed) = self.shared.memory.read().everything();
        disk::snapshot(path, revision, &objects, &closed, &self.shared.sealing)
    }
}
