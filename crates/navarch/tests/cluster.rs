//! A whole cluster in a network namespace of its own: the binary that users run, an image of Debian's static busybox, and the API
//! over HTTPS. Needs root.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use client::{Client, DeleteOptions, Resource};
use object::Gvr;
use serde_json::{Value, json};

const NODE: &str = "192.0.2.10";

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

/// A server in its namespace. Dropped, it takes everything with it.
struct Cluster {
    dir: tempfile::TempDir,
    namespace: String,
    server: Child,
}

impl Cluster {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let namespace = format!("navarch-e2e-{}", std::process::id());
        run("ip", &["netns", "add", &namespace]);
        for args in ["link set lo up", &format!("addr add {NODE}/32 dev lo"), "route add default dev lo"] {
            let words: Vec<&str> = ["-n", &namespace].into_iter().chain(args.split(' ')).collect();
            run("ip", &words);
        }
        let images = dir.path().join("data/agent/images");
        std::fs::create_dir_all(&images).unwrap();
        busybox(&dir.path().join("build"), &images.join("busybox.tar"));
        let server = start(&namespace, dir.path());
        Self { dir, namespace, server }
    }

    /// `kill -9` of the server, and a new one.
    fn restart(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        self.server = start(&self.namespace, self.dir.path());
    }

    /// A client in the cluster's namespace: the thread that calls this lives there from then on.
    async fn client(&self) -> Client {
        let kubeconfig = self.dir.path().join("kubeconfig");
        until("the kubeconfig is written", async || kubeconfig.exists().then_some(())).await;
        client::kubeconfig::connect(Some(&kubeconfig), None, "e2e").unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        // Sandboxes outlive the server; what is left of this cluster's is ended by the directory that it was started for.
        let dir = self.dir.path().to_string_lossy().into_owned();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&dir) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        for mount in mounts.lines().rev().filter_map(|l| l.split(' ').nth(1)).filter(|m| m.starts_with(&dir)) {
            let _ = nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn start(namespace: &str, dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    Command::new("nsenter")
        .arg(format!("--net=/run/netns/{namespace}"))
        .arg(env!("CARGO_BIN_EXE_navarch"))
        .args(["server", "--node-name", "e2e", "--node-ip", NODE])
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
    for applet in ["sh", "echo", "sleep", "cat"] {
        layer = layer.symlink(format!("/bin/{applet}").as_str(), "busybox");
    }
    images::Builder::new().layer(layer).env("PATH", "/bin").cmd(["sh"]).build(&store, "busybox:1").unwrap();
    let file = std::fs::File::create(archive).unwrap();
    store.export(&["busybox:1".to_owned()], file, None).unwrap();
}

/// Waits for something, a minute at most.
async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn pods() -> Gvr {
    Gvr::new("", "v1", "pods")
}

async fn pod(client: &Client, name: &str) -> Option<Value> {
    client.get(&Resource::object(&pods(), Some("default"), name)).await.ok()?.value().ok()
}

fn is_ready(object: &Value) -> bool {
    object["status"]["conditions"]
        .as_array()
        .is_some_and(|c| c.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

async fn play(cluster: &mut Cluster) {
    let client = cluster.client().await;
    let node = Resource::object(&Gvr::new("", "v1", "nodes"), None, "e2e");
    until("the node is ready", async || client.get(&node).await.ok()?.value().ok().filter(is_ready)).await;
    until("the default service account exists", async || {
        client.get(&Resource::object(&Gvr::new("", "v1", "serviceaccounts"), Some("default"), "default")).await.ok()
    })
    .await;

    let template = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
        {"name": "main", "image": "busybox:1", "command": ["sh", "-c", "echo hello from $HOSTNAME; exec sleep 1000"]}]}});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    let deployments = Gvr::new("apps", "v1", "deployments");
    client.create(&Resource::collection(&deployments, Some("default")), &deployment).await.unwrap();
    let all = || async {
        let list = client.list(&Resource::collection(&pods(), Some("default")), &Default::default()).await.ok()?;
        let mut values: Vec<Value> = list.items.iter().filter_map(|o| o.value().ok()).collect();
        values.sort_by_key(|v| v["metadata"]["name"].to_string());
        Some(values)
    };
    let running =
        until("two pods are ready", async || all().await.filter(|p| p.len() == 2 && p.iter().all(is_ready))).await;
    let name = running[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let log = client.raw_get(&format!("/api/v1/namespaces/default/pods/{name}/log")).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&log), format!("hello from {name}\n"));

    let containers = |pods: &[Value]| {
        pods.iter().map(|p| p["status"]["containerStatuses"][0]["containerID"].clone()).collect::<Vec<_>>()
    };
    cluster.restart();
    let client = cluster.client().await;
    let after = until("the pods are ready under a new server", async || {
        let list = client.list(&Resource::collection(&pods(), Some("default")), &Default::default()).await.ok()?;
        let mut values: Vec<Value> = list.items.iter().filter_map(|o| o.value().ok()).collect();
        values.sort_by_key(|v| v["metadata"]["name"].to_string());
        (values.len() == 2 && values.iter().all(is_ready)).then_some(values)
    })
    .await;
    assert_eq!(containers(&after), containers(&running), "the same containers as before");

    client.delete(&Resource::object(&pods(), Some("default"), &name), &DeleteOptions::default()).await.unwrap();
    until("the deleted pod is gone", async || pod(&client, &name).await.is_none().then_some(())).await;
    let at = Resource::object(&deployments, Some("default"), "web");
    client.delete(&at, &DeleteOptions::default()).await.unwrap();
    until("all pods are gone", async || {
        let list = client.list(&Resource::collection(&pods(), Some("default")), &Default::default()).await.ok()?;
        list.items.is_empty().then_some(())
    })
    .await;
}

#[test]
fn pods_run_survive_the_server_and_go() {
    let mut cluster = Cluster::new();
    // The test's own thread moves into the namespace: the client's connections are made there.
    cni::namespace::enter(&Path::new("/run/netns").join(&cluster.namespace)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(play(&mut cluster))));
    if let Err(panic) = played {
        let log = std::fs::read_to_string(cluster.dir.path().join("log")).unwrap_or_default();
        drop(cluster);
        panic!("{:?}\nthe server's log:\n{log}", panic.downcast_ref::<String>());
    }
}
