//! `navarch`: a complete Kubernetes in one binary. This crate wires parts and owns their lives; it decides nothing.

mod cli;
mod components;
mod datastore;
mod flags;
mod kubeconfig;
mod local;
mod node;
mod security;
mod server;
mod snapshot;

use std::process::ExitCode;

/// Why: `docs/adr/0010-jemalloc.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // The shim must be alone in its process: nothing else is set up before it.
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|a| a == "shim") {
        return runtime::shim_main(&args[2..]);
    }
    cli::main(&args)
}
