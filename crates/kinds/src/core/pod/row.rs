//! The row of `kubectl get pods`: READY, STATUS and RESTARTS as upstream's printer decides them.

use serde_json::Value;

use crate::age;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// `ExitCode:3` or `Signal:9` when a termination has no reason.
fn termination(terminated: &Value) -> String {
    match text(terminated, "reason") {
        "" => match terminated["signal"].as_i64().filter(|s| *s != 0) {
            Some(signal) => format!("Signal:{signal}"),
            None => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        },
        reason => reason.into(),
    }
}

#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<String>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status["restartCount"].as_i64().unwrap_or(0);
        let finished = status["lastState"]["terminated"]["finishedAt"].as_str();
        self.last = self.last.take().max(finished.map(Into::into));
    }
    fn print(&self, now: i64) -> String {
        match &self.last {
            Some(last) if self.count > 0 => format!("{} ({} ago)", self.count, age::since(&last.as_str().into(), now)),
            _ => self.count.to_string(),
        }
    }
}

fn is_sidecar(pod: &Value, name: &str) -> bool {
    list(&pod["spec"], "initContainers").iter().any(|c| text(c, "name") == name && text(c, "restartPolicy") == "Always")
}

/// (reason, the pod is still initializing, ready sidecars, restarts)
fn init_state(pod: &Value) -> (Option<String>, usize, Restarts) {
    let statuses = list(&pod["status"], "initContainerStatuses");
    let total = list(&pod["spec"], "initContainers").len();
    let (mut reason, mut ready, mut restarts) = (None, 0, Restarts::default());
    for (index, status) in statuses.iter().enumerate() {
        restarts.add(status);
        let state = &status["state"];
        let sidecar = is_sidecar(pod, text(status, "name"));
        if state["terminated"].is_object() && state["terminated"]["exitCode"] == 0 {
            continue;
        }
        if sidecar && status["started"] == true {
            ready += usize::from(status["ready"] == true);
            continue;
        }
        reason = Some(if state["terminated"].is_object() {
            format!("Init:{}", termination(&state["terminated"]))
        } else {
            match text(&state["waiting"], "reason") {
                "" | "PodInitializing" => format!("Init:{index}/{total}"),
                waiting => format!("Init:{waiting}"),
            }
        });
        break;
    }
    (reason, ready, restarts)
}

pub(super) fn row(pod: &Value, now: i64) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let condition = |kind: &str| list(status, "conditions").iter().find(|c| text(c, "type") == kind);
    let mut reason = match text(status, "reason") {
        "" => text(status, "phase").to_owned(),
        reason => reason.into(),
    };
    if condition("PodScheduled").is_some_and(|c| text(c, "reason") == "SchedulingGated") {
        reason = "SchedulingGated".into();
    }
    let sidecars = list(spec, "initContainers").iter().filter(|c| text(c, "restartPolicy") == "Always").count();
    let total = list(spec, "containers").len() + sidecars;
    let (init, mut ready, mut restarts) = init_state(pod);
    let initialized = condition("Initialized").is_some_and(|c| text(c, "status") == "True");
    match init.filter(|_| !initialized) {
        Some(init) => reason = init,
        None => {
            let (mut running, mut failure) = (false, None);
            // Past initialization only the sidecars among the init containers count.
            restarts = Restarts::default();
            let sidecars = list(status, "initContainerStatuses").iter().filter(|s| is_sidecar(pod, text(s, "name")));
            sidecars.for_each(|s| restarts.add(s));
            for container in list(status, "containerStatuses").iter().rev() {
                restarts.add(container);
                let state = &container["state"];
                if !text(&state["waiting"], "reason").is_empty() {
                    reason = text(&state["waiting"], "reason").into();
                } else if state["terminated"].is_object() {
                    reason = termination(&state["terminated"]);
                    if state["terminated"]["exitCode"] != 0 {
                        failure = Some(reason.clone());
                    }
                } else if container["ready"] == true && state["running"].is_object() {
                    running = true;
                    ready += 1;
                }
            }
            let is_ready = condition("Ready").is_some_and(|c| text(c, "status") == "True");
            if reason == "Completed" {
                reason = match failure {
                    _ if running && is_ready => "Running".into(),
                    Some(failure) => failure,
                    None if running => "NotReady".into(),
                    None => reason,
                };
            }
        }
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let finished = matches!(text(status, "phase"), "Succeeded" | "Failed");
        if text(status, "reason") == "NodeLost" {
            reason = "Unknown".into();
        } else if !finished {
            reason = "Terminating".into();
        }
    }
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    let gates = list(spec, "readinessGates");
    let gates_text = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        let met =
            gates.iter().filter(|g| condition(text(g, "conditionType")).is_some_and(|c| text(c, "status") == "True"));
        format!("{}/{}", met.count(), gates.len())
    };
    vec![
        pod["metadata"]["name"].clone(),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.print(now).into(),
        age::since(&pod["metadata"]["creationTimestamp"], now).into(),
        or_none(status["podIPs"][0]["ip"].as_str().unwrap_or(text(status, "podIP"))),
        or_none(text(spec, "nodeName")),
        or_none(text(status, "nominatedNodeName")),
        gates_text.into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn check(status: Value, wanted: [&str; 3]) {
        let pod = json!({"metadata": {"name": "p"}, "status": status,
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}});
        let row = super::row(&pod, 1_700_000_100);
        assert_eq!([&row[1], &row[2], &row[3]].map(|c| c.as_str().unwrap().to_owned()), wanted.map(str::to_owned));
    }

    #[test]
    fn states() {
        let done = json!([{"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}}]);
        check(json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
        check(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
            ["0/1", "Init:0/1", "0"],
        );
        check(
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            ["0/1", "Init:CrashLoopBackOff", "2"],
        );
        check(
            json!({"phase": "Running", "initContainerStatuses": done, "containerStatuses": [{"name": "a", "ready": true, "restartCount": 0, "state": {"running": {}}}]}),
            ["1/1", "Running", "0"],
        );
        check(
            json!({"phase": "Running", "initContainerStatuses": done, "containerStatuses": [{"name": "a", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"finishedAt": "2023-11-14T22:13:30Z"}}}]}),
            ["0/1", "CrashLoopBackOff", "3 (90s ago)"],
        );
        check(
            json!({"phase": "Succeeded", "initContainerStatuses": done, "containerStatuses": [{"name": "a", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            ["0/1", "Completed", "0"],
        );
        let ended = |name: &str, code: i64, reason: &str| json!({"name": name, "restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}});
        check(
            json!({"phase": "Failed", "initContainerStatuses": done, "containerStatuses": [ended("a", 0, "Completed"), ended("b", 1, "Error")]}),
            ["0/1", "Error", "0"],
        );
    }
}
