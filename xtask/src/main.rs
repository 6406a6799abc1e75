//! Developer tasks: `cargo xtask test` runs every test, `cargo xtask build` makes the release artefact, `cargo xtask bench`
//! measures it (the load client does; see the crate `load`), `cargo xtask tidy` checks what the compiler cannot: layers, sizes, front
//! pages. Tidy also runs as a test of this crate, so that `cargo test` cannot pass without it.
//!
//! What belongs here: things developers and continuous integration do to the tree. What does not: anything that ships.

mod bench;
mod build;
mod packages;
mod test;
mod tidy;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// Developer tasks of Navarch.
#[derive(Subcommand)]
enum Task {
    /// Build the release artefact: one static file.
    Build,
    /// Install what the tests need (Debian packages), then run every test. Needs root.
    Test,
    /// Build the release binary and measure it; the arguments are those of `load bench`. Needs root.
    Bench {
        /// `size`, `start`, `pods`, `api`, `lists`, `watch` (all when none is named), `--rounds N`, `--page BENCHMARKS.md` ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Check layers between crates, file sizes, front pages and forbidden words.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Build => build::run(&root()),
        Task::Test => test::run(&root()),
        Task::Bench { arguments } => bench::run(&root(), &arguments),
        Task::Tidy => tidy::run(&root()),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the tree.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that runs us.
fn cargo() -> std::process::Command {
    std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
