//! With the real `kubectl`: the one that `NAVARCH_KUBECTL` names, else the one on PATH; a machine without one has nothing to test.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::world::{World, map_of};

async fn run(home: &Path, arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let program = std::env::var("NAVARCH_KUBECTL").unwrap_or_else(|_| "kubectl".into());
    let mut command = Command::new(program);
    command.env("HOME", home).arg("--kubeconfig").arg(home.join("config")).args(arguments);
    let mut child =
        match command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            spawned => spawned.unwrap(),
        };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let done = child.wait_with_output().await.unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    Some((done.status.success(), text))
}

#[tokio::test]
async fn kubectl_applies_gets_and_deletes() {
    let world = World::new().await;
    let home = tempfile::tempdir().unwrap();
    let pair = world.pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
    for (file, content) in
        [("ca", world.pki.server_ca.certificate_pem()), ("crt", pair.certificate.as_str()), ("key", pair.key.as_str())]
    {
        std::fs::write(home.path().join(file), content).unwrap();
    }
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": format!("https://{}", world.server.address()), "certificate-authority": "ca"}}],
        "users": [{"name": "a", "user": {"client-certificate": "crt", "client-key": "key"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]});
    std::fs::write(home.path().join("config"), config.to_string()).unwrap();
    for (arguments, input, wanted) in [
        (&["apply", "-f", "-"][..], map_of("a", "1").to_string(), "configmap/a created"),
        (&["apply", "-f", "-"], map_of("a", "1").to_string(), "configmap/a unchanged"),
        (&["apply", "-f", "-"], map_of("a", "2").to_string(), "configmap/a configured"),
        (
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            map_of("a", "3").to_string(),
            "configmap/a serverside-applied",
        ),
        (&["get", "cm", "a", "-o", "jsonpath={.data.key}"], String::new(), "3"),
        (&["get", "cm", "a", "--no-headers"], String::new(), "a     1     "),
        (&["delete", "cm", "a"], String::new(), "configmap \"a\" deleted"),
    ] {
        let Some((success, text)) = run(home.path(), arguments, &input).await else {
            tracing::warn!("there is no kubectl here");
            break;
        };
        assert!(success && text.contains(wanted), "{arguments:?}: {text}");
    }
    world.stop().await;
}
