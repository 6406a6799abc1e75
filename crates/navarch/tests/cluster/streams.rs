//! exec, attach, cp and port-forward: by our own SPDY client, at the API server and at the kubelet, and by every kubectl there is (the
//! one on PATH, and those that `NAVARCH_KUBECTLS` lists, separated by colons).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use client::Resource;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use streaming::spdy::{Connection, Headers, Reader, Role, Stream};
use tokio::net::TcpStream;

use super::harness::{Cluster, NODE, is_ready, pod, pods, processes, until, with_cluster};

const API: u16 = 6443;
const KUBELET: u16 = 10_250;

/// Bytes that do not repeat soon.
fn noise(count: usize) -> Vec<u8> {
    (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A SPDY client of one of the cluster's servers.
struct Dialer {
    tls: tokio_rustls::TlsConnector,
}

impl Dialer {
    fn new(cluster: &Cluster) -> Self {
        let pki = pki::Pki::load_or_create(&cluster.dir.path().join("data/server/tls")).unwrap();
        let admin = pki.client("admin", "system:admin", "system:masters").unwrap();
        let config = pki::client_config(pki.server_ca.certificate_pem(), Some(&admin)).unwrap();
        Self { tls: Arc::new(config).into() }
    }

    async fn dial(&self, port: u16, path: &str, protocol: &str) -> Connection {
        let stream = TcpStream::connect((NODE, port)).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from(NODE).unwrap();
        let stream = self.tls.connect(name, stream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let request = http::Request::post(path)
            .header("host", NODE)
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", protocol)
            .body(Empty::<Bytes>::new())
            .unwrap();
        let upgraded = async {
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 101, "{path}");
            assert_eq!(response.headers()["x-stream-protocol-version"], protocol);
            hyper::upgrade::on(response).await.unwrap()
        };
        let (upgraded, driven) = tokio::join!(upgraded, connection.with_upgrades());
        driven.unwrap();
        Connection::new(TokioIo::new(upgraded), Role::Client).unwrap()
    }
}

async fn open(connection: &Connection, kind: &str, more: &[(&str, &str)]) -> Stream {
    let mut headers = Headers::from([("streamType", kind)]);
    headers.0.extend(more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    connection.open(headers).await.unwrap()
}

async fn all(mut reader: Reader) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(more) = reader.next().await {
        bytes.extend_from_slice(&more);
    }
    bytes
}

/// A command's output and outcome, with something to read.
async fn exec(connection: Connection, input: Vec<u8>) -> (Vec<u8>, Value) {
    let outcome = open(&connection, "error", &[]).await;
    let (stdin, stdout) = (open(&connection, "stdin", &[]).await, open(&connection, "stdout", &[]).await);
    let mut writer = stdin.writer;
    let write = async move {
        writer.send(input.into()).await.unwrap();
        writer.finish().await;
    };
    let (output, outcome, ()) = tokio::join!(all(stdout.reader), all(outcome.reader), write);
    (output, serde_json::from_slice(&outcome).unwrap())
}

/// True while a process has this word in its command line.
fn runs(word: &str) -> bool {
    processes().iter().any(|(_, command)| command.contains(word))
}

async fn sessions(dialer: &Dialer) {
    let places = [(API, "/api/v1/namespaces/default/pods/web/exec", "true"), (KUBELET, "/exec/default/web/main", "1")];
    for (port, path, yes) in places {
        let io = if port == API { format!("stdin={yes}&stdout={yes}") } else { format!("input={yes}&output={yes}") };
        let sent = noise(3_000_000);
        let connection = dialer.dial(port, &format!("{path}?command=cat&{io}"), "v4.channel.k8s.io").await;
        let (received, outcome) = exec(connection, sent.clone()).await;
        assert!(received == sent, "what cat got comes back");
        assert_eq!(outcome["status"], "Success");
        let failing = format!("{path}?command=sh&command=-c&command=exit%207&{io}");
        let (_, outcome) = exec(dialer.dial(port, &failing, "v4.channel.k8s.io").await, Vec::new()).await;
        assert_eq!(outcome["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
    }
    // A terminal: sizes reach the process, and a client that is gone hangs up on it.
    let script = "trap%20%27stty%20size%27%20WINCH%3B%20echo%20ready%3B%20sleep%2098761%20%26%20while%20%3A%3B%20do%20wait%3B%20done";
    let path = format!("{}?command=sh&command=-c&command={script}&stdout=true&tty=true", places[0].1);
    let connection = dialer.dial(API, &path, "v4.channel.k8s.io").await;
    let _outcome = open(&connection, "error", &[]).await;
    let mut stdout = open(&connection, "stdout", &[]).await;
    let mut resize = open(&connection, "resize", &[]).await;
    let mut seen = String::new();
    let mut expect = async |words: &str| {
        while !seen.contains(words) {
            seen.push_str(&String::from_utf8_lossy(&stdout.reader.next().await.unwrap()));
        }
    };
    expect("ready").await;
    resize.writer.send(Bytes::from_static(b"{\"Width\":123,\"Height\":45}\n")).await.unwrap();
    expect("45 123").await;
    assert!(runs("98761"));
    drop(connection);
    until("the process behind the terminal is gone", async || (!runs("98761")).then_some(())).await;
}

/// A request to the pod's web server through a pair of streams.
async fn fetch(connection: &Connection, request: &str, port: &str) -> (Vec<u8>, String) {
    let headers = [("port", port), ("requestID", request)];
    let errors = open(connection, "error", &headers).await;
    let mut data = open(connection, "data", &headers).await;
    let ask = Bytes::from_static(b"GET /noise HTTP/1.0\r\n\r\n");
    // Refused connections are reset at once, perhaps before this is sent.
    let _ = data.writer.send(ask).await;
    let (reply, error) = tokio::join!(all(data.reader), all(errors.reader));
    (reply, String::from_utf8_lossy(&error).into_owned())
}

async fn forwards(dialer: &Dialer) {
    let wanted = noise(1_000_000);
    for (port, path) in
        [(API, "/api/v1/namespaces/default/pods/web/portforward"), (KUBELET, "/portForward/default/web")]
    {
        let connection = dialer.dial(port, path, "portforward.k8s.io").await;
        let (_, error) = fetch(&connection, "refused", "81").await;
        assert!(error.contains("error forwarding port 81 to pod") && error.contains("connection refused"), "{error}");
        // The connection goes on; several at once.
        let ids: Vec<String> = (0..8).map(|n| n.to_string()).collect();
        for (reply, error) in futures::future::join_all(ids.iter().map(|id| fetch(&connection, id, "80"))).await {
            assert!(reply.ends_with(&wanted), "{} bytes, {error}", reply.len());
        }
        connection.close().await;
    }
}

fn kubectls() -> Vec<PathBuf> {
    let split =
        |name| std::env::var_os(name).map(|v| std::env::split_paths(&v).collect::<Vec<_>>()).unwrap_or_default();
    let on_path = split("PATH").into_iter().map(|dir| dir.join("kubectl")).find(|file| file.is_file());
    split("NAVARCH_KUBECTLS").into_iter().chain(on_path).collect()
}

/// A kubectl with the cluster's configuration.
struct Kubectl<'a> {
    program: &'a Path,
    dir: &'a Path,
}

impl Kubectl<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--kubeconfig").arg(self.dir.join("kubeconfig")).arg("--cache-dir").arg(self.dir.join("cache"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn check(&self, args: &[&str]) -> Vec<u8> {
        let output = self.run(args);
        assert!(output.status.success(), "{self:?} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl std::fmt::Debug for Kubectl<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.program.fmt(f)
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn with_kubectl(kubectl: &Kubectl<'_>) {
    let failed = kubectl.run(&["exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((failed.status.code(), failed.stdout.as_slice()), (Some(7), &b"out\n"[..]), "{kubectl:?}");
    assert!(String::from_utf8_lossy(&failed.stderr).starts_with("err\n"), "{kubectl:?}");
    let missing = kubectl.run(&["exec", "web", "--", "no-such-command"]);
    let words = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(!missing.status.success() && words.contains("executable file not found in $PATH"), "{kubectl:?} {words}");

    let (sent, here) = (noise(2_000_000), kubectl.dir.join("sent"));
    std::fs::write(&here, &sent).unwrap();
    let cat = kubectl.command(&["exec", "-i", "web", "--", "cat"]).stdin(std::fs::File::open(&here).unwrap()).output();
    assert!(cat.unwrap().stdout == sent, "{kubectl:?}");
    let back = kubectl.dir.join("back");
    kubectl.check(&["cp", &here.to_string_lossy(), "web:/tmp/sent"]);
    kubectl.check(&["cp", "web:/tmp/sent", &back.to_string_lossy()]);
    assert!(std::fs::read(&back).unwrap() == sent, "{kubectl:?}");

    let mut forward = Killed(kubectl.command(&["port-forward", "web", ":80"]).spawn().unwrap());
    let mut line = String::new();
    let mut told = std::io::BufReader::new(forward.0.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut told, &mut line).unwrap();
    let address = line.strip_prefix("Forwarding from ").and_then(|l| l.split(' ').next()).unwrap_or(&line).to_owned();
    let fetch = async || {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(b"GET /noise HTTP/1.0\r\n\r\n").await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        reply
    };
    let wanted = noise(1_000_000);
    for reply in futures::future::join_all((0..5).map(|_| fetch())).await {
        assert!(reply.ends_with(&wanted), "{kubectl:?}: {} bytes", reply.len());
    }
}

async fn play(cluster: &mut Cluster) {
    let client = cluster.ready_client().await;
    let dir = cluster.dir.path().join("www");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("noise"), noise(1_000_000)).unwrap();
    let web = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "main", "image": "busybox:1", "command": ["httpd", "-f", "-p", "80", "-h", "/www"],
            "volumeMounts": [{"name": "www", "mountPath": "/www"}]}],
        "volumes": [{"name": "www", "hostPath": {"path": dir}}]}});
    client.create(&Resource::collection(&pods(), Some("default")), &web).await.unwrap();
    until("the pod is ready", async || pod(&client, "web").await.filter(is_ready)).await;

    let dialer = Dialer::new(cluster);
    sessions(&dialer).await;
    forwards(&dialer).await;
    for program in kubectls() {
        with_kubectl(&Kubectl { program: &program, dir: cluster.dir.path() }).await;
    }
}

#[test]
fn streams_of_every_client_arrive() {
    with_cluster("streams", play);
}
