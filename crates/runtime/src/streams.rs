//! Exec, attach, port-forward: descriptors of the shim's as async streams.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use protos::cri::{Duplex, Error, Result, Session, TerminalSize};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::link::{Link, Reply, wait_exit};
use crate::spec::Ask;
use crate::terminal::Terminal;

/// Terminal sizes that may wait.
const RESIZES: usize = 16;
/// Output that may wait for an attached client.
const ATTACH_ROOM: i32 = 1 << 20;

fn io_error(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |e| Error::unknown(format!("cannot {what}: {e}"))
}

/// A pipe: (ours, the process's).
fn pipe_to_us() -> Result<(pipe::Receiver, OwnedFd)> {
    let (near, far) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|e| Error::unknown(format!("cannot make a pipe: {e}")))?;
    Ok((pipe::Receiver::from_owned_fd(near).map_err(io_error("use a pipe"))?, far))
}

fn pipe_from_us() -> Result<(pipe::Sender, OwnedFd)> {
    let (far, near) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|e| Error::unknown(format!("cannot make a pipe: {e}")))?;
    Ok((pipe::Sender::from_owned_fd(near).map_err(io_error("use a pipe"))?, far))
}

fn null() -> Result<OwnedFd> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    opened.map(Into::into).map_err(io_error("open /dev/null"))
}

/// Follows size changes until the session is over. The task ends with the session's sender.
#[allow(clippy::disallowed_methods, reason = "the task ends when the session that owns the sender does")]
fn resizer(terminal: Terminal) -> mpsc::Sender<TerminalSize> {
    let (sender, mut sizes) = mpsc::channel(RESIZES);
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            terminal.set_size(size);
        }
    });
    sender
}

/// Runs a command in a container.
pub(crate) async fn exec(
    link: &Link,
    id: &str,
    args: Vec<String>,
    tty: bool,
    wants: (bool, bool, bool),
) -> Result<Session> {
    let ask = Ask::Exec { id: id.into(), args, tty };
    if tty {
        let reply = link.call(ask, Vec::new()).await?;
        let Reply { mut fds, stream, .. } = reply;
        let master = fds.pop().ok_or_else(|| Error::unknown("the shim passed no terminal"))?;
        let terminal = Terminal::new(master).map_err(io_error("use a terminal"))?;
        return Ok(Session {
            stdin: wants.0.then(|| Box::new(terminal.clone()) as _),
            stdout: Some(Box::new(terminal.clone())),
            stderr: None,
            resize: resizer(terminal),
            exit: exit_of(stream)?,
        });
    }
    let (stdin, far_in) = if wants.0 { pipe_from_us().map(|(s, f)| (Some(s), f))? } else { (None, null()?) };
    let (stdout, far_out) = if wants.1 { pipe_to_us().map(|(s, f)| (Some(s), f))? } else { (None, null()?) };
    let (stderr, far_err) = if wants.2 { pipe_to_us().map(|(s, f)| (Some(s), f))? } else { (None, null()?) };
    let reply = link.call(ask, vec![far_in, far_out, far_err]).await?;
    let (resize, _) = mpsc::channel(1);
    Ok(Session {
        stdin: stdin.map(|s| Box::new(s) as _),
        stdout: stdout.map(|s| Box::new(s) as _),
        stderr: stderr.map(|s| Box::new(s) as _),
        resize,
        exit: exit_of(reply.stream)?,
    })
}

/// Waits for the exit, as long as somebody wants to know it.
#[allow(
    clippy::disallowed_methods,
    reason = "the task ends with the command, or with the session that owns the receiver"
)]
fn exit_of(stream: std::os::unix::net::UnixStream) -> Result<oneshot::Receiver<Result<i32>>> {
    stream.set_nonblocking(true).map_err(io_error("use the shim's connection"))?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(io_error("use the shim's connection"))?;
    let (mut sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let exit = tokio::select! {
            exit = wait_exit(stream) => exit,
            () = sender.closed() => return,
        };
        // Nobody is there any more: fine.
        let _ = sender.send(exit);
    });
    Ok(receiver)
}

/// Joins a container's streams. `ended` resolves when the container does.
pub(crate) async fn attach(
    link: &Link,
    id: &str,
    tty: bool,
    wants_stdin: bool,
    ended: oneshot::Receiver<Result<i32>>,
) -> Result<Session> {
    let (stdout, far_out) = pipe_to_us()?;
    let (stderr, far_err) = pipe_to_us()?;
    for far in [&far_out, &far_err] {
        spare_the_shim(far)?;
    }
    let reply = link.call(Ask::Attach { id: id.into() }, vec![far_out, far_err]).await?;
    let input = reply.fds.into_iter().next();
    let (mut stdin, mut resize): (Option<Box<dyn AsyncWrite + Send + Unpin>>, _) = (None, mpsc::channel(1).0);
    match input {
        Some(master) if tty => {
            let terminal = Terminal::new(master).map_err(io_error("use a terminal"))?;
            stdin = wants_stdin.then(|| Box::new(terminal.clone()) as _);
            resize = resizer(terminal);
        }
        Some(pipe) if wants_stdin => {
            stdin = Some(Box::new(pipe::Sender::from_owned_fd(pipe).map_err(io_error("use a pipe"))?));
        }
        _ => {}
    }
    Ok(Session {
        stdin,
        stdout: Some(Box::new(stdout)),
        stderr: (!tty).then(|| Box::new(stderr) as _),
        resize,
        exit: ended,
    })
}

/// A client's way to a container's stdin, which can tell that the client has said all.
pub(crate) struct Input {
    pub(crate) inner: Box<dyn AsyncWrite + Send + Unpin>,
    /// Cancelled when the client ends its input.
    pub(crate) said_all: CancellationToken,
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.said_all.cancel();
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The shim has one thread for all: it must not wait for who is attached. What it writes has some room, and a writer that would
/// wait is told.
fn spare_the_shim(far: &OwnedFd) -> Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(far, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| Error::unknown(format!("cannot use a pipe: {e}")))?;
    // More than the usual room where that is allowed.
    let _ = fcntl(far, FcntlArg::F_SETPIPE_SZ(ATTACH_ROOM));
    Ok(())
}

/// A connection to a port on the sandbox's loopback: by IPv4, else by IPv6.
pub(crate) async fn connect(link: &Link, port: u16) -> Result<Box<dyn Duplex>> {
    let attempt = async |v6| -> std::result::Result<TcpStream, String> {
        let mut reply = link.call(Ask::Connect { port, v6 }, Vec::new()).await.map_err(|e| e.message)?;
        let socket = reply.fds.pop().ok_or("the shim passed no connection")?;
        let told = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => e.to_string(),
        };
        let stream = std::net::TcpStream::from(socket);
        stream.set_nonblocking(true).map_err(told)?;
        let stream = TcpStream::from_std(stream).map_err(told)?;
        stream.writable().await.map_err(told)?;
        match stream.take_error().map_err(told)? {
            Some(error) => Err(told(error)),
            None => Ok(stream),
        }
    };
    let refused = match attempt(false).await {
        Ok(stream) => return Ok(Box::new(stream)),
        Err(error) => error,
    };
    let stream = attempt(true).await.map_err(|error| {
        Error::unknown(format!(
            "failed to connect to localhost:{port} inside the pod: IPv4: dial tcp4 127.0.0.1:{port}: connect: {refused} \
             IPv6: dial tcp6 [::1]:{port}: connect: {error}"
        ))
    })?;
    Ok(Box::new(stream))
}
