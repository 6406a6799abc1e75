//! One kubeconfig file: read whole, written beside and renamed, under kubectl's lock.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{KubeconfigError, LISTS, Owner, Result, emit};

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KubeconfigError {
    let path = path.to_owned();
    move |source| KubeconfigError::Io { operation, path, source }
}

/// The document; `None` when there is no file, or an empty one.
pub(super) fn read(path: &Path) -> Result<Option<Value>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path)(e)),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let malformed = |why: String| KubeconfigError::Malformed { path: path.to_owned(), why };
    let parsed = schema::yaml::parse(&bytes).map_err(malformed)?;
    if let Some(words) = parsed.duplicates.first() {
        // kubectl reads it, but which of the two values is meant is not ours to say.
        return Err(malformed(words.replace('\n', " ")));
    }
    let value = match parsed.value {
        // A file of comments.
        Value::Null => return Ok(None),
        Value::Object(map) => Value::Object(map),
        _ => return Err(malformed("it is not a mapping".into())),
    };
    for (list, _) in LISTS {
        let entries = &value[list];
        let fits = match entries {
            Value::Null => true,
            Value::Array(entries) => entries.iter().all(|e| e["name"].is_string()),
            _ => false,
        };
        if !fits {
            return Err(malformed(format!("its {list} are no list of named entries")));
        }
    }
    if !matches!(value["current-context"], Value::Null | Value::String(_))
        || value.get("kind").is_some_and(|k| *k != json!("Config"))
    {
        return Err(malformed("its kind or current-context is of another type".into()));
    }
    Ok(Some(value))
}

/// Replaces the file, or the one that a link leads to, in one step. Mode and owner stay; a new one is for its owner only.
pub(super) fn write(path: &Path, config: &Value, owner: &Owner) -> Result<()> {
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let present = fs::metadata(path).ok();
    let mode = present.as_ref().map_or(0o600, |m| m.mode() & 0o7777);
    let owner = present.as_ref().map(|m| (m.uid(), m.gid())).or(owner.0);
    let beside = path.with_extension(format!("navarch-{}", std::process::id()));
    let make = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(emit::yaml(config).as_bytes())?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    let made = make();
    if made.is_err() {
        let _ = fs::remove_file(&beside); // the first error is the one to tell
    }
    made.map_err(failed("write", path))
}

pub(super) fn delete(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(failed("remove", path))
}

/// kubectl's lock: a file beside, made exclusively.
#[derive(Debug)]
pub(super) struct Lock(PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        // It is gone if the directory is.
        let _ = fs::remove_file(&self.0);
    }
}

/// How long another holder of the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes the lock of the file at `path`, and tells which directories had to be made for it.
pub(super) fn lock(path: &Path, owner: &Owner) -> Result<(Vec<PathBuf>, Lock)> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let mut made = Vec::new();
    for directory in path.ancestors().skip(1).filter(|d| !d.as_os_str().is_empty()) {
        if directory.exists() {
            break;
        }
        made.push(directory.to_owned());
    }
    made.reverse();
    for directory in &made {
        let make = || -> io::Result<()> {
            fs::create_dir(directory)?;
            match owner.0 {
                Some((uid, gid)) => std::os::unix::fs::chown(directory, Some(uid), Some(gid)),
                None => Ok(()),
            }
        };
        make().map_err(failed("make the directory of", path))?;
    }
    let begun = Instant::now();
    loop {
        match File::options().write(true).create_new(true).mode(0o000).open(&name) {
            Ok(_) => return Ok((made, Lock(name))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(KubeconfigError::Locked(name)),
            Err(e) => return Err(failed("lock", path)(e)),
        }
    }
}
