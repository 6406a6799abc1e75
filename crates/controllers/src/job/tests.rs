use serde_json::{Value, json};

use super::*;
use crate::Verb;
use crate::testing::Scene;

/// A job and its pods, with the server and the kubelet played by hand.
struct Play {
    job: Value,
    pods: Vec<Value>,
    events: Vec<String>,
}

impl Play {
    fn new(spec: Value) -> Self {
        let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": "ns", "uid": "job"},
            "spec": {"selector": {"matchLabels": {"job": "j"}},
                "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}}});
        object::patch::merge(&mut job["spec"], &spec);
        Self { job, pods: Vec::new(), events: Vec::new() }
    }

    /// Reconciles until nothing more is to be done.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..20 {
            let mut objects = vec![self.job.clone()];
            objects.extend(self.pods.clone());
            let plan = Scene::new(objects).plan(&CONTROLLER, "ns/j");
            if plan.is_empty() {
                return self;
            }
            self.carry_out(&plan);
        }
        panic!("it does not settle: {:#?}", self.job["status"]);
    }

    fn carry_out(&mut self, plan: &Plan) {
        self.events.extend(plan.events.iter().map(|event| event.reason.to_owned()));
        for op in plan.ops() {
            let name = op.at.name.clone().unwrap_or_default();
            match &op.verb {
                Verb::Create(body) => {
                    let mut pod = (**body).clone();
                    pod["metadata"]["name"] = json!(format!("p{}", self.pods.len()));
                    pod["metadata"]["uid"] = json!(format!("u{}", self.pods.len()));
                    pod["status"] = json!({"phase": "Running"});
                    self.pods.push(pod);
                }
                Verb::Update(_, change) => object::patch::merge(&mut self.job, change),
                Verb::Patch(client::Patch::Strategic(patch)) => {
                    let pod = self.pods.iter_mut().find(|p| p["metadata"]["name"] == *name).unwrap();
                    client::testing::strategic_merge(pod, patch);
                }
                Verb::Delete(_) => {
                    let pod = self.pods.iter_mut().find(|p| p["metadata"]["name"] == *name).unwrap();
                    pod["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
                }
                Verb::Patch(_) => panic!("no other patches"),
            }
        }
        self.sweep();
    }

    /// Pods that go and are not held are gone.
    fn sweep(&mut self) {
        self.pods.retain(|pod| {
            let held = pod["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
            held || pod["metadata"]["deletionTimestamp"].is_null()
        });
    }

    /// Ends the first pods that run.
    fn end(&mut self, count: usize, phase: &str) -> &mut Self {
        let running = self.pods.iter_mut().filter(|pod| pod["status"]["phase"] == "Running");
        for pod in running.take(count) {
            pod["status"] = json!({"phase": phase, "containerStatuses": [{"name": "c", "restartCount": 0,
                "state": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]});
        }
        self
    }

    fn running(&self) -> usize {
        self.pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count()
    }

    fn status(&self, field: &str) -> Value {
        self.job["status"][field].clone()
    }

    fn is(&self, kind: &str) -> bool {
        self.status("conditions")
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == "True"))
    }
}

#[test]
fn completions_with_parallelism() {
    let mut play = Play::new(json!({"completions": 3, "parallelism": 2, "backoffLimit": 6}));
    assert_eq!(play.settle().running(), 2);
    assert_eq!((play.status("active"), play.is("Complete")), (json!(2), false));
    play.end(1, "Succeeded").settle();
    assert_eq!((play.running(), play.status("succeeded")), (2, json!(1)));
    play.end(2, "Succeeded").settle();
    assert_eq!((play.running(), play.status("succeeded")), (0, json!(3)));
    assert!(play.is("Complete") && play.is("SuccessCriteriaMet") && play.status("completionTime").is_string());
    assert_eq!(play.status("uncountedTerminatedPods"), json!({}));
    assert!(play.pods.iter().all(|pod| pod["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)));
    assert_eq!(play.events, ["Completed"]);
}

#[test]
fn failures_count_up_to_the_limit() {
    let mut play = Play::new(json!({"completions": 1, "parallelism": 1, "backoffLimit": 1}));
    play.settle().end(1, "Failed").settle();
    assert_eq!((play.status("failed"), play.running(), play.is("Failed")), (json!(1), 1, false));
    play.end(1, "Failed").settle();
    assert_eq!((play.status("failed"), play.running()), (json!(2), 0));
    assert!(play.is("Failed") && play.is("FailureTarget"));
    assert_eq!(play.events, ["BackoffLimitExceeded"]);
}

#[test]
fn after_a_failure_it_waits() {
    let mut play = Play::new(json!({"completions": 1, "backoffLimit": 6}));
    play.settle().end(1, "Failed");
    play.pods[0]["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] = json!("2026-01-31T23:59:57Z");
    play.settle();
    assert_eq!(play.running(), 0);
    let plan = Scene::new(vec![play.job.clone(), play.pods[0].clone()]).plan(&CONTROLLER, "ns/j");
    assert_eq!(plan.requeue.unwrap().as_secs(), 7);
}

#[test]
fn a_work_queue_ends_when_one_succeeds_and_none_is_left() {
    let mut play = Play::new(json!({"parallelism": 3}));
    assert_eq!(play.settle().running(), 3);
    play.end(1, "Succeeded").settle();
    assert_eq!((play.running(), play.is("Complete")), (2, false));
    play.end(2, "Succeeded").settle();
    assert!(play.is("Complete"));
    assert_eq!(play.status("succeeded"), json!(3));
}

#[test]
fn indexed_jobs_complete_each_index_once() {
    let mut play =
        Play::new(json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 6}));
    play.settle();
    let pod = &play.pods[1];
    assert_eq!(pod["metadata"]["annotations"][indexes::INDEX], "1");
    assert_eq!(pod["spec"]["hostname"], "j-1");
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    play.end(1, "Failed").settle();
    play.end(1, "Succeeded").settle();
    assert_eq!((play.status("completedIndexes"), play.status("succeeded")), (json!("1"), json!(1)));
    let indexes: Vec<_> = play
        .pods
        .iter()
        .filter(|p| p["status"]["phase"] == "Running")
        .map(|p| p["metadata"]["labels"][indexes::INDEX].clone())
        .collect();
    assert_eq!(indexes, ["0", "2"], "the failed index again, then the next");
    play.end(2, "Succeeded").settle().end(1, "Succeeded").settle();
    assert_eq!(play.status("completedIndexes"), json!("0-3"));
    assert!(play.is("Complete"));
}

#[test]
fn a_suspended_job_has_no_pods_and_resumes() {
    let mut play = Play::new(json!({"completions": 1, "suspend": true}));
    assert_eq!(play.settle().running(), 0);
    assert!(play.is("Suspended") && play.status("startTime").is_null());
    play.job["spec"]["suspend"] = json!(false);
    assert_eq!(play.settle().running(), 1);
    play.job["spec"]["suspend"] = json!(true);
    assert_eq!(play.settle().pods.len(), 0);
    assert_eq!((play.status("failed"), play.status("active")), (Value::Null, Value::Null));
    assert_eq!(play.events, ["Suspended", "Resumed", "Suspended"]);
}

#[test]
fn a_deadline_ends_it() {
    let mut play = Play::new(json!({"completions": 1, "activeDeadlineSeconds": 60}));
    play.settle();
    play.job["status"]["startTime"] = json!("2026-01-31T23:58:00Z");
    play.settle();
    assert!(play.is("Failed") && play.pods.is_empty());
    assert_eq!(play.events, ["DeadlineExceeded"]);
}

#[test]
fn fewer_in_parallel_are_no_failures() {
    let mut play = Play::new(json!({"completions": 5, "parallelism": 3}));
    play.settle();
    play.job["spec"]["parallelism"] = json!(1);
    play.settle();
    assert_eq!((play.pods.len(), play.status("failed")), (1, Value::Null));
}

#[test]
fn a_job_that_goes_lets_its_pods_go() {
    let mut play = Play::new(json!({"completions": 1}));
    play.settle();
    let pod = play.pods[0].clone();
    let plan = Scene::new(vec![pod]).plan(&CONTROLLER, "ns/j");
    assert!(plan.to_string().contains("$deleteFromPrimitiveList/finalizers"), "{plan}");
    play.job["metadata"]["deletionTimestamp"] = json!("2026-02-01T00:00:00Z");
    play.settle();
    assert!(play.pods[0]["metadata"]["finalizers"].as_array().unwrap().is_empty());
}

#[test]
fn a_pod_that_is_not_its_own_any_more_is_let_go() {
    let mut play = Play::new(json!({"completions": 1}));
    play.settle();
    play.pods[0]["metadata"]["labels"] = json!({"job": "other"});
    play.settle();
    assert!(play.pods[0]["metadata"]["finalizers"].as_array().unwrap().is_empty());
    assert_eq!(play.pods.len(), 2, "another takes its place");
    let mut orphan = play.pods[1].clone();
    orphan["metadata"]["ownerReferences"] = json!([]);
    let plan = Scene::new(vec![orphan]).plan(&CONTROLLER, "ns/j");
    assert!(plan.to_string().contains("$deleteFromPrimitiveList/finalizers"), "{plan}");
}
