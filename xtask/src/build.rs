//! `cargo xtask build`: the release artefact, one static, stripped file.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cargo;

/// What the file may be at most.
const MOST_BYTES: u64 = 60 << 20;

pub(crate) fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo();
    // A target that is named keeps the flag from build scripts and procedural macros, which must stay dynamic.
    command.args(["build", "--release", "--locked", "--package", "navarch", "--target", &target]).current_dir(root);
    let status =
        command.env("RUSTFLAGS", "-C target-feature=+crt-static").status().context("cannot run cargo build")?;
    if !status.success() {
        bail!("cargo build failed");
    }
    let directory = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let path = directory.join(&target).join("release/navarch");
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    check(&bytes)?;
    println!("{}: {:.1} MB, static", path.display(), bytes.len() as f64 / 1e6);
    Ok(ExitCode::SUCCESS)
}

fn check(program: &[u8]) -> anyhow::Result<()> {
    if has_interpreter(program) {
        bail!("the program is not static");
    }
    if program.len() as u64 > MOST_BYTES {
        bail!("the program has {} bytes; {MOST_BYTES} are the limit", program.len());
    }
    Ok(())
}

/// Whether a 64-bit ELF file has a `PT_INTERP` header.
fn has_interpreter(program: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| {
        let slice = program.get(at..at + bytes)?;
        Some(slice.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b)))
    };
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else { return false };
    (0..count).any(|nth| number(table + nth * size, 4) == Some(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_loader_is_not_static() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(has_interpreter(&own), cfg!(not(target_feature = "crt-static")));
        assert!(!has_interpreter(b"short"));
        assert!(check(&vec![0; 61 << 20]).is_err());
    }
}
