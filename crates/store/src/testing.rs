//! Stores for tests: a directory of one's own, or Debian's etcd on the loopback interface.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::*;

/// Where a store is; it outlives those who open it.
pub(crate) enum Place {
    Dir(tempfile::TempDir),
    Etcd(EtcdCluster),
}

impl Place {
    pub(crate) fn embedded() -> Self {
        Self::Dir(tempfile::tempdir().unwrap())
    }

    pub(crate) fn etcd() -> Self {
        Self::Etcd(EtcdCluster::start(1))
    }

    pub(crate) async fn open(&self) -> Box<dyn Backend> {
        match self {
            Self::Dir(dir) => Box::new(Embedded::open(dir.path(), Options::default()).unwrap()),
            Self::Etcd(etcd) => Box::new(etcd.connect().await),
        }
    }
}

/// An etcd cluster, gone when dropped.
pub(crate) struct EtcdCluster {
    dir: tempfile::TempDir,
    members: Vec<Member>,
    secure: bool,
}

struct Member {
    client: u16,
    peer: u16,
    child: Option<Child>,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl EtcdCluster {
    pub(crate) fn start(members: usize) -> Self {
        Self::begin(members, false)
    }

    /// One member that wants certificates.
    pub(crate) fn start_with_tls() -> Self {
        Self::begin(1, true)
    }

    fn begin(members: usize, secure: bool) -> Self {
        let members = (0..members).map(|_| Member { client: free_port(), peer: free_port(), child: None }).collect();
        let mut cluster = Self { dir: tempfile::tempdir().unwrap(), members, secure };
        if secure {
            let pki = pki::Pki::load_or_create(&cluster.tls("")).unwrap();
            pki.server("etcd", "etcd", &["127.0.0.1".into()]).unwrap();
            pki.client("store", "store", "stores").unwrap();
        }
        for at in 0..cluster.members.len() {
            cluster.run(at);
        }
        cluster
    }

    fn tls(&self, file: &str) -> std::path::PathBuf {
        self.dir.path().join("tls").join(file)
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Starts a member, on what it has on disk.
    pub(crate) fn run(&mut self, at: usize) {
        let peers: Vec<String> =
            self.members.iter().enumerate().map(|(n, m)| format!("m{n}=http://127.0.0.1:{}", m.peer)).collect();
        let member = &self.members[at];
        let client = format!("{}://127.0.0.1:{}", self.scheme(), member.client);
        let peer = format!("http://127.0.0.1:{}", member.peer);
        let mut command = Command::new("etcd");
        if self.secure {
            command.arg("--cert-file").arg(self.tls("etcd.crt")).arg("--key-file").arg(self.tls("etcd.key"));
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(self.tls("client-ca.crt"));
        }
        let child = command
            .args(["--name", &format!("m{at}"), "--heartbeat-interval", "50", "--election-timeout", "500"])
            .arg("--data-dir")
            .arg(self.dir.path().join(format!("m{at}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(","), "--logger", "zap"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the tests need etcd: `cargo xtask test` installs it");
        self.members[at].child = Some(child);
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops a member's process as a partition does: connections stay, nothing comes. Or lets it go on.
    pub(crate) fn freeze(&self, at: usize, frozen: bool) {
        let pid = Pid::from_raw(self.members[at].child.as_ref().unwrap().id().try_into().unwrap());
        kill(pid, if frozen { Signal::SIGSTOP } else { Signal::SIGCONT }).unwrap();
        // Its threads stop one after the other.
        let is_stopped = |task: std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("stat")).unwrap_or_default().contains(") T ")
        };
        let tasks = format!("/proc/{pid}/task");
        while frozen && !std::fs::read_dir(&tasks).unwrap().flatten().all(is_stopped) {
            std::thread::yield_now();
        }
    }

    pub(crate) fn options(&self) -> EtcdOptions {
        let endpoints = self.members.iter().map(|m| format!("{}://127.0.0.1:{}", self.scheme(), m.client)).collect();
        let file = |name: &str| self.secure.then(|| self.tls(name));
        let (ca_file, cert_file, key_file) = (file("server-ca.crt"), file("store.crt"), file("store.key"));
        EtcdOptions { endpoints, ca_file, cert_file, key_file }
    }

    /// Waits until the cluster takes requests.
    pub(crate) async fn connect(&self) -> Etcd {
        loop {
            match Etcd::connect(&self.options(), Options::default()).await {
                Ok(store) => return store,
                Err(StoreError::Unavailable(_) | StoreError::TimedOut(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
        }
    }
}
