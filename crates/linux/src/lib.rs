//! Kernel mechanisms: namespaces, mounts, cgroups, capabilities, seccomp.
