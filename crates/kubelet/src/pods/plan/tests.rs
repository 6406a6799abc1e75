//! Plans for pods in all kinds of states.

use serde_json::{Value, json};

use super::*;
use crate::pods::observed::SandboxRecord;

/// `name:state[:code]`, newest first; `changed` as a fourth part for a container of another image.
fn records(text: &str) -> Vec<Record> {
    let one = |item: &str| {
        let mut parts = item.split(':');
        let name = parts.next().unwrap_or_default();
        let state = match parts.next().unwrap_or_default() {
            "created" => RunState::Created,
            "running" => RunState::Running,
            "exited" => RunState::Exited,
            _ => RunState::Unknown,
        };
        let exit_code = parts.next().and_then(|c| c.parse().ok()).unwrap_or(0);
        let hash = parts.next().map(|_| 1);
        Record { id: format!("id-{name}"), name: name.into(), state, exit_code, hash, ..Record::default() }
    };
    text.split_whitespace().map(one).collect()
}

fn sandbox(is_ready: bool) -> SandboxRecord {
    SandboxRecord { id: "box".into(), is_ready, ips: vec!["10.42.0.5".into()], ..SandboxRecord::default() }
}

fn show(plan: &Plan, pod: &Pod) -> String {
    let mut parts = Vec::new();
    if plan.kill_pod {
        parts.push("kill pod".to_owned());
    }
    if let Some(attempt) = plan.create_sandbox {
        parts.push(format!("sandbox {attempt}"));
    }
    parts.extend(plan.kills.iter().map(|k| format!("kill {} ({})", k.name, k.message)));
    parts.extend(plan.starts.iter().map(|(role, i)| format!("start {}", pod.containers(*role)[*i].name)));
    parts.join(", ")
}

fn check_with(
    spec: &Value,
    boxes: Vec<SandboxRecord>,
    containers: &str,
    failed: &[(&str, ProbeKind, bool)],
    expect: &str,
) {
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
    let observed = Observed { sandboxes: boxes, containers: records(containers) };
    let mut probes = ProbeResults::default();
    for (name, kind, result) in failed {
        probes.0.insert((format!("id-{name}"), *kind), Some(*result));
    }
    assert_eq!(show(&plan(&pod, &observed, &probes), &pod), expect, "{containers}");
}

fn check(spec: &Value, containers: &str, expect: &str) {
    check_with(spec, vec![sandbox(true)], containers, &[], expect);
}

fn two(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]})
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    check_with(&two("Always"), vec![], "", &[], "kill pod, sandbox 0, start a, start b");
    check(&two("Always"), "", "start a, start b");
    check(&two("Always"), "a:running", "start b");
    check(&two("Always"), "a:running b:running", "");
    check(&two("Always"), "a:created b:running", "start a");
}

#[test]
fn restart_policies() {
    check(&two("Always"), "a:exited:0 b:running", "start a");
    check(&two("Always"), "a:exited:1 b:exited:0", "start a, start b");
    check(&two("OnFailure"), "a:exited:0 b:running", "");
    check(&two("OnFailure"), "a:exited:1 b:running", "start a");
    check(&two("OnFailure"), "a:exited:0 b:exited:0", "kill pod");
    check(&two("Never"), "a:exited:1 b:running", "");
    check(&two("Never"), "a:exited:1 b:exited:0", "kill pod");
    check(&two("Never"), "a:exited:1", "start b");
    let own = json!({"restartPolicy": "Never", "containers": [{"name": "a", "restartPolicy": "Always"}]});
    check(&own, "a:exited:0", "start a");
}

#[test]
fn a_lost_sandbox_is_replaced() {
    let lost = || vec![sandbox(false)];
    check_with(&two("Always"), lost(), "a:exited:0 b:exited:1", &[], "kill pod, sandbox 1, start a, start b");
    check_with(&two("OnFailure"), lost(), "a:exited:0 b:exited:1", &[], "kill pod, sandbox 1, start b");
    check_with(&two("OnFailure"), lost(), "a:exited:0 b:exited:0", &[], "kill pod");
    check_with(&two("Never"), lost(), "a:exited:0 b:exited:1", &[], "kill pod");
    check_with(&two("Never"), lost(), "", &[], "kill pod, sandbox 1, start a, start b");
    check_with(&two("Always"), vec![sandbox(true), sandbox(true)], "", &[], "kill pod, sandbox 1, start a, start b");
    let without_address = SandboxRecord { ips: vec![], ..sandbox(true) };
    check_with(&two("Always"), vec![without_address], "", &[], "kill pod, sandbox 1, start a, start b");
    let host = json!({"hostNetwork": true, "containers": [{"name": "a"}]});
    check_with(&host, vec![sandbox(true)], "a:running", &[], "kill pod, sandbox 1, start a");
    let of_host = SandboxRecord { ips: vec![], host_network: true, ..sandbox(true) };
    check_with(&host, vec![of_host], "a:running", &[], "");
}

#[test]
fn probes_kill() {
    let spec = two("Always");
    let liveness = [("a", ProbeKind::Liveness, false)];
    let containers = "a:running b:running";
    let expect = "kill a (Container a failed liveness probe, will be restarted), start a";
    check_with(&spec, vec![sandbox(true)], containers, &liveness, expect);
    let startup = [("b", ProbeKind::Startup, false)];
    let expect = "kill b (Container b failed startup probe, will be restarted), start b";
    check_with(&spec, vec![sandbox(true)], containers, &startup, expect);
    check_with(&spec, vec![sandbox(true)], containers, &[("a", ProbeKind::Readiness, false)], "");
    let expect = "kill a (Container a failed liveness probe)";
    check_with(&two("Never"), vec![sandbox(true)], containers, &liveness, expect);
}

#[test]
fn changed_and_unknown_containers_are_replaced() {
    let changed = "a:running:0:changed b:running";
    check(&two("Never"), changed, "kill a (Container a definition changed, will be restarted), start a");
    let unknown = "a:unknown b:running";
    check(
        &two("Always"),
        unknown,
        "kill a (Container is in \"unknown\" state, try killing it before restart), start a",
    );
}

#[test]
fn init_containers_run_in_order() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    check_with(&spec, vec![], "", &[], "kill pod, sandbox 0, start i");
    check(&spec, "", "start i");
    check(&spec, "i:running", "");
    check(&spec, "i:exited:1", "start i");
    check(&spec, "i:exited:0", "start j");
    check(&spec, "j:running i:exited:0", "");
    check(&spec, "j:exited:0", "start a");
    check(&spec, "a:running", "");
    check(&spec, "a:running i:exited:1", "");
    check(&spec, "a:exited:0 j:exited:0 i:exited:0", "start a");
    let never = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    check(&never, "i:exited:1", "kill pod");
    check(&never, "i:exited:0", "start a");
}

#[test]
fn sidecars_stay_beside_the_main_containers() {
    let spec = json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}],
        "containers": [{"name": "a"}]});
    check(&spec, "", "start s");
    check(&spec, "s:running", "start i");
    check(&spec, "i:running s:running", "");
    check(&spec, "i:exited:0 s:running", "start a");
    check(&spec, "a:running i:exited:0 s:exited:1", "start s");
    check(&spec, "a:running", "start s");
    let last = json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    check(&last, "s:running", "start a");
    let never = json!({"restartPolicy": "Never", "initContainers": [{"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]});
    check(&never, "a:exited:0 s:running", "kill pod");
    let probed = json!({
        "initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}}],
        "containers": [{"name": "a"}]});
    check(&probed, "s:running", "");
    check_with(&probed, vec![sandbox(true)], "s:running", &[("s", ProbeKind::Startup, true)], "start a");
    let expect = "kill s (Init container s failed startup probe), start s";
    check_with(&probed, vec![sandbox(true)], "s:running", &[("s", ProbeKind::Startup, false)], expect);
}

#[test]
fn ephemeral_containers_start_once() {
    let spec = json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]});
    check(&spec, "a:running", "start e");
    check(&spec, "e:exited:1 a:running", "");
}
