//! Command lines against a store.

use crate::testing::{TestStore, sample};
use crate::{Registries, Registry, Store};

async fn run(store: &Store, line: &str) -> (i32, String, String) {
    let registry = Registry::new(store.clone(), Registries::default());
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = super::ctr(&args, &registry, &mut out, &mut err).await;
    (code, String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

#[tokio::test]
async fn a_life() {
    let store = TestStore::new();
    let image = sample(&store, "a:1", "x");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.tar").display().to_string();
    let (code, out, err) = run(&store, &format!("-n k8s.io images export --platform linux/amd64 {file} a:1")).await;
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    let (code, out, _) = run(&store, "images rm a:1 nothing:1").await;
    assert_eq!((code, out.as_str()), (1, "docker.io/library/a:1\n"));
    let (_, out, _) = run(&store, "images ls -q").await;
    assert_eq!(out, "");
    let (code, out, err) = run(&store, &format!("images import --digests {file}")).await;
    let digest = &image.manifest.digest;
    assert_eq!((code, out, err.as_str()), (0, format!("unpacking docker.io/library/a:1 ({digest})...done\n"), ""));
    let (_, out, _) = run(&store, "images ls -q").await;
    assert_eq!(out, format!("docker.io/library/a:1\ndocker.io/library/a@{digest}\n"));
    assert_eq!(run(&store, "images tag a:1 b:1 c:1").await.1, "docker.io/library/b:1\ndocker.io/library/c:1\n");
    let (code, _, err) = run(&store, "images tag a:1 b:1").await;
    assert_eq!((code, err.as_str()), (1, "ctr: image \"docker.io/library/b:1\": already exists\n"));
    assert_eq!(run(&store, "images tag --force a:1 b:1").await.0, 0);
    // A second import of the same archive changes nothing.
    assert_eq!(run(&store, &format!("images import {file}")).await.0, 0);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[tokio::test]
async fn the_table() {
    let store = TestStore::new();
    let image = sample(&store, "a:1", "x");
    store.pin("a:1", true).unwrap();
    let (_, out, _) = run(&store, "images ls").await;
    let digest = &image.manifest.digest;
    let size = format!("{:.1} KiB", image.size as f64 / 1024.0);
    let kind = crate::media::OCI_MANIFEST;
    let platform = crate::Platform::host().to_string();
    let labels = "io.cri-containerd.image=managed,io.cri-containerd.pinned=pinned";
    let row = format!("docker.io/library/a:1 {kind} {digest} {size} {platform} {labels} \n");
    let head = format!(
        "{:<22}{:<width$} {:<71} {:<8}{:<platform_width$}{:<67} \n",
        "REF",
        "TYPE",
        "DIGEST",
        "SIZE",
        "PLATFORMS",
        "LABELS",
        width = kind.len(),
        platform_width = platform.len().max(9) + 1
    );
    let (first, second) = out.split_once('\n').unwrap();
    assert_eq!(second.split_whitespace().collect::<Vec<_>>(), row.split_whitespace().collect::<Vec<_>>());
    assert_eq!(first.split_whitespace().collect::<Vec<_>>(), head.split_whitespace().collect::<Vec<_>>());
    let at = |line: &str, word: &str| line.find(word).unwrap();
    assert_eq!(at(first, "TYPE"), at(second, kind));
    assert_eq!(at(first, "DIGEST"), at(second, "sha256:"));
    assert_eq!(at(first, "LABELS"), at(second, "io.cri"));
}

#[tokio::test]
async fn mistakes() {
    let store = TestStore::new();
    let (code, out, err) = run(&store, "images frob").await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("ctr: unknown command \"frob\"\n\nUSAGE"), "{err}");
    let (code, out, _) = run(&store, "images --help").await;
    assert!(code == 0 && out.starts_with("USAGE"));
    let (code, _, err) = run(&store, "images import /no/such/file.tar").await;
    assert_eq!(
        (code, err.as_str()),
        (1, "ctr: cannot open /no/such/file.tar: No such file or directory (os error 2)\n")
    );
    let (code, _, err) = run(&store, "images rm x:1").await;
    assert_eq!((code, err.as_str()), (1, "ctr: image \"x:1\": not found\n"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.tar").display().to_string();
    assert_eq!(run(&store, &format!("images export {file} x:1")).await.0, 1);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a failed export leaves no file");
}
