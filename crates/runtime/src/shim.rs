//! The shim: parent of a sandbox's containers. One thread, one loop over descriptors; no async runtime.

mod init;
mod log;
mod processes;
mod pty;
pub(crate) mod wire;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::spec::{
    Answer, Ask, ContainerSpec, EXIT_FILE, Exit, NETNS, PID_FILE, SOCKET, SPEC_FILE, STARTED_FILE, SandboxSpec,
    Started, now, read_json, write_json,
};
use log::Log;
use processes::Process;

/// `navarch shim <sandbox directory>`: detaches, and serves until it is told to quit. What goes wrong before it serves is told
/// to the caller on standard error, and by the exit code.
pub fn main(args: &[OsString]) -> ExitCode {
    let Some(dir) = args.first().map(PathBuf::from) else { return ExitCode::from(2) };
    let Ok((ready, tell)) = nix::unistd::pipe() else { return ExitCode::FAILURE };
    // SAFETY: this process has a single thread: it has just begun.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { .. }) => {
            drop(tell);
            let mut word = String::new();
            let read = fs::File::from(ready).read_to_string(&mut word);
            if read.is_ok() && word == "ready" {
                return ExitCode::SUCCESS;
            }
            complain(&word);
            ExitCode::FAILURE
        }
        Ok(nix::unistd::ForkResult::Child) => {
            drop(ready);
            let mut tell = fs::File::from(tell);
            match Shim::set_up(&dir) {
                Ok(shim) => {
                    let _ = tell.write_all(b"ready");
                    drop(tell);
                    detach_stdio();
                    shim.serve();
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    let _ = tell.write_all(error.to_string().as_bytes());
                    ExitCode::FAILURE
                }
            }
        }
        Err(_) => ExitCode::FAILURE,
    }
}

#[allow(clippy::print_stderr, reason = "the agent reads it")]
fn complain(word: &str) {
    eprintln!("{}", if word.is_empty() { "the shim died while it set up" } else { word });
}

/// Standard streams lead nowhere from here on: the agent's may be gone tomorrow.
fn detach_stdio() {
    if let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        for target in 0..3 {
            // SAFETY: both descriptors are open; 0 to 2 are replaced on purpose.
            unsafe { libc::dup2(null.as_raw_fd(), target) };
        }
    }
}

struct Container {
    spec: ContainerSpec,
    process: Process,
    log: Log,
    /// Where copies of its output go: (stdout, stderr) of attached clients.
    attached: Vec<(Option<OwnedFd>, Option<OwnedFd>)>,
    running: bool,
    /// Who wants to know when it ends.
    waiting: Vec<UnixStream>,
}

struct Shim {
    dir: PathBuf,
    sandbox: SandboxSpec,
    listener: UnixListener,
    children: SignalFd,
    containers: HashMap<String, Container>,
    /// Exec'd processes: pid -> who waits for the exit.
    execs: HashMap<i32, UnixStream>,
    /// The first process of the namespace that containers share, if they do and one was started.
    keeper: Option<Keeper>,
    quitting: bool,
}

/// It ends when the shim lets go of the pipe, however the shim ends.
struct Keeper {
    pid: i32,
    _alive: OwnedFd,
}

type Result<T> = std::io::Result<T>;

fn context<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> std::io::Error {
    move |e| std::io::Error::other(format!("cannot {what}: {e}"))
}

impl Shim {
    fn set_up(dir: &Path) -> Result<Self> {
        let sandbox: SandboxSpec =
            read_json(&dir.join(SPEC_FILE)).ok_or_else(|| std::io::Error::other("the sandbox has no readable spec"))?;
        nix::unistd::setsid().map_err(context("start a session"))?;
        // SAFETY: prctl with integers; orphans of containers become our children.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        flags.set(CloneFlags::CLONE_NEWNET, !sandbox.host_network);
        flags.set(CloneFlags::CLONE_NEWIPC, !sandbox.host_ipc);
        if !sandbox.host_network {
            // The mount that keeps the namespace's name must be seen by the agent: it is made before our mounts part from its.
            unshare(CloneFlags::CLONE_NEWNET).map_err(context("make a network namespace"))?;
            flags.remove(CloneFlags::CLONE_NEWNET);
            let name = dir.join(NETNS);
            fs::File::create(&name)?;
            let none = None::<&str>;
            nix::mount::mount(Some("/proc/self/ns/net"), &name, none, nix::mount::MsFlags::MS_BIND, none)
                .map_err(context("keep the network namespace"))?;
        }
        // Mounts of the host go on reaching us (volumes that are mounted later), ours do not reach the host.
        flags.remove(CloneFlags::CLONE_NEWNS);
        unshare(flags).map_err(context("make the sandbox's namespaces"))?;
        if !sandbox.host_network {
            nix::unistd::sethostname(&sandbox.hostname).map_err(context("set the host name"))?;
        }
        for (name, value) in &sandbox.sysctls {
            let path = Path::new("/proc/sys").join(name.replace('.', "/"));
            fs::write(&path, value).map_err(context(&format!("set {name}")))?;
        }
        // Bound by its short name: the path of a socket has room for about a hundred bytes only.
        std::env::set_current_dir(dir)?;
        let _ = fs::remove_file(SOCKET);
        let listener = UnixListener::bind(SOCKET).map_err(context("listen"))?;
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().map_err(context("block signals"))?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(context("watch children"))?;
        fs::write(dir.join(PID_FILE), std::process::id().to_string())?;
        std::env::set_current_dir("/")?;
        Ok(Self {
            dir: dir.to_owned(),
            sandbox,
            listener,
            children,
            containers: HashMap::new(),
            execs: HashMap::new(),
            keeper: None,
            quitting: false,
        })
    }

    fn serve(mut self) {
        while !(self.quitting && self.containers.values().all(|c| !c.running)) {
            let mut ids: Vec<(String, bool)> = Vec::new();
            let ready: Vec<bool> = {
                let mut watched = vec![
                    PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                    PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
                ];
                for (id, container) in &self.containers {
                    for (is_error, fd) in container.process.outputs() {
                        ids.push((id.clone(), is_error));
                        watched.push(PollFd::new(fd, PollFlags::POLLIN));
                    }
                }
                match poll(&mut watched, PollTimeout::NONE) {
                    Ok(_) => watched.iter().map(|w| w.revents().is_some_and(|r| !r.is_empty())).collect(),
                    Err(_) => continue,
                }
            };
            for ((id, is_error), ready) in ids.iter().zip(&ready[2..]) {
                if *ready {
                    self.output(id, *is_error);
                }
            }
            if ready[1] {
                while let Ok(Some(_)) = self.children.read_signal() {}
                self.reap();
            }
            if ready[0]
                && let Ok((stream, _)) = self.listener.accept()
            {
                self.answer(stream);
            }
        }
    }

    /// Copies a piece of a container's output to its log and to who is attached.
    fn output(&mut self, id: &str, is_error: bool) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let mut buffer = [0u8; 16 * 1024];
        let Some(count) = container.process.read(is_error, &mut buffer) else { return };
        if count == 0 {
            container.log.end(is_error);
            return;
        }
        container.log.write(is_error, &buffer[..count]);
        container.attached.retain(|(out, err)| {
            let Some(target) = (if is_error { err } else { out }) else { return true };
            write_all(target.as_fd(), &buffer[..count])
        });
    }

    /// Notes who has ended.
    fn reap(&mut self) {
        loop {
            let (pid, code) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return,
                Ok(_) => continue,
                Err(_) => return,
            };
            if self.keeper.as_ref().is_some_and(|keeper| keeper.pid == pid) {
                self.keeper = None;
                continue;
            }
            if let Some(mut waiting) = self.execs.remove(&pid) {
                let _ = wire::send(&mut waiting, &Answer::Exited { code }, &[]);
                continue;
            }
            let Some(id) =
                self.containers.iter().find(|(_, c)| c.running && c.process.pid == pid).map(|(id, _)| id.clone())
            else {
                continue;
            };
            self.ended(&id, code);
        }
    }

    fn ended(&mut self, id: &str, code: i32) {
        // What it wrote last is still in the pipes.
        for is_error in [false, true] {
            while self.containers.get(id).is_some_and(|c| c.process.has_output(is_error)) {
                self.output(id, is_error);
            }
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        container.running = false;
        container.log.end(false);
        container.log.end(true);
        container.attached.clear();
        container.process.close();
        let cgroup = linux::cgroup::Cgroup::new(&container.spec.cgroup);
        let oom = code == 137 && cgroup.was_out_of_memory();
        // A first process that ended takes its namespace along; what shares one is ended by hand.
        cgroup.kill();
        let mut waiting = std::mem::take(&mut container.waiting);
        let exit = Exit { code, oom, at: now(), error: None };
        let _ = write_json(&self.container_dir(id).join(EXIT_FILE), &exit);
        for stream in &mut waiting {
            let _ = wire::send(stream, &Answer::Exited { code }, &[]);
        }
    }

    fn container_dir(&self, id: &str) -> PathBuf {
        self.dir.join("containers").join(id)
    }

    fn answer(&mut self, mut stream: UnixStream) {
        let Ok((ask, fds)) = wire::receive::<Ask>(&mut stream) else { return };
        if let Ask::Wait { id } = &ask {
            match self.containers.get_mut(id).filter(|c| c.running) {
                Some(container) => container.waiting.push(stream),
                None => drop(wire::send(&mut stream, &Answer::Done, &[])),
            }
            return;
        }
        let (answer, passed) = match self.obey(&ask, fds) {
            Ok((answer, passed)) => (answer, passed),
            Err(error) => (Answer::Failed { message: error.to_string() }, Vec::new()),
        };
        let borrowed: Vec<BorrowedFd<'_>> = passed.iter().map(AsFd::as_fd).collect();
        let sent = wire::send(&mut stream, &answer, &borrowed);
        if let (Ask::Exec { .. }, Answer::Running { pid }, Ok(())) = (&ask, &answer, sent) {
            self.execs.insert(*pid, stream);
        }
    }

    fn obey(&mut self, ask: &Ask, fds: Vec<OwnedFd>) -> Result<(Answer, Vec<OwnedFd>)> {
        let unknown = || std::io::Error::other("no such container runs here");
        match ask {
            Ask::Start { id } => {
                let pid = self.start(id)?;
                Ok((Answer::Running { pid }, Vec::new()))
            }
            Ask::Exec { id, args, tty } => {
                let container = self.containers.get(id).filter(|c| c.running).ok_or_else(unknown)?;
                let (pid, master) = init::exec(&container.spec, container.process.pid, args, *tty, fds)?;
                Ok((Answer::Running { pid }, master.into_iter().collect()))
            }
            Ask::Attach { id } => {
                let container = self.containers.get_mut(id).filter(|c| c.running).ok_or_else(unknown)?;
                // Clients that have left are noticed at the latest when the next one comes.
                container.attached.retain(|(out, err)| [out, err].into_iter().flatten().all(|fd| is_read(fd.as_fd())));
                let mut fds = fds.into_iter();
                container.attached.push((fds.next(), fds.next()));
                let stdin = container.process.stdin()?;
                if container.spec.stdin_once {
                    container.process.give_up_stdin();
                }
                Ok((Answer::Done, stdin.into_iter().collect()))
            }
            Ask::Signal { id, signal } => {
                if let Some(container) = self.containers.get(id).filter(|c| c.running) {
                    let signal = Signal::try_from(*signal).map_err(context("understand the signal"))?;
                    // It may have ended this very moment.
                    let _ = nix::sys::signal::kill(Pid::from_raw(container.process.pid), signal);
                }
                Ok((Answer::Done, Vec::new()))
            }
            Ask::ReopenLog { id } => {
                let container = self.containers.get_mut(id).ok_or_else(unknown)?;
                container.log.reopen().map_err(context("open the log anew"))?;
                Ok((Answer::Done, Vec::new()))
            }
            Ask::Connect { port, v6 } => Ok((Answer::Done, vec![connect(*port, *v6)?])),
            Ask::Forget { id } => {
                self.containers.remove(id);
                Ok((Answer::Done, Vec::new()))
            }
            Ask::Wait { .. } => Ok((Answer::Done, Vec::new())),
            Ask::Quit => {
                self.quitting = true;
                Ok((Answer::Done, Vec::new()))
            }
        }
    }

    fn start(&mut self, id: &str) -> Result<i32> {
        let dir = self.container_dir(id);
        let spec: ContainerSpec = read_json(&dir.join(SPEC_FILE))
            .ok_or_else(|| std::io::Error::other("the container has no readable spec"))?;
        let log = Log::open(&spec.log_path).map_err(context("open the log"))?;
        // Containers that share their processes come and go: none of them may be the first, whose end is everybody's.
        if self.sandbox.shared_pid && self.keeper.is_none() {
            let (pid, alive) = init::keeper()?;
            self.keeper = Some(Keeper { pid, _alive: alive });
        }
        let shared = self.keeper.as_ref().map(|keeper| keeper.pid);
        match init::start(&spec, shared) {
            Ok((pid, io)) => {
                write_json(&dir.join(STARTED_FILE), &Started { pid, at: now() })?;
                let process = Process::new(pid, io);
                let container =
                    Container { spec, process, log, attached: Vec::new(), running: true, waiting: Vec::new() };
                self.containers.insert(id.to_owned(), container);
                Ok(pid)
            }
            Err(error) => {
                let exit = Exit { code: 128, oom: false, at: now(), error: Some(error.to_string()) };
                write_json(&dir.join(EXIT_FILE), &exit)?;
                Err(error)
            }
        }
    }
}

/// Begins to connect; a full queue at the other end must not hold up this thread.
fn connect(port: u16, v6: bool) -> Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, connect, socket};
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    let to: &dyn SockaddrLike = match v6 {
        true => &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0)),
        false => &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)),
    };
    match connect(fd.as_raw_fd(), to) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// False when nobody reads a pipe any more.
fn is_read(pipe: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::new(pipe, PollFlags::empty())];
    !poll(&mut watched, PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// Writes all of it to a client that may be slow or gone; false when it is gone.
fn write_all(target: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match nix::unistd::write(target, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::EAGAIN) => {
                // A client that does not read for a second is let go: the container must not wait for it.
                let mut watched = [PollFd::new(target, PollFlags::POLLOUT)];
                if !poll(&mut watched, PollTimeout::from(1000u16)).is_ok_and(|n| n > 0) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}
