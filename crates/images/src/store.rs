//! The store: content-addressed blobs, a table of names, unpacked layers, root file systems of containers.
//!
//! All methods block on the disk; asynchronous callers go through [`crate::Images`] or `spawn_blocking`. A store may be
//! open in several processes at once (`ctr` beside the agent): every change of the table happens under a file lock on
//! the newest table, and readers notice a changed file.

mod blobs;
mod collect;
mod register;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::IoContext as _;
use crate::{Descriptor, Digest, Error, ImageFile, Manifest, Reference};

pub(crate) use blobs::{DOCUMENT_LIMIT, verify};
pub use collect::Freed;
pub(crate) use collect::remove;
pub(crate) use register::sniff;
pub use table::{Image, Record};
pub(crate) use table::{Imported, Table};

/// The images of this node. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    table: table::TableFile,
    /// Garbage that could not be collected because somebody was adding content.
    garbage_waits: AtomicBool,
    /// One unpacking at a time per process: layers of different images share the disk anyway.
    unpacking: parking_lot::Mutex<()>,
}

/// An image with the names it is known by.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The image.
    pub image: Image,
    /// Complete references with a tag.
    pub repo_tags: Vec<String>,
    /// Complete references with a digest.
    pub repo_digests: Vec<String>,
}

/// While one of these lives, no content is collected as garbage: content is added before the table names it.
pub struct Lease {
    store: Store,
    file: Option<File>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.file = None;
        if self.store.inner.garbage_waits.swap(false, Ordering::AcqRel)
            && let Err(error) = self.store.prune()
        {
            tracing::warn!(error = %base::Chain(&error), "cannot remove content that no image uses");
        }
    }
}

impl Store {
    /// Opens the store in this directory, making it when it is missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, Error> {
        let root = root.into();
        for dir in ["", "containers", "blobs/sha256", "ingest", "snapshots", "l", "empty"] {
            let path = root.join(dir);
            // Images' files keep their owners and setuid bits: nobody else may walk in. A container whose root is
            // another user must get to its own root file system, though.
            let mode = if matches!(dir, "" | "containers") { 0o711 } else { 0o700 };
            fs::DirBuilder::new().recursive(true).mode(mode).create(&path).at("create", &path)?;
        }
        let root = root.canonicalize().at("resolve", &root)?;
        let inner = Inner {
            table: table::TableFile::new(&root),
            root,
            garbage_waits: AtomicBool::new(false),
            unpacking: parking_lot::Mutex::new(()),
        };
        let store = Self { inner: Arc::new(inner) };
        store.inner.table.read()?;
        Ok(store)
    }

    /// Where the store lies.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Keeps garbage collection away until it is dropped.
    pub fn lease(&self) -> Result<Lease, Error> {
        let file = self.collection_lock()?;
        file.lock_shared().at("lock", self.inner.root.join("collect.lock"))?;
        Ok(Lease { store: self.clone(), file: Some(file) })
    }

    fn collection_lock(&self) -> Result<File, Error> {
        let path = self.inner.root.join("collect.lock");
        File::options().create(true).truncate(false).write(true).open(&path).at("open", &path)
    }

    pub(crate) fn table(&self) -> Result<Arc<Table>, Error> {
        self.inner.table.read()
    }

    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Table) -> T) -> Result<T, Error> {
        self.inner.table.update(change)
    }

    /// All images, by id.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let table = self.table()?;
        Ok(table.images.values().map(|image| listed(&table, image)).collect())
    }

    /// All names with what they point to, by name.
    pub fn names(&self) -> Result<Vec<(String, Record)>, Error> {
        Ok(self.table()?.names.iter().map(|(name, record)| (name.clone(), record.clone())).collect())
    }

    /// The image by reference (any form), id (`sha256:...`), or unambiguous start of an id.
    pub fn find(&self, name: &str) -> Result<Option<Listed>, Error> {
        let table = self.table()?;
        Ok(locate(&table, name).map(|image| listed(&table, image)))
    }

    /// As [`Store::find`], an absent image being an error.
    pub fn get(&self, name: &str) -> Result<Listed, Error> {
        self.find(name)?.ok_or_else(|| Error::NotFound { name: name.to_owned() })
    }

    /// The image's manifest.
    pub fn manifest(&self, image: &Image) -> Result<Manifest, Error> {
        self.document(&image.manifest.digest, "manifest")
    }

    /// The image's configuration file.
    pub fn config(&self, image: &Image) -> Result<ImageFile, Error> {
        self.document(&image.id, "image configuration")
    }

    /// Gives what `name` points to another name as well. Returns the complete new name.
    pub fn tag(&self, name: &str, new_name: &str) -> Result<String, Error> {
        let new_name = Reference::parse(new_name)?.to_string();
        self.update(|table| {
            let image = locate(table, name).ok_or_else(|| Error::NotFound { name: name.to_owned() })?;
            let known = Reference::parse(name).ok().and_then(|r| table.names.get(&r.to_string()));
            let record = known.cloned().unwrap_or_else(|| Record {
                target: image.manifest.clone(),
                image: image.id.clone(),
                created: base::time::now(),
            });
            table.names.insert(new_name.clone(), record);
            Ok(new_name)
        })?
    }

    /// Removes the image that is meant, with all its names, and the content that nothing else uses. False: it was not
    /// there. Root file systems of containers live on until they are removed.
    pub fn remove_image(&self, name: &str) -> Result<bool, Error> {
        let was_there = self.update(|table| {
            let Some(id) = locate(table, name).map(|image| image.id.clone()) else { return false };
            table.names.retain(|_, record| record.image != id);
            table.images.remove(&id);
            true
        })?;
        if was_there {
            self.prune()?;
        }
        Ok(was_there)
    }

    /// Removes one name; the image goes with its last name. Returns the complete name.
    pub fn untag(&self, name: &str) -> Result<String, Error> {
        let gone = self.update(|table| {
            let full = Reference::parse(name).map(|r| r.to_string()).unwrap_or_else(|_| name.to_owned());
            let record = table.names.remove(&full)?;
            if !table.names.values().any(|r| r.image == record.image) {
                table.images.remove(&record.image);
            }
            Some(full)
        })?;
        let full = gone.ok_or_else(|| Error::NotFound { name: name.to_owned() })?;
        self.prune()?;
        Ok(full)
    }

    /// Pinned images are never removed by the kubelet's garbage collection.
    pub fn pin(&self, name: &str, is_pinned: bool) -> Result<(), Error> {
        self.update(|table| {
            let id = locate(table, name).map(|image| image.id.clone());
            let image = id.and_then(|id| table.images.get_mut(&id));
            image.ok_or_else(|| Error::NotFound { name: name.to_owned() })?.pinned = is_pinned;
            Ok(())
        })?
    }

    /// A path in `ingest/` that nobody else uses.
    pub(crate) fn temp_path(&self) -> PathBuf {
        self.inner.root.join("ingest").join(format!("tmp-{}", unique()))
    }

    pub(crate) fn snapshot_dir(&self, chain: &Digest) -> PathBuf {
        self.inner.root.join("snapshots").join(chain.hex())
    }

    pub(crate) fn unpacking(&self) -> &parking_lot::Mutex<()> {
        &self.inner.unpacking
    }
}

/// A word that no other store, process or earlier life of this process id uses.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}-{}", std::process::id(), jiff::Timestamp::now().as_nanosecond())
}

fn listed(table: &Table, image: &Image) -> Listed {
    let names = table.names.iter().filter(|(_, record)| record.image == image.id).map(|(name, _)| name.clone());
    let (repo_digests, repo_tags) = names.partition(|name| name.contains('@'));
    Listed { image: image.clone(), repo_tags, repo_digests }
}

fn locate<'a>(table: &'a Table, name: &str) -> Option<&'a Image> {
    if let Ok(id) = Digest::parse(name) {
        return table.images.get(&id);
    }
    let record = Reference::parse(name).ok().and_then(|full| table.names.get(&full.to_string()));
    if let Some(record) = record {
        return table.images.get(&record.image);
    }
    let start = name.strip_prefix("sha256:").unwrap_or(name);
    if start.is_empty() || !start.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut fitting = table.images.values().filter(|image| image.id.hex().starts_with(start));
    fitting.next().filter(|_| fitting.next().is_none())
}

/// Digests that the table needs kept: targets, manifests, configurations, layers.
fn referenced(table: &Table) -> BTreeSet<&Digest> {
    let of_images = table.images.values().flat_map(|image| {
        [&image.manifest, &image.config].into_iter().chain(&image.layers).map(|d: &Descriptor| &d.digest)
    });
    of_images.chain(table.names.values().map(|record| &record.target.digest)).collect()
}
