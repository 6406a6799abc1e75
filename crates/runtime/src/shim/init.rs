//! Starting a process in a container: namespaces, mounts, identity, then execve.
//!
//! ```text
//! shim --fork--> stage one: cgroup, new mount and pid namespaces --fork--> stage two: mounts, pivot_root, user, exec
//!      <--pid-- (a pipe; what fails is told on it too, and the pipe closes with a successful execve)
//! ```

use std::ffi::CString;
use std::fs;
use std::io::{Error, Read, Result, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, pipe2};

use crate::shim::processes::Io;
use crate::shim::{pty, wire};
use crate::spec::{ContainerSpec, User};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn context<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
    let what = what.into();
    move |e| Error::other(format!("{what}: {e}"))
}

/// The far ends of a process's streams, to be its 0, 1 and 2.
struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: bool,
}

impl Streams {
    fn terminal(slave: OwnedFd) -> Result<Self> {
        Ok(Self { stdin: slave.try_clone()?, stdout: slave.try_clone()?, stderr: slave, terminal: true })
    }
}

fn null() -> Result<OwnedFd> {
    Ok(fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

fn pipes(wants_stdin: bool) -> Result<(Io, Streams)> {
    let (out_near, out_far) = pipe2(OFlag::O_CLOEXEC)?;
    let (err_near, err_far) = pipe2(OFlag::O_CLOEXEC)?;
    let (in_near, in_far) = if wants_stdin {
        let (far, near) = pipe2(OFlag::O_CLOEXEC)?;
        (Some(near), far)
    } else {
        (None, null()?)
    };
    let near = Io::Pipes { stdin: in_near, stdout: out_near, stderr: err_near };
    Ok((near, Streams { stdin: in_far, stdout: out_far, stderr: err_far, terminal: false }))
}

/// Starts the container's first process; its pid as the shim sees it, and our ends of its streams. `shared` is a process whose
/// pid namespace it joins.
pub(super) fn start(spec: &ContainerSpec, shared: Option<i32>) -> Result<(i32, Io)> {
    let (near, far) = match spec.tty {
        true => (None, None),
        false => pipes(spec.stdin).map(|(near, far)| (Some(near), Some(far)))?,
    };
    // A terminal is the container's own: it can be opened only inside, and comes out by this way.
    let (mut door, mut inner_door) = UnixStream::pair()?;
    let pid = spawn(
        || {
            linux::cgroup::Cgroup::new(&spec.cgroup).enter(0)?;
            if let Some(other) = shared {
                join(other, "pid", CloneFlags::CLONE_NEWPID)?;
            } else if !spec.host_pid {
                unshare(CloneFlags::CLONE_NEWPID).map_err(context("make a process namespace"))?;
            }
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).map_err(context("make a mount namespace"))
        },
        || {
            set_root(spec)?;
            match &far {
                Some(far) => take_streams(far)?,
                None => {
                    let (master, slave) = pty::of_root(Path::new("/")).map_err(context("open a terminal"))?;
                    own_terminal(spec, &slave);
                    wire::send(&mut inner_door, &(), &[master.as_fd()])?;
                    take_streams(&Streams::terminal(slave)?)?;
                }
            }
            become_user(spec, &spec.user)?;
            execute(&spec.args, &spec.env, &spec.cwd)
        },
    )?;
    let near = match near {
        Some(near) => near,
        None => {
            let ((), fds) = wire::receive(&mut door)?;
            let master = fds.into_iter().next().ok_or_else(|| Error::other("the container's terminal is lost"))?;
            Io::Terminal { master }
        }
    };
    Ok((pid, near))
}

/// It is the user's, who may open it by its name.
fn own_terminal(spec: &ContainerSpec, slave: &OwnedFd) {
    // Where it cannot be, it is root's.
    let _ = nix::unistd::fchown(slave, Some(Uid::from_raw(spec.user.uid)), None);
}

/// Runs a command in the container of `first`. Without a terminal the process gets `fds`; with one its master is returned.
pub(super) fn exec(
    spec: &ContainerSpec,
    first: i32,
    args: &[String],
    tty: bool,
    fds: Vec<OwnedFd>,
) -> Result<(i32, Option<OwnedFd>)> {
    let (master, far) = if tty {
        // A container without a `/dev/pts` gets one of ours.
        let (master, slave) = pty::of_container(first).or_else(|_| pty::of_machine())?;
        own_terminal(spec, &slave);
        (Some(master), Streams::terminal(slave)?)
    } else {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().map_or_else(null, Ok);
        (None, Streams { stdin: next()?, stdout: next()?, stderr: next()?, terminal: false })
    };
    let args = args.to_vec();
    let pid = spawn(
        || {
            linux::cgroup::Cgroup::new(&spec.cgroup).enter(0)?;
            // Opened before the first of them changes what /proc is.
            let open = |name: &str| {
                fs::File::open(format!("/proc/{first}/ns/{name}")).map_err(context("find the container's namespaces"))
            };
            let (pid, cgroup, mnt) = (open("pid")?, open("cgroup")?, open("mnt")?);
            setns(cgroup, CloneFlags::CLONE_NEWCGROUP).map_err(context("join the container's cgroup namespace"))?;
            setns(pid, CloneFlags::CLONE_NEWPID).map_err(context("join the container's process namespace"))?;
            setns(mnt, CloneFlags::CLONE_NEWNS).map_err(context("join the container's mounts"))
        },
        || {
            take_streams(&far)?;
            become_user(spec, &spec.user)?;
            execute(&args, &spec.env, &spec.cwd)
        },
    )?;
    Ok((pid, master))
}

fn join(pid: i32, name: &str, flag: CloneFlags) -> Result<()> {
    let file = fs::File::open(format!("/proc/{pid}/ns/{name}"))?;
    setns(file, flag).map_err(context(format!("join the {name} namespace")))
}

/// Forks twice: `outer` changes namespaces, `inner` runs in them and ends in execve. The pid of the inner process, once it has
/// been executed.
fn spawn(outer: impl FnOnce() -> Result<()>, inner: impl FnOnce() -> Result<()>) -> Result<i32> {
    let (near, far) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the shim has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(near);
            let mut far = fs::File::from(far);
            let outcome = outer().and_then(|()| {
                // SAFETY: this is a child of a process with one thread.
                match unsafe { fork() }? {
                    ForkResult::Child => Ok(None),
                    ForkResult::Parent { child } => Ok(Some(child)),
                }
            });
            match outcome {
                Ok(Some(child)) => {
                    let _ = writeln!(far, "pid {child}");
                    exit(0);
                }
                Ok(None) => {
                    if let Err(error) = inner() {
                        let _ = write!(far, "error {error}");
                    }
                    exit(127);
                }
                Err(error) => {
                    let _ = write!(far, "error {error}");
                    exit(127);
                }
            }
        }
        ForkResult::Parent { child } => {
            drop(far);
            let mut told = String::new();
            fs::File::from(near).read_to_string(&mut told)?;
            // The first stage has ended; its pid is not a container's.
            let _ = nix::sys::wait::waitpid(child, None);
            let pid = told.lines().find_map(|l| l.strip_prefix("pid ")).and_then(|p| p.parse::<i32>().ok());
            if let Some((_, error)) = told.split_once("error ") {
                if let Some(pid) = pid {
                    let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), None);
                }
                return Err(Error::other(error.to_owned()));
            }
            pid.ok_or_else(|| Error::other("the process died before it began"))
        }
    }
}

/// Starts a process namespace with a first process that does nothing but bury orphans. Its pid, and the descriptor whose closing ends it.
pub(super) fn keeper() -> Result<(i32, OwnedFd)> {
    let (alive_far, alive) = pipe2(OFlag::O_CLOEXEC)?;
    let (near, far) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the shim has one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let made = unshare(CloneFlags::CLONE_NEWPID).and_then(|()| {
                // SAFETY: this is a child of a process with one thread.
                unsafe { fork() }
            });
            match made {
                Ok(ForkResult::Parent { child }) => {
                    let _ = write!(fs::File::from(far), "{child}");
                    exit(0);
                }
                Ok(ForkResult::Child) => keep(&alive_far),
                Err(_) => exit(127),
            }
        }
        ForkResult::Parent { child } => {
            drop(far);
            let mut told = String::new();
            fs::File::from(near).read_to_string(&mut told)?;
            let _ = nix::sys::wait::waitpid(child, None);
            let pid = told.parse().map_err(|_| Error::other("cannot make a process namespace for the pod"))?;
            Ok((pid, alive))
        }
    }
}

/// The life of a keeper: until the other end of `alive` is closed.
fn keep(alive: &OwnedFd) -> ! {
    let alive = alive.as_raw_fd();
    for fd in 0..1024 {
        if fd != alive {
            // SAFETY: nothing here uses any other descriptor; the shim's socket must not seem to be served when it is gone.
            unsafe { libc::close(fd) };
        }
    }
    // SAFETY: prctl with a name that ends in NUL; the default of SIGCHLD becomes that the kernel buries children by itself.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"pause".as_ptr(), 0, 0, 0);
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
    let mut byte = [0_u8; 1];
    loop {
        // SAFETY: a buffer of one byte.
        let read = unsafe { libc::read(alive, byte.as_mut_ptr().cast(), 1) };
        if read >= 0 || Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            exit(0);
        }
    }
}

/// Ends a forked child without running anything of the parent's.
fn exit(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

fn take_streams(streams: &Streams) -> Result<()> {
    if streams.terminal {
        nix::unistd::setsid()?;
        // SAFETY: makes the open terminal this new session's own.
        if unsafe { libc::ioctl(streams.stdin.as_raw_fd(), libc::TIOCSCTTY, 0) } < 0 {
            return Err(Error::last_os_error());
        }
    }
    for (source, target) in [(&streams.stdin, 0), (&streams.stdout, 1), (&streams.stderr, 2)] {
        // SAFETY: an open descriptor; 0 to 2 are replaced on purpose.
        if unsafe { libc::dup2(source.as_raw_fd(), target) } < 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}

fn bind(source: &Path, target: &Path, flags: MsFlags) -> Result<()> {
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND | flags, none).map_err(context(format!(
        "mount {} at {}",
        source.display(),
        target.display()
    )))
}

/// Flags that a bind mount has and a remount must repeat.
fn locked_flags(path: &Path) -> MsFlags {
    let Ok(stat) = nix::sys::statvfs::statvfs(path) else { return MsFlags::empty() };
    use nix::sys::statvfs::FsFlags;
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_NOSUID, stat.flags().contains(FsFlags::ST_NOSUID));
    flags.set(MsFlags::MS_NODEV, stat.flags().contains(FsFlags::ST_NODEV));
    flags.set(MsFlags::MS_NOEXEC, stat.flags().contains(FsFlags::ST_NOEXEC));
    flags
}

fn make_readonly(path: &Path) -> Result<()> {
    let none = None::<&str>;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | locked_flags(path);
    mount(none, path, none, flags, none).map_err(context(format!("make {} read-only", path.display())))
}

/// Makes the container's root the root.
fn set_root(spec: &ContainerSpec) -> Result<()> {
    let none = None::<&str>;
    // What the host mounts later reaches mounts that ask for it; nothing of ours reaches the host, unless a mount is shared.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(context("part from the host's mounts"))?;
    bind(&spec.rootfs, &spec.rootfs, MsFlags::MS_REC)?;
    let root = linux::rooted::open_root(&spec.rootfs)?;
    let at = |path: &str, directory: bool| -> Result<(OwnedFd, std::path::PathBuf)> {
        let fd = linux::rooted::mount_point(&root, Path::new(path), directory)
            .map_err(context(format!("make the mount point {path}")))?;
        let through = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok((fd, through.into()))
    };
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let special = |path: &str, kind: &str, flags: MsFlags, data: &str| -> Result<()> {
        let (_fd, target) = at(path, true)?;
        mount(Some(kind), &target, Some(kind), flags, Some(data)).map_err(context(format!("mount {path}")))
    };
    special("/proc", "proc", safe, "")?;
    special("/dev", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, "mode=755,size=65536k")?;
    special(
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    if !spec.mounts.iter().any(|m| m.target == Path::new("/dev/shm")) {
        special("/dev/shm", "tmpfs", safe, "mode=1777,size=65536k")?;
    }
    // A host without POSIX message queues is one without them.
    let _ = special("/dev/mqueue", "mqueue", safe, "");
    let read_only_sys = if spec.privileged { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    special("/sys", "sysfs", safe | read_only_sys, "")?;
    mount_cgroups(spec, &root, &special)?;
    devices(spec, &root)?;
    for entry in &spec.mounts {
        bind_into(entry, &root)?;
    }
    enter_root(spec)?;
    if !spec.privileged {
        for path in &spec.readonly_paths {
            if Path::new(path).exists() {
                bind(Path::new(path), Path::new(path), MsFlags::MS_REC)?;
                make_readonly(Path::new(path))?;
            }
        }
        for path in &spec.masked_paths {
            mask(Path::new(path))?;
        }
    }
    if spec.readonly_rootfs {
        make_readonly(Path::new("/"))?;
    }
    Ok(())
}

/// v2 hosts show the container its own group; v1 hosts do for each controller.
fn mount_cgroups(
    spec: &ContainerSpec,
    root: &OwnedFd,
    special: &dyn Fn(&str, &str, MsFlags, &str) -> Result<()>,
) -> Result<()> {
    const AT: &str = "/sys/fs/cgroup";
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let access = if spec.privileged { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    if linux::cgroup::version() == linux::cgroup::Version::V2 {
        return special(AT, "cgroup2", safe | access, "");
    }
    special(AT, "tmpfs", safe, "mode=755")?;
    let at = |path: &str| -> Result<OwnedFd> { linux::rooted::open(root, Path::new(path), libc::O_PATH, 0) };
    for row in fs::read_to_string("/proc/self/cgroup")?.lines() {
        // `4:cpu,cpuacct:/path`; a hybrid host's unified hierarchy has no controllers.
        let Some(controllers) = row.split(':').nth(1).filter(|c| !c.is_empty()) else { continue };
        let name = controllers.trim_start_matches("name=");
        // A hierarchy that this host does not let be mounted again is one that the container does not see.
        if special(&format!("{AT}/{name}"), "cgroup", safe | access, controllers).is_ok() && name.contains(',') {
            let dir = at(AT)?;
            let dir = fs::File::open(format!("/proc/self/fd/{}", dir.as_raw_fd()))?;
            for single in name.split(',') {
                nix::unistd::symlinkat(name, &dir, single).map_err(context(format!("link {AT}/{single}")))?;
            }
        }
    }
    if spec.privileged {
        return Ok(());
    }
    let dir = at(AT)?;
    make_readonly(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())))
}

const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

fn devices(spec: &ContainerSpec, root: &OwnedFd) -> Result<()> {
    let add = |source: &Path, target: &Path| -> Result<()> {
        let fd =
            linux::rooted::mount_point(root, target, false).map_err(context(format!("make {}", target.display())))?;
        bind(source, Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())), MsFlags::empty())
    };
    for name in NODES {
        let path = Path::new("/dev").join(name);
        if path.exists() {
            add(&path, &path)?;
        }
    }
    if spec.privileged {
        for entry in fs::read_dir("/dev")?.flatten() {
            let path = entry.path();
            let is_node = entry.file_type().is_ok_and(|t| {
                use std::os::unix::fs::FileTypeExt;
                t.is_block_device() || t.is_char_device()
            });
            let name = entry.file_name();
            if is_node && !NODES.iter().any(|n| name == *n) && name != "ptmx" && name != "console" {
                add(&path, &path)?;
            }
        }
    }
    for device in &spec.devices {
        add(&device.source, &device.target)?;
    }
    let dev = linux::rooted::open(root, Path::new("/dev"), libc::O_DIRECTORY | libc::O_RDONLY, 0)?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        nix::unistd::symlinkat(target, &dev, name).map_err(context(format!("link /dev/{name}")))?;
    }
    Ok(())
}

fn bind_into(entry: &crate::spec::Mount, root: &OwnedFd) -> Result<()> {
    let directory = fs::metadata(&entry.source).map_err(context(format!("mount {}", entry.source.display())))?.is_dir();
    let fd = linux::rooted::mount_point(root, &entry.target, directory)
        .map_err(context(format!("make the mount point {}", entry.target.display())))?;
    bind(&entry.source, Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())), MsFlags::MS_REC)?;
    // The mount lies over what the descriptor shows: look again.
    let fd = linux::rooted::open(root, &entry.target, libc::O_PATH, 0)?;
    let target = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let none = None::<&str>;
    let propagation = match entry.propagation {
        1 => MsFlags::MS_SLAVE,
        2 => MsFlags::MS_SHARED,
        _ => MsFlags::MS_PRIVATE,
    };
    mount(none, target.as_str(), none, propagation | MsFlags::MS_REC, none)
        .map_err(context("set the propagation of a mount"))?;
    if entry.readonly {
        make_readonly(Path::new(&target))?;
    }
    Ok(())
}

/// pivot_root onto itself: the old root lies over the new one, and is let go.
fn enter_root(spec: &ContainerSpec) -> Result<()> {
    std::env::set_current_dir(&spec.rootfs)?;
    nix::unistd::pivot_root(".", ".").map_err(context("change the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(context("let go of the host's root"))?;
    std::env::set_current_dir("/")
}

/// Hides a path: a file under /dev/null, a directory under an empty file system.
fn mask(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    if metadata.is_dir() {
        let none = None::<&str>;
        return mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, none)
            .map_err(context(format!("hide {}", path.display())));
    }
    bind(Path::new("/dev/null"), path, MsFlags::empty())
}

fn become_user(spec: &ContainerSpec, user: &User) -> Result<()> {
    // Lowering the score takes a capability that a confined host may lack; the container runs all the same.
    let _ = fs::write("/proc/self/oom_score_adj", spec.oom_score_adj.to_string());
    let filter = if spec.seccomp { Some(linux::seccomp::default_profile(spec.capabilities)?) } else { None };
    if let Some(filter) = filter.as_ref().filter(|_| !spec.no_new_privs) {
        linux::seccomp::apply(filter)?;
    }
    spec.capabilities.bound().map_err(context("limit the capabilities"))?;
    // SAFETY: prctl with integers: keep the permitted set over the change of user.
    unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) };
    let groups: Vec<Gid> = user.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    nix::unistd::setgroups(&groups).map_err(context("set the supplementary groups"))?;
    nix::unistd::setresgid(Gid::from_raw(user.gid), Gid::from_raw(user.gid), Gid::from_raw(user.gid))
        .map_err(context("set the group"))?;
    nix::unistd::setresuid(Uid::from_raw(user.uid), Uid::from_raw(user.uid), Uid::from_raw(user.uid))
        .map_err(context("set the user"))?;
    spec.capabilities.set(user.uid == 0).map_err(context("set the capabilities"))?;
    if spec.no_new_privs {
        nix::sys::prctl::set_no_new_privs().map_err(context("set no_new_privs"))?;
        if let Some(filter) = &filter {
            linux::seccomp::apply(filter)?;
        }
    }
    Ok(())
}

/// Becomes the command. Returns only with an error, in the words that users of containers know.
fn execute(args: &[String], env: &[String], cwd: &str) -> Result<()> {
    for number in Signal::iterator() {
        if !matches!(number, Signal::SIGKILL | Signal::SIGSTOP) {
            // SAFETY: the default action runs no code of ours.
            let _ = unsafe { signal(number, SigHandler::SigDfl) };
        }
    }
    SigSet::empty().thread_set_mask()?;
    // SAFETY: umask cannot fail.
    unsafe { libc::umask(0o022) };
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    if std::env::set_current_dir(cwd).is_err() {
        fs::create_dir_all(cwd).map_err(context(format!("make the working directory {cwd}")))?;
        std::env::set_current_dir(cwd).map_err(context(format!("enter the working directory {cwd}")))?;
    }
    let program = args.first().ok_or_else(|| Error::other("no command specified"))?;
    let mut env: Vec<String> = env.to_vec();
    if !env.iter().any(|e| e.starts_with("PATH=")) {
        env.push(PATH.into());
    }
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", home()));
    }
    let text = |s: &str| CString::new(s).map_err(|_| Error::other("a NUL byte in an argument"));
    let argv = args.iter().map(|a| text(a)).collect::<Result<Vec<_>>>()?;
    let envp = env.iter().map(|e| text(e)).collect::<Result<Vec<_>>>()?;
    let search = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or("").to_owned();
    let candidates: Vec<std::path::PathBuf> = if program.contains('/') {
        vec![program.into()]
    } else {
        search.split(':').map(|dir| Path::new(if dir.is_empty() { "." } else { dir }).join(program)).collect()
    };
    let mut refused = None;
    for path in &candidates {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::other("a NUL byte in the command"))?;
        let Err(errno) = nix::unistd::execve(&name, &argv, &envp);
        match errno {
            nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR => {}
            other => refused = Some(other),
        }
    }
    Err(Error::other(match refused {
        Some(errno) => format!("exec: {program:?}: {}", errno.desc().to_lowercase()),
        None if program.contains('/') => format!("exec: {program:?}: stat {program}: no such file or directory"),
        None => format!("exec: {program:?}: executable file not found in $PATH"),
    }))
}

/// The home directory of whom we are now, by the container's own user table.
fn home() -> String {
    let uid = nix::unistd::getuid().as_raw().to_string();
    let table = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut rows = table.lines().map(|l| l.split(':').collect::<Vec<_>>());
    let found = rows.find(|r| r.get(2) == Some(&uid.as_str())).and_then(|r| r.get(5).map(|h| (*h).to_owned()));
    found.filter(|h| !h.is_empty()).unwrap_or_else(|| if uid == "0" { "/root".into() } else { "/".into() })
}
