//! Statuses of pods in all kinds of states.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;
use crate::pods::observed::{Record, RunState, SandboxRecord};
use crate::pods::plan::ProbeKind;

struct Case {
    pod: Value,
    containers: &'static str,
    blocked: &'static [(&'static str, &'static str)],
    probes: &'static [(&'static str, ProbeKind, bool)],
    old: Value,
    is_ending: bool,
    has_sandbox: bool,
}

impl Default for Case {
    fn default() -> Self {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3},
            "spec": {"containers": [{"name": "a", "image": "x"}]}});
        Self { pod, containers: "", blocked: &[], probes: &[], old: json!({}), is_ending: false, has_sandbox: true }
    }
}

fn records(text: &str) -> Vec<Record> {
    let one = |(index, item): (usize, &str)| {
        let mut parts = item.split(':');
        let name = parts.next().unwrap_or_default();
        let state = match parts.next().unwrap_or_default() {
            "created" => RunState::Created,
            "running" => RunState::Running,
            "exited" => RunState::Exited,
            _ => RunState::Unknown,
        };
        let exit_code = parts.next().and_then(|c| c.parse().ok()).unwrap_or(0);
        Record {
            id: format!("{name}{index}"),
            name: name.into(),
            state,
            exit_code,
            reason: if state == RunState::Exited { if exit_code == 0 { "Completed" } else { "Error" } } else { "" }
                .into(),
            restart_count: 7 - index as i32,
            started_at: 1_700_000_000_000_000_000,
            finished_at: 1_700_000_001_000_000_000,
            ..Record::default()
        }
    };
    text.split_whitespace().enumerate().map(one).collect()
}

fn run(case: &Case) -> PodStatus {
    let pod: Pod = serde_json::from_value(case.pod.clone()).unwrap();
    let sandbox = SandboxRecord { is_ready: true, ips: vec!["10.42.0.5".into()], ..SandboxRecord::default() };
    let observed = Observed {
        sandboxes: if case.has_sandbox { vec![sandbox] } else { vec![] },
        containers: records(case.containers),
    };
    let mut probes = ProbeResults::default();
    for (id, kind, result) in case.probes {
        probes.0.insert(((*id).to_owned(), *kind), Some(*result));
    }
    let blocked: HashMap<String, Blocked> = case
        .blocked
        .iter()
        .map(|(name, reason)| ((*name).to_owned(), Blocked { reason: (*reason).into(), message: "why".into() }))
        .collect();
    let old: PodStatus = serde_json::from_value(case.old.clone()).unwrap();
    generate(&Inputs {
        pod: &pod,
        old: &old,
        observed: &observed,
        probes: &probes,
        blocked: &blocked,
        runtime_name: "navarch",
        node_ip: "10.0.0.1",
        now: 1_700_000_100,
        is_ending: case.is_ending,
        verdict: None,
    })
}

/// `phase [Ready reason] container=state`.
fn show(status: &PodStatus) -> String {
    let ready = status.condition("Ready").map_or("", |c| if c.status == "True" { "ready" } else { &c.reason });
    let state = |c: &crate::api::ContainerStatus| {
        let state = match (&c.state.waiting, &c.state.running, &c.state.terminated) {
            (Some(w), ..) => w.reason.clone(),
            (_, Some(_), _) => "running".into(),
            (.., Some(t)) => format!("{}({})", t.reason, t.exit_code),
            _ => "none".into(),
        };
        let last = c.last_state.terminated.as_ref().map(|t| format!("<-{}", t.exit_code)).unwrap_or_default();
        format!("{}={state}{last}", c.name)
    };
    let lists = status.init_container_statuses.iter().chain(&status.container_statuses);
    let containers: Vec<String> = lists.map(state).collect();
    format!("{} {ready} {}", status.phase, containers.join(" "))
}

fn check(case: &Case, expect: &str) {
    assert_eq!(show(&run(case)), expect, "{}", case.containers);
}

fn with(policy: &str, containers: &'static str) -> Case {
    let mut case = Case { containers, ..Case::default() };
    case.pod["spec"]["restartPolicy"] = json!(policy);
    case
}

#[test]
fn phases() {
    check(&with("Always", ""), "Pending ContainersNotReady a=ContainerCreating");
    check(&with("Always", "a:running"), "Running ready a=running");
    check(&with("Always", "a:exited:0"), "Running ContainersNotReady a=Completed(0)");
    check(&with("Always", "a:running a:exited:1"), "Running ready a=running<-1");
    check(&with("OnFailure", "a:exited:1"), "Running ContainersNotReady a=Error(1)");
    check(&with("OnFailure", "a:exited:0"), "Succeeded PodCompleted a=Completed(0)");
    check(&with("Never", "a:exited:2"), "Failed PodFailed a=Error(2)");
    let ending = Case { is_ending: true, ..with("Always", "a:exited:143") };
    check(&ending, "Failed PodFailed a=Error(143)");
    let gone = Case { old: json!({"phase": "Succeeded"}), ..with("Always", "a:exited:1") };
    assert_eq!(run(&gone).phase, "Succeeded");
}

#[test]
fn what_cannot_start_is_waiting() {
    let crash = Case { blocked: &[("a", "CrashLoopBackOff")], ..with("Always", "a:exited:1 a:exited:2") };
    check(&crash, "Running ContainersNotReady a=CrashLoopBackOff<-1");
    assert_eq!(run(&crash).container_statuses[0].restart_count, 7);
    let pull = Case { blocked: &[("a", "ErrImagePull")], ..Case::default() };
    check(&pull, "Pending ContainersNotReady a=ErrImagePull");
    let running = Case { blocked: &[("a", "CrashLoopBackOff")], ..with("Always", "a:running") };
    check(&running, "Running ready a=running");
    let done = Case { blocked: &[("a", "CrashLoopBackOff")], ..with("Never", "a:exited:1") };
    check(&done, "Failed PodFailed a=Error(1)");
}

#[test]
fn init_containers() {
    let init = |containers| {
        let mut case = with("Always", containers);
        case.pod["spec"]["initContainers"] = json!([{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]);
        case
    };
    check(&init(""), "Pending ContainersNotReady i=PodInitializing s=PodInitializing a=PodInitializing");
    check(&init("i:running"), "Pending ContainersNotReady i=running s=PodInitializing a=PodInitializing");
    check(&init("s:running i:exited:0"), "Pending ContainersNotReady i=Completed(0) s=running a=PodInitializing");
    check(&init("a:running s:running i:exited:0"), "Running ready i=Completed(0) s=running a=running");
    check(&init("a:running s:running"), "Running ready i=Completed(0) s=running a=running");
    let status = run(&init("i:exited:1"));
    let initialized = status.condition("Initialized").unwrap();
    assert_eq!(initialized.message, "containers with incomplete status: [i s]");
    let mut never = init("i:exited:1");
    never.pod["spec"]["restartPolicy"] = json!("Never");
    assert_eq!(run(&never).phase, "Failed");
}

#[test]
fn probes_decide_readiness() {
    let probed = |probes: &'static [(&'static str, ProbeKind, bool)], old: Value| {
        let mut case = Case { containers: "a:running", probes, old, ..Case::default() };
        case.pod["spec"]["containers"][0]["readinessProbe"] = json!({"tcpSocket": {"port": 1}});
        case.pod["spec"]["containers"][0]["startupProbe"] = json!({"tcpSocket": {"port": 1}});
        let status = run(&case);
        let container = &status.container_statuses[0];
        (container.started, container.ready)
    };
    use ProbeKind::{Readiness, Startup};
    assert_eq!(probed(&[], json!({})), (Some(false), false));
    assert_eq!(probed(&[("a0", Startup, true)], json!({})), (Some(true), false));
    assert_eq!(probed(&[("a0", Startup, true), ("a0", Readiness, true)], json!({})), (Some(true), true));
    assert_eq!(probed(&[("a0", Readiness, true)], json!({})), (Some(false), false));
    let adopted =
        json!({"containerStatuses": [{"name": "a", "containerID": "navarch://a0", "started": true, "ready": true}]});
    assert_eq!(probed(&[], adopted), (Some(true), true));
}

#[test]
fn readiness_gates_and_foreign_conditions() {
    let mut case = with("Always", "a:running");
    case.pod["spec"]["readinessGates"] = json!([{"conditionType": "x.io/ok"}]);
    let message = |case: &Case| run(case).condition("Ready").unwrap().message.clone();
    assert_eq!(message(&case), "corresponding condition of pod readiness gate \"x.io/ok\" does not exist.");
    case.pod["status"] = json!({"conditions": [{"type": "x.io/ok", "status": "False"}]});
    assert_eq!(message(&case), "the status of pod readiness gate \"x.io/ok\" is not \"True\", but False");
    case.pod["status"] = json!({"conditions": [{"type": "x.io/ok", "status": "True"}]});
    let status = run(&case);
    assert_eq!(status.condition("Ready").unwrap().status, "True");
    assert!(status.condition("x.io/ok").is_some());
}

#[test]
fn lost_containers_count_as_restarts() {
    let old = json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 2, "containerID": "navarch://z",
        "state": {"running": {"startedAt": "2023-11-14T22:13:20Z"}}}]});
    let lost = Case { old, ..Case::default() };
    let status = run(&lost);
    let container = &status.container_statuses[0];
    assert_eq!(container.restart_count, 3);
    let last = container.last_state.terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_str()), (137, "ContainerStatusUnknown"));
    assert_eq!(status.phase, "Running");
}

#[test]
fn addresses_and_times_stay() {
    let old = json!({"phase": "Running", "startTime": "2023-11-14T22:13:20Z", "podIP": "10.42.0.9",
        "podIPs": [{"ip": "10.42.0.9"}], "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-14T22:13:21Z"}]});
    let case = Case { old: old.clone(), ..with("Always", "a:running") };
    let status = run(&case);
    assert_eq!(status.pod_ip, "10.42.0.5");
    assert_eq!(status.start_time.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(status.condition("Ready").unwrap().last_transition_time.as_deref(), Some("2023-11-14T22:13:21Z"));
    assert_eq!(status.observed_generation, Some(3));
    let ended = Case { old, has_sandbox: false, is_ending: true, ..with("Always", "a:exited:0") };
    assert_eq!(run(&ended).pod_ip, "10.42.0.9");
}

#[test]
fn patches_are_small() {
    let case = with("Always", "a:running");
    let new = run(&case);
    assert_eq!(diff::patch("u", &new, &new), None);
    let mut newer = new.clone();
    newer.conditions[2].status = "False".into();
    newer.conditions[2].reason = "R".into();
    let kind = newer.conditions[2].r#type.clone();
    let patch = diff::patch("u", &new, &newer).unwrap();
    assert_eq!(patch["metadata"]["uid"], "u");
    assert_eq!(patch["status"].as_object().unwrap().keys().collect::<Vec<_>>(), ["conditions"]);
    assert_eq!(patch["status"]["conditions"][0]["type"], kind.as_str());
    let back = diff::patch("u", &newer, &new).unwrap();
    assert_eq!(back["status"]["conditions"][0]["reason"], Value::Null);
    let mut moved = new.clone();
    moved.pod_ips = vec![Address { ip: "10.42.0.6".into() }];
    let patch = diff::patch("u", &new, &moved).unwrap();
    assert_eq!(patch["status"]["podIPs"], json!([{"$patch": "replace"}, {"ip": "10.42.0.6"}]));
}
