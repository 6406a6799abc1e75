//! Exec and attach: descriptors of the shim's as async streams.

use std::os::fd::{AsRawFd, OwnedFd};

use protos::cri::{Error, Result, Session, TerminalSize};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use crate::link::{Link, Reply, wait_exit};
use crate::spec::Ask;

/// Terminal sizes that may wait.
const RESIZES: usize = 16;

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

fn set_size(master: &OwnedFd, size: TerminalSize) {
    let size = libc::winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: an open terminal and a record of the type that the request takes.
    unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
}

/// Follows size changes until the session is over. The task ends with the session's sender.
#[allow(clippy::disallowed_methods, reason = "the task ends when the session that owns the sender does")]
fn resizer(master: OwnedFd) -> mpsc::Sender<TerminalSize> {
    let (sender, mut sizes) = mpsc::channel(RESIZES);
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            set_size(&master, size);
        }
    });
    sender
}

/// A terminal's master as two async halves: it is neither pipe nor socket, so threads copy between it and pipes.
fn terminal(master: &OwnedFd) -> Result<(pipe::Sender, pipe::Receiver)> {
    let (to_us, far_out) = pipe_to_us()?;
    let (from_us, far_in) = pipe_from_us()?;
    let copy = |from: OwnedFd, to: OwnedFd| {
        std::thread::Builder::new().name("terminal".into()).spawn(move || {
            let mut buffer = [0u8; 8192];
            while let Ok(count) = nix::unistd::read(&from, &mut buffer) {
                let mut rest = &buffer[..count];
                if rest.is_empty() {
                    return;
                }
                while !rest.is_empty() {
                    match nix::unistd::write(&to, rest) {
                        Ok(written) => rest = &rest[written..],
                        Err(nix::errno::Errno::EINTR) => {}
                        Err(_) => return,
                    }
                }
            }
        })
    };
    let clone = || master.try_clone().map_err(io_error("share a terminal"));
    copy(clone()?, far_out).map_err(io_error("start a thread"))?;
    copy(far_in, clone()?).map_err(io_error("start a thread"))?;
    Ok((from_us, to_us))
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
        let (stdin, stdout) = terminal(&master)?;
        return Ok(Session {
            stdin: wants.0.then(|| Box::new(stdin) as _),
            stdout: Some(Box::new(stdout)),
            stderr: None,
            resize: resizer(master),
            exit: exit_of(stream),
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
        exit: exit_of(reply.stream),
    })
}

/// A thread that waits for the exit, as long as the process runs.
fn exit_of(mut stream: std::os::unix::net::UnixStream) -> oneshot::Receiver<Result<i32>> {
    let (sender, receiver) = oneshot::channel();
    let waiting =
        std::thread::Builder::new().name("exec".into()).spawn(move || drop(sender.send(wait_exit(&mut stream))));
    if let Err(error) = waiting {
        tracing::error!(%error, "cannot wait for a command");
    }
    receiver
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
    let reply = link.call(Ask::Attach { id: id.into() }, vec![far_out, far_err]).await?;
    let input = reply.fds.into_iter().next();
    let resize = match (&input, tty) {
        (Some(master), true) => resizer(master.try_clone().map_err(io_error("share a terminal"))?),
        _ => mpsc::channel(1).0,
    };
    let stdin: Option<Box<dyn tokio::io::AsyncWrite + Send + Unpin>> = match input.filter(|_| wants_stdin) {
        None => None,
        Some(master) if tty => Some(Box::new(writer(master)?)),
        Some(pipe) => Some(Box::new(pipe::Sender::from_owned_fd(pipe).map_err(io_error("use a pipe"))?)),
    };
    Ok(Session {
        stdin,
        stdout: Some(Box::new(stdout)),
        stderr: (!tty).then(|| Box::new(stderr) as _),
        resize,
        exit: ended,
    })
}

/// A pipe whose content a thread writes to a terminal.
fn writer(master: OwnedFd) -> Result<pipe::Sender> {
    let (near, far) = pipe_from_us()?;
    let copied = std::thread::Builder::new().name("terminal".into()).spawn(move || {
        let mut buffer = [0u8; 4096];
        while let Ok(count) = nix::unistd::read(&far, &mut buffer) {
            if count == 0 || nix::unistd::write(&master, &buffer[..count]).is_err() {
                return;
            }
        }
    });
    copied.map_err(io_error("start a thread"))?;
    Ok(near)
}
