//! seccomp filters: the default profile, which refuses what containers have no business with.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use crate::capabilities::Capabilities;

const SYS_ADMIN: u64 = 1 << 21;
const SYS_MODULE: u64 = 1 << 16;
const SYS_BOOT: u64 = 1 << 22;
const SYS_TIME: u64 = 1 << 25;
const SYS_PTRACE: u64 = 1 << 19;
const BPF: u64 = 1 << 39;

/// System calls that the default profiles of containerd and Docker refuse, and the capabilities that open them.
const REFUSED: &[(libc::c_long, u64)] = &[
    (libc::SYS_acct, 0),
    (libc::SYS_add_key, 0),
    (libc::SYS_keyctl, 0),
    (libc::SYS_request_key, 0),
    (libc::SYS_bpf, SYS_ADMIN | BPF),
    (libc::SYS_clock_adjtime, SYS_TIME),
    (libc::SYS_clock_settime, SYS_TIME),
    (libc::SYS_settimeofday, SYS_TIME),
    (libc::SYS_delete_module, SYS_MODULE),
    (libc::SYS_finit_module, SYS_MODULE),
    (libc::SYS_init_module, SYS_MODULE),
    (libc::SYS_fanotify_init, SYS_ADMIN),
    (libc::SYS_fsconfig, SYS_ADMIN),
    (libc::SYS_fsmount, SYS_ADMIN),
    (libc::SYS_fsopen, SYS_ADMIN),
    (libc::SYS_fspick, SYS_ADMIN),
    (libc::SYS_io_uring_enter, 0),
    (libc::SYS_io_uring_register, 0),
    (libc::SYS_io_uring_setup, 0),
    (libc::SYS_kcmp, SYS_PTRACE),
    (libc::SYS_kexec_file_load, SYS_BOOT),
    (libc::SYS_kexec_load, SYS_BOOT),
    (libc::SYS_reboot, SYS_BOOT),
    (libc::SYS_lookup_dcookie, SYS_ADMIN),
    (libc::SYS_mount, SYS_ADMIN),
    (libc::SYS_mount_setattr, SYS_ADMIN),
    (libc::SYS_move_mount, SYS_ADMIN),
    (libc::SYS_nfsservctl, 0),
    (libc::SYS_open_by_handle_at, 0),
    (libc::SYS_open_tree, SYS_ADMIN),
    (libc::SYS_perf_event_open, SYS_ADMIN),
    (libc::SYS_pivot_root, SYS_ADMIN),
    (libc::SYS_quotactl, SYS_ADMIN),
    (libc::SYS_setdomainname, SYS_ADMIN),
    (libc::SYS_sethostname, SYS_ADMIN),
    (libc::SYS_setns, SYS_ADMIN),
    (libc::SYS_swapoff, 0),
    (libc::SYS_swapon, 0),
    (libc::SYS_sysfs, 0),
    (libc::SYS_umount2, SYS_ADMIN),
    (libc::SYS_unshare, SYS_ADMIN),
    (libc::SYS_userfaultfd, 0),
    (libc::SYS_vhangup, 0),
];

/// The default profile as a program, for a process with these capabilities.
pub fn default_profile(capabilities: Capabilities) -> io::Result<BpfProgram> {
    let refused = REFUSED.iter().filter(|(_, opens)| capabilities.0 & opens == 0);
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = refused.map(|(call, _)| (*call, Vec::new())).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

/// Puts this thread, and what it executes, under a filter. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn apply(program: &BpfProgram) -> io::Result<()> {
    apply_filter(program).map_err(io::Error::other)
}
