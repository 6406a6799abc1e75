//! What becomes of sandboxes and containers between the calls: their shims, their ends, their removal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use protos::cri::v1::*;
use protos::cri::{Code, Error, Result, RuntimeService as _};

use super::{EmbeddedRuntime, Prepared, io_error, report};
use crate::convert;
use crate::link::Link;
use crate::spec::{Ask, EXIT_FILE, Exit, NETNS, PID_FILE, SandboxSpec, now, write_json};
use crate::state::{Container as Record, Sandbox};

impl EmbeddedRuntime {
    pub(super) fn link(&self, sandbox: &str) -> Link {
        Link::new(&self.inner.state.lock().sandbox_dir(sandbox))
    }

    pub(super) fn sandbox(&self, id: &str) -> Result<Sandbox> {
        let state = self.inner.state.lock();
        let found = state.sandboxes.get(id).or_else(|| by_prefix(&state.sandboxes, id));
        found.cloned().ok_or_else(|| Error::not_found(format!("sandbox {id:?} does not exist")))
    }

    pub(super) fn container(&self, id: &str) -> Result<Record> {
        let mut state = self.inner.state.lock();
        let full = match state.containers.contains_key(id) {
            true => id.to_owned(),
            false => by_prefix(&state.containers, id).map(|c| c.id.clone()).unwrap_or_default(),
        };
        state.refresh(&full);
        state.containers.get(&full).cloned().ok_or_else(|| Error::not_found(format!("container {id:?} does not exist")))
    }

    /// Waits in the background for a container's end, and tells.
    pub(super) fn follow(&self, sandbox: &str, id: &str) {
        let (runtime, link, id) = (self.clone(), self.link(sandbox), id.to_owned());
        let mut waiters = self.inner.waiters.lock();
        while waiters.try_join_next().is_some() {}
        waiters.spawn(async move {
            // Whatever the outcome: it has ended, or its shim has.
            let _ = link.wait(&id).await;
            runtime.note_end(&id).await;
        });
    }

    pub(super) async fn note_end(&self, id: &str) {
        // The shim writes the file before it tells; a shim that died wrote none.
        for _ in 0..50 {
            if self.container(id).map_or(true, |c| c.exit.is_some()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        if let Ok(container) = self.container(id)
            && container.exit.is_none()
        {
            linux::cgroup::Cgroup::new(&container.spec.cgroup).kill();
            let exit = Exit { code: 255, oom: false, at: now(), error: None };
            let dir = self.inner.state.lock().container_dir(&container.sandbox, id);
            if let Err(error) = write_json(&dir.join(EXIT_FILE), &exit) {
                tracing::warn!(id, %error, "cannot note that a container is lost");
            }
            self.inner.state.lock().refresh(id);
        }
        self.inner.ended.send_modify(|n| *n += 1);
        self.emit(id, ContainerEventType::ContainerStoppedEvent);
    }

    /// Resolves once the container has ended.
    pub(super) async fn until_ended(&self, id: &str) {
        let mut ended = self.inner.ended.subscribe();
        while self.container(id).is_ok_and(|c| c.started.is_some() && c.exit.is_none()) {
            // Looked at again now and then: an end may be noted by others.
            let _ = tokio::time::timeout(Duration::from_secs(1), ended.changed()).await;
        }
    }

    pub(super) fn emit(&self, id: &str, kind: ContainerEventType) {
        let state = self.inner.state.lock();
        let Some(container) = state.containers.get(id) else { return };
        let status = state.sandboxes.get(&container.sandbox).map(report::sandbox_status);
        let event = ContainerEventResponse {
            container_id: id.into(),
            container_event_type: kind as i32,
            created_at: now(),
            pod_sandbox_status: status,
            containers_statuses: vec![report::container_status(container)],
        };
        // Nobody listens: nobody misses it.
        let _ = self.inner.events.send(event);
    }

    /// Starts a shim and waits until it serves.
    pub(super) async fn start_shim(&self, dir: &Path) -> Result<()> {
        let mut command = tokio::process::Command::new(&self.inner.options.program);
        let output = command.arg(OsString::from("shim")).arg(dir).stdin(std::process::Stdio::null()).output().await;
        let output = output.map_err(io_error("start the sandbox's shim"))?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::unknown(format!("cannot start the sandbox's shim: {words}")))
    }

    pub(super) async fn stop(&self, container: &Record, timeout: i64) -> Result<()> {
        if container.started.is_none() || container.exit.is_some() {
            return Ok(());
        }
        let link = self.link(&container.sandbox);
        let signal = |signal| link.call(Ask::Signal { id: container.id.clone(), signal }, Vec::new());
        if timeout > 0 {
            signal(container.spec.stop_signal).await?;
            let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
            if tokio::time::timeout(grace, self.until_ended(&container.id)).await.is_ok() {
                return Ok(());
            }
        }
        signal(libc::SIGKILL).await?;
        self.until_ended(&container.id).await;
        Ok(())
    }

    pub(super) async fn remove(&self, container: &Record) -> Result<()> {
        self.stop(container, 0).await?;
        let mut errors = Vec::new();
        let cgroup = linux::cgroup::Cgroup::new(&container.spec.cgroup);
        let removed = tokio::task::spawn_blocking(move || cgroup.remove()).await;
        if let Ok(Err(error)) = removed {
            errors.push(format!("cannot remove its cgroup: {error}"));
        }
        if let Err(error) = self.inner.rootfs.remove(&container.id).await {
            errors.push(error.to_string());
        }
        let ask = Ask::Forget { id: container.id.clone() };
        // A shim that is gone has forgotten everything.
        let _ = self.link(&container.sandbox).call(ask, Vec::new()).await;
        self.emit(&container.id, ContainerEventType::ContainerDeletedEvent);
        let dir = {
            let mut state = self.inner.state.lock();
            state.containers.remove(&container.id);
            state.container_dir(&container.sandbox, &container.id)
        };
        if let Err(error) = fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            errors.push(format!("cannot remove {}: {error}", dir.display()));
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::unknown(errors.join("; "))) }
    }

    pub(super) fn containers_of(&self, sandbox: &str) -> Vec<Record> {
        let mut state = self.inner.state.lock();
        let ids: Vec<String> =
            state.containers.values().filter(|c| c.sandbox == sandbox).map(|c| c.id.clone()).collect();
        for id in &ids {
            state.refresh(id);
        }
        ids.iter().filter_map(|id| state.containers.get(id).cloned()).collect()
    }

    pub(super) async fn stop_sandbox(&self, sandbox: &Sandbox) -> Result<()> {
        let mut errors = Vec::new();
        for container in self.containers_of(&sandbox.id) {
            if let Err(error) = self.stop(&container, 0).await {
                errors.push(error.to_string());
            }
        }
        if !sandbox.host_network
            && let Err(error) = self.inner.network.detach(&sandbox.id).await
        {
            errors.push(error.to_string());
        }
        let dir = self.inner.state.lock().sandbox_dir(&sandbox.id);
        let _ = self.link(&sandbox.id).call(Ask::Quit, Vec::new()).await;
        kill_shim(&dir);
        let _ = nix::mount::umount2(&dir.join(NETNS), nix::mount::MntFlags::MNT_DETACH);
        let record = Sandbox { stopped: true, ..sandbox.clone() };
        self.inner.state.lock().put_sandbox(record).map_err(io_error("note that the sandbox is stopped"))?;
        if errors.is_empty() { Ok(()) } else { Err(Error::unknown(errors.join("; "))) }
    }

    /// Removes every sandbox and container, running or not. Goes on after errors; what failed.
    pub async fn purge(&self) -> Vec<String> {
        let all: Vec<String> = self.inner.state.lock().sandboxes.keys().cloned().collect();
        let mut errors = Vec::new();
        for pod_sandbox_id in all {
            if let Err(error) = self.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await {
                errors.push(error.to_string());
            }
        }
        errors
    }

    /// Gives mounts of images the place where they are mounted.
    pub(super) async fn mount_images(&self, id: &str, mounts: &mut [Mount]) -> Result<()> {
        for mount in mounts {
            let Some(image) = &mount.image else { continue };
            if !mount.host_path.is_empty() {
                let text = format!("mount at {:?} has an image and a host path", mount.container_path);
                return Err(Error::new(Code::InvalidArgument, text));
            }
            let place = self.inner.rootfs.mount_image(id, &image.image, &mount.image_sub_path).await;
            // Kubelets know failures of this kind by the word at their beginning.
            let place = place.map_err(|e| Error::new(e.code, format!("ImageVolumeMountFailed: {}", e.message)))?;
            mount.host_path = place.to_string_lossy().into_owned();
            mount.readonly = true;
        }
        Ok(())
    }

    pub(super) fn record_container(
        &self,
        id: &str,
        sandbox: &Sandbox,
        sandbox_spec: &SandboxSpec,
        config: &ContainerConfig,
        prepared: &Prepared,
        image: String,
    ) -> Result<()> {
        let dir = self.inner.state.lock().sandbox_dir(&sandbox.id);
        let mut spec = convert::container(id, sandbox, sandbox_spec, config, prepared)?;
        convert::add_names(&dir, &mut spec);
        let metadata = config.metadata.clone().unwrap_or_default();
        let record = Record {
            id: id.into(),
            sandbox: sandbox.id.clone(),
            name: metadata.name,
            attempt: metadata.attempt,
            image,
            image_id: prepared.image_id.clone(),
            image_ref: prepared.digests.first().unwrap_or(&prepared.image_id).clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            created_at: now(),
            log_path: spec.log_path.to_string_lossy().into_owned(),
            spec,
            started: None,
            exit: None,
        };
        self.inner.state.lock().put_container(record).map_err(io_error("record the container"))
    }
}

/// A shim that did not quit by itself (nothing runs any more) is ended.
fn kill_shim(dir: &Path) {
    let pid = fs::read_to_string(dir.join(PID_FILE)).ok().and_then(|p| p.trim().parse::<i32>().ok());
    let Some(pid) = pid else { return };
    // The number may be another's by now: only a process that was started for this directory is meant.
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if command.split(|b| *b == 0).any(|arg| arg == dir.as_os_str().as_encoded_bytes()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

/// The one entry whose id begins so.
fn by_prefix<'a, T>(all: &'a BTreeMap<String, T>, id: &str) -> Option<&'a T> {
    let mut found = all.range(id.to_owned()..).take_while(|(k, _)| !id.is_empty() && k.starts_with(id));
    let first = found.next()?.1;
    found.next().is_none().then_some(first)
}
