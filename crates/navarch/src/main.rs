//! `navarch`: a complete Kubernetes in one binary. This crate wires parts and owns their lives; it decides nothing.

mod cli;
mod kubeconfig;
mod server;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
