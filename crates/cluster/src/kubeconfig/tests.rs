use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::json;

use super::*;

/// As a server writes it, whatever it calls things.
fn ours() -> Value {
    let name = "server";
    json!({
        "clusters": [{"name": name, "cluster": {"server": "https://198.18.0.2:6443", "certificate-authority-data": "Y2E="}}],
        "users": [{"name": name, "user": {"client-key-data": "a2V5"}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    })
}

fn place(file: &Path) -> Place {
    Place { files: vec![file.to_owned()], owner: Owner::default() }
}

const THEIRS: &str = r#"
# my clusters
apiVersion: v1
kind: Config
current-context: prod
preferences: {colors: true}
x-of-a-tool: {nested: [1, 2.5, "0123", 'yes', ~], on: "off"}
clusters:
- name: prod
  cluster:
    server: https://prod:6443
    certificate-authority-data: |
      TWFu
    extensions:
    - {name: minikube.sigs.k8s.io, extension: {provider: "1.0", last-update: 2024-01-01T00:00:00Z}}
contexts:
- {name: prod, context: {cluster: prod, user: 'me: "I"', namespace: "007"}}
users:
- name: 'me: "I"'
  user: {exec: {command: aws, args: [eks, "-", "--x=y z"], env: null, apiVersion: client.authentication.k8s.io/v1}}
"#;

#[test]
fn what_others_have_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    std::fs::write(&file, THEIRS).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let before = schema::yaml::parse(THEIRS.as_bytes()).unwrap().value;
    let merged = merge(&place(&file), "navarch", &ours(), None).unwrap();
    assert_eq!(merged.previous.as_deref(), Some("prod"));
    let written = std::fs::read_to_string(&file).unwrap();
    let after = schema::yaml::parse(written.as_bytes()).unwrap().value;
    assert_eq!(after["current-context"], "navarch");
    assert_eq!(after["contexts"].as_array().unwrap().len(), 2);
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
    let resolved = client::kubeconfig::Kubeconfig::load(&file).unwrap().resolve(None);
    assert_eq!(resolved.unwrap().server.url, "https://198.18.0.2:6443");

    // Again, with a namespace that the user chose meanwhile and new key material.
    let chosen = written.replace("cluster: navarch\n", "cluster: navarch\n    namespace: dev\n");
    std::fs::write(&file, chosen).unwrap();
    let again = merge(&place(&file), "navarch", &ours(), Some(&merged)).unwrap();
    assert_eq!(again, merged);
    assert_eq!(file::read(&file).unwrap().unwrap()["contexts"][1]["context"]["namespace"], "dev");

    remove("navarch", &again).unwrap();
    assert_eq!(file::read(&file).unwrap().unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no lock, no file beside");
}

#[test]
fn what_was_made_for_us_goes_with_us() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("home/.kube/config");
    let merged = merge(&place(&file), "navarch", &ours(), None).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let second = merge(&place(&file), "navarch-b", &ours(), None).unwrap();
    assert_eq!(second.previous.as_deref(), Some("navarch"));
    remove("navarch", &merged).unwrap();
    assert_eq!(file::read(&file).unwrap().unwrap()["current-context"], "navarch-b");
    remove("navarch-b", &second).unwrap();
    assert!(file.exists(), "the second merge did not make the file");
    remove("navarch-b", &Merged { is_ours: true, directories: merged.directories, ..second }).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_understood_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    for bad in ["a: [1", "- a", "clusters: {a: b}", "contexts: [{context: {}}]", "kind: Pod", "a: 1\na: 2", "\u{0}"] {
        std::fs::write(&file, bad).unwrap();
        assert!(check(&place(&file)).is_err(), "{bad}");
        let error = merge(&place(&file), "navarch", &ours(), None).unwrap_err();
        assert!(matches!(error, KubeconfigError::Malformed { .. }), "{bad}: {error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), bad);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_link_stays_a_link_and_a_held_lock_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("config"));
    std::fs::write(&real, "").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    merge(&place(&link), "navarch", &ours(), None).unwrap();
    assert!(link.is_symlink() && std::fs::read_to_string(&real).unwrap().contains("navarch"));
    std::fs::write(dir.path().join("config.lock"), "").unwrap();
    let error = merge(&place(&link), "navarch", &ours(), None).unwrap_err();
    assert!(matches!(error, KubeconfigError::Locked(_)), "{error}");
}

#[test]
fn the_file_is_found_as_kubectl_finds_it() {
    let users = "root:x:0:0::/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n";
    let find = |variables: &[(&str, &str)], is_root| {
        let get = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
        Place::find(get, users, is_root).map(|p| (p.files, p.owner.0))
    };
    let one = |path: &str, owner| Some((vec![PathBuf::from(path)], owner));
    assert_eq!(find(&[("HOME", "/root")], true), one("/root/.kube/config", None));
    let sudo = [("HOME", "/root"), ("SUDO_UID", "1000"), ("SUDO_GID", "1001")];
    assert_eq!(find(&sudo, true), one("/home/ann/.kube/config", Some((1000, 1001))));
    assert_eq!(find(&sudo, false), one("/root/.kube/config", None));
    let listed = [("KUBECONFIG", "/a::/b"), ("HOME", "/root")];
    assert_eq!(find(&listed, true), Some((vec!["/a".into(), "/b".into()], None)));
    assert_eq!(find(&[], true), None);

    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let both = Place { files: vec![a.clone(), b.clone()], owner: Owner::default() };
    assert_eq!(both.target("x", |_, _| false), b, "none exists: the last");
    std::fs::write(&b, "").unwrap();
    std::fs::write(&a, "").unwrap();
    assert_eq!(both.target("x", |_, _| false), a, "the first that exists");
    assert_eq!(both.target("x", |file, _| file == b), b, "the one that has it");
}
