//! The command line: one table of commands and flags.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
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
    /// Look at and change the node's images, as containerd's `ctr` does: `navarch ctr images ls`.
    #[command(disable_help_flag = true)]
    Ctr {
        /// Where all state is kept.
        #[arg(long, env = "NAVARCH_DATA_DIR", default_value = "/var/lib/navarch")]
        data_dir: PathBuf,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Runs the command; what went wrong is one line with its causes.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Server(flags) => server::main(&flags),
        Command::Ctr { data_dir, args } => ctr(&data_dir, &args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn ctr(data_dir: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let store = images::Store::open(data_dir.join("agent/images-store")).context("cannot open the image store")?;
    let registry = images::Registry::new(store, images::Registries::default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let code = runtime.block_on(images::ctr(args, &registry, &mut std::io::stdout(), &mut std::io::stderr()));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

#[allow(clippy::print_stderr, reason = "the command line is where people read")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
