//! A server in a network namespace of its own, and what tests ask of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use client::{Client, Resource};
use object::Gvr;
use serde_json::Value;

/// The node's address.
pub(crate) const NODE: &str = "192.0.2.10";

pub(crate) fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

/// A server in its namespace. Dropped, it takes everything with it.
pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    /// Of the network namespace, and of the node.
    pub(crate) name: String,
    server: Child,
}

fn add_namespace(name: &str) {
    run("ip", &["netns", "add", name]);
    for args in ["link set lo up", &format!("addr add {NODE}/32 dev lo"), "route add default dev lo"] {
        let words: Vec<&str> = ["-n", name].into_iter().chain(args.split(' ')).collect();
        run("ip", &words);
    }
}

impl Cluster {
    fn new(test: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("e2e-{test}-{}", std::process::id());
        add_namespace(&name);
        let images = dir.path().join("data/agent/images");
        std::fs::create_dir_all(&images).unwrap();
        busybox(&dir.path().join("build"), &images.join("busybox.tar"));
        let server = start(&name, dir.path());
        Self { dir, name, server }
    }

    /// `kill -9` of the server, and a new one.
    pub(crate) fn restart(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        self.server = start(&self.name, self.dir.path());
    }

    /// As after a reboot: processes, mounts and the network are gone, what is on the disk stays. Containers' own processes are left to
    /// run, which is worse: the next server must end them.
    pub(crate) fn lose_everything(&mut self) {
        self.stop();
        add_namespace(&self.name);
        self.enter();
        self.server = start(&self.name, self.dir.path());
    }

    /// The thread that calls this lives in the cluster's network namespace from then on.
    pub(crate) fn enter(&self) {
        cni::namespace::enter(&Path::new("/run/netns").join(&self.name)).unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        let kubeconfig = self.dir.path().join("kubeconfig");
        until("the kubeconfig is written", async || kubeconfig.exists().then_some(())).await;
        client::kubeconfig::connect(Some(&kubeconfig), None, "e2e").unwrap()
    }

    /// A client of a cluster whose node takes pods.
    pub(crate) async fn ready_client(&self) -> Client {
        let client = self.client().await;
        let node = Resource::object(&Gvr::new("", "v1", "nodes"), None, &self.name);
        until("the node is ready", async || client.get(&node).await.ok()?.value().ok().filter(is_ready)).await;
        let account = Resource::object(&Gvr::new("", "v1", "serviceaccounts"), Some("default"), "default");
        until("the default service account exists", async || client.get(&account).await.ok()).await;
        client
    }

    fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        // Sandboxes outlive the server; what is left of this cluster's is ended by the directory that it was started for.
        let dir = self.dir.path().to_string_lossy().into_owned();
        for (pid, command) in processes() {
            if command.contains(&dir) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().rev().filter_map(|l| l.split(' ').nth(1)).filter(|m| m.starts_with(&dir)) {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Pid and command line of everything that runs.
pub(crate) fn processes() -> Vec<(i32, String)> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|process| {
        let pid = process.file_name().to_string_lossy().parse::<i32>().ok()?;
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        Some((pid, String::from_utf8_lossy(&command).replace('\0', " ")))
    })
    .collect()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
        for group in groups(Path::new("/sys/fs/cgroup"), &format!("navarch-{}", self.name)) {
            linux::cgroup::Cgroup::new(&group).kill();
        }
        let _ = linux::cgroup::Cgroup::new(&format!("/navarch-{}", self.name)).remove();
    }
}

/// The groups below the one called `name`, by their path within their hierarchy.
fn groups(root: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let roots: Vec<PathBuf> = entries.map(|e| e.path().join(name)).chain([root.join(name)]).collect();
    for top in roots.into_iter().filter(|p| p.is_dir()) {
        let mut todo = vec![top.clone()];
        while let Some(dir) = todo.pop() {
            let below = std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|e| e.path());
            todo.extend(below.filter(|p| p.is_dir()));
            let path = dir.strip_prefix(top.parent().unwrap()).unwrap();
            found.push(format!("/{}", path.display()));
        }
    }
    found
}

fn start(namespace: &str, dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg(env!("CARGO_BIN_EXE_navarch"))
        .args(["server", "--node-name", namespace, "--node-ip", NODE])
        .args([Path::new("--data-dir"), &dir.join("data"), Path::new("--write-kubeconfig"), &dir.join("kubeconfig")])
        .args([Path::new("--private-registry"), &dir.join("registries.yaml")])
        .stderr(log)
        .spawn()
        .unwrap()
}

/// An archive of an image with busybox, through a store of its own.
fn busybox(build: &Path, archive: &PathBuf) {
    let store = images::Store::open(build).unwrap();
    let mut layer =
        images::Layer::new().dir("/bin", 0o755).dir("/tmp", 0o1777).copy("/bin/busybox", "/bin/busybox").unwrap();
    for applet in ["sh", "echo", "sleep", "cat", "httpd", "wc", "tar", "stty"] {
        layer = layer.symlink(format!("/bin/{applet}").as_str(), "busybox");
    }
    images::Builder::new().layer(layer).env("PATH", "/bin").cmd(["sh"]).build(&store, "busybox:1").unwrap();
    let file = std::fs::File::create(archive).unwrap();
    store.export(&["busybox:1".to_owned()], file, None).unwrap();
}

/// Waits for something, a minute at most.
pub(crate) async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn pods() -> Gvr {
    Gvr::new("", "v1", "pods")
}

pub(crate) async fn pod(client: &Client, name: &str) -> Option<Value> {
    client.get(&Resource::object(&pods(), Some("default"), name)).await.ok()?.value().ok()
}

pub(crate) fn is_ready(object: &Value) -> bool {
    object["status"]["conditions"]
        .as_array()
        .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// Plays a test against a cluster of its own; when it fails, with the server's log.
pub(crate) fn with_cluster(test: &str, play: impl AsyncFnOnce(&mut Cluster)) {
    let mut cluster = Cluster::new(test);
    // The test's own thread moves into the namespace: its connections are made there.
    cluster.enter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(play(&mut cluster))));
    if let Err(panic) = played {
        let log = std::fs::read_to_string(cluster.dir.path().join("log")).unwrap_or_default();
        drop(cluster);
        let said = panic.downcast_ref::<String>().cloned().or(panic.downcast_ref::<&str>().map(ToString::to_string));
        panic!("{}\nthe server's log:\n{log}", said.unwrap_or_default());
    }
}

/// The pods of the namespace `default`, by name.
pub(crate) async fn all_pods(client: &Client) -> Option<Vec<Value>> {
    let list = client.list(&Resource::collection(&pods(), Some("default")), &Default::default()).await.ok()?;
    let mut values: Vec<Value> = list.items.iter().filter_map(|o| o.value().ok()).collect();
    values.sort_by_key(|v| v["metadata"]["name"].to_string());
    Some(values)
}
