//! Sizes, front pages and forbidden words of source files.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// A file of more lines is two files.
const MOST_LINES: usize = 800;

/// Made by a program; of any size.
const GENERATED: &[&str] = &["crates/protos/src/cri/v1.rs"];

/// Unfinished work, and tests that are not run. In two halves each, so that this file does not speak of itself.
const FORBIDDEN: &[(&str, &str)] = &[("todo", "!("), ("unimplemented", "!("), ("#[", "ignore")];

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for top in ["crates", "xtask"] {
        collect(&root.join(top), &mut files)?;
    }
    files.sort();
    let mut complaints = Vec::new();
    for file in files {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            // Someone moves files while we look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        complaints.extend(check_file(&name, &text));
    }
    Ok(complaints)
}

fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > MOST_LINES && !GENERATED.contains(&name) {
        complaints.push(format!("{name}: {lines} lines; {MOST_LINES} are the most"));
    }
    if (name.ends_with("src/lib.rs") || name.ends_with("src/main.rs")) && !text.starts_with("//!") {
        complaints.push(format!("{name}: a crate begins with its front page (//!)"));
    }
    for (number, line) in text.lines().enumerate() {
        for (first, second) in FORBIDDEN {
            let word = format!("{first}{second}");
            if line.contains(&word) {
                complaints.push(format!("{name}:{}: {word}", number + 1));
            }
        }
    }
    complaints
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_heard() {
        assert_eq!(check_file("crates/a/src/lib.rs", "//! Fine.\n"), Vec::<String>::new());
        assert_eq!(check_file("crates/a/src/lib.rs", "mod a;\n").len(), 1);
        assert_eq!(check_file("crates/a/src/b.rs", &"\n".repeat(801)).len(), 1);
        assert_eq!(check_file(GENERATED[0], &"\n".repeat(801)).len(), 0);
        let words: String = FORBIDDEN.iter().map(|(a, b)| format!("{a}{b}\n")).collect();
        assert_eq!(check_file("crates/a/src/b.rs", &words).len(), 3);
    }
}
