//! Which crate may stand on which.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

/// From the ground up. A crate depends on lower layers; within a layer only where [`Layer::inner`] says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Layer {
    Ground,
    Language,
    Mechanism,
    Component,
    Root,
}

impl Layer {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "base" | "protos" => Self::Ground,
            "object" | "schema" | "cel" | "kinds" | "rbac" => Self::Language,
            "store" | "pki" | "client" | "streaming" | "linux" | "netfilter" => Self::Mechanism,
            "apiserver" | "scheduler" | "controllers" | "kubelet" | "runtime" | "images" | "proxy" | "dns" | "cni"
            | "cluster" => Self::Component,
            "navarch" | "load" | "xtask" => Self::Root,
            _ => return None,
        })
    }

    /// Whether crates of this layer may use each other (cargo forbids circles).
    fn inner(self) -> bool {
        !matches!(self, Self::Component | Self::Root)
    }
}

/// What does input, output or waiting: not for the language crates.
const IO: &[&str] = &[
    "async-trait",
    "futures",
    "hyper",
    "hyper-rustls",
    "hyper-util",
    "libc",
    "nix",
    "redb",
    "rtnetlink",
    "rustls",
    "tokio",
    "tokio-rustls",
    "tokio-stream",
    "tokio-util",
];

/// Who may open the store: the API server, and the root that plugs it in.
const STORE_USERS: &[&str] = &["apiserver", "navarch"];

/// A crate and everything it depends on, in builds and in tests.
pub(super) struct Crate {
    name: String,
    uses: Vec<String>,
}

/// The crates of the tree, as cargo reads them.
pub(super) fn workspace(root: &Path) -> anyhow::Result<Vec<Crate>> {
    let mut command = crate::cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root);
    let output = command.output().context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cannot read cargo's metadata")?;
    let text = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().context("cargo's metadata has no packages")?;
    let uses = |package: &Value| package["dependencies"].as_array().into_iter().flatten().map(text).collect();
    Ok(packages.iter().map(|package| Crate { name: text(package), uses: uses(package) }).collect())
}

pub(super) fn check(crates: &[Crate]) -> Vec<String> {
    let mut complaints = Vec::new();
    for Crate { name, uses } in crates {
        let Some(layer) = Layer::of(name) else {
            complaints.push(format!("{name}: this crate has no layer; give it one in xtask/src/tidy/layers.rs"));
            continue;
        };
        for used in uses {
            if layer == Layer::Language && IO.contains(&used.as_str()) {
                complaints.push(format!("{name} uses {used}: the language crates do no input or output"));
            }
            if used == "store" && !STORE_USERS.contains(&name.as_str()) {
                complaints.push(format!("{name} uses store: only the API server does"));
            }
            let Some(below) = Layer::of(used) else { continue };
            if below > layer || (below == layer && !layer.inner() && used != name) {
                complaints.push(format!("{name} uses {used}: {layer:?} must not use {below:?}"));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, used: &str) -> usize {
        check(&[Crate { name: name.into(), uses: vec![used.into()] }]).len()
    }

    #[test]
    fn arrows_point_down() {
        assert_eq!(complaints("kubelet", "client"), 0);
        assert_eq!(complaints("navarch", "kubelet"), 0);
        assert_eq!(complaints("schema", "object"), 0);
        assert_eq!(complaints("kubelet", "runtime"), 1);
        assert_eq!(complaints("client", "apiserver"), 1);
        assert_eq!(complaints("controllers", "store"), 1);
        assert_eq!(complaints("kinds", "tokio"), 1);
        assert_eq!(complaints("surprise", "base"), 1);
    }
}
