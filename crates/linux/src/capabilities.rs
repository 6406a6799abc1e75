//! Capabilities by name, and setting them for this thread.

use std::io;

/// Names in the order of their numbers (`linux/capability.h`), without the `CAP_` prefix.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What containers get unless told otherwise: the set that containerd and Docker give.
pub const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// All that this kernel headers' time knows.
    pub fn all() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// The default set with some added and some dropped; `ALL` stands for all. Names with or without `CAP_`; unknown
    /// names are returned as the error.
    pub fn adjusted(add: &[String], drop: &[String]) -> Result<Self, String> {
        let mut set = if drop.iter().any(|d| is_all(d)) { 0 } else { bits(DEFAULT)? };
        if add.iter().any(|a| is_all(a)) {
            set = Self::all().0;
        }
        set |= bits(add.iter().map(String::as_str).filter(|a| !is_all(a)))?;
        set &= !bits(drop.iter().map(String::as_str).filter(|d| !is_all(d)))?;
        Ok(Self(set))
    }

    /// Limits what this thread, and whatever it executes, can ever have. Before user and groups change.
    pub fn bound(self) -> io::Result<()> {
        for number in 0..64u64 {
            // SAFETY: prctl with integer arguments only.
            let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
            if known < 0 {
                return Ok(());
            }
            if known == 1 && self.0 & (1 << number) == 0 {
                // SAFETY: as above.
                if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
        }
        Ok(())
    }

    /// Makes this the thread's permitted set; effective only for root, as an execve of a plain file would have it.
    pub fn set(self, effective: bool) -> io::Result<()> {
        #[repr(C)]
        struct Header {
            version: u32,
            pid: i32,
        }
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct Data {
            effective: u32,
            permitted: u32,
            inheritable: u32,
        }
        // What this thread lacks itself cannot be given (a host without all capabilities).
        let mine = self.0 & present()?;
        let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
        let data = |bits: u32| Data { effective: if effective { bits } else { 0 }, permitted: bits, inheritable: 0 };
        let header = Header { version: 0x2008_0522, pid: 0 };
        let both = [data(half(mine)), data(half(mine >> 32))];
        // SAFETY: the kernel reads a header and two data records, which is what version 3 takes.
        let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, both.as_ptr()) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

fn bits<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<u64, String> {
    let mut set = 0;
    for name in names {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|n| *n == bare).ok_or_else(|| name.to_owned())?;
        set |= 1 << number;
    }
    Ok(set)
}

/// The permitted set of this process.
fn present() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("CapPrm:"));
    line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok()).ok_or_else(|| io::Error::other("no CapPrm in the status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        let of = |add: &[&str], drop: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
            Capabilities::adjusted(&own(add), &own(drop)).map(|c| c.0)
        };
        assert_eq!(of(&[], &["ALL"]), Ok(0));
        assert_eq!(of(&["NET_BIND_SERVICE"], &["ALL"]), Ok(1 << 10));
        assert_eq!(of(&["CAP_SYS_ADMIN"], &[]).unwrap() & (1 << 21), 1 << 21);
        assert_eq!(of(&["ALL"], &["SYS_ADMIN"]), Ok(Capabilities::all().0 & !(1 << 21)));
        assert_eq!(of(&["FLY"], &[]), Err("FLY".into()));
    }
}
