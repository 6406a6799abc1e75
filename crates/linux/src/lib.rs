//! Kernel mechanisms, each small and alone: cgroups (v2, and v1 where that is what the host has), capabilities, seccomp,
//! paths that cannot leave a root.
//!
//! What belongs here: system calls with a meaning of their own. What does not: containers, pods, any policy.
#![allow(unsafe_code)]

pub mod capabilities;
pub mod cgroup;
pub mod rooted;
pub mod seccomp;
