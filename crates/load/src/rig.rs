//! A server in a network namespace of its own, with its data in a directory of its own; dropped, nothing is left of either.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sched::{CloneFlags, setns};

use crate::wire::{Endpoint, Request};

/// From a network that is reserved for documentation: it exists within the namespace only.
const ADDRESS: &str = "192.0.2.10";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace, a directory, and at most one running server.
pub(crate) struct Rig {
    dir: tempfile::TempDir,
    namespace: String,
    binary: PathBuf,
    server: Option<Child>,
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("ip").args(arguments).status().context("cannot run ip (iproute2)")?;
    ensure!(status.success(), "ip {} failed", arguments.join(" "));
    Ok(())
}

impl Rig {
    /// Makes the namespace and moves this thread into it: what it connects and starts from now on is there.
    pub(crate) fn new(binary: &Path, scratch: Option<&Path>, name: &str) -> anyhow::Result<Self> {
        let binary = binary.canonicalize().with_context(|| format!("there is no {}", binary.display()))?;
        let prefix = "navarch-bench-";
        let mut builder = tempfile::Builder::new();
        let dir = match scratch {
            Some(scratch) => builder.prefix(prefix).tempdir_in(scratch),
            None => builder.prefix(prefix).tempdir(),
        };
        let namespace = format!("navarch-bench-{name}-{}", std::process::id());
        let rig = Self { dir: dir.context("cannot make a directory")?, namespace, binary, server: None };
        let namespace = &rig.namespace;
        ip(&["netns", "add", namespace])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", namespace, "addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"])?;
        ip(&["-n", namespace, "route", "add", "default", "dev", "lo"])?;
        let file = File::open(format!("/run/netns/{namespace}")).context("cannot open the network namespace")?;
        setns(file, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
        Ok(rig)
    }

    /// An image with Debian's static busybox, where the next server finds it.
    pub(crate) fn add_image(&self) -> anyhow::Result<()> {
        let images = self.dir.path().join("data/agent/images");
        std::fs::create_dir_all(&images)?;
        let store = images::Store::open(self.dir.path().join("build"))?;
        let layer = images::Layer::new().dir("/bin", 0o755).copy("/bin/busybox", "/bin/busybox")?;
        let layer = layer.symlink("/bin/sleep", "busybox");
        images::Builder::new().layer(layer).env("PATH", "/bin").build(&store, "busybox:1")?;
        store.export(&["busybox:1".to_owned()], File::create(images.join("busybox.tar"))?, None)?;
        Ok(())
    }

    /// Starts the server and waits until it says that it is ready; how long that took.
    pub(crate) async fn start(&mut self, arguments: &[&str]) -> anyhow::Result<(Subject, Duration)> {
        let dir = self.dir.path();
        let kubeconfig = dir.join("kubeconfig");
        // Its appearance is the sign that there is something to connect to.
        let _ = std::fs::remove_file(&kubeconfig);
        let log = File::options().create(true).append(true).open(dir.join("log"))?;
        let began = Instant::now();
        let child = Command::new(&self.binary)
            .args(["server", "--node-name", &self.namespace, "--node-ip", ADDRESS])
            .args([Path::new("--data-dir"), &dir.join("data"), Path::new("--write-kubeconfig"), &kubeconfig])
            .args([Path::new("--private-registry"), &dir.join("registries.yaml")])
            .args(arguments)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let pid = child.id();
        self.server = Some(child);
        let endpoint = self.wait("the kubeconfig", async || Endpoint::of(&kubeconfig).ok()).await?;
        self.wait("/readyz", async || {
            let reply = endpoint.http1().await.ok()?.call(&Request::get("/readyz"), false).await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await?;
        let node = format!("/api/v1/nodes/{}", self.namespace);
        Ok((Subject { endpoint, pid: Some(pid), node }, began.elapsed()))
    }

    /// Waits for something in steps of a millisecond or so.
    pub(crate) async fn wait<T>(&mut self, what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
        let began = Instant::now();
        loop {
            if let Some(found) = found().await {
                return Ok(found);
            }
            if let Some(status) = self.server.as_mut().map(Child::try_wait).transpose()?.flatten() {
                bail!("the server ended ({status}):\n{}", self.log());
            }
            ensure!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends the server as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
        // Sandboxes outlive the server; theirs is whoever was started for this directory.
        let dir = self.dir.path().to_string_lossy().into_owned();
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&dir) && pid != nix::unistd::getpid().as_raw() {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().rev().filter_map(|l| l.split(' ').nth(1)).filter(|m| m.starts_with(&dir)) {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
        // The node's cgroups, in a hierarchy per controller or in one.
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|h| h.path());
        for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            remove_cgroups(&hierarchy.join(format!("navarch-{}", self.namespace)));
        }
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

/// Ends what still runs in a cgroup (containers outlive their shim) and removes it. Its files go with it; only cgroups below must go before.
fn remove_cgroups(group: &Path) {
    let inside = || std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for _ in 0..100 {
        let processes = inside();
        if processes.is_empty() {
            break;
        }
        for pid in processes.lines().filter_map(|line| line.parse().ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        // The kernel takes them out of the cgroup a moment later.
        std::thread::sleep(Duration::from_millis(10));
    }
    for below in std::fs::read_dir(group).into_iter().flatten().flatten().map(|b| b.path()).filter(|b| b.is_dir()) {
        remove_cgroups(&below);
    }
    let _ = std::fs::remove_dir(group);
}

/// What is measured.
pub(crate) struct Subject {
    pub(crate) endpoint: Endpoint,
    pub(crate) pid: Option<u32>,
    /// Path of its node.
    pub(crate) node: String,
}

impl Subject {
    /// One request that must succeed (or fail with a status among `fine`); its body.
    pub(crate) async fn ask(&self, request: &Request, fine: &[u16]) -> anyhow::Result<Vec<u8>> {
        let reply = self.endpoint.http1().await?.call(request, true).await?;
        if fine.contains(&reply.status) {
            return Ok(reply.body);
        }
        Ok(reply.ok().with_context(|| format!("{} {}", request.method, request.path))?.body)
    }
}
