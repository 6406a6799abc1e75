use serde_json::json;

use super::*;
use crate::Verb;
use crate::testing::Scene;

struct Play(Vec<Value>);

impl Play {
    fn new(replicas: i64, change: impl FnOnce(&mut Value)) -> Self {
        let mut set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "ns", "uid": "db"},
            "spec": {"replicas": replicas, "serviceName": "svc", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": "a"}]}},
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}});
        change(&mut set);
        Self(vec![set])
    }

    /// One reconciliation, carried out; what it did to pods. Deleted pods are gone at once; new ones are not ready.
    fn step(&mut self) -> String {
        let plan = Scene::new(self.0.clone()).plan(&CONTROLLER, "ns/db");
        let mut said = Vec::new();
        for op in plan.ops() {
            match &op.verb {
                Verb::Create(body) => {
                    let mut body = (**body).clone();
                    if body["kind"] == "Pod" {
                        said.push(format!("+{}", body["metadata"]["name"].as_str().unwrap()));
                        body["metadata"]["uid"] = json!(format!("{}-{}", said.join(""), self.0.len()));
                        body["status"] = json!({"phase": "Pending"});
                    }
                    self.0.push(body);
                }
                Verb::Update(base, change) => {
                    let same = |o: &&mut Value| o["metadata"]["name"] == base.head.name && o["kind"] == base.head.kind;
                    object::patch::merge(self.0.iter_mut().find(same).unwrap(), change);
                }
                Verb::Delete(_) => {
                    let name = op.at.name.clone().unwrap();
                    if op.kind == &PODS {
                        said.push(format!("-{name}"));
                    }
                    self.0.retain(|o| o["metadata"]["name"] != *name);
                }
                Verb::Patch(_) => {}
            }
        }
        said.join(" ")
    }

    fn ready(&mut self) -> &mut Self {
        for pod in self.0.iter_mut().filter(|o| o["kind"] == "Pod") {
            pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        }
        self
    }

    fn settle(&mut self) -> &mut Self {
        for _ in 0..20 {
            self.ready();
            if self.step().is_empty() && Scene::new(self.0.clone()).plan(&CONTROLLER, "ns/db").is_empty() {
                return self;
            }
        }
        panic!("it does not settle");
    }

    fn image(&mut self, image: &str) -> &mut Self {
        self.0[0]["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
        self
    }

    fn of(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|o| o["kind"] == kind).collect()
    }
}

#[test]
fn pods_come_one_by_one_with_their_claims() {
    let mut play = Play::new(2, |_| {});
    assert_eq!(play.step(), "+db-0");
    assert_eq!(play.step(), "", "db-0 is not ready");
    assert_eq!(play.ready().step(), "+db-1");
    play.settle();
    let claims: Vec<_> = play.of("PersistentVolumeClaim").iter().map(|c| c["metadata"]["name"].clone()).collect();
    assert_eq!(claims, ["data-db-0", "data-db-1"]);
    let pod = play.of("Pod")[1].clone();
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("db-1"), &json!("svc")));
    assert_eq!(pod["spec"]["volumes"][0], json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}));
    let labels = &pod["metadata"]["labels"];
    assert_eq!(
        (&labels["statefulset.kubernetes.io/pod-name"], &labels["apps.kubernetes.io/pod-index"]),
        (&json!("db-1"), &json!("1"))
    );
    let status = &play.0[0]["status"];
    assert_eq!(
        (&status["replicas"], &status["currentReplicas"], &status["availableReplicas"]),
        (&json!(2), &json!(2), &json!(2))
    );
    assert_eq!(status["currentRevision"], status["updateRevision"]);
}

#[test]
fn scaling_down_goes_from_the_top_and_keeps_claims() {
    let mut play = Play::new(3, |_| {});
    play.settle();
    play.0[0]["spec"]["replicas"] = json!(1);
    assert_eq!(play.step(), "-db-2");
    assert_eq!(play.step(), "-db-1");
    play.settle();
    assert_eq!((play.of("Pod").len(), play.of("PersistentVolumeClaim").len()), (1, 3));
}

#[test]
fn all_at_once_when_asked_for() {
    let mut play = Play::new(3, |s| s["spec"]["podManagementPolicy"] = json!("Parallel"));
    assert_eq!(play.step(), "+db-0 +db-1 +db-2");
    play.settle();
    play.0[0]["spec"]["replicas"] = json!(0);
    assert_eq!(play.step(), "-db-2 -db-1 -db-0");
}

#[test]
fn a_new_template_goes_down_the_line() {
    let mut play = Play::new(2, |_| {});
    play.settle().image("b");
    assert_eq!(play.step(), "-db-1");
    assert_eq!(play.step(), "+db-1");
    assert_eq!(play.step(), "");
    assert_eq!(play.ready().step(), "-db-0");
    play.settle();
    assert!(play.of("Pod").iter().all(|p| p["spec"]["containers"][0]["image"] == "b"));
    let status = &play.0[0]["status"];
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    play.image("a").settle();
    assert_eq!(play.of("ControllerRevision").len(), 2, "the first revision again");
}

#[test]
fn a_partition_holds_the_lower_ones_back() {
    let mut play = Play::new(3, |s| s["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = json!(2));
    play.settle().image("b").settle();
    let images: Vec<_> = play
        .of("Pod")
        .iter()
        .map(|p| (p["metadata"]["name"].clone(), p["spec"]["containers"][0]["image"].clone()))
        .collect();
    let mut images: Vec<String> =
        images.iter().map(|(n, i)| format!("{}={}", n.as_str().unwrap(), i.as_str().unwrap())).collect();
    images.sort();
    assert_eq!(images, ["db-0=a", "db-1=a", "db-2=b"]);
    // A pod below the partition that is lost comes back as it was.
    play.0.retain(|o| o["metadata"]["name"] != "db-0");
    play.settle();
    assert!(
        play.of("Pod").iter().any(|p| p["metadata"]["name"] == "db-0" && p["spec"]["containers"][0]["image"] == "a")
    );
}

#[test]
fn a_failed_pod_is_replaced() {
    let mut play = Play::new(1, |_| {});
    play.settle();
    for pod in play.0.iter_mut().filter(|o| o["kind"] == "Pod") {
        pod["status"] = json!({"phase": "Failed"});
    }
    assert_eq!(play.step(), "-db-0");
    assert_eq!(play.step(), "+db-0");
}
