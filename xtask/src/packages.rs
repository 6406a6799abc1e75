//! What the tests need from the system, and how it gets here.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// A Debian package, and the program that shows that it is there.
struct Need {
    package: &'static str,
    program: &'static str,
    why: &'static str,
}

const NEEDS: &[Need] = &[
    Need { package: "iproute2", program: "ip", why: "network tests make their own namespaces" },
    Need { package: "nftables", program: "nft", why: "network tests look at the kernel's rules" },
    Need { package: "busybox-static", program: "busybox", why: "root file system of the container tests" },
    Need { package: "docker-registry", program: "docker-registry", why: "image tests pull from and push to it" },
    Need { package: "etcd-server", program: "etcd", why: "the store's tests run on it, too" },
    Need { package: "apache2-utils", program: "htpasswd", why: "image tests of registries with passwords" },
];

/// Installs what is missing, and says so on standard error.
pub(crate) fn install() -> anyhow::Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.package).collect();
    for need in &missing {
        eprintln!("installing {}: {}", need.package, need.why);
    }
    if !on_path("apt-get") {
        bail!("there is no apt-get on this machine; install by hand: {}", names.join(" "));
    }
    apt_get(&["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(&names);
    apt_get(&arguments)
}

impl Need {
    fn is_met(&self) -> bool {
        // Both of Debian's busybox packages bring the program; only one brings it without libraries.
        on_path(self.program) && (self.package != "busybox-static" || !on_path("dpkg-query") || installed(self.package))
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    std::env::split_paths(&path).chain(usual.iter().map(Into::into)).any(|dir| dir.join(program).is_file())
}

fn installed(package: &str) -> bool {
    let asked = Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).stderr(Stdio::null()).output();
    asked.is_ok_and(|output| output.stdout.ends_with(b" installed"))
}

fn apt_get(arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    // What a package would start belongs to no test: they start their own.
    command.env("RUNLEVEL", "1").stdout(Stdio::null());
    let status = command.status().context("cannot run apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed ({status})", arguments.join(" "));
    }
    Ok(())
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    Path::new("/proc/self").metadata().is_ok_and(|m| m.uid() == 0)
}
