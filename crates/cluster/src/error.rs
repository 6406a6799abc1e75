//! Why a local cluster could not be started, looked at or removed.

use std::io;
use std::path::PathBuf;

use crate::kubeconfig::KubeconfigError;
use crate::preflight::Problem;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Not a DNS label.
    #[error("{0:?} is no name for a cluster: lower case letters, digits and dashes, at most 40")]
    Name(String),
    /// The machine cannot run it as it is.
    #[error("{}", problems(.0))]
    Preflight(Vec<Problem>),
    /// A file or directory of the cluster.
    #[error("cannot {operation}")]
    Io {
        /// What was attempted.
        operation: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The directory is another's.
    #[error("{dir} holds the data of `navarch server`, not of a local cluster: give another --name, or --data-dir")]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// Another `up` or `down` of the same cluster.
    #[error("another `navarch up` or `navarch down` of this cluster is at work: wait for it")]
    Busy,
    /// The server's process ended.
    #[error("the server ended before it was ready: {last}\nhint: the whole log is in {log}")]
    Ended {
        /// What it said last.
        last: String,
        /// Its log.
        log: PathBuf,
    },
    /// It took too long.
    #[error("{what} after {seconds} s\nhint: the server goes on; its log is in {log}")]
    Slow {
        /// What is still missing.
        what: String,
        /// How long was waited.
        seconds: u64,
        /// The log.
        log: PathBuf,
    },
    /// The API's answer.
    #[error("cannot {operation}")]
    Api {
        /// What was attempted.
        operation: String,
        /// The answer.
        #[source]
        source: object::Status,
    },
    /// The kubeconfig that the server wrote.
    #[error("cannot use the server's kubeconfig")]
    Access(#[from] client::kubeconfig::KubeconfigError),
    /// The user's kubeconfig.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// The demo does not answer.
    #[error("the demo does not answer at {url}: {why}")]
    Demo {
        /// Where it should.
        url: String,
        /// What happens instead.
        why: String,
    },
    /// Something stays behind.
    #[error("not everything could be removed: {}", .0.join("; "))]
    Left(Vec<String>),
}

fn problems(all: &[Problem]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\nerror: ")
}

impl ClusterError {
    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Io { operation, source }
    }
}
