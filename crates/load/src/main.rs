//! The load client and the benches: how fast the API server is, how soon a cluster is up, how large it is.
//!
//! ```text
//! cargo xtask bench api   builds the release binary and this, and runs:
//! load bench api --server target/release/navarch
//!   rig:    a network namespace, a data directory, the server in it        (rig.rs)
//!   bench:  phases of requests, several rounds each, the best one counts   (bench/)
//!   drive:  callers at the greatest rate, or at a fixed rate               (drive.rs)
//!   wire:   HTTP/1.1 and HTTP/2 over rustls, cheap on purpose              (wire/)
//!   report: JSON, a table, the figures of BENCHMARKS.md                    (report.rs, targets.rs)
//! ```
//! The client shares the machine's cores with the server that it measures, so it must cost little: requests are bytes made
//! beforehand, replies are counted rather than decoded, one thread does it all. Beside each rate stands the server's CPU time per
//! operation, which other work on the machine disturbs least.
//!
//! What belongs here: load, measurements, their presentation. What does not: anything that ships, and tests of behaviour.
//!
//! Start reading at `bench.rs`.

mod bench;
mod drive;
mod objects;
mod process;
mod report;
mod rig;
mod targets;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Load client and benches of Navarch.
#[derive(Subcommand)]
enum Command {
    /// Start servers in network namespaces of their own and measure them. Needs root.
    Bench(Options),
}

/// What to measure, how often, and where to write it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Which benches; all when none is named.
    #[arg(value_enum)]
    benches: Vec<bench::Name>,
    /// The server's binary.
    #[arg(long, default_value = "target/release/navarch")]
    server: PathBuf,
    /// Measure the server that this kubeconfig names instead (`api`, `lists` and `watch` only).
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Process of that server, for its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Rounds of each phase; the best counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Small objects that are written, and a third of the reads.
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// Pods that are listed.
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Where the servers' data go: a disk, not memory.
    #[arg(long)]
    scratch: Option<PathBuf>,
    /// Where the figures are kept, in the shape of apibench.py.
    #[arg(long, default_value = "target/bench.json")]
    out: PathBuf,
    /// Write the figures into this page as well.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Only these phases of the benches, by the names of their results.
    #[arg(long)]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let Command::Bench(options) = Cli::parse().command;
    match bench::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
