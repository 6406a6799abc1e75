//! The command line: one table of commands and flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::flags::{self, Flags};
use crate::{components, local, server, snapshot};

/// A complete Kubernetes in one binary.
#[derive(Parser)]
#[command(name = "navarch", version, about, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
On a laptop:  navarch up --demo      a cluster in the background that leaves this machine's network alone
              navarch status         what runs
              navarch down --purge   and it is as if it had never been there
On a server:  navarch server         in the foreground, for a service manager

NAVARCH_LOG=debug says more. What goes wrong has an upper case name in brackets to search for.";

#[derive(Subcommand)]
enum Command {
    /// Start a cluster of one node in the background, with a network of its own, and select it for kubectl.
    #[command(visible_alias = "start")]
    Up(local::UpFlags),
    /// Show what runs; the exit code is 0 when the cluster is up, 1 when it is not ready, 3 when it is stopped.
    Status(Which),
    /// Stop the cluster; `navarch up` brings it back as it was.
    #[command(visible_alias = "stop")]
    Down(local::DownFlags),
    /// Run the control plane and a node in the foreground, on this machine's own network.
    #[command(next_line_help = true)]
    Server(Flags),
    /// Schedule the pods of any Kubernetes, as kube-scheduler does.
    Scheduler(components::ComponentFlags),
    /// Run the controllers of any Kubernetes, as kube-controller-manager does.
    ControllerManager(components::ControllerFlags),
    /// Save, list and restore snapshots of everything that the cluster stores, as k3s does.
    #[command(subcommand, name = "etcd-snapshot")]
    EtcdSnapshot(snapshot::Command),
    /// Look at and change the node's images, as containerd's `ctr` does: `navarch ctr images ls`.
    #[command(disable_help_flag = true)]
    Ctr {
        #[command(flatten)]
        which: Which,
        /// Mirrors and credentials of registries, in k3s's form.
        #[arg(long, env = "NAVARCH_PRIVATE_REGISTRY", default_value = flags::REGISTRIES)]
        private_registry: PathBuf,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The process in the background of `up`.
    #[command(hide = true, name = local::NODE_COMMAND)]
    ClusterNode {
        #[arg(long)]
        name: Option<String>,
        data_dir: PathBuf,
    },
    /// What the demo's pods run.
    #[command(hide = true, name = cluster::demo::COMMAND)]
    DemoServer,
}

/// Which local cluster is meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct Which {
    /// Name of the cluster; without one there is one cluster.
    #[arg(long)]
    name: Option<String>,
    /// Where it keeps everything [default: /var/lib/navarch, or /var/lib/navarch-NAME].
    #[arg(long, env = "NAVARCH_DATA_DIR")]
    data_dir: Option<PathBuf>,
}

impl Which {
    pub(crate) fn cluster(&self) -> anyhow::Result<cluster::Cluster> {
        Ok(cluster::Cluster::new(self.name.as_deref(), self.data_dir.as_deref())?)
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// Runs the command; what went wrong is one line with its causes.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    let outcome = match command {
        Command::Up(flags) => local::up(&flags),
        Command::Status(which) => local::status(&which),
        Command::Down(flags) => local::down(&flags),
        Command::Server(_) => server_flags(args).and_then(|flags| server::main(&flags, None)),
        Command::Scheduler(flags) => components::scheduler(&flags),
        Command::ControllerManager(flags) => components::controllers(&flags),
        Command::EtcdSnapshot(command) => snapshot::main(&command),
        Command::Ctr { which, private_registry, args } => ctr(&which, &private_registry, &args),
        Command::ClusterNode { name, data_dir } => local::node(name.as_deref(), &data_dir),
        Command::DemoServer => demo_server(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// The flags of `navarch server`, with what the configuration file says.
pub(crate) fn server_flags(args: &[OsString]) -> anyhow::Result<Flags> {
    let mut command = Cli::command();
    command.build();
    let server = command.find_subcommand("server").cloned().context("there is no server command")?;
    let flags = |args: &[OsString]| {
        let matches = command.clone().get_matches_from(args);
        matches.subcommand().map(|(_, matches)| matches.clone()).unwrap_or_default()
    };
    let mut matches = flags(args);
    if let Some(merged) = flags::file::merged(args, &server, &matches)? {
        matches = flags(&merged);
    }
    Ok(Flags { told: flags::told(&server, &matches), ..Flags::from_arg_matches(&matches)? })
}

/// The runtime of a command that does one thing after the other.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

fn ctr(which: &Which, registries: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let store = which.cluster()?.dir().join("agent/images-store");
    let store = images::Store::open(store).context("cannot open the image store")?;
    let registries = images::Registries::load(registries).context("cannot use the registries file")?;
    let registry = images::Registry::new(store, registries);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let code = runtime.block_on(images::ctr(args, &registry, &mut std::io::stdout(), &mut std::io::stderr()));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn demo_server() -> anyhow::Result<ExitCode> {
    runtime()?.block_on(cluster::demo::server::run()).context("cannot serve the demo")?;
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stderr, reason = "the command line is where people read")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
