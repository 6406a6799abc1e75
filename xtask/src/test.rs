//! `cargo xtask test`: every test of the workspace, and one line that says how many.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, bail};

use crate::{cargo, packages};

#[derive(Default, Debug, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

pub(crate) fn run(root: &Path) -> anyhow::Result<ExitCode> {
    if !packages::is_root() {
        bail!("the tests make namespaces, mounts and containers: run them as root");
    }
    packages::install()?;
    let mut command = cargo();
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]).current_dir(root).stdout(Stdio::piped());
    // Debian keeps `nft` and `ip` where a plain PATH may not look.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = command.env("PATH", format!("{path}:/usr/sbin:/sbin")).spawn().context("cannot run cargo test")?;
    let mut count = Count::default();
    if let Some(output) = child.stdout.take() {
        let mut stdout = std::io::stdout();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cannot read cargo's output")?;
            count.add(&String::from_utf8_lossy(&line));
            // Nobody reading is no reason to stop testing.
            let _ = stdout.write_all(&line).and_then(|()| stdout.write_all(b"\n"));
        }
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    println!("{} passed, {} failed", count.passed, count.failed);
    Ok(if status.success() && count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Count {
    /// Adds up `test result: ok. 3 passed; 0 failed; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim_end().strip_prefix("test result: ") else { return };
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let Some(Ok(number)) = words.next().map(str::parse::<u64>) else { continue };
            match words.next() {
                Some("passed") => self.passed += number,
                Some("failed") => self.failed += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed() {
        let mut count = Count::default();
        count.add("running 3 tests");
        count.add("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.00s");
        count.add("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(count, Count { passed: 13, failed: 2 });
    }
}
