//! The durable part: the newest value of every key in redb, with a checksum each and a sum over all.
//!
//! ```text
//! objects: key -> crc32(key, body) as 4 bytes, body
//! meta:    "format", "revision", "count" (rows), "sum" (wrapping sum of all checksums), "check" (crc32 of the three)
//! ```
//! Format 1 had no "check"; the first write makes it format 2.
//! The count and the sum find rows that are missing altogether, which a checksum per row cannot.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use object::Object;
use redb::{Database, ReadOnlyDatabase, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use crate::backend::{Event, EventKind, StoreError, Versioned};
use crate::lock::patiently;
use crate::transform::{Closed, ClosedRow, Sealing};

const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT: u64 = 2;
/// Reads come from memory; the page cache serves only writes.
const CACHE_BYTES: usize = 4 << 20;

/// The database file. After a failed write it is closed, and opened anew by the next one.
pub(crate) struct Disk {
    path: PathBuf,
    database: Option<Database>,
    /// Of the last write that succeeded.
    revision: u64,
    totals: Totals,
    /// The events of a write that failed: they may have reached the disk all the same (when only its last sync failed).
    doubtful: Vec<Event>,
    sealing: Arc<Sealing>,
    rest: Rest,
}

/// What an opening after a crash has to do: redb walks the whole file twice, unless the last commit says which of its pages are used.
/// Such a commit syncs twice, so it is made when nothing else is to do ([`Disk::rest`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rest {
    /// The last commit says it.
    Done,
    /// It does not, and will soon be followed by others.
    Wanted,
    /// It does not: the file has just been walked.
    Overdue,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Totals {
    count: u64,
    sum: u64,
}

/// What was on disk.
pub(crate) struct Loaded {
    pub(crate) revision: u64,
    pub(crate) objects: Vec<Versioned>,
    /// Rows that do not open.
    pub(crate) closed: Vec<ClosedRow>,
}

/// A row's value, if it can be read.
type Opened = Result<Versioned, Closed>;

/// A key and what it is set to; `None`: removed.
type Change<'a> = (&'a str, Option<Cow<'a, [u8]>>);

fn checksum(key: &str, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// A value could not be encrypted.
pub(crate) fn seal_error(key: &str, why: String) -> StoreError {
    StoreError::Io { operation: format!("encrypt {key}"), source: io::Error::other(why) }
}

fn io_error(operation: &str, error: impl Into<redb::Error>) -> StoreError {
    let source = match error.into() {
        redb::Error::Io(source) => source,
        other => io::Error::other(other),
    };
    StoreError::Io { operation: operation.into(), source }
}

/// Errors of the start: what is not the operating system's doing is damage.
fn open_error(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked,
        redb::Error::Io(source)
            if source.kind() != io::ErrorKind::InvalidData && source.kind() != io::ErrorKind::UnexpectedEof =>
        {
            StoreError::Io { operation: format!("open {}", path.display()), source }
        }
        other => StoreError::Corrupt(format!("{}: {other}", path.display())),
    }
}

impl Disk {
    /// Opens or creates the file and reads everything in it.
    pub(crate) fn open(path: PathBuf, sealing: Arc<Sealing>) -> Result<(Self, Loaded), StoreError> {
        // redb asserts some invariants of its file format; on a damaged file that is an answer, not a crash.
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Self::open_checked(&path, &sealing)));
        let (database, rest, loaded, totals) = caught
            .unwrap_or_else(|_| Err(StoreError::Corrupt(format!("{}: its structure is damaged", path.display()))))?;
        let revision = loaded.revision;
        Ok((Self { path, database: Some(database), revision, totals, doubtful: Vec::new(), sealing, rest }, loaded))
    }

    fn open_checked(path: &Path, sealing: &Sealing) -> Result<(Database, Rest, Loaded, Totals), StoreError> {
        let failed = |e: redb::Error| open_error(path, e);
        let marker = path.with_extension("initialized");
        let (database, rest) = database(path)?;
        if !marker.exists() {
            initialize(&database).map_err(failed)?;
            let made = File::create(&marker).and_then(|f| f.sync_all());
            made.and_then(|()| sync_directory(path))
                .map_err(|source| StoreError::Io { operation: format!("create {}", marker.display()), source })?;
        }
        let (loaded, totals) = load(path, &database, sealing)?;
        Ok((database, rest, loaded, totals))
    }

    /// See [`Rest`].
    pub(crate) fn wants_rest(&self) -> Rest {
        self.rest
    }

    /// Makes the commit that spares the next opening a walk over the whole file, even after a crash.
    pub(crate) fn rest(&mut self) {
        // It is tried once: without it, an opening takes longer.
        self.rest = Rest::Done;
        let Some(database) = self.database.take() else { return };
        let marked = database.begin_write().map_err(redb::Error::from).and_then(|mut write| {
            write.set_quick_repair(true);
            Ok(write.commit()?)
        });
        match marked {
            Ok(()) => self.database = Some(database),
            // It stays closed, and the next write opens it again.
            Err(error) => tracing::warn!(error = %base::Chain(&error), "the store cannot write while it rests"),
        }
    }

    /// Writes the events of one or more transactions, up to `revision`, durably or not at all.
    pub(crate) fn write(&mut self, events: &[Event], revision: u64) -> Result<(), StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        let changes = events.iter().map(|e| match e.kind {
            EventKind::Put => self.sealed(&e.key, Some(&e.object.body)),
            EventKind::Delete => self.sealed(&e.key, None),
        });
        let applied = match changes.collect::<Result<Vec<_>, _>>() {
            Ok(changes) => apply(&database, self.totals, changes, revision),
            Err(error) => {
                // Nothing was attempted.
                self.database = Some(database);
                return Err(error);
            }
        };
        match applied {
            Ok(totals) => {
                self.database = Some(database);
                (self.revision, self.totals, self.rest) = (revision, totals, Rest::Wanted);
                Ok(())
            }
            // redb refuses a database that failed once: it stays closed, and the next write opens it again.
            Err(error) => {
                self.doubtful = events.to_vec();
                Err(error)
            }
        }
    }

    /// The value of a key as a row has it.
    fn sealed<'a>(&self, key: &'a str, body: Option<&'a [u8]>) -> Result<Change<'a>, StoreError> {
        let Some(body) = body else {
            self.sealing.forget(key);
            return Ok((key, None));
        };
        let sealed = self.sealing.seal(key, body).map_err(|why| seal_error(key, why))?;
        Ok((key, Some(sealed)))
    }

    /// Opens the file after a failed write. If that write is there nevertheless, it is undone: its callers were told that
    /// nothing was kept, and later revisions and sums build on that.
    fn reopen(&mut self) -> Result<Database, StoreError> {
        let (database, _) = database(&self.path)?;
        let (revision, totals) = read_meta(&self.path, &database)?;
        if revision != self.revision {
            let undo = self.doubtful.iter().rev().map(|e| self.sealed(&e.key, e.previous.as_ref().map(|p| &*p.body)));
            self.totals = apply(&database, totals, undo.collect::<Result<Vec<_>, _>>()?, self.revision)?;
        }
        self.doubtful.clear();
        Ok(database)
    }
}

/// One durable transaction: sets keys to bodies, or removes them. `totals` are those before; the result, those after.
fn apply<'a>(
    database: &Database,
    mut totals: Totals,
    changes: impl IntoIterator<Item = Change<'a>>,
    revision: u64,
) -> Result<Totals, StoreError> {
    let write = database.begin_write().map_err(|e| io_error("begin a transaction", e))?;
    {
        let mut objects = write.open_table(OBJECTS).map_err(|e| io_error("open the objects", e))?;
        let mut row = Vec::new();
        for (key, body) in changes {
            let old = match body {
                Some(body) => {
                    let sum = checksum(key, &body);
                    row.clear();
                    row.extend_from_slice(&sum.to_le_bytes());
                    row.extend_from_slice(&body);
                    totals.count += 1;
                    totals.sum = totals.sum.wrapping_add(u64::from(sum));
                    objects.insert(key, row.as_slice())
                }
                None => objects.remove(key),
            };
            let old = old.map_err(|e| io_error("write an object", e))?;
            if let Some(sum) = old.as_ref().and_then(|o| o.value().first_chunk::<4>().copied()) {
                totals.count -= 1;
                totals.sum = totals.sum.wrapping_sub(u64::from(u32::from_le_bytes(sum)));
            }
        }
        let mut meta = write.open_table(META).map_err(|e| io_error("open the meta data", e))?;
        for (key, value) in meta_rows(revision, totals) {
            meta.insert(key, value).map_err(|e| io_error("write the meta data", e))?;
        }
    }
    write.commit().map_err(|e| io_error("commit a transaction", e))?;
    Ok(totals)
}

/// Without it, a revision that goes back would be given out again.
fn meta_checksum(revision: u64, totals: Totals) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [revision, totals.count, totals.sum] {
        hasher.update(&number.to_le_bytes());
    }
    u64::from(hasher.finalize())
}

fn meta_rows(revision: u64, totals: Totals) -> [(&'static str, u64); 5] {
    let check = meta_checksum(revision, totals);
    [("format", FORMAT), ("revision", revision), ("count", totals.count), ("sum", totals.sum), ("check", check)]
}

/// A new name in a directory survives a loss of power once the directory is synced.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// Opens or creates the file; what it wants then.
fn database(path: &Path) -> Result<(Database, Rest), StoreError> {
    // Secrets are in there: nobody else reads it, from the first byte on.
    let made = File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
    made.map_err(|source| StoreError::Io { operation: format!("open {}", path.display()), source })?;
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let walked = Arc::new(AtomicBool::new(false));
    let told = walked.clone();
    builder.set_repair_callback(move |_| told.store(true, Ordering::Relaxed));
    let database = patiently(|| builder.create(path).map_err(|e| open_error(path, e)))?;
    let rest = if walked.load(Ordering::Relaxed) { Rest::Overdue } else { Rest::Done };
    Ok((database, rest))
}

/// Writes the first meta data, unless an interrupted first start did. From then on the marker file says that an empty
/// database is a damaged one.
fn initialize(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        write.open_table(OBJECTS)?;
        let mut meta = write.open_table(META)?;
        if meta.get("format")?.is_none() {
            for (key, value) in meta_rows(1, Totals::default()) {
                meta.insert(key, value)?;
            }
        }
    }
    Ok(write.commit()?)
}

/// The revision and the totals.
fn read_meta(path: &Path, database: &impl ReadableDatabase) -> Result<(u64, Totals), StoreError> {
    let damaged = |what: &str| StoreError::Corrupt(format!("{}: {what}", path.display()));
    let failed = |e: redb::Error| open_error(path, e);
    let read = database.begin_read().map_err(|e| failed(e.into()))?;
    let meta = read.open_table(META).map_err(|e| failed(e.into()))?;
    let number = |key: &str| -> Result<u64, StoreError> {
        let value = meta.get(key).map_err(|e| failed(e.into()))?;
        value.map(|v| v.value()).ok_or_else(|| damaged(&format!("the {key} is missing")))
    };
    let format = number("format")?;
    if !matches!(format, 1 | FORMAT) {
        return Err(damaged(&format!("format {format} is not known to this version (it knows {FORMAT})")));
    }
    let (revision, totals) = (number("revision")?, Totals { count: number("count")?, sum: number("sum")? });
    if format == FORMAT && number("check")? != meta_checksum(revision, totals) {
        return Err(damaged("the checksum of its meta data is wrong"));
    }
    Ok((revision, totals))
}

/// Fewer rows are not worth a second thread.
const MANY: u64 = 4000;

/// A row's checksum, key, and value.
type Row = (u32, Arc<str>, Opened);

/// Reads all objects: where there are many, by two threads, one from each end, until they meet.
fn load(path: &Path, database: &impl ReadableDatabase, sealing: &Sealing) -> Result<(Loaded, Totals), StoreError> {
    let damaged = |what: &str| StoreError::Corrupt(format!("{}: {what}", path.display()));
    let failed = |e: redb::Error| open_error(path, e);
    let (revision, wanted) = read_meta(path, database)?;
    let read = database.begin_read().map_err(|e| failed(e.into()))?;
    let table = read.open_table(OBJECTS).map_err(|e| failed(e.into()))?;
    let rows = table.len().map_err(|e| failed(e.into()))?;
    if rows != wanted.count {
        return Err(damaged(&format!("{rows} objects are there of {}", wanted.count)));
    }
    let parse = |key: &str, row: &[u8]| {
        let (sum, body) = row.split_first_chunk::<4>().ok_or_else(|| damaged(&format!("{key} is cut short")))?;
        let sum = u32::from_le_bytes(*sum);
        if sum != checksum(key, body) {
            return Err(damaged(&format!("the checksum of {key} is wrong")));
        }
        let key: Arc<str> = key.into();
        let body = Bytes::copy_from_slice(body);
        let value = match sealing.open(&key, body.clone()) {
            Ok(value) => value,
            Err(why) => return Ok((sum, key, Err(Closed { stored: body, mod_revision: 0, why }))),
        };
        let mut object = Object::from_bytes(value).map_err(|e| damaged(&format!("{key}: {e}")))?;
        if object.head.resource_version == 0 {
            // It was brought here unopened from an etcd, which keeps revisions beside the values.
            let draft = object::Draft::from_bytes(&object.body).map_err(|e| damaged(&format!("{key}: {e}")))?;
            object = draft.seal(revision);
        }
        if object.head.resource_version > revision {
            return Err(damaged(&format!("{key} is newer than the newest revision {revision}")));
        }
        let object = Arc::new(object);
        let value = Versioned { key: key.clone(), mod_revision: object.head.resource_version, object };
        Ok::<Row, StoreError>((sum, key, Ok(value)))
    };
    // Rows that neither has taken.
    let left = AtomicU64::new(rows);
    let walk = |backwards: bool| -> Result<Vec<Row>, StoreError> {
        let mut found = Vec::new();
        let mut rows = table.iter().map_err(|e| failed(e.into()))?;
        let take = |n: u64| n.checked_sub(1);
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            let Some(row) = (if backwards { rows.next_back() } else { rows.next() }) else { break };
            let (key, value) = row.map_err(|e| failed(e.into()))?;
            found.push(parse(key.value(), value.value())?);
        }
        Ok(found)
    };
    let (front, back) = std::thread::scope(|scope| {
        let back = (rows >= MANY).then(|| scope.spawn(|| walk(true)));
        let front = walk(false);
        let back = back.map(|back| back.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (front, back.unwrap_or_else(|| Ok(Vec::new())))
    });
    let (front, back) = (front?, back?);
    if let (Some((_, one, _)), Some((_, other, _))) = (front.last(), back.last())
        && one >= other
    {
        return Err(damaged("its rows are out of order"));
    }
    let mut totals = Totals::default();
    let mut objects = Vec::with_capacity(front.len() + back.len());
    let mut closed = Vec::new();
    for (sum, key, value) in front.into_iter().chain(back.into_iter().rev()) {
        totals.count += 1;
        totals.sum = totals.sum.wrapping_add(u64::from(sum));
        match value {
            Ok(value) => objects.push(value),
            Err(row) => closed.push((key, row)),
        }
    }
    if totals != wanted {
        return Err(damaged(&format!("{} objects are there of {}, or their sum differs", totals.count, wanted.count)));
    }
    if let Some((key, first)) = closed.first() {
        let why = &first.why;
        tracing::warn!(count = closed.len(), first = &**key, why, "stored values cannot be decrypted");
    }
    Ok((Loaded { revision, objects, closed }, totals))
}

/// Reads a snapshot, or the file of a store that is closed; changes nothing.
pub(crate) fn read(path: &Path) -> Result<Loaded, StoreError> {
    let caught = std::panic::catch_unwind(|| {
        let database = ReadOnlyDatabase::open(path).map_err(|e| open_error(path, e))?;
        load(path, &database, &Sealing::default()).map(|(loaded, _)| loaded)
    });
    caught.unwrap_or_else(|_| Err(StoreError::Corrupt(format!("{}: its structure is damaged", path.display()))))
}

/// Writes a consistent copy of `objects` at `revision`, and of values that do not open, into a new file.
pub(crate) fn snapshot(
    path: &Path,
    revision: u64,
    objects: &[Versioned],
    closed: &[ClosedRow],
    sealing: &Sealing,
) -> Result<(), StoreError> {
    if path.exists() {
        let source = io::Error::from(io::ErrorKind::AlreadyExists);
        return Err(StoreError::Io { operation: format!("write {}", path.display()), source });
    }
    // Made beside, and renamed when it is whole.
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |source| StoreError::Io { operation: format!("write {}", path.display()), source };
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let (database, _) = database(&partial)?;
    initialize(&database).map_err(|e| io_error("begin the snapshot", e))?;
    let rows = objects.iter().map(|v| {
        let sealed = sealing.copy(&v.key, &v.object.body).map_err(|why| seal_error(&v.key, why))?;
        Ok((&*v.key, Some(sealed)))
    });
    let as_they_are = closed.iter().map(|(key, row)| Ok((&**key, Some(Cow::Borrowed(&*row.stored)))));
    let rows = rows.chain(as_they_are).collect::<Result<Vec<_>, StoreError>>()?;
    apply(&database, Totals::default(), rows, revision)?;
    drop(database);
    std::fs::rename(&partial, path).and_then(|()| sync_directory(path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{draft, key};

    fn event(name: &str, data: &str, revision: u64, previous: Option<&Event>) -> Event {
        let object = Arc::new(draft(name, data).seal(revision));
        Event { revision, kind: EventKind::Put, key: key(name), object, previous: previous.map(|p| p.object.clone()) }
    }

    /// The commit record reached the disk, its last sync failed: the callers heard of an error.
    #[test]
    fn a_failed_write_that_landed_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let (mut disk, _) = Disk::open(path.clone(), Arc::default()).unwrap();
        let first = event("a", "1", 2, None);
        disk.write(std::slice::from_ref(&first), 2).unwrap();
        let before = (disk.revision, disk.totals);
        let doubtful = vec![event("a", "2", 3, Some(&first)), event("b", "2", 4, None)];
        disk.write(&doubtful, 4).unwrap();
        (disk.revision, disk.totals) = before;
        (disk.database, disk.doubtful) = (None, doubtful);
        disk.write(&[event("c", "3", 3, None)], 3).unwrap();
        drop(disk);
        let (_, loaded) = Disk::open(path, Arc::default()).unwrap();
        let found: Vec<(&str, u64)> =
            loaded.objects.iter().map(|v| (v.object.head.name.as_str(), v.mod_revision)).collect();
        assert_eq!((loaded.revision, found), (3, vec![("a", 2), ("c", 3)]));
    }

    /// A copy of the file while it is open is what a crash leaves.
    #[test]
    fn a_crash_at_rest_costs_no_walk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let (mut disk, _) = Disk::open(path.clone(), Arc::default()).unwrap();
        let crashed = |name: &str| {
            let copy = dir.path().join(name);
            std::fs::copy(&path, &copy).unwrap();
            File::create(copy.with_extension("initialized")).unwrap();
            let (disk, loaded) = Disk::open(copy, Arc::default()).unwrap();
            (disk.wants_rest(), loaded.objects.len())
        };
        disk.write(&[event("a", "1", 2, None)], 2).unwrap();
        assert_eq!((disk.wants_rest(), crashed("one.redb")), (Rest::Wanted, (Rest::Overdue, 1)));
        disk.rest();
        assert_eq!((disk.wants_rest(), crashed("two.redb")), (Rest::Done, (Rest::Done, 1)));
        disk.write(&[event("b", "1", 3, None)], 3).unwrap();
        assert_eq!(crashed("three.redb"), (Rest::Overdue, 2));
        disk.rest();
        drop(disk);
        assert_eq!(crashed("four.redb"), (Rest::Done, 2));
    }
}
