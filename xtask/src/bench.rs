//! `cargo xtask bench`: builds the release binary and the load client, and lets the one measure the other.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::{cargo, packages};

pub(crate) fn run(root: &Path, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    if !packages::is_root() {
        bail!("the benches make network namespaces and containers: run them as root");
    }
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "navarch", "--package", "load"]).current_dir(root);
    if !build.status().context("cannot run cargo build")?.success() {
        bail!("the release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut load = Command::new(target.join("release/load"));
    load.arg("bench").arg("--server").arg(target.join("release/navarch"));
    let status = load.args(arguments).current_dir(root).status().context("cannot run the load client")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
