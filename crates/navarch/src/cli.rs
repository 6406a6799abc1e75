//! The command line: one table of commands and flags.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::server;

/// A complete Kubernetes in one binary.
#[derive(Parser)]
#[command(name = "navarch", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the control plane and a node in the foreground, on this machine's own network.
    Server(server::Flags),
}

/// Runs the command; what went wrong is one line with its causes.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Server(flags) => server::main(&flags),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr, reason = "the command line is where people read")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
