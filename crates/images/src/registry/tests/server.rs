//! Debian's docker-registry on a loopback port, gone when it is dropped.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

#[derive(Default)]
pub(super) struct Settings {
    pub(super) with_tls: bool,
    /// User and password.
    pub(super) user: Option<(&'static str, &'static str)>,
}

pub(super) struct Server {
    child: Child,
    dir: TempDir,
    pub(super) port: u16,
}

impl Server {
    pub(super) async fn start(settings: Settings) -> Self {
        // Another process may take the port in between: then once more.
        for _ in 0..5 {
            if let Some(server) = Self::try_start(&settings).await {
                return server;
            }
        }
        panic!("docker-registry does not start");
    }

    async fn try_start(settings: &Settings) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = serde_json::json!({
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
            "http": {"addr": format!("127.0.0.1:{port}"), "secret": "of the test"},
        });
        if settings.with_tls {
            write_certificate(&dir);
            let tls =
                serde_json::json!({"certificate": dir.path().join("cert.pem"), "key": dir.path().join("key.pem")});
            config["http"]["tls"] = tls;
        }
        if let Some((user, password)) = settings.user {
            let made = Command::new("htpasswd").args(["-Bbn", user, password]).output();
            let made = made.expect("htpasswd is needed (Debian package apache2-utils)");
            fs::write(dir.path().join("htpasswd"), made.stdout).unwrap();
            let htpasswd = serde_json::json!({"realm": "test", "path": dir.path().join("htpasswd")});
            config["auth"] = serde_json::json!({"htpasswd": htpasswd});
        }
        let file = dir.path().join("config.yml");
        fs::write(&file, config.to_string()).unwrap();
        let child =
            Command::new("docker-registry").arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("docker-registry is needed (Debian package docker-registry)");
        let mut server = Self { child, dir, port };
        loop {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                // Somebody else may listen there; ours has then ended.
                return server.child.try_wait().unwrap().is_none().then_some(server);
            }
            if server.child.try_wait().unwrap().is_some() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn authority(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_certificate(dir: &TempDir) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}
