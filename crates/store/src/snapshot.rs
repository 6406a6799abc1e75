//! Snapshots: a file of the embedded store's format, whichever store it came from and goes to.

use std::path::{Path, PathBuf};

use crate::backend::{StoreError, Versioned};
use crate::disk;
use crate::lock::lock;
use crate::transform::{ClosedRow, Sealing};

/// Added to the revision with a restore: clients have seen revisions after the snapshot's, and must not take new ones for
/// those. They hear that theirs is too old, and begin anew.
const BUMP: u64 = 1_000_000_000;

/// The state of a store at a revision.
pub struct Snapshot {
    /// When it was taken.
    pub revision: u64,
    /// All objects that are stored as they are.
    pub(crate) objects: Vec<Versioned>,
    /// Encrypted ones: they stay so.
    pub(crate) closed: Vec<ClosedRow>,
}

/// The file of the embedded store in its directory.
pub(crate) const FILE: &str = "state.redb";

impl Snapshot {
    /// Reads and checks a snapshot. Also reads the file of an embedded store that no process uses.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        if !path.is_file() {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(StoreError::Io { operation: format!("read the snapshot {}", path.display()), source });
        }
        let loaded = disk::read(path)?;
        Ok(Self { revision: loaded.revision, objects: loaded.objects, closed: loaded.closed })
    }

    /// How many objects it has.
    pub fn count(&self) -> usize {
        self.objects.len() + self.closed.len()
    }

    /// Reads the embedded store in `dir`, which no process may use.
    pub fn of_embedded(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        if !path.is_file() {
            let text = format!("there is no store in {}", dir.display());
            return Err(StoreError::Configuration(text));
        }
        let _lock = lock(dir)?;
        Self::read(&path)
    }

    /// Writes it into the new file `path`.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        disk::snapshot(path, self.revision, &self.objects, &self.closed, &Sealing::default())
    }

    /// Makes it the state of the embedded store in `dir`, which no process may use. What was there stays in the
    /// directory `beside`, under the name that is returned.
    pub fn restore_embedded(&self, dir: &Path, beside: &Path) -> Result<Option<PathBuf>, StoreError> {
        let failed = |operation: String| move |source| StoreError::Io { operation, source };
        std::fs::create_dir_all(dir).map_err(failed(format!("create {}", dir.display())))?;
        let _lock = lock(dir)?;
        let file = dir.join(FILE);
        // The newest revision that anyone can have seen; of a damaged store it is not known, and the bump must do.
        let newest = match disk::read(&file) {
            Ok(old) => old.revision.max(self.revision),
            Err(_) => self.revision,
        };
        let incoming = dir.join("restoring.redb");
        match std::fs::remove_file(&incoming) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(format!("remove {}", incoming.display()))(error));
            }
            _ => {}
        }
        disk::snapshot(&incoming, newest + BUMP, &self.objects, &self.closed, &Sealing::default())?;
        let mut kept = None;
        if file.exists() {
            // Should we end here, the marker that stays makes the next start refuse the missing file.
            std::fs::create_dir_all(beside).map_err(failed(format!("create {}", beside.display())))?;
            let old = beside.join(FILE);
            std::fs::rename(&file, &old).map_err(failed(format!("keep {}", file.display())))?;
            kept = Some(old);
        }
        std::fs::rename(&incoming, &file).map_err(failed(format!("write {}", file.display())))?;
        disk::sync_directory(&file).map_err(failed(format!("write {}", file.display())))?;
        Ok(kept)
    }
}
