//! Who has the store: one process at a time.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::backend::StoreError;

/// How often a lock that somebody has is tried again, and after which pause.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the directory's lock, held as long as the file is open, and leaves our process id in it for whoever comes second.
pub(crate) fn lock(dir: &Path) -> Result<File, StoreError> {
    patiently(|| try_lock(dir)).inspect_err(|error| {
        if matches!(error, StoreError::Locked) {
            // The name of the holder is a courtesy.
            let holder = fs::read_to_string(dir.join("lock")).unwrap_or_default();
            tracing::error!(holder, dir = %dir.display(), "the data directory is in use");
        }
    })
}

/// Tries again for a moment while a lock is held: a process that is being started has its parent's until it becomes another program.
pub(crate) fn patiently<T>(mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
    for _ in 0..TRIES {
        match attempt() {
            Err(StoreError::Locked) => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
    attempt()
}

fn try_lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let failed = |source| StoreError::Io { operation: format!("lock {}", path.display()), source };
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(failed)?;
            write!(file, "{}", std::process::id()).map_err(failed)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
