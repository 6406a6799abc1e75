//! Pods from creation to their end.

use super::*;

#[tokio::test]
async fn a_pod_runs_and_is_deleted() {
    let node = Node::start().await;
    node.create("web", one(json!({})));
    node.until_running("web").await;
    let status = node.status("web");
    assert_eq!(status["podIP"], "10.42.0.2");
    assert_eq!(status["hostIP"], "10.0.0.1");
    assert_eq!(status["qosClass"], "BestEffort");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["containerID"], "navarch://c2");
    assert_eq!(container["image"], "img:1");
    assert_eq!(container["restartCount"], 0);
    for event in
        ["Pulling: Pulling image \"img:1\"", "Pulled: Successfully pulled image \"img:1\" in ", "Created", "Started"]
    {
        node.until_event("web", event).await;
    }
    assert_eq!(node.runtime.calls(), ["sandbox web 0", "pull img:1", "create c", "start c"]);

    node.delete("web", None).await;
    node.until_gone("web").await;
    node.runtime.until(|r| r.sandbox_count() == 0).await;
    let calls = node.runtime.calls().join(", ");
    assert!(calls.ends_with("stop c 30, stop sandbox box1, remove sandbox box1"), "{calls}");
    node.until_event("web", "Killing: Stopping container c").await;
    let uid_dirs = std::fs::read_dir(node.dir.path().join("kubelet/pods")).unwrap().count();
    assert_eq!(uid_dirs, 0);
}

#[tokio::test]
async fn a_crash_loop_backs_off() {
    let node = Node::start().await;
    node.runtime.behave("c", ends_with(3));
    node.create("bad", one(json!({})));
    let waiting = |s: &Value| s["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff";
    node.until("bad", waiting).await;
    let status = node.status("bad");
    let container = &status["containerStatuses"][0];
    let message = container["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=bad_ns("), "{message}");
    assert_eq!(container["restartCount"], 1);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 3);
    assert_eq!(status["phase"], "Running");
    node.until_event("bad", "BackOff: Back-off restarting failed container c in pod bad_ns(").await;

    node.runtime.behave("c", Behaviour::default());
    node.pass(11);
    // Any news makes the worker look at the clock.
    node.api.modify(&pods(), "ns", "bad", |pod| pod["metadata"]["labels"]["x"] = json!("y"));
    node.until_running("bad").await;
    let container = node.status("bad")["containerStatuses"][0].clone();
    assert_eq!((&container["restartCount"], &container["lastState"]["terminated"]["exitCode"]), (&json!(2), &json!(3)));
}

#[tokio::test]
async fn a_job_completes() {
    let node = Node::start().await;
    node.runtime.behave("c", ends_with(0));
    let mut spec = one(json!({}));
    spec["restartPolicy"] = json!("Never");
    node.create("job", spec);
    node.until("job", |s| s["phase"] == "Succeeded").await;
    node.runtime.until(|r| r.calls().iter().any(|c| c.starts_with("stop sandbox"))).await;
    let status = node.status("job");
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(status["podIP"], "10.42.0.2");
    let (code, log) = node.get("/containerLogs/ns/job/c").await;
    assert_eq!((code, log.as_str()), (200, "hello from c\n"));
    node.delete("job", None).await;
    node.until_gone("job").await;
    node.runtime.until(|r| r.sandbox_count() == 0).await;
}

#[tokio::test]
async fn init_containers_and_sidecars() {
    let node = Node::start().await;
    node.runtime.behave("i", ends_with(0));
    let mut spec = one(json!({}));
    spec["initContainers"] = json!([
        {"name": "s", "image": "img:1", "restartPolicy": "Always"}, {"name": "i", "image": "img:1"}]);
    node.create("web", spec);
    node.until_running("web").await;
    let starts: Vec<String> = node.runtime.calls().into_iter().filter(|c| c.starts_with("start")).collect();
    assert_eq!(starts, ["start s", "start i", "start c"]);
    node.delete("web", None).await;
    node.until_gone("web").await;
    let stops: Vec<String> = node.runtime.calls().into_iter().filter(|c| c.starts_with("stop ")).collect();
    assert_eq!((stops[0].as_str(), &stops[1][..7]), ("stop c 30", "stop s "));
}

#[tokio::test]
async fn images_that_cannot_be_had() {
    let node = Node::start().await;
    node.runtime.refuse_pull("gone:1", Some("manifest unknown"));
    node.create("pull", one(json!({"image": "gone:1"})));
    node.create("never", one(json!({"image": "gone:1", "imagePullPolicy": "Never"})));
    node.create("name", one(json!({"image": "Not A Name"})));
    let reason =
        |s: &Value| s["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default().to_owned();
    node.until("pull", |s| reason(s) == "ErrImagePull").await;
    assert_eq!(node.status("pull")["containerStatuses"][0]["state"]["waiting"]["message"], "manifest unknown");
    node.until_event("pull", "Failed: Failed to pull image \"gone:1\": manifest unknown").await;
    node.until_event("pull", "Failed: Error: ErrImagePull").await;
    node.until("never", |s| reason(s) == "ErrImageNeverPull").await;
    node.until("name", |s| reason(s) == "InvalidImageName").await;
    node.until("pull", |s| reason(s) == "ImagePullBackOff").await;
    let waiting = node.status("pull")["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting["message"], "Back-off pulling image \"gone:1\": ErrImagePull: manifest unknown");
    node.runtime.refuse_pull("gone:1", None);
    node.pass(11);
    node.api.modify(&pods(), "ns", "pull", |pod| pod["metadata"]["labels"]["x"] = json!("y"));
    node.until_running("pull").await;
}

#[tokio::test]
async fn a_container_that_cannot_start() {
    let node = Node::start().await;
    node.runtime.behave("c", Behaviour { fails_to_start: Some("exec: no such file".into()), ..Behaviour::default() });
    node.create("web", one(json!({})));
    node.until("web", |s| s["containerStatuses"][0]["state"]["waiting"]["reason"] == "RunContainerError").await;
    node.until_event("web", "Failed: Error: exec: no such file").await;
    node.runtime.behave("c", Behaviour::default());
    node.until_running("web").await;
}

#[tokio::test]
async fn liveness_restarts_and_readiness_gates() {
    let node = Node::start().await;
    let exec = |code, output: &str| Behaviour { exec: Some((code, output.into())), ..Behaviour::default() };
    node.runtime.behave("c", exec(0, "fine"));
    let probe = json!({"exec": {"command": ["check"]}, "periodSeconds": 1, "failureThreshold": 1});
    node.create("web", one(json!({"livenessProbe": probe, "readinessProbe": probe})));
    node.until_running("web").await;
    node.runtime.behave("c", exec(1, "sick"));
    node.until("web", |s| condition(s, "Ready") == "False").await;
    node.until_event("web", "Unhealthy: Liveness probe failed: sick").await;
    node.until_event("web", "Killing: Container c failed liveness probe, will be restarted").await;
    node.runtime.behave("c", exec(0, "fine"));
    node.until("web", |s| s["containerStatuses"][0]["restartCount"] == 1 && condition(s, "Ready") == "True").await;
}

#[tokio::test]
async fn hooks_run_within_the_grace_period() {
    let node = Node::start().await;
    let lifecycle =
        json!({"postStart": {"exec": {"command": ["warm", "up"]}}, "preStop": {"exec": {"command": ["drain"]}}});
    node.create("web", one(json!({"lifecycle": lifecycle})));
    node.until_running("web").await;
    assert!(node.runtime.calls().contains(&"exec c: warm up".to_owned()));
    node.delete("web", Some(5)).await;
    node.until_gone("web").await;
    let calls = node.runtime.calls();
    let at = |call: &str| calls.iter().position(|c| c == call);
    assert!(at("exec c: drain").unwrap() < at("stop c 5").unwrap(), "{calls:?}");
}

#[tokio::test]
async fn a_forced_deletion_overtakes_a_graceful_one() {
    let node = Node::start().await;
    node.runtime.behave("c", Behaviour { is_stubborn: true, ..Behaviour::default() });
    node.create("web", one(json!({})));
    node.until_running("web").await;
    node.delete("web", Some(600)).await;
    node.runtime.until(|r| r.calls().contains(&"stop c 600".to_owned())).await;
    node.delete("web", Some(0)).await;
    node.until_gone("web").await;
    node.runtime.until(|r| r.calls().contains(&"stop c 2".to_owned())).await;
}

#[tokio::test]
async fn deadlines_end_pods() {
    let node = Node::start().await;
    let mut spec = one(json!({}));
    spec["activeDeadlineSeconds"] = json!(50);
    node.create("web", spec);
    node.until_running("web").await;
    node.pass(60);
    node.api.modify(&pods(), "ns", "web", |pod| pod["metadata"]["labels"]["x"] = json!("y"));
    node.until("web", |s| s["phase"] == "Failed").await;
    assert_eq!(node.status("web")["reason"], "DeadlineExceeded");
    assert!(node.runtime.running().is_empty());
}

#[tokio::test]
async fn a_restarted_kubelet_adopts_what_runs() {
    let node = Node::start().await;
    node.create("web", one(json!({})));
    node.until_running("web").await;
    let (status, calls) = (node.status("web"), node.runtime.calls());
    let node = node.restart().await;
    node.create("other", one(json!({"name": "d"})));
    node.until_running("other").await;
    assert_eq!(node.status("web"), status);
    assert_eq!(&node.runtime.calls()[..calls.len()], calls);
    assert!(!node.runtime.calls()[calls.len()..].iter().any(|c| c.ends_with(" c")), "{:?}", node.runtime.calls());
}

#[tokio::test]
async fn after_a_reboot_everything_comes_back() {
    let node = Node::start().await;
    node.create("web", one(json!({})));
    node.until_running("web").await;
    node.runtime.lose_everything();
    let node = node.restart().await;
    node.until("web", |s| s["containerStatuses"][0]["restartCount"] == 1 && condition(s, "Ready") == "True").await;
    assert!(node.runtime.calls().contains(&"sandbox web 1".to_owned()));
    assert_eq!(node.status("web")["podIP"], "10.42.0.4");
}

#[tokio::test]
async fn a_pod_that_was_removed_meanwhile_is_ended() {
    let node = Node::start().await;
    node.create("web", one(json!({})));
    node.until_running("web").await;
    node.api.remove(&pods(), "ns", "web");
    node.runtime.until(|r| r.running().is_empty() && r.sandbox_count() == 0).await;
}

#[tokio::test]
async fn pods_wait_for_the_network() {
    let node = Node::start().await;
    node.runtime.set_network_ready(false);
    node.create("web", one(json!({})));
    node.until_event("web", "NetworkNotReady: network is not ready: container runtime network not ready").await;
    assert_eq!(node.status("web")["phase"], "Pending");
    node.runtime.set_network_ready(true);
    node.until_running("web").await;
}
