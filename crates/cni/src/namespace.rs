//! Network namespaces with a path: made, entered, removed.

use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::{CniError, Result};

/// Makes a network namespace that lives at `path` (a bind mount) until [`remove`]. One that is there already is kept.
pub async fn create(path: &Path) -> Result<()> {
    let path = path.to_owned();
    on_thread(move || {
        if is_namespace(&path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(CniError::io(format!("create {}", parent.display())))?;
        }
        File::create(&path).map_err(CniError::io(format!("create {}", path.display())))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(errno("make a network namespace"))?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(errno(format!("mount the network namespace at {}", path.display())))
    })
    .await
}

/// Removes the name; the namespace goes when its last process does. Missing is fine.
pub fn remove(path: &Path) -> Result<()> {
    // Not mounted is what we want.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(CniError::io(format!("remove {}", path.display()))(e))
        }
        _ => Ok(()),
    }
}

/// True when a namespace is mounted at `path`.
pub fn is_namespace(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// Moves the calling thread into the namespace at `path`; threads that it starts later follow.
pub fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(CniError::io(format!("open the network namespace {}", path.display())))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(errno(format!("enter the network namespace {}", path.display())))
}

/// Runs `work` on a thread of its own inside the namespace at `path`, with a runtime of its own.
pub(crate) async fn run_in<T, F>(path: PathBuf, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    on_thread(move || {
        enter(&path)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(CniError::io("start a runtime in a network namespace"))?;
        runtime.block_on(work())
    })
    .await
}

/// A dedicated thread: what is done to its namespaces ends with it.
async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || drop(sender.send(work())))
        .map_err(CniError::io("start a thread"))?;
    receiver
        .await
        .unwrap_or_else(|_| Err(CniError::io("work in a network namespace")(std::io::Error::other("the thread died"))))
}

fn errno(operation: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> CniError {
    let operation = operation.into();
    move |e| CniError::Io { operation, source: e.into() }
}
