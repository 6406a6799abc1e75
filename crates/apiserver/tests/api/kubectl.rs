//! With the real `kubectl`: the one that `NAVARCH_KUBECTL` names, else the one on PATH; a machine without one has nothing to test.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::custom::definition;
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

/// A home with a kubeconfig of the administrator.
fn home_of(world: &World) -> tempfile::TempDir {
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
    home
}

#[tokio::test]
async fn kubectl_applies_gets_and_deletes() {
    let world = World::new().await;
    let home = home_of(&world);
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

#[tokio::test]
async fn kubectl_knows_custom_resources() {
    let world = World::new().await;
    let home = home_of(&world);
    let tab = |replicas: i32| {
        json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a", "namespace": "default"},
            "spec": {"cronSpec": "* * * * */5", "replicas": replicas}})
        .to_string()
    };
    let unknown = tab(1).replace("\"replicas\"", "\"nope\":1,\"replicas\"");
    for (arguments, input, good, wanted) in [
        (&["apply", "-f", "-"][..], definition().to_string(), true, "crontabs.stable.example.com created"),
        (
            &["wait", "--for", "condition=Established", "crd/crontabs.stable.example.com", "--timeout", "30s"],
            String::new(),
            true,
            "condition met",
        ),
        (&["apply", "-f", "-"], tab(1), true, "crontab.stable.example.com/a created"),
        (&["apply", "-f", "-"], tab(1), true, "crontab.stable.example.com/a unchanged"),
        (&["diff", "-f", "-"], tab(2), false, "+  replicas: 2"),
        (&["apply", "-f", "-"], tab(2), true, "crontab.stable.example.com/a configured"),
        (&["apply", "--server-side", "--force-conflicts", "-f", "-"], tab(3), true, "serverside-applied"),
        (&["apply", "-f", "-"], unknown, false, "unknown field \"spec.nope\""),
        (&["apply", "-f", "-"], tab(11), false, "spec.replicas in body should be less than or equal to 10"),
        (&["get", "ct", "a"], String::new(), true, "NAME   SPEC\na      * * * * */5"),
        (&["get", "all"], String::new(), true, "crontab.stable.example.com/a"),
        (&["scale", "ct/a", "--replicas", "5"], String::new(), true, "scaled"),
        (&["get", "ct", "a", "-o", "jsonpath={.spec.replicas}{.spec.image}"], String::new(), true, "5none"),
        (&["describe", "ct", "a"], String::new(), true, "Cron Spec:  * * * * */5"),
        (&["explain", "ct.spec"], String::new(), true, "cronSpec\t<string>"),
        (&["explain", "ct.metadata.labels"], String::new(), true, "FIELD: labels"),
        (&["delete", "crd", "crontabs.stable.example.com"], String::new(), true, "deleted"),
    ] {
        let Some((success, text)) = run(home.path(), arguments, &input).await else {
            tracing::warn!("there is no kubectl here");
            break;
        };
        assert!(success == good && text.contains(wanted), "{arguments:?}: {text}");
    }
    world.stop().await;
}
