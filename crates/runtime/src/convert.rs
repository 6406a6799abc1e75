//! CRI messages into specs.

use std::path::{Path, PathBuf};

use linux::capabilities::Capabilities;
use linux::cgroup::Limits;
use protos::cri::v1::{
    ContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, NamespaceMode, PodSandboxConfig, Signal,
    security_profile,
};
use protos::cri::{Code, Error, Result};

use crate::service::Prepared;
use crate::spec::{ContainerSpec, Device, Mount, SandboxSpec, User};

/// Paths that containers do not see, and see read-only: the defaults of every runtime.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn is_node(mode: i32) -> bool {
    mode == NamespaceMode::Node as i32
}

pub(crate) fn sandbox(config: &PodSandboxConfig) -> SandboxSpec {
    let linux = config.linux.clone().unwrap_or_default();
    let options = linux.security_context.and_then(|s| s.namespace_options).unwrap_or_default();
    SandboxSpec {
        hostname: config.hostname.clone(),
        host_network: is_node(options.network),
        host_ipc: is_node(options.ipc),
        host_pid: is_node(options.pid),
        shared_pid: options.pid == NamespaceMode::Pod as i32,
        sysctls: linux.sysctls.into_iter().collect(),
        cgroup_parent: linux.cgroup_parent,
    }
}

pub(crate) fn limits(resources: &LinuxContainerResources) -> Limits {
    Limits {
        cpu_shares: u64::try_from(resources.cpu_shares).unwrap_or(0),
        cpu_quota: resources.cpu_quota,
        cpu_period: u64::try_from(resources.cpu_period).unwrap_or(0),
        memory: resources.memory_limit_in_bytes,
        pids: 0,
        cpuset: resources.cpuset_cpus.clone(),
    }
}

/// The whole spec of a container.
pub(crate) fn container(
    id: &str,
    sandbox: &crate::state::Sandbox,
    sandbox_spec: &SandboxSpec,
    config: &ContainerConfig,
    prepared: &Prepared,
) -> Result<ContainerSpec> {
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.clone().unwrap_or_default();
    let resources = linux.resources.clone().unwrap_or_default();
    let image = &prepared.config;
    let args = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => [&config.command[..], &config.args].concat(),
        (true, false) => [&image.entrypoint[..], &config.args].concat(),
        (true, true) => [&image.entrypoint[..], &image.cmd].concat(),
    };
    if args.is_empty() {
        return Err(Error::new(Code::InvalidArgument, "no command specified"));
    }
    let mut env = image.env.clone();
    for pair in &config.envs {
        env.retain(|e| e.split('=').next() != Some(pair.key.as_str()));
        env.push(format!("{}={}", pair.key, String::from_utf8_lossy(&pair.value)));
    }
    if config.tty && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    if !env.iter().any(|e| e.starts_with("HOSTNAME=")) {
        env.push(format!("HOSTNAME={}", sandbox_spec.hostname));
    }
    let log_path = if sandbox.log_directory.is_empty() || config.log_path.is_empty() {
        PathBuf::new()
    } else {
        Path::new(&sandbox.log_directory).join(&config.log_path)
    };
    let or_default = |given: &[String], default: &[&str]| -> Vec<String> {
        if given.is_empty() { default.iter().map(|p| (*p).to_owned()).collect() } else { given.to_vec() }
    };
    Ok(ContainerSpec {
        id: id.into(),
        rootfs: prepared.path.clone(),
        args,
        env,
        cwd: if config.working_dir.is_empty() { image.working_dir.clone() } else { config.working_dir.clone() },
        user: user(&security, &image.user, &prepared.path)?,
        mounts: mounts(config),
        devices: config
            .devices
            .iter()
            .map(|d| Device { source: d.host_path.clone().into(), target: d.container_path.clone().into() })
            .collect(),
        readonly_rootfs: security.readonly_rootfs,
        privileged: security.privileged,
        capabilities: capabilities(&security)?,
        no_new_privs: security.no_new_privs,
        seccomp: seccomp(&security)?,
        masked_paths: or_default(&security.masked_paths, &MASKED),
        readonly_paths: or_default(&security.readonly_paths, &READONLY),
        tty: config.tty,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        oom_score_adj: resources.oom_score_adj,
        cgroup: format!("{}/{id}", sandbox.cgroup_parent.trim_end_matches('/')),
        limits: limits(&resources),
        log_path,
        stop_signal: wanted_signal(config.stop_signal).unwrap_or_else(|| signal(&image.stop_signal)),
        host_pid: sandbox_spec.host_pid,
    })
}

/// Files of the sandbox that its containers see in `/etc`.
const NAMES: [&str; 2] = ["resolv.conf", "hostname"];

/// Writes the sandbox's `resolv.conf` (the host's, if the pod has none of its own) and `hostname`.
pub(crate) fn write_names(dir: &Path, config: &PodSandboxConfig) -> std::io::Result<()> {
    let resolver = match &config.dns_config {
        None => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        Some(dns) => {
            let mut text = String::new();
            if !dns.searches.is_empty() {
                text.push_str(&format!("search {}\n", dns.searches.join(" ")));
            }
            dns.servers.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
            if !dns.options.is_empty() {
                text.push_str(&format!("options {}\n", dns.options.join(" ")));
            }
            text
        }
    };
    std::fs::write(dir.join("resolv.conf"), resolver)?;
    let hostname = if config.hostname.is_empty() {
        nix::unistd::gethostname()?.to_string_lossy().into_owned()
    } else {
        config.hostname.clone()
    };
    std::fs::write(dir.join("hostname"), hostname + "\n")
}

/// Mounts those files, unless the container has its own in their place.
pub(crate) fn add_names(dir: &Path, spec: &mut ContainerSpec) {
    for name in NAMES {
        let target = Path::new("/etc").join(name);
        if !spec.mounts.iter().any(|m| m.target == target) {
            spec.mounts.push(Mount {
                source: dir.join(name),
                target,
                readonly: spec.readonly_rootfs,
                ..Mount::default()
            });
        }
    }
}

fn mounts(config: &ContainerConfig) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = config
        .mounts
        .iter()
        .map(|m| Mount {
            source: m.host_path.clone().into(),
            target: m.container_path.clone().into(),
            readonly: m.readonly,
            propagation: m.propagation,
            image: m.image.as_ref().map(|image| image.image.clone()).unwrap_or_default(),
            image_sub_path: m.image_sub_path.clone(),
        })
        .collect();
    // Outer mounts first, so that inner ones are not covered.
    mounts.sort_by_key(|m| m.target.components().count());
    mounts
}

fn capabilities(security: &LinuxContainerSecurityContext) -> Result<Capabilities> {
    if security.privileged {
        return Ok(Capabilities::all());
    }
    let given = security.capabilities.clone().unwrap_or_default();
    Capabilities::adjusted(&given.add_capabilities, &given.drop_capabilities)
        .map_err(|name| Error::new(Code::InvalidArgument, format!("unknown capability {name:?}")))
}

/// True for the default profile; a profile of the node's is refused rather than passed over.
fn seccomp(security: &LinuxContainerSecurityContext) -> Result<bool> {
    use security_profile::ProfileType;
    let Some(profile) = security.seccomp.as_ref().filter(|_| !security.privileged) else { return Ok(false) };
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(true),
        Ok(ProfileType::Unconfined) => Ok(false),
        _ => Err(Error::new(
            Code::InvalidArgument,
            format!("seccomp profile {:?}: profiles of the node are not supported", profile.localhost_ref),
        )),
    }
}

/// The pod's own stop signal (the CRI's number for it), when it has one.
fn wanted_signal(number: i32) -> Option<i32> {
    let signal_of = Signal::try_from(number).ok().filter(|s| *s != Signal::RuntimeDefault)?;
    let name = signal_of.as_str_name().trim_start_matches("SIGNAL_");
    // Real-time signals are written by their distance from the ends of their range.
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        return offset(rest.trim_start_matches("PLUS")).map(|n| libc::SIGRTMIN() + n);
    }
    if let Some(rest) = name.strip_prefix("SIGRTMAX") {
        return offset(rest.trim_start_matches("MINUS")).map(|n| libc::SIGRTMAX() - n);
    }
    Some(signal(name))
}

/// The number of `SIGQUIT`, `QUIT` or `3`; SIGTERM for anything else.
fn signal(text: &str) -> i32 {
    let name = text.trim().to_ascii_uppercase();
    let full = if name.starts_with("SIG") { name.clone() } else { format!("SIG{name}") };
    let named = full.parse::<nix::sys::signal::Signal>().map(|s| s as i32).ok();
    name.parse().ok().or(named).unwrap_or(libc::SIGTERM)
}

/// Who the container runs as: the pod's word, else the image's, looked up in the image's own tables.
fn user(security: &LinuxContainerSecurityContext, image_user: &str, rootfs: &Path) -> Result<User> {
    let passwd = read_table(rootfs, "etc/passwd");
    let group = read_table(rootfs, "etc/group");
    let (wanted, wanted_group) = match (&security.run_as_user, security.run_as_username.as_str()) {
        (Some(uid), _) => (uid.value.to_string(), None),
        (None, name) if !name.is_empty() => (name.to_owned(), None),
        (None, _) => match image_user.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group.to_owned())),
            None => (image_user.to_owned(), None),
        },
    };
    let missing = |what: &str, name: &str| {
        Error::new(Code::InvalidArgument, format!("unable to find {what} {name}: no matching entries in the image"))
    };
    let wanted = if wanted.is_empty() { "0".to_owned() } else { wanted };
    let row = passwd.iter().find(|r| r.first() == Some(&wanted) || r.get(2) == Some(&wanted));
    let uid = match (row.and_then(|r| r.get(2)), wanted.parse::<u32>()) {
        (Some(uid), _) => uid.parse().map_err(|_| missing("user", &wanted))?,
        (None, Ok(uid)) => uid,
        (None, Err(_)) => return Err(missing("user", &wanted)),
    };
    let name = row.and_then(|r| r.first().cloned()).unwrap_or_default();
    let gid = match (&security.run_as_group, wanted_group) {
        (Some(gid), _) => u32::try_from(gid.value).unwrap_or(0),
        (None, Some(text)) => {
            match (group.iter().find(|r| r.first() == Some(&text)).and_then(|r| r.get(2)), text.parse()) {
                (Some(gid), _) => gid.parse().unwrap_or(0),
                (None, Ok(gid)) => gid,
                (None, Err(_)) => return Err(missing("group", &text)),
            }
        }
        (None, None) => row.and_then(|r| r.get(3)).and_then(|g| g.parse().ok()).unwrap_or(0),
    };
    let mut groups: Vec<u32> = vec![gid];
    groups.extend(security.supplemental_groups.iter().filter_map(|g| u32::try_from(*g).ok()));
    if !name.is_empty() {
        let member = |r: &&Vec<String>| r.get(3).is_some_and(|m| m.split(',').any(|m| m == name));
        groups.extend(group.iter().filter(member).filter_map(|r| r.get(2)?.parse::<u32>().ok()));
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups })
}

fn read_table(rootfs: &Path, path: &str) -> Vec<Vec<String>> {
    let opened = linux::rooted::open_root(rootfs)
        .and_then(|root| linux::rooted::open(&root, Path::new(path), libc::O_RDONLY, 0));
    let mut text = String::new();
    if let Ok(fd) = opened {
        use std::io::Read;
        // A table that is no text is one without rows.
        let _ = std::fs::File::from(fd).take(1 << 20).read_to_string(&mut text);
    }
    text.lines().map(|l| l.split(':').map(Into::into).collect()).collect()
}
