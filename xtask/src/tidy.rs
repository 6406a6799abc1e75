//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that a program can check.

mod layers;
mod sources;

use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run(root: &Path) -> anyhow::Result<ExitCode> {
    let complaints = check(root)?;
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    println!("{} complaints", complaints.len());
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut complaints = layers::check(&layers::workspace(root)?);
    complaints.extend(sources::check(root)?);
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_is_tidy() {
        let complaints = super::check(&crate::root()).unwrap();
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
