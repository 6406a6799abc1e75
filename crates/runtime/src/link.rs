//! The agent's side of a shim's socket. A call takes a connection of its own and a blocking thread for its few microseconds.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use protos::cri::{Code, Error, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};

use crate::shim::wire;
use crate::spec::{Answer, Ask, SOCKET};

/// Bytes of an answer that comes without descriptors.
const MOST_ANSWER: u64 = 4096;

/// A shim, by its sandbox directory.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    dir: PathBuf,
}

/// An answer, what came beside it, and the connection (an exec's exit follows on it).
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) stream: UnixStream,
}

/// Connects by way of the open directory: the path of a socket has room for about a hundred bytes only.
fn connect(dir: &Path) -> std::io::Result<UnixStream> {
    let open = std::fs::File::open(dir)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()))
}

impl Link {
    pub(crate) fn new(sandbox: &Path) -> Self {
        Self { dir: sandbox.to_owned() }
    }

    /// True when somebody answers.
    pub(crate) fn is_alive(&self) -> bool {
        connect(&self.dir).is_ok()
    }

    /// Returns when the container has ended, or the shim is gone.
    pub(crate) async fn wait(&self, id: &str) -> std::io::Result<()> {
        let stream = connect(&self.dir)?;
        stream.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(stream)?;
        let mut ask = serde_json::to_vec(&Ask::Wait { id: id.into() })?;
        ask.push(b'\n');
        stream.write_all(&ask).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map(drop)
    }

    /// Asks, and waits for the answer. A refusal is an error.
    pub(crate) async fn call(&self, ask: Ask, fds: Vec<OwnedFd>) -> Result<Reply> {
        let dir = self.dir.clone();
        let asked = tokio::task::spawn_blocking(move || -> std::io::Result<Reply> {
            let mut stream = connect(&dir)?;
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            wire::send(&mut stream, &ask, &borrowed)?;
            let (answer, fds) = wire::receive::<Answer>(&mut stream)?;
            Ok(Reply { answer, fds, stream })
        });
        let reply = asked.await.map_err(|e| Error::unknown(format!("a call of the shim failed: {e}")))?;
        let reply =
            reply.map_err(|e| Error::new(Code::Unavailable, format!("the sandbox's shim does not answer: {e}")))?;
        match reply.answer {
            Answer::Failed { message } => Err(Error::unknown(message)),
            _ => Ok(reply),
        }
    }
}

/// Waits for the exit that follows on an exec's connection.
pub(crate) async fn wait_exit(stream: tokio::net::UnixStream) -> Result<i32> {
    let mut line = String::new();
    let read = tokio::io::BufReader::new(stream.take(MOST_ANSWER)).read_line(&mut line).await;
    read.map_err(|e| Error::unknown(format!("the shim is gone: {e}")))?;
    match serde_json::from_str(&line) {
        Ok(Answer::Exited { code }) => Ok(code),
        _ if line.is_empty() => Err(Error::unknown("the shim is gone")),
        _ => Err(Error::unknown("the shim said something unexpected")),
    }
}
