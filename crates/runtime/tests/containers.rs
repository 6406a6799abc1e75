//! Real containers, as root: this program is both the test and, re-executed, the shim. The root file system is Debian's static
//! busybox.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use protos::cri::v1::*;
use protos::cri::{Result, RuntimeService};
use runtime::{EmbeddedRuntime, ImageConfig, Network, Options, Prepared, Rootfs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A directory with busybox per container.
struct Busybox(PathBuf);

#[async_trait]
impl Rootfs for Busybox {
    async fn prepare(&self, container_id: &str, _: &str) -> Result<Prepared> {
        let path = self.0.join(container_id);
        for dir in ["bin", "etc", "tmp"] {
            std::fs::create_dir_all(path.join(dir)).unwrap();
        }
        std::fs::copy("/bin/busybox", path.join("bin/busybox")).expect("busybox-static is installed");
        for applet in ["sh", "echo", "cat", "sleep", "id", "grep", "touch", "ls", "true", "tty"] {
            let _ = std::os::unix::fs::symlink("busybox", path.join("bin").join(applet));
        }
        std::fs::write(path.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n").unwrap();
        Ok(Prepared {
            path,
            image_id: "sha256:0".into(),
            tags: vec!["registry.test/files:1".into()],
            digests: vec!["registry.test/files@sha256:1".into()],
            config: ImageConfig::default(),
        })
    }
    async fn mount_image(&self, container_id: &str, image: &str, _: &str) -> Result<PathBuf> {
        Err(protos::cri::Error::not_found(format!("{image} for {container_id}")))
    }
    async fn remove(&self, container_id: &str) -> Result<()> {
        let _ = std::fs::remove_dir_all(self.0.join(container_id));
        Ok(())
    }
}

struct Loopback;

#[async_trait]
impl Network for Loopback {
    async fn attach(&self, _: &str, _: &Path) -> Result<Vec<IpAddr>> {
        Ok(vec![[127, 0, 0, 1].into()])
    }
    async fn detach(&self, _: &str) -> Result<()> {
        Ok(())
    }
    async fn retain(&self, _: &HashSet<String>) -> Result<()> {
        Ok(())
    }
}

struct Bench {
    dir: tempfile::TempDir,
    runtime: EmbeddedRuntime,
    sandbox: String,
}

async fn open(dir: &Path) -> EmbeddedRuntime {
    let options =
        Options { state_dir: dir.join("state"), program: std::env::current_exe().unwrap(), version: "test".into() };
    EmbeddedRuntime::open(options, Arc::new(Busybox(dir.join("rootfs"))), Arc::new(Loopback)).await.unwrap()
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = open(dir.path()).await;
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "d".into(), attempt: 0 }),
            hostname: "pod".into(),
            log_directory: dir.path().join("logs").to_string_lossy().into_owned(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/navarch-test-{}", std::process::id()),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        pid: NamespaceMode::Container as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = RunPodSandboxRequest { config: Some(config), ..Default::default() };
        let sandbox = runtime.run_pod_sandbox(request).await.unwrap().pod_sandbox_id;
        Self { dir, runtime, sandbox }
    }

    async fn create(&self, name: &str, script: &str, change: impl FnOnce(&mut ContainerConfig)) -> String {
        let mut config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig::default()),
            ..Default::default()
        };
        change(&mut config);
        let request =
            CreateContainerRequest { pod_sandbox_id: self.sandbox.clone(), config: Some(config), ..Default::default() };
        self.runtime.create_container(request).await.unwrap().container_id
    }

    async fn start(&self, id: &str) -> Result<()> {
        self.runtime.start_container(StartContainerRequest { container_id: id.into() }).await.map(drop)
    }

    async fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.runtime.container_status(request).await.unwrap().status.unwrap()
    }

    async fn ended(&self, id: &str) -> ContainerStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.status(id).await;
            if status.state == ContainerState::ContainerExited as i32 {
                return status;
            }
            assert!(Instant::now() < deadline, "{id} does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs a script to its end: (exit code, reason, log lines without times).
    async fn run(
        &self,
        name: &str,
        script: &str,
        change: impl FnOnce(&mut ContainerConfig),
    ) -> (i32, String, Vec<String>) {
        let id = self.create(name, script, change).await;
        self.start(&id).await.unwrap();
        let status = self.ended(&id).await;
        (status.exit_code, status.reason, self.log(name))
    }

    fn log(&self, name: &str) -> Vec<String> {
        let text =
            std::fs::read_to_string(self.dir.path().join("logs").join(format!("{name}.log"))).unwrap_or_default();
        text.lines().filter_map(|l| l.split_once(' ')).map(|(_, rest)| rest.to_owned()).collect()
    }

    async fn exec(&self, id: &str, args: &[&str]) -> Result<ExecSyncResponse> {
        let cmd = args.iter().map(|a| (*a).to_owned()).collect();
        self.runtime.exec_sync(ExecSyncRequest { container_id: id.into(), cmd, timeout: 10 }).await
    }

    async fn close(self) {
        assert_eq!(self.runtime.purge().await, Vec::<String>::new());
        let _ = linux::cgroup::Cgroup::new(&format!("/navarch-test-{}", std::process::id())).remove();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let dir = self.dir.path().to_string_lossy().into_owned();
        assert!(!mounts.contains(&dir), "a mount is left: {mounts}");
    }
}

fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.as_mut().unwrap().security_context.get_or_insert_default()
}

async fn logs_and_exit_codes() {
    let bench = Bench::new().await;
    let lines = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let done = bench.run("ok", "echo hello; echo oops >&2", |_| {}).await;
    assert_eq!((done.0, done.1.as_str()), (0, "Completed"));
    assert!(
        done.2.contains(&"stdout F hello".to_owned()) && done.2.contains(&"stderr F oops".to_owned()),
        "{:?}",
        done.2
    );
    assert_eq!(bench.run("bad", "exit 3", |_| {}).await, (3, "Error".into(), vec![]));
    let env = |c: &mut ContainerConfig| c.envs = vec![KeyValue { key: "A".into(), value: b"b c".to_vec() }];
    assert_eq!(bench.run("env", "echo $A $HOSTNAME", env).await.2, lines(&["stdout F b c pod"]));
    let id = bench.create("none", "", |c| c.command = vec!["nonesuch".into()]).await;
    let error = bench.start(&id).await.unwrap_err();
    assert!(error.message.contains("exec: \"nonesuch\": executable file not found in $PATH"), "{error}");
    let status = bench.status(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    bench.close().await;
}

async fn confinement() {
    let bench = Bench::new().await;
    let check = async |name: &str, script: &str, change: &dyn Fn(&mut ContainerConfig), wanted: &str| {
        let (_, _, log) = bench.run(name, script, change).await;
        assert_eq!(log.last().map(String::as_str), Some(format!("stdout F {wanted}").as_str()), "{name}: {log:?}");
    };
    check("pid", "echo $$", &|_| {}, "1").await;
    check("user", "id -u", &|c| security(c).run_as_username = "web".into(), "1000").await;
    check("readonly", "touch /x 2>/dev/null || echo no", &|c| security(c).readonly_rootfs = true, "no").await;
    check("masked", "cat /proc/kcore 2>/dev/null | grep -c x", &|_| {}, "0").await;
    check("sysctls", "(echo 1 > /proc/sys/vm/drop_caches) 2>/dev/null || echo no", &|_| {}, "no").await;
    let drop_all = |c: &mut ContainerConfig| {
        security(c).capabilities = Some(Capability { drop_capabilities: vec!["ALL".into()], ..Default::default() });
    };
    check("caps", "grep CapEff /proc/self/status | grep -c 0000000000000000", &drop_all, "1").await;
    let seccomp = |c: &mut ContainerConfig| {
        security(c).seccomp = Some(SecurityProfile {
            profile_type: security_profile::ProfileType::RuntimeDefault as i32,
            ..Default::default()
        });
    };
    check("seccomp", "grep Seccomp: /proc/self/status | grep -c 2", &seccomp, "1").await;
    let shared = bench.dir.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("f"), "from the host").unwrap();
    let mount = |c: &mut ContainerConfig| {
        c.mounts = vec![Mount {
            host_path: shared.to_string_lossy().into_owned(),
            container_path: "/data".into(),
            readonly: true,
            ..Default::default()
        }];
    };
    check("mount", "touch /data/x 2>/dev/null; cat /data/f; echo", &mount, "from the host").await;
    assert!(!shared.join("x").exists());
    bench.close().await;
}

async fn limits() {
    let bench = Bench::new().await;
    let limit = |c: &mut ContainerConfig| {
        let resources =
            LinuxContainerResources { memory_limit_in_bytes: 16 << 20, cpu_shares: 512, ..Default::default() };
        c.linux.as_mut().unwrap().resources = Some(resources);
    };
    let (code, reason, _) = bench.run("oom", "x=0123456789abcdef; while true; do x=$x$x; done", limit).await;
    assert_eq!((code, reason.as_str()), (137, "OOMKilled"));
    bench.close().await;
}

async fn exec_and_terminals() {
    let bench = Bench::new().await;
    let id = bench.create("main", "sleep 1000", |_| {}).await;
    bench.start(&id).await.unwrap();
    let done = bench.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 7"]).await.unwrap();
    assert_eq!((done.stdout.as_slice(), done.stderr.as_slice(), done.exit_code), (&b"out\n"[..], &b"err\n"[..], 7));
    assert!(bench.exec(&id, &["nonesuch"]).await.unwrap_err().message.contains("executable file not found"));
    let request = ExecRequest {
        container_id: id.clone(),
        cmd: vec!["cat".into()],
        stdin: true,
        stdout: true,
        ..Default::default()
    };
    let mut session = bench.runtime.exec(request).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through").await.unwrap();
    drop(stdin);
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), session.exit.await.unwrap().unwrap()), ("through", 0));
    let request = ExecRequest {
        container_id: id.clone(),
        cmd: vec!["sh".into(), "-c".into(), "test -t 0 && tty".into()],
        tty: true,
        stdin: true,
        stdout: true,
        ..Default::default()
    };
    let mut session = bench.runtime.exec(request).await.unwrap();
    let mut text = String::new();
    session.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("/dev/pts/"), "a terminal with a name: {text}");
    let script = "test -e $(tty) && tty && echo hi > $(tty)";
    let (code, _, log) = bench.run("terminal", script, |config| config.tty = true).await;
    assert_eq!(code, 0, "{log:?}");
    assert!(log.iter().any(|l| l.contains("/dev/pts/0")) && log.iter().any(|l| l.contains("hi")), "{log:?}");
    bench.close().await;
}

async fn stopping_and_restarting_the_agent() {
    let Bench { dir, runtime, sandbox } = Bench::new().await;
    let bench = Bench { dir, runtime, sandbox };
    let id = bench.create("main", "trap 'echo bye; exit 0' TERM; while true; do sleep 0.05; done", |_| {}).await;
    bench.start(&id).await.unwrap();
    let before = bench.exec(&id, &["cat", "/proc/1/stat"]).await.unwrap().stdout;
    let Bench { dir, runtime, sandbox } = bench;
    drop(runtime);
    let runtime = open(dir.path()).await;
    let bench = Bench { dir, runtime, sandbox };
    assert_eq!(bench.status(&id).await.state, ContainerState::ContainerRunning as i32);
    let start_time = |stat: &[u8]| String::from_utf8_lossy(stat).split(' ').nth(21).map(str::to_owned);
    assert_eq!(
        start_time(&bench.exec(&id, &["cat", "/proc/1/stat"]).await.unwrap().stdout),
        start_time(&before),
        "the same process"
    );
    bench.runtime.stop_container(StopContainerRequest { container_id: id.clone(), timeout: 10 }).await.unwrap();
    let status = bench.status(&id).await;
    assert_eq!((status.exit_code, bench.log("main").last().map(String::as_str)), (0, Some("stdout F bye")));
    bench.close().await;
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "shim") {
        return runtime::shim_main(&args[2..]);
    }
    // The harness's own questions, such as `--list`, have no answer here.
    if args.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut passed = 0;
    macro_rules! run {
        ($($test:ident),*) => { $( runtime.block_on($test()); println!("test {} ... ok", stringify!($test)); passed += 1; )* };
    }
    run!(logs_and_exit_codes, confinement, limits, exec_and_terminals, stopping_and_restarting_the_agent);
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
    ExitCode::SUCCESS
}
