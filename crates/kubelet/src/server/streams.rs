//! exec, attach and port-forward: everything but the wire protocol.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use protos::cri::v1::{AttachRequest, ExecRequest};
use protos::cri::{Duplex, Session};

use super::query::Query;
use super::{Body, Handled, KubeletServer, Refusal, pods};

/// What a client wants to stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// The client sends stdin.
    pub stdin: bool,
    /// The client wants stdout.
    pub stdout: bool,
    /// The client wants stderr (never with a terminal).
    pub stderr: bool,
    /// There is a terminal.
    pub tty: bool,
}

/// Opens the session once the client's streams are there.
pub type OpenSession = Box<dyn FnOnce() -> BoxFuture<'static, protos::cri::Result<Session>> + Send>;

/// Opens one more connection to a port of the pod.
pub type OpenPort = Arc<dyn Fn(u16) -> BoxFuture<'static, protos::cri::Result<Box<dyn Duplex>>> + Send + Sync>;

/// Speaks SPDY/3.1 or WebSocket channels (`v1` to `v5.channel.k8s.io`) on a request that is upgraded. The streams must
/// outlive the returned response: the implementation owns the task that carries them.
#[async_trait]
pub trait StreamServer: Send + Sync {
    /// exec and attach.
    async fn serve_session(&self, request: Request<Body>, options: StreamOptions, open: OpenSession) -> Response<Body>;
    /// port-forward, to a pod's sandbox.
    async fn serve_port_forward(&self, request: Request<Body>, sandbox: &str, open: OpenPort) -> Response<Body>;
}

type PodName<'a> = (&'a str, &'a str, Option<&'a str>);

impl KubeletServer {
    /// The session of an exec, for callers in the same process.
    pub async fn exec(
        &self,
        (namespace, pod): (&str, &str),
        container: &str,
        command: Vec<String>,
        options: &StreamOptions,
    ) -> protos::cri::Result<Session> {
        let id = self.running((namespace, pod, None), container).map_err(as_cri)?;
        self.shared.runtime.exec(exec_request(id, command, options)).await
    }

    /// The session of an attach, for callers in the same process.
    pub async fn attach(
        &self,
        (namespace, pod): (&str, &str),
        container: &str,
        options: &StreamOptions,
    ) -> protos::cri::Result<Session> {
        let id = self.running((namespace, pod, None), container).map_err(as_cri)?;
        self.shared.runtime.attach(attach_request(id, options)).await
    }

    /// A connection to a port of a pod, for callers in the same process.
    pub async fn connect(&self, (namespace, pod): (&str, &str), port: u16) -> protos::cri::Result<Box<dyn Duplex>> {
        let sandbox = self.sandbox((namespace, pod, None)).await.map_err(as_cri)?;
        self.shared.runtime.port_forward(&sandbox, port).await
    }

    pub(crate) async fn session(
        &self,
        request: Request<Body>,
        is_exec: bool,
        of: PodName<'_>,
        container: &str,
        query: &Query,
    ) -> Handled {
        let options = options(query)?;
        let id = self.running(of, container)?;
        let command = query.all("command");
        if is_exec && command.is_empty() {
            return Err(Refusal::bad_request("you must specify at least one command for the container"));
        }
        let runtime = self.shared.runtime.clone();
        let wanted = options.clone();
        let open: OpenSession = Box::new(move || {
            Box::pin(async move {
                match is_exec {
                    true => runtime.exec(exec_request(id, command, &wanted)).await,
                    false => runtime.attach(attach_request(id, &wanted)).await,
                }
            })
        });
        Ok(self.stream_server()?.serve_session(request, options, open).await)
    }

    pub(crate) async fn port_forward(&self, request: Request<Body>, of: PodName<'_>) -> Handled {
        let sandbox: Arc<str> = self.sandbox(of).await?.into();
        let (runtime, id) = (self.shared.runtime.clone(), sandbox.clone());
        let open: OpenPort = Arc::new(move |port| {
            let (runtime, id) = (runtime.clone(), id.clone());
            Box::pin(async move { runtime.port_forward(&id, port).await })
        });
        Ok(self.stream_server()?.serve_port_forward(request, &sandbox, open).await)
    }

    fn stream_server(&self) -> Result<&Arc<dyn super::StreamServer>, Refusal> {
        let missing = || Refusal(StatusCode::NOT_IMPLEMENTED, "this kubelet serves no streams".into());
        self.streams.as_ref().ok_or_else(missing)
    }

    fn running(&self, (namespace, pod, uid): PodName<'_>, container: &str) -> Result<String, Refusal> {
        let known = pods::find(&self.shared, namespace, pod, uid)?;
        pods::running_container(&known, container)
    }

    async fn sandbox(&self, (namespace, pod, uid): PodName<'_>) -> Result<String, Refusal> {
        let known = pods::find(&self.shared, namespace, pod, uid)?;
        let observed = crate::pods::observed::observe(&self.shared.runtime, &known.pod.metadata.uid).await;
        let sandbox = observed.map_err(Refusal::internal)?.sandboxes.into_iter().find(|s| s.is_ready);
        sandbox.map(|s| s.id).ok_or_else(|| Refusal::not_found(format!("failed to find sandbox for pod {pod:?}")))
    }
}

fn as_cri(Refusal(status, text): Refusal) -> protos::cri::Error {
    match status {
        StatusCode::NOT_FOUND => protos::cri::Error::not_found(text),
        _ => protos::cri::Error::unknown(text),
    }
}

fn options(query: &Query) -> Result<StreamOptions, Refusal> {
    // kubectl asks the API server with `stdin=true`, the API server asks the kubelet with `input=1`.
    let any = |names: [&str; 2]| names.iter().any(|name| query.is_set(name));
    let tty = query.is_set("tty");
    let options = StreamOptions {
        stdin: any(["input", "stdin"]),
        stdout: any(["output", "stdout"]),
        stderr: any(["error", "stderr"]) && !tty,
        tty,
    };
    match options.stdin || options.stdout || options.stderr {
        true => Ok(options),
        false => Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr")),
    }
}

fn exec_request(container_id: String, cmd: Vec<String>, options: &StreamOptions) -> ExecRequest {
    ExecRequest {
        container_id,
        cmd,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    }
}

fn attach_request(container_id: String, options: &StreamOptions) -> AttachRequest {
    AttachRequest {
        container_id,
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    }
}
