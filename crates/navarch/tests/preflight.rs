//! Starts that cannot succeed: one clear line, before anything is changed. And a disk that fills up under a running server. Needs root.

#![allow(missing_docs, clippy::unwrap_used)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::{Client, Resource};
use object::Gvr;
use serde_json::json;

/// A network namespace with a loopback address, as the whole machine.
struct Machine {
    namespace: String,
    dir: tempfile::TempDir,
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

impl Machine {
    fn new(name: &str) -> Self {
        let namespace = format!("navarch-pf-{name}-{}", std::process::id());
        run("ip", &["netns", "add", &namespace]);
        run("ip", &["-n", &namespace, "link", "set", "lo", "up"]);
        run("ip", &["-n", &namespace, "addr", "add", "192.0.2.20/32", "dev", "lo"]);
        Self { namespace, dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `navarch server` with its files below the temporary directory.
    fn server(&self, data: &str, more: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg(env!("CARGO_BIN_EXE_navarch"));
        command.args(["server", "--node-name", "preflight", "--node-ip", "192.0.2.20", "--config", "/dev/null"]);
        command
            .arg("--data-dir")
            .arg(self.path(data))
            .arg("--write-kubeconfig")
            .arg(self.path(data).join("kubeconfig"));
        command.args(more).stdin(Stdio::null());
        command
    }

    /// Starts it, expects that it gives up, and returns the one line that it says; its data directory is not touched.
    fn refused(&self, data: &str, more: &[&str]) -> String {
        let present = self.path(data).exists();
        let output = self.server(data, more).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(self.path(data).exists(), present, "nothing is changed");
        text.trim_end().to_owned()
    }

    fn start(&self, data: &str, more: &[&str]) -> Server {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        Server(self.server(data, more).stderr(log).spawn().unwrap())
    }

    async fn client(&self, data: &str) -> Client {
        let kubeconfig = self.path(data).join("kubeconfig");
        until("the server writes its kubeconfig", async || kubeconfig.exists().then_some(())).await;
        client::kubeconfig::connect(Some(&kubeconfig), None, "e2e").unwrap()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// A server, ended in an orderly way.
struct Server(Child);

impl Server {
    fn stop(mut self) {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        assert!(self.0.wait().unwrap().success(), "an orderly end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

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

/// Runs the test's own thread in the machine's namespace.
fn inside<F: Future<Output = ()>>(machine: &Machine, work: F) {
    cni::namespace::enter(&Path::new("/run/netns").join(&machine.namespace)).unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

#[test]
fn a_start_that_cannot_succeed_changes_nothing() {
    let machine = Machine::new("start");
    let readable = machine.path("navarch");
    std::fs::copy(env!("CARGO_BIN_EXE_navarch"), &readable).unwrap();
    std::fs::set_permissions(machine.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for subcommand in [&["server", "--config", "/dev/null"][..], &["up", "--name", "nobody"]] {
        let data = machine.path("none");
        let output = Command::new(&readable)
            .args(subcommand)
            .arg("--data-dir")
            .arg(&data)
            .env("HOME", machine.dir.path())
            .uid(65_534)
            .gid(65_534)
            .output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("needs root") && text.trim_end().ends_with("[HOST-NOT-ROOT]"), "{text}");
        assert!(!data.exists());
    }

    run("ip", &["-n", &machine.namespace, "link", "add", "wg0", "type", "bridge"]);
    run("ip", &["-n", &machine.namespace, "link", "set", "wg0", "up"]);
    run("ip", &["-n", &machine.namespace, "route", "add", "10.0.0.0/8", "dev", "wg0"]);
    let told = machine.refused("data", &["--service-cidr", "172.31.0.0/16", "--cluster-dns", "172.31.0.10"]);
    assert_eq!(
        told,
        "error: --cluster-cidr 10.42.0.0/16 overlaps 10.0.0.0/8, which this machine reaches over wg0: choose another network with --cluster-cidr [NET-CIDR-OVERLAP]"
    );
    run("ip", &["-n", &machine.namespace, "link", "del", "wg0"]);

    inside(&machine, async {
        let holder = std::net::TcpListener::bind("0.0.0.0:6443").unwrap();
        let told = machine.refused("data", &[]);
        assert!(
            told.starts_with("error: cannot listen on 0.0.0.0:6443: preflight-") && told.contains("[NET-PORT-BUSY]"),
            "{told}"
        );
        drop(holder);
        let holder = std::net::TcpListener::bind("0.0.0.0:10250").unwrap();
        assert!(machine.refused("data", &[]).contains("cannot listen on 0.0.0.0:10250"));
        drop(holder);

        let server = machine.start("data", &["--disable-agent"]);
        machine.client("data").await;
        let told = machine.refused("data", &["--https-listen-port", "7443"]);
        assert!(told.contains(&format!("is in use by another navarch (pid {})", server.0.id())), "{told}");
        server.stop();
    });
    let unknown = machine.server("none", &["--no-such-flag"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}

/// A small disk of its own.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        nix::mount::mount(Some("tmpfs"), &path, Some("tmpfs"), nix::mount::MsFlags::empty(), Some(options.as_str()))
            .unwrap();
        Self(path)
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        let block = vec![1u8; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_is_told_at_the_start_and_survived_later() {
    let machine = Machine::new("disk");
    let disk = Disk::mount(machine.path("data"), "80m");
    disk.fill();
    let told = machine.refused("data", &["--disable-agent"]);
    assert!(told.starts_with("error: only 0 MiB are free for ") && told.ends_with("[DATA-DISK-FULL]"), "{told}");
    assert_eq!(std::fs::read_dir(machine.path("data")).unwrap().count(), 1, "only the ballast is there");
    disk.free();

    inside(&machine, async {
        let server = machine.start("data", &["--disable-agent"]);
        let client = machine.client("data").await;
        let at = Resource::collection(&Gvr::new("", "v1", "configmaps"), Some("default"));
        let filler = "x".repeat(200_000);
        let map = |n: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{n}")}, "data": {"a": filler}});
        until("the namespace is there", async || client.create(&at, &map(0)).await.ok()).await;
        disk.fill();
        let (mut kept, mut refused) = (vec![0], None);
        // What the file has in reserve is used up first.
        for n in 1..2000 {
            match client.create(&at, &map(n)).await {
                Ok(_) => kept.push(n),
                Err(status) => {
                    refused = Some((n, status));
                    break;
                }
            }
        }
        let (n, status) = refused.expect("a full disk refuses a write");
        assert_eq!(status.code, 500, "{status:?}");
        assert!(client.get(&Resource::object(&at.gvr, Some("default"), "m0")).await.is_ok(), "reads go on");
        let gone = client.get(&Resource::object(&at.gvr, Some("default"), &format!("m{n}"))).await;
        assert_eq!(gone.unwrap_err().code, 404, "what was refused is not there");
        disk.free();
        until("writes go on once there is room", async || client.create(&at, &map(n)).await.ok()).await;
        kept.push(n);
        server.stop();

        std::fs::remove_file(machine.path("data/kubeconfig")).unwrap();
        let server = machine.start("data", &["--disable-agent"]);
        let client = machine.client("data").await;
        for n in kept {
            let found = client.get(&Resource::object(&at.gvr, Some("default"), &format!("m{n}"))).await;
            assert_eq!(found.unwrap().value().unwrap()["data"]["a"].as_str().map(str::len), Some(filler.len()), "m{n}");
        }
        server.stop();
    });
}
