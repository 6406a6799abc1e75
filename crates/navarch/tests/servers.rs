//! Several servers on one etcd, in a network namespace of their own: one cluster, whoever is asked, whoever dies.
//! Snapshots of both stores, there and back. Scheduler and controllers as processes of their own. Needs root and Debian's etcd-server.

#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, Resource};
use client::{Credential, Https, Server};
use object::Gvr;
use serde_json::{Value, json};

const ETCD: &str = "http://127.0.0.1:2379";

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

/// A namespace with addresses for three servers. Dropped, it takes everything with it.
struct Site {
    dir: tempfile::TempDir,
    namespace: String,
    processes: Vec<(String, Child)>,
}

impl Site {
    fn new(name: &str) -> Self {
        let namespace = format!("navarch-{name}-{}", std::process::id());
        run("ip", &["netns", "add", &namespace]);
        let mut commands = vec!["link set lo up".to_owned(), "route add default dev lo".to_owned()];
        commands.splice(1..1, (1..=3).map(|n| format!("addr add {}/32 dev lo", address(n))));
        for command in commands {
            let words: Vec<&str> = ["-n", &namespace].into_iter().chain(command.split(' ')).collect();
            run("ip", &words);
        }
        Self { dir: tempfile::tempdir().unwrap(), namespace, processes: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program in the namespace.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(program);
        command
    }

    fn spawn(&mut self, name: &str, mut command: Command) {
        let log = std::fs::File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.processes.push((name.to_owned(), child));
    }

    /// The last lines that each program wrote.
    fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "log") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let skipped = text.lines().count().saturating_sub(20);
                let tail = text.lines().skip(skipped).map(|line| line.get(..300).unwrap_or(line));
                logs += &format!("{}:\n{}\n", path.display(), tail.collect::<Vec<_>>().join("\n"));
            }
        }
        logs
    }

    fn etcd(&mut self) {
        let mut command = self.command("etcd");
        command.arg("--data-dir").arg(self.path("etcd"));
        command.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
        command.args(["--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap"]);
        self.spawn("etcd", command);
    }

    fn server(&mut self, n: usize, more: &[&str]) {
        let (name, ip) = (format!("s{n}"), address(n));
        let mut command = self.command(env!("CARGO_BIN_EXE_navarch"));
        command.args(["server", "--disable-agent", "--node-name", &name, "--node-ip", &ip, "--bind-address", &ip]);
        command.args(["--tls-san", "127.0.0.1"]).args(more);
        command.arg("--data-dir").arg(self.path(&name)).arg("--write-kubeconfig").arg(self.kubeconfig(n));
        self.spawn(&name, command);
    }

    fn kubeconfig(&self, n: usize) -> PathBuf {
        self.path(&format!("s{n}.kubeconfig"))
    }

    fn signal(&mut self, name: &str, signal: nix::sys::signal::Signal) {
        let at = self.processes.iter().position(|(n, _)| n == name).unwrap();
        let (_, mut child) = self.processes.remove(at);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        child.wait().unwrap();
    }

    /// Its administrator's client; this thread is in the namespace.
    async fn client(&self, n: usize) -> Client {
        let kubeconfig = self.kubeconfig(n);
        until("the API is ready", async || {
            let client = client::kubeconfig::connect(Some(&kubeconfig), None, "test").ok()?;
            client.raw_get("/readyz").await.ok().map(|_| client)
        })
        .await
    }

    fn etcd_snapshot(&self, args: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_navarch")).arg("etcd-snapshot").args(args).output().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for (_, child) in &mut self.processes {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn address(n: usize) -> String {
    format!("192.0.2.{}", 10 + n)
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

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn named(resource: &str, namespace: &str, name: &str) -> Resource {
    Resource::object(&Gvr::new("", "v1", resource), Some(namespace), name)
}

fn config_map(data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"x": data}})
}

async fn data(client: &Client) -> Option<Value> {
    client.get(&named("configmaps", "default", "c")).await.ok()?.value().ok().map(|v| v["data"]["x"].clone())
}

fn deployment(replicas: u32) -> Value {
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "x"}]}});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}})
}

async fn replicas(client: &Client) -> Option<i64> {
    let at = Resource::object(&Gvr::new("apps", "v1", "deployments"), Some("default"), "web");
    let deployment = client.get(&at).await.ok()?.value().ok()?;
    let at = Resource::collection(&Gvr::new("", "v1", "pods"), Some("default"));
    let pods = client.list(&at, &Default::default()).await.ok()?;
    let pods = i64::try_from(pods.items.len()).unwrap();
    (deployment["status"]["replicas"] == pods).then_some(pods)
}

/// The server that holds the controllers' lease: `s2_192.0.2.12`.
async fn leader(client: &Client) -> Option<String> {
    let leases = Gvr::new("coordination.k8s.io", "v1", "leases");
    let lease = client.get(&Resource::object(&leases, Some("kube-system"), "kube-controller-manager")).await.ok()?;
    let holder = lease.value().ok()?["spec"]["holderIdentity"].as_str()?.split('_').next()?.to_owned();
    (!holder.is_empty()).then_some(holder)
}

async fn endpoints(client: &Client) -> Option<Vec<String>> {
    let value = client.get(&named("endpoints", "default", "kubernetes")).await.ok()?.value().ok()?;
    let all = value["subsets"][0]["addresses"].as_array()?;
    Some(all.iter().filter_map(|a| a["ip"].as_str()).map(Into::into).collect())
}

/// A client of a server that shows a service account's token.
fn bearer(site: &Site, n: usize, token: &str) -> Client {
    let ca = std::fs::read(site.path(&format!("s{n}")).join("server/tls/server-ca.crt")).unwrap();
    let server = Server { url: format!("https://{}:6443", address(n)), ca_pem: Some(ca), ..Server::default() };
    let transport = Https::open(&server, Credential::Token(token.to_owned()), "test").unwrap();
    Client::new(Arc::new(transport), "test")
}

async fn three_servers(site: &mut Site) {
    let flags = ["--datastore-endpoint", ETCD, "--token", "a secret"];
    site.etcd();
    for n in 1..=3 {
        site.server(n, &flags);
    }
    let mut clients = Vec::new();
    for n in 1..=3 {
        clients.push(site.client(n).await);
    }
    let collection = |resource: &str| Resource::collection(&Gvr::new("", "v1", resource), Some("default"));
    until("all are endpoints of the service", async || {
        endpoints(&clients[0]).await.filter(|e| *e == [address(1), address(2), address(3)])
    })
    .await;
    // What one acknowledges the others show at once: no waiting here.
    clients[0].create(&collection("configmaps"), &config_map("0")).await.unwrap();
    for n in 1..=20_usize {
        let (writer, reader) = (&clients[n % 3], &clients[(n + 1) % 3]);
        writer.update(&named("configmaps", "default", "c"), &config_map(&n.to_string())).await.unwrap();
        assert_eq!(data(reader).await.unwrap(), n.to_string(), "a stale read");
    }
    // Numbers are given out once, by whichever server.
    let services = futures::future::join_all((0..24).map(|n| {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}")},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        let (client, at) = (&clients[n % 3], collection("services"));
        async move { client.create(&at, &service).await.unwrap().value().unwrap() }
    }))
    .await;
    for field in ["/spec/clusterIP", "/spec/ports/0/nodePort"] {
        let mut given: Vec<String> = services.iter().map(|s| s.pointer(field).unwrap().to_string()).collect();
        given.sort();
        given.dedup();
        assert_eq!(given.len(), services.len(), "{field}");
    }
    // A token of one is good for the others.
    until("the default service account exists", async || {
        clients[1].get(&named("serviceaccounts", "default", "default")).await.ok()
    })
    .await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let at = named("serviceaccounts", "default", "default").sub("token");
    let token = clients[0].create(&at, &request).await.unwrap().value().unwrap();
    let stranger = bearer(site, 3, token["status"]["token"].as_str().unwrap());
    let refused = stranger.get(&named("configmaps", "default", "c")).await.unwrap_err();
    assert!(refused.to_string().contains("system:serviceaccount:default:default"), "{refused}");

    let deployments = Gvr::new("apps", "v1", "deployments");
    clients[0].create(&Resource::collection(&deployments, Some("default")), &deployment(2)).await.unwrap();
    until("two pods", async || replicas(&clients[1]).await.filter(|n| *n == 2)).await;
    let first = leader(&clients[0]).await.unwrap();
    site.signal(&first, nix::sys::signal::Signal::SIGKILL);
    let left: Vec<usize> = (1..=3).filter(|n| format!("s{n}") != first).collect();
    let client = clients[left[0] - 1].clone();
    let at = Resource::object(&deployments, Some("default"), "web");
    client.update(&at, &deployment(4)).await.unwrap();
    let other = clients[left[1] - 1].clone();
    until("another one leads, and makes four pods", async || replicas(&other).await.filter(|n| *n == 4)).await;
    assert_ne!(leader(&other).await, Some(first));
    until("the dead one is no endpoint any more", async || endpoints(&client).await.filter(|e| e.len() == 2)).await;
    snapshots_of_etcd(site, &client, &left, &flags).await;
}

async fn snapshots_of_etcd(site: &mut Site, client: &Client, left: &[usize], flags: &[&str]) {
    let dir = site.path("snapshots").display().to_string();
    let place = ["--datastore-endpoint", ETCD, "--dir", &dir, "--data-dir", &dir];
    let saved = site.etcd_snapshot(&[&["save"][..], &place].concat());
    assert!(saved.status.success(), "{}", text(&saved));
    let name = String::from_utf8_lossy(&saved.stdout).trim().to_owned();
    client.update(&named("configmaps", "default", "c"), &config_map("after")).await.unwrap();
    let restore = [&["restore"][..], &place, &[&name]].concat();
    let refused = site.etcd_snapshot(&restore);
    assert!(!refused.status.success() && text(&refused).contains("stop them first"), "{}", text(&refused));
    for n in left {
        site.signal(&format!("s{n}"), nix::sys::signal::Signal::SIGTERM);
    }
    let restored = site.etcd_snapshot(&restore);
    assert!(restored.status.success(), "{}", text(&restored));
    site.server(left[0], flags);
    let client = site.client(left[0]).await;
    assert_eq!(data(&client).await.unwrap(), "20");
    assert_eq!(replicas(&client).await, Some(4));
}

async fn snapshots_of_the_embedded_store(site: &mut Site) {
    site.server(1, &[]);
    let client = site.client(1).await;
    let at = Resource::collection(&Gvr::new("", "v1", "configmaps"), Some("default"));
    let before = client.create(&at, &config_map("before")).await.unwrap().head.resource_version;
    let data_dir = site.path("s1").display().to_string();
    let place = ["--data-dir", data_dir.as_str()];
    let saved = site.etcd_snapshot(&[&["save", "--name", "live"][..], &place].concat());
    assert!(saved.status.success(), "of a running server: {}", text(&saved));
    let path = String::from_utf8_lossy(&saved.stdout).trim().to_owned();
    let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
    let listed = site.etcd_snapshot(&[&["ls"][..], &place].concat());
    assert!(text(&listed).contains(name) && name.starts_with("live-"), "{}", text(&listed));
    client.update(&named("configmaps", "default", "c"), &config_map("after")).await.unwrap();
    let restore = [&["restore", name][..], &place].concat();
    let refused = site.etcd_snapshot(&restore);
    assert!(!refused.status.success() && text(&refused).contains("stop it first"), "{}", text(&refused));
    site.signal("s1", nix::sys::signal::Signal::SIGTERM);
    let said = site.etcd_snapshot(&[&restore[..], &["--dry-run"]].concat());
    assert!(text(&said).contains("will be everything"), "{}", text(&said));
    let stopped = site.etcd_snapshot(&[&["save"][..], &place].concat());
    assert!(stopped.status.success(), "of a stopped server: {}", text(&stopped));
    let restored = site.etcd_snapshot(&restore);
    assert!(restored.status.success(), "{}", text(&restored));
    site.server(1, &[]);
    let client = site.client(1).await;
    assert_eq!(data(&client).await.unwrap(), "before");
    let written = client.update(&named("configmaps", "default", "c"), &config_map("again")).await.unwrap();
    assert!(written.head.resource_version > before + 1_000_000, "no revision is given out twice");
}

/// Scheduler and controllers beside a server that has none, with the rights that upstream gives them: the one has a token,
/// the other asks a credential plugin for one, and then for tokens of its controllers' accounts.
async fn components_alone(site: &mut Site) {
    let (tokens, to_controllers) = (site.path("tokens"), site.path("controllers.yaml"));
    let to_scheduler = site.path("scheduler.yaml");
    std::fs::write(&tokens, "s3,system:kube-scheduler,u1\nc3,system:kube-controller-manager,u2\n").unwrap();
    let flags = ["--disable-scheduler", "--disable-controller-manager", "--token-auth-file", tokens.to_str().unwrap()];
    site.server(1, &flags);
    let client = site.client(1).await;
    let admin = std::fs::read(site.kubeconfig(1)).unwrap();
    let as_user = |user: serde_json::Value| {
        let mut kubeconfig: serde_json::Value = serde_json::from_slice(&admin).unwrap();
        kubeconfig["users"][0]["user"] = user;
        kubeconfig.to_string()
    };
    std::fs::write(&to_scheduler, as_user(json!({"token": "s3"}))).unwrap();
    let version = "client.authentication.k8s.io/v1";
    let credential = json!({"kind": "ExecCredential", "apiVersion": version, "status": {"token": "c3"}}).to_string();
    let plugin = json!({"apiVersion": version, "command": "echo", "args": [credential], "interactiveMode": "Never"});
    std::fs::write(&to_controllers, as_user(json!({"exec": plugin}))).unwrap();
    for (name, kubeconfig) in [("scheduler", &to_scheduler), ("controller-manager", &to_controllers)] {
        let mut command = site.command(env!("CARGO_BIN_EXE_navarch"));
        command.arg(name).arg("--kubeconfig").arg(kubeconfig);
        if name == "controller-manager" {
            command.arg("--use-service-account-credentials");
        }
        site.spawn(name, command);
    }
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {
        "allocatable": {"cpu": "1", "memory": "1Gi", "pods": "10"},
        "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": base::time::format_seconds(base::time::now_seconds())}]}});
    client.create(&Resource::collection(&Gvr::new("", "v1", "nodes"), None), &node).await.unwrap();
    let deployments = Gvr::new("apps", "v1", "deployments");
    client.create(&Resource::collection(&deployments, Some("default")), &deployment(2)).await.unwrap();
    let pods = Resource::collection(&Gvr::new("", "v1", "pods"), Some("default"));
    until("two pods are bound", async || {
        let listed = client.list(&pods, &Default::default()).await.ok()?;
        let bound = listed.items.iter().filter(|p| p.value().is_ok_and(|p| p["spec"]["nodeName"] == "n")).count();
        (bound == 2).then_some(())
    })
    .await;
    for name in ["scheduler", "controller-manager"] {
        site.signal(name, nix::sys::signal::Signal::SIGTERM);
    }
}

/// Plays in a namespace; what went wrong is shown with the programs' last words.
fn play(name: &str, scene: impl AsyncFnOnce(&mut Site)) {
    let mut site = Site::new(name);
    // The test's own thread moves into the namespace: the client's connections are made there.
    cni::namespace::enter(&Path::new("/run/netns").join(&site.namespace)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(scene(&mut site))));
    if let Err(panic) = played {
        let logs = site.logs();
        drop(site);
        panic!("{:?}\n{logs}", panic.downcast_ref::<String>());
    }
}

#[test]
fn three_servers_are_one_cluster() {
    play("servers", three_servers);
}

#[test]
fn a_snapshot_brings_everything_back() {
    play("snapshot", snapshots_of_the_embedded_store);
}

#[test]
fn scheduler_and_controllers_work_from_outside() {
    play("components", components_alone);
}
