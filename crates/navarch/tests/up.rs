//! `navarch up`, `status`, `down` as a user runs them, in a network namespace that stands for the user's machine: what they say, what
//! answers, and that nothing is left. Needs root.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use client::{Client, Resource};
use object::Gvr;
use serde_json::{Value, json};

/// An address of the user's machine on no link: nothing leads there from the node.
const WORLD: &str = "203.0.113.7";

/// What a container does that ends when it is asked to.
const WAIT: &str = "trap 'exit 0' TERM; sleep 1000 & wait";

/// The user's machine.
struct Host {
    dir: tempfile::TempDir,
    namespace: String,
    names: Vec<String>,
    registry: Option<Child>,
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a cluster might have to do with in `/etc`; other programs of the machine may write elsewhere meanwhile.
fn etc() -> String {
    let places = [
        "navarch",
        "kubernetes",
        "cni",
        "hosts",
        "resolv.conf",
        "sysctl.d",
        "modules-load.d",
        "nftables.conf",
        "systemd",
    ];
    let mut command = Command::new("find");
    command.args(places.iter().map(|place| format!("/etc/{place}"))).args(["-printf", "%p %y %m %s %T@\n"]);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// What stands below shared directories: others' may go meanwhile, which `find` calls a failure.
fn everything(places: &[&str]) -> String {
    String::from_utf8(Command::new("find").args(places).output().unwrap().stdout).unwrap()
}

/// The command lines of all processes but this one.
fn processes() -> String {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let others = pids.filter(|path| !path.ends_with(std::process::id().to_string()));
    let commands = others.filter_map(|path| std::fs::read_to_string(path.join("cmdline")).ok());
    commands.map(|command| command.replace('\0', " ") + "\n").collect()
}

impl Host {
    fn new() -> Self {
        let namespace = format!("navarch-up-{}", std::process::id());
        run("ip", &["netns", "add", &namespace]);
        run("ip", &["-n", &namespace, "link", "set", "lo", "up"]);
        run("ip", &["-n", &namespace, "addr", "add", WORLD, "dev", "lo"]);
        let names = ["a", "b"].map(|name| format!("{name}{}", std::process::id())).to_vec();
        Self { dir: tempfile::tempdir().unwrap(), namespace, names, registry: None }
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(program);
        command
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("home/.kube/config")
    }

    fn navarch(&self, command: &str, name: &str, more: &[&str]) -> Output {
        let mut call = self.inside(env!("CARGO_BIN_EXE_navarch"));
        call.args([command, "--name", name, "--data-dir"]).arg(self.data(name)).args(more);
        call.env_remove("KUBECONFIG").env_remove("SUDO_UID").env("HOME", self.dir.path().join("home"));
        call.output().unwrap()
    }

    /// Runs it, expects success, and returns what it says.
    fn ok(&self, command: &str, name: &str, more: &[&str]) -> String {
        let begun = Instant::now();
        let output = self.navarch(command, name, more);
        eprintln!("{command} {name} {more:?}: {:?}", begun.elapsed());
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let log = std::fs::read_to_string(self.data(name).join("server.log")).unwrap_or_default();
        assert!(output.status.success(), "{command} {name}: {out}{err}\nthe server's log:\n{log}");
        out.into_owned()
    }

    /// Everything that a cluster might leave on a machine.
    fn snapshot(&self) -> BTreeMap<&'static str, String> {
        let inside = |program: &str, args: &[&str]| {
            let output = self.inside(program).args(args).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let ours = |text: &str| {
            let dir = self.dir.path().to_string_lossy().into_owned();
            let is_ours = |line: &&str| line.contains(&dir) || self.names.iter().any(|name| line.contains(name));
            text.lines().filter(is_ours).map(|line| format!("{line}\n")).collect::<String>()
        };
        BTreeMap::from([
            ("links", inside("ip", &["-o", "link"])),
            ("addresses", inside("ip", &["-o", "address"])),
            ("routes", inside("ip", &["route", "show", "table", "all"])),
            ("firewall", inside("nft", &["list", "ruleset"])),
            (
                "sysctls",
                inside(
                    "sh",
                    &["-c", "cd /proc/sys/net && grep -rs . ipv4/conf ipv4/ip_forward ipv6/conf/all bridge | sort"],
                ),
            ),
            ("mounts", ours(&std::fs::read_to_string("/proc/self/mounts").unwrap())),
            ("cgroups", ours(&everything(&["/sys/fs/cgroup"]))),
            ("processes", ours(&processes())),
            ("etc", etc()),
            ("run", ours(&everything(&["/run", "/var/run", "/var/lib", "/var/log"]))),
            ("own", run("find", &[&self.dir.path().to_string_lossy()])),
        ])
    }

    /// docker-registry on the machine's loopback address.
    fn start_registry(&mut self) {
        let config = self.dir.path().join("registry.yml");
        let text = json!({
            "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": self.dir.path().join("registry")}},
            "http": {"addr": "127.0.0.1:5000", "secret": "of the test"},
        });
        std::fs::write(&config, text.to_string()).unwrap();
        let mut command = self.inside("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        self.registry = Some(command.spawn().unwrap());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in &self.names {
                let log = std::fs::read_to_string(self.data(name).join("server.log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("{name}: the log's end:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            }
        }
        for name in self.names.clone() {
            drop(self.navarch("down", &name, &["--purge"]));
        }
        if let Some(mut registry) = self.registry.take() {
            let _ = registry.kill();
            let _ = registry.wait();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// The body of an answer, from the thread's network namespace.
fn get(url: &str) -> Option<String> {
    let host = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect_timeout(&host.parse().unwrap(), Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.split_once("\r\n\r\n")?.1.to_owned())
}

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    until_or(what, async || found().await.ok_or("")).await
}

/// As `until`; what is not so yet is told when it never is.
async fn until_or<T, E: std::fmt::Debug>(what: &str, mut found: impl AsyncFnMut() -> Result<T, E>) -> T {
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(60);
    loop {
        match found().await {
            Ok(found) => {
                eprintln!("{what}: {:?}", begun.elapsed());
                return found;
            }
            Err(yet) => assert!(Instant::now() < deadline, "not within a minute: {what}: {yet:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn pods(client: &Client) -> Vec<Value> {
    let at = Resource::collection(&Gvr::new("", "v1", "pods"), Some("default"));
    let list = client.list(&at, &Default::default()).await.map(|l| l.items).unwrap_or_default();
    list.iter().filter_map(|o| o.value().ok()).collect()
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

async fn ready(client: &Client, count: usize) -> Vec<Value> {
    until_or("the pods are ready", async || {
        let all = pods(client).await;
        if all.len() == count && all.iter().all(is_ready) {
            return Ok(all);
        }
        let told =
            |pod: &Value| format!("{} on {}: {}", pod["metadata"]["name"], pod["spec"]["nodeName"], pod["status"]);
        Err(all.iter().filter(|pod| !is_ready(pod)).map(told).collect::<Vec<_>>())
    })
    .await
}

/// `name container-id` of each pod.
fn identities(pods: &[Value], with_container: bool) -> Vec<String> {
    let container = |p: &Value| p["status"]["containerStatuses"][0]["containerID"].to_string();
    let identity =
        |p: &Value| format!("{} {}", p["metadata"]["uid"], if with_container { container(p) } else { String::new() });
    let mut all: Vec<String> = pods.iter().map(identity).collect();
    all.sort();
    all
}

fn busybox(host: &Host) -> PathBuf {
    let store = images::Store::open(host.dir.path().join("build")).unwrap();
    let mut layer = images::Layer::new().copy("/bin/busybox", "/bin/busybox").unwrap();
    for applet in ["sh", "sleep", "nc", "echo"] {
        layer = layer.symlink(format!("/bin/{applet}").as_str(), "busybox");
    }
    images::Builder::new()
        .layer(layer)
        .env("PATH", "/bin")
        .cmd(["/bin/sh", "-c", WAIT])
        .build(&store, "sleeper:1")
        .unwrap();
    let archive = host.dir.path().join("sleeper.tar");
    store.export(&["sleeper:1".to_owned()], std::fs::File::create(&archive).unwrap(), None).unwrap();
    archive
}

async fn play(host: &mut Host) {
    let (first, second) = (host.names[0].clone(), host.names[1].clone());
    let kubeconfig = host.kubeconfig();
    let connect = || client::kubeconfig::connect(Some(&kubeconfig), None, "e2e").unwrap();

    // A kubeconfig that cannot be merged into is told before anything is started.
    std::fs::create_dir_all(kubeconfig.parent().unwrap()).unwrap();
    std::fs::write(&kubeconfig, "clusters: [").unwrap();
    let refused = host.navarch("up", &first, &[]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("is not a kubeconfig") && told.lines().count() == 1, "{told}");
    assert!(!host.data(&first).exists());
    std::fs::remove_dir_all(host.dir.path().join("home")).unwrap();

    let said = host.ok("up", &first, &["--demo"]);
    for expected in
        ["preflight", "control plane  ready", "node           ready", "from 3 pods", "Next:\n  curl http://"]
    {
        assert!(said.contains(expected), "{said}");
    }
    let url = said.split_whitespace().find(|w| w.starts_with("http://")).unwrap().to_owned();
    assert!(get(&url).unwrap().starts_with("Hello from pod demo-"));
    let status = host.ok("status", &first, &[]);
    assert!(status.contains("running") && status.contains("3 Running") && status.contains("Ready"), "{status}");
    let said = host.ok("up", &first, &[]);
    assert!(said.contains("is running already"), "{said}");
    // Secrets and tokens are for root alone: another user finds none.
    let nobody = |program: &str, args: &[&str]| {
        let mut command = host.inside("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", program]).args(args);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    std::fs::set_permissions(host.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = host.data(&first).to_string_lossy().into_owned();
    let seen = nobody(
        "find",
        &[&data, "-name", "state.redb", "-o", "-name", "token", "-o", "-name", "spec.json", "-o", "-name", "*.key"],
    );
    assert_eq!(seen, "");
    std::fs::set_permissions(host.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();

    // A second one beside it: another network, a context of its own.
    host.ok("up", &second, &[]);
    let context = |name: &str| {
        let config = client::kubeconfig::Kubeconfig::load(&kubeconfig).unwrap();
        config.resolve(Some(&format!("navarch-{name}"))).unwrap().server.url
    };
    assert_ne!(context(&first), context(&second));
    assert_eq!(pods(&connect()).await.len(), 0, "the second is selected, and has no pods");
    host.ok("down", &second, &["--purge"]);
    let client = connect();
    let before = ready(&client, 3).await;

    // The server is killed: the containers go on serving, and a new server finds them.
    let pid: i32 = std::fs::read_to_string(host.data(&first).join("server.lock")).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the server is gone", async || (host.navarch("status", &first, &[]).status.code() == Some(3)).then_some(()))
        .await;
    assert!(get(&url).unwrap().starts_with("Hello from pod demo-"), "without a server");
    host.ok("up", &first, &[]);
    let after = ready(&connect(), 3).await;
    assert_eq!(identities(&after, true), identities(&before, true), "nothing was restarted");
    for _ in 0..20 {
        assert!(get(&url).is_some_and(|text| text.starts_with("Hello")), "the pods are where they were in the network");
    }

    // Images come in beside the running server, and over the host's network.
    let archive = busybox(host);
    let data = host.data(&first);
    let ctr = |args: &[&str]| {
        let output =
            host.inside(env!("CARGO_BIN_EXE_navarch")).args(["ctr", "--data-dir"]).arg(&data).args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let pulled = "localhost:5000/team/sleeper:1";
    ctr(&["images", "import", archive.to_str().unwrap()]);
    assert!(ctr(&["images", "ls", "-q"]).contains("docker.io/library/sleeper:1"));
    host.start_registry();
    let ctr = |args: &[&str]| {
        let mut call = host.inside(env!("CARGO_BIN_EXE_navarch"));
        call.args(["ctr", "--data-dir"]).arg(&data).args(args).output().unwrap().status.success()
    };
    until("the registry answers", async || ctr(&["images", "push", pulled, "sleeper:1"]).then_some(())).await;
    let pod = |name: &str, image: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image}]}})
    };
    let client = connect();
    let at = Resource::collection(&Gvr::new("", "v1", "pods"), Some("default"));
    client.create(&at, &pod("imported", "sleeper:1")).await.unwrap();
    // What it says goes to an address of the machine that only the machine itself knows.
    let world = std::net::TcpListener::bind((WORLD, 7777)).unwrap();
    let mut talker = pod("pulled", pulled);
    let script = format!("trap 'exit 0' TERM; while ! echo hello | nc {WORLD} 7777; do sleep 0.1; done; {WAIT}");
    talker["spec"]["containers"][0]["command"] = json!(["/bin/sh", "-c", script]);
    client.create(&at, &talker).await.unwrap();
    let all = ready(&client, 5).await;
    let heard = tokio::task::spawn_blocking(move || {
        let (mut stream, from) = world.accept().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        (text, from.ip().to_string())
    });
    let heard = tokio::time::timeout(Duration::from_secs(60), heard).await.expect("the pod reaches the world").unwrap();
    assert_eq!(heard, ("hello\n".to_owned(), WORLD.to_owned()), "from the machine's own socket");

    // Down and up: the same pods, in new containers.
    let said = host.ok("down", &first, &[]);
    assert!(said.contains("5 pods ended"), "{said}");
    assert!(!kubeconfig.exists(), "its only context went");
    assert_eq!(host.navarch("status", &first, &[]).status.code(), Some(3));
    let server = host
        .inside(env!("CARGO_BIN_EXE_navarch"))
        .args(["server", "--config", "/dev/null", "--data-dir"])
        .arg(&data)
        .output();
    assert!(
        String::from_utf8(server.unwrap().stderr).unwrap().contains("[DATA-FOREIGN]"),
        "a cluster is no server's data"
    );
    host.ok("up", &first, &[]);
    let client = connect();
    until("the pods are in new containers", async || {
        let now = pods(&client).await;
        let is_new = identities(&now, true).iter().all(|id| !identities(&all, true).contains(id));
        (is_new && now.len() == 5 && now.iter().all(is_ready)).then_some(())
    })
    .await;
    assert_eq!(identities(&pods(&client).await, false), identities(&all, false));
    until("the demo answers again", async || get(&url).filter(|text| text.starts_with("Hello"))).await;
    host.ok("down", &first, &["--purge"]);
}

#[test]
fn up_and_down_leave_nothing() {
    let mut host = Host::new();
    let before = host.snapshot();
    // The test's own thread moves into the namespace: its connections are made there.
    cni::namespace::enter(&Path::new("/run/netns").join(&host.namespace)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(play(&mut host));
    for own in ["registry", "registry.yml", "build", "sleeper.tar"] {
        let path = host.dir.path().join(own);
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    if let Some(mut registry) = host.registry.take() {
        registry.kill().unwrap();
        registry.wait().unwrap();
    }
    for (what, after) in host.snapshot() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        let (before, after) = (lines(&before[what]), lines(&after));
        let changed: Vec<&String> = before.symmetric_difference(&after).collect();
        assert!(changed.is_empty(), "{what} are not as before: {changed:#?}");
    }
}
