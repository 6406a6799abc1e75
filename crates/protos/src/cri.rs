//! Container Runtime Interface v1 (KEP-2371 and the CRI reference): the messages, and the two services as traits.
//!
//! The kubelet holds `Arc<dyn RuntimeService>` and `Arc<dyn ImageService>`. The embedded runtime implements both in
//! process; a runtime behind a socket implements them by calling out. Errors carry gRPC codes, because callers such as
//! the kubelet tell `NotFound` from the rest.

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

/// The messages of `runtime.v1`, generated from the protocol definition of the cri-api repository.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1;

use v1::*;

/// The gRPC status codes that CRI callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The thing that was named does not exist.
    NotFound,
    /// A thing of that name exists already.
    AlreadyExists,
    /// The request makes no sense, whatever the state.
    InvalidArgument,
    /// The request does not fit the present state (start of a running container, say).
    FailedPrecondition,
    /// The call ran into its deadline.
    DeadlineExceeded,
    /// The runtime does not serve this call.
    Unimplemented,
    /// Try again: the runtime is starting or stopping.
    Unavailable,
    /// Anything else.
    Unknown,
}

/// A failed CRI call: its code and one line that names operation and cause.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure.
    pub code: Code,
    /// For people: operation, object, cause chain.
    pub message: String,
}

impl Error {
    /// An error of this code with this text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
    /// `NotFound` with this text.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }
    /// `Unknown` with this text.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(Code::Unknown, message)
    }
    /// True for [`Code::NotFound`].
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }
}

/// What every CRI call returns.
pub type Result<T> = std::result::Result<T, Error>;

/// A terminal size in character cells, as `kubectl exec -t` sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TerminalSize {
    /// Columns.
    #[serde(rename = "Width")]
    pub width: u16,
    /// Rows.
    #[serde(rename = "Height")]
    pub height: u16,
}

/// A live exec or attach. Dropping it closes the client's side: stdin ends, output is discarded, an exec'd process goes
/// on (as upstream's runtimes do) until it notices.
pub struct Session {
    /// Present when stdin was asked for. Shutting it down closes the process's stdin; an attach to a container whose stdin stays
    /// open (no `stdinOnce`, or a terminal) ends.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Present when stdout was asked for (or a terminal, which merges both).
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Present when stderr was asked for and there is no terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// New terminal sizes; ignored without a terminal.
    pub resize: mpsc::Sender<TerminalSize>,
    /// Exec: the exit code, after the last output byte can be read. Attach: resolves to 0 when the container ends.
    pub exit: oneshot::Receiver<Result<i32>>,
}

/// One direction pair of a forwarded port.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// `runtime.v1.RuntimeService`. Methods have the meaning that the CRI gives them, idempotence included: stopping or
/// removing what is stopped or gone succeeds.
#[async_trait]
pub trait RuntimeService: Send + Sync {
    /// Name and version of the runtime.
    async fn version(&self, req: VersionRequest) -> Result<VersionResponse>;
    /// Readiness conditions (`RuntimeReady`, `NetworkReady`) and, when verbose, an info map.
    async fn status(&self, req: StatusRequest) -> Result<StatusResponse>;
    /// Creates and starts a sandbox: namespaces, cgroup parent, network, DNS configuration.
    async fn run_pod_sandbox(&self, req: RunPodSandboxRequest) -> Result<RunPodSandboxResponse>;
    /// Kills its containers, releases its network. Idempotent.
    async fn stop_pod_sandbox(&self, req: StopPodSandboxRequest) -> Result<StopPodSandboxResponse>;
    /// Stops it if need be, and forgets it with all its containers. Idempotent.
    async fn remove_pod_sandbox(&self, req: RemovePodSandboxRequest) -> Result<RemovePodSandboxResponse>;
    /// State, addresses, namespaces.
    async fn pod_sandbox_status(&self, req: PodSandboxStatusRequest) -> Result<PodSandboxStatusResponse>;
    /// Sandboxes, filtered.
    async fn list_pod_sandbox(&self, req: ListPodSandboxRequest) -> Result<ListPodSandboxResponse>;
    /// Creates (does not start) a container in a sandbox.
    async fn create_container(&self, req: CreateContainerRequest) -> Result<CreateContainerResponse>;
    /// Starts a created container.
    async fn start_container(&self, req: StartContainerRequest) -> Result<StartContainerResponse>;
    /// Stop signal, then SIGKILL after `timeout` seconds. Idempotent. Returns when it has ended.
    async fn stop_container(&self, req: StopContainerRequest) -> Result<StopContainerResponse>;
    /// Removes a container, killing it if it runs. Idempotent.
    async fn remove_container(&self, req: RemoveContainerRequest) -> Result<RemoveContainerResponse>;
    /// Containers, filtered.
    async fn list_containers(&self, req: ListContainersRequest) -> Result<ListContainersResponse>;
    /// State, exit code, times (nanoseconds since the epoch), reason (`Completed`, `Error`, `OOMKilled`), log path.
    async fn container_status(&self, req: ContainerStatusRequest) -> Result<ContainerStatusResponse>;
    /// Changes cgroup limits of a running container.
    async fn update_container_resources(
        &self,
        req: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse>;
    /// Reopens the log file after the kubelet rotated it.
    async fn reopen_container_log(&self, req: ReopenContainerLogRequest) -> Result<ReopenContainerLogResponse>;
    /// Runs a command and waits: output (bounded) and exit code. `timeout` in seconds, 0 for none.
    async fn exec_sync(&self, req: ExecSyncRequest) -> Result<ExecSyncResponse>;
    /// Streaming exec. CRI's wire form is a URL; in process it is the session itself.
    async fn exec(&self, req: ExecRequest) -> Result<Session>;
    /// Streaming attach to the container's main process.
    async fn attach(&self, req: AttachRequest) -> Result<Session>;
    /// Connects to `port` on loopback inside the sandbox's network namespace.
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>>;
    /// Resource usage of one container.
    async fn container_stats(&self, req: ContainerStatsRequest) -> Result<ContainerStatsResponse>;
    /// Resource usage of containers, filtered.
    async fn list_container_stats(&self, req: ListContainerStatsRequest) -> Result<ListContainerStatsResponse>;
    /// Resource usage of sandboxes, filtered.
    async fn list_pod_sandbox_stats(&self, req: ListPodSandboxStatsRequest) -> Result<ListPodSandboxStatsResponse>;
    /// Tells the runtime the node's pod CIDR.
    async fn update_runtime_config(&self, req: UpdateRuntimeConfigRequest) -> Result<UpdateRuntimeConfigResponse>;
    /// Created, started, stopped, deleted events from now on (KEP-3386). Ends when the runtime shuts down.
    async fn get_container_events(&self) -> Result<BoxStream<'static, ContainerEventResponse>>;
}

/// `runtime.v1.ImageService`.
#[async_trait]
pub trait ImageService: Send + Sync {
    /// Images, filtered by reference.
    async fn list_images(&self, req: ListImagesRequest) -> Result<ListImagesResponse>;
    /// The image by name, digest or id; `image: None` when absent (not an error).
    async fn image_status(&self, req: ImageStatusRequest) -> Result<ImageStatusResponse>;
    /// Pulls; the reply's `image_ref` is the image id (`sha256:...` of the config).
    async fn pull_image(&self, req: PullImageRequest) -> Result<PullImageResponse>;
    /// Removes every name of the image. Idempotent.
    async fn remove_image(&self, req: RemoveImageRequest) -> Result<RemoveImageResponse>;
    /// Bytes and inodes used by the image file system.
    async fn image_fs_info(&self, req: ImageFsInfoRequest) -> Result<ImageFsInfoResponse>;
}
