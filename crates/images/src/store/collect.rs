//! Garbage: blobs and unpacked layers that no image and no container uses.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, TryLockError};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Store, referenced};
use crate::error::IoContext as _;
use crate::{Error, Index, layer, media};

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Blobs.
    pub blobs: usize,
    /// Unpacked layers.
    pub snapshots: usize,
    /// Bytes of the blobs.
    pub bytes: u64,
}

impl Store {
    /// Removes all content that nothing uses. While somebody is adding content it only notes that there is work, which
    /// the last of them then does.
    pub fn prune(&self) -> Result<Freed, Error> {
        let lock = self.collection_lock()?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                self.inner.garbage_waits.store(true, Ordering::Release);
                return Ok(Freed::default());
            }
            Err(TryLockError::Error(e)) => return Err(e).at("lock", self.root().join("collect.lock")),
        }
        let table = self.table()?;
        let mut blobs: BTreeSet<String> = referenced(&table).into_iter().map(|d| d.hex().to_owned()).collect();
        // A manifest list keeps those of its members that are here.
        for record in table.names.values().filter(|r| media::is_index(&r.target.media_type)) {
            let index: Result<Index, _> = self.document(&record.target.digest, "index");
            blobs.extend(index.into_iter().flat_map(|i| i.manifests).map(|m| m.digest.hex().to_owned()));
        }
        let chains = table.images.values().flat_map(|image| layer::chain_ids(&image.diff_ids));
        let mut snapshots: BTreeSet<String> = chains.map(|chain| chain.hex().to_owned()).collect();
        snapshots.extend(self.snapshots_of_containers()?);
        let mut freed = Freed::default();
        for (name, size) in entries(&self.root().join("blobs/sha256"))? {
            if !name.to_str().is_some_and(|name| blobs.contains(name)) {
                remove(&self.root().join("blobs/sha256").join(&name))?;
                freed.blobs += 1;
                freed.bytes += size;
            }
        }
        for (name, _) in entries(&self.root().join("snapshots"))? {
            if !name.to_str().is_some_and(|name| snapshots.contains(name)) {
                remove(&self.root().join("snapshots").join(&name))?;
                freed.snapshots += 1;
            }
        }
        // Nobody is adding content: what lies in `ingest` was left by a crash or an interrupted pull, and the links of
        // removed layers lead nowhere.
        for (name, _) in entries(&self.root().join("ingest"))? {
            let path = self.root().join("ingest").join(&name);
            if !is_resumable(&path) {
                remove(&path)?;
            }
        }
        for (name, _) in entries(&self.root().join("l"))? {
            let link = self.root().join("l").join(&name);
            if !link.exists() {
                remove(&link)?;
            }
        }
        Ok(freed)
    }
}

fn entries(dir: &Path) -> Result<Vec<(OsString, u64)>, Error> {
    let read = || -> io::Result<Vec<(OsString, u64)>> {
        fs::read_dir(dir)?.map(|entry| entry.and_then(|e| Ok((e.file_name(), e.metadata()?.len())))).collect()
    };
    read().at("list", dir)
}

/// An interrupted download of the last day: the next pull goes on with it.
fn is_resumable(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
    path.extension().is_some_and(|e| e == "part") && age.is_none_or(|age| age < Duration::from_secs(24 * 3600))
}

pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    let done = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match done {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", path),
        _ => Ok(()),
    }
}
