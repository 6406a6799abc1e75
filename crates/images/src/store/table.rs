//! The table of names and images: one JSON file, replaced as a whole, read again when somebody else replaced it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::error::IoContext as _;
use crate::{Descriptor, Digest, Error};

/// What a name points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The manifest or index that the name resolved to.
    pub target: Descriptor,
    /// The image for this machine's platform: its id.
    pub image: Digest,
    /// When the name was last set, RFC 3339.
    pub created: String,
}

/// An image that is complete and unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers as they came, lowest first.
    pub layers: Vec<Descriptor>,
    /// The uncompressed digests of its layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// `os/arch`.
    pub platform: String,
    /// The configuration's user.
    pub user: String,
    /// Bytes of manifest, configuration and layers as they came.
    pub size: u64,
    /// Never removed by the kubelet's garbage collection.
    pub pinned: bool,
}

/// An archive that was imported from the images directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Imported {
    pub(crate) size: u64,
    pub(crate) modified: String,
    pub(crate) names: Vec<String>,
}

/// The whole state of the store that is not content.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) version: u32,
    pub(crate) names: BTreeMap<String, Record>,
    pub(crate) images: BTreeMap<Digest, Image>,
    #[serde(default)]
    pub(crate) imported: BTreeMap<String, Imported>,
}

const VERSION: u32 = 1;

/// Tells one written file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// The file with the last table that was read from it.
pub(crate) struct TableFile {
    path: PathBuf,
    lock: PathBuf,
    cached: Mutex<Option<(Stamp, Arc<Table>)>>,
}

impl TableFile {
    pub(crate) fn new(root: &Path) -> Self {
        Self { path: root.join("images.json"), lock: root.join("images.lock"), cached: Mutex::new(None) }
    }

    /// The newest table.
    pub(crate) fn read(&self) -> Result<Arc<Table>, Error> {
        let mut cached = self.cached.lock();
        let Some(stamp) = self.stamp()? else { return Ok(Arc::default()) };
        if let Some((known, table)) = &*cached
            && *known == stamp
        {
            return Ok(table.clone());
        }
        let bytes = fs::read(&self.path).at("read", &self.path)?;
        let what = || self.path.display().to_string();
        let table: Table = serde_json::from_slice(&bytes).map_err(|source| Error::Document { what: what(), source })?;
        if table.version > VERSION {
            let why = format!("version {} is newer than this program knows ({VERSION})", table.version);
            return Err(Error::malformed(what(), why));
        }
        let table = Arc::new(table);
        *cached = Some((stamp, table.clone()));
        Ok(table)
    }

    fn stamp(&self) -> Result<Option<Stamp>, Error> {
        match fs::metadata(&self.path) {
            Ok(m) => Ok(Some(Stamp { inode: m.ino(), size: m.len(), modified: (m.mtime(), m.mtime_nsec()) })),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("look at", &self.path),
        }
    }

    /// Changes the newest table under the lock; durable when it returns.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Table) -> T) -> Result<T, Error> {
        let lock = File::options().create(true).truncate(false).write(true).open(&self.lock).at("open", &self.lock)?;
        lock.lock().at("lock", &self.lock)?;
        let before = self.read()?;
        let mut table = Table::clone(&before);
        let out = change(&mut table);
        table.version = VERSION;
        let new =
            serde_json::to_vec(&table).map_err(|source| Error::Document { what: "the image table".into(), source })?;
        let temp = self.path.with_extension("json.tmp");
        let mut file = File::create(&temp).at("create", &temp)?;
        file.write_all(&new).at("write", &temp)?;
        file.sync_all().at("sync", &temp)?;
        fs::rename(&temp, &self.path).at("rename", &temp)?;
        sync_parent(&self.path)?;
        *self.cached.lock() = None;
        Ok(out)
    }
}

/// Makes a rename durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent).and_then(|dir| dir.sync_all()).at("sync", parent)
}
