use super::*;

fn check(spec: Value, wanted: &[&str]) {
    let mut spec = spec;
    default(&mut spec);
    let mut errors = Vec::new();
    super::validate(&Spot::new(&spec, "spec"), &Value::Null, &mut errors);
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted, "{spec}");
}

#[test]
fn defaults_of_a_small_pod() {
    let mut spec = json!({"containers": [{"name": "a", "image": "nginx:1.22", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"memory": "128Mi"}}, "livenessProbe": {"httpGet": {"port": 80}}}],
        "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "x"}}]});
    default_pod(&mut spec);
    let again = spec.clone();
    default_pod(&mut spec);
    assert_eq!(spec, again, "defaulting twice changes nothing");
    assert_eq!(
        spec,
        json!({
        "containers": [{"name": "a", "image": "nginx:1.22", "imagePullPolicy": "IfNotPresent",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"memory": "128Mi"}, "requests": {"memory": "128Mi"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3}}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "x", "defaultMode": 420}}],
        "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler", "securityContext": {}, "enableServiceLinks": true})
    );
}

#[test]
fn an_untagged_image_is_always_pulled() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("reg:5000/nginx", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("nginx@sha256:0", "IfNotPresent"),
    ] {
        let mut spec = json!({"containers": [{"name": "a", "image": image}]});
        default(&mut spec);
        assert_eq!(spec["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn errors_in_upstreams_words() {
    check(json!({"containers": []}), &["spec.containers: Required value"]);
    check(
        json!({"containers": [{"name": "A_b", "image": "x"}]}),
        &[&format!("spec.containers[0].name: Invalid value: \"A_b\": {}", names::label("A_b").join(""))],
    );
    check(
        json!({"containers": [{"name": "a"}, {"name": "a", "image": "x"}]}),
        &["spec.containers[0].image: Required value", "spec.containers[1].name: Duplicate value: \"a\""],
    );
    check(
        json!({"containers": [{"name": "a", "image": "x", "env": [{"name": "P", "value": "v",
        "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}),
        &["spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"],
    );
    check(
        json!({"containers": [{"name": "a", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
        &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
    );
    check(
        json!({"containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 70000}]}]}),
        &["spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive"],
    );
    check(
        json!({"containers": [{"name": "a", "image": "x", "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}]}),
        &["spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
    );
    check(
        json!({"containers": [{"name": "a", "image": "x"}], "restartPolicy": "Sometimes"}),
        &[
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ],
    );
    check(
        json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "h", "hostPath": {"path": "/x", "type": "Sock"}}]}),
        &[
            "spec.volumes[0].hostPath.type: Unsupported value: \"Sock\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ],
    );
}

#[test]
fn a_template_has_not_what_only_a_pod_has() {
    let mut spec = json!({"hostNetwork": true, "containers": [{"name": "a", "image": "i:1", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "1"}}}]});
    default(&mut spec);
    assert!(spec.get("enableServiceLinks").is_none(), "{spec}");
    assert!(spec["containers"][0]["ports"][0].get("hostPort").is_none());
    assert!(spec["containers"][0]["resources"].get("requests").is_none());
    default_pod(&mut spec);
    assert_eq!(spec["containers"][0]["ports"][0]["hostPort"], 80);
    assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"], "1");
}

#[test]
fn placement() {
    let container = json!([{"name": "a", "image": "x"}]);
    check(
        json!({"containers": container, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 200, "podAffinityTerm": {}}]}}}),
        &[
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 200: must be in the range 1-100",
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Required value: can not be empty",
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Invalid value: \"\": name part must be non-empty",
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ],
    );
    check(
        json!({"containers": container, "topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone"}]}),
        &[
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ],
    );
    check(
        json!({"containers": container, "tolerations": [{"operator": "Exists", "key": "a", "value": "b"}]}),
        &["spec.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'"],
    );
}

#[test]
fn security() {
    check(
        json!({"securityContext": {"runAsUser": -1}, "containers": [{"name": "a", "image": "x", "securityContext":
            {"privileged": true, "allowPrivilegeEscalation": false}}]}),
        &[
            "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ],
    );
}

#[test]
fn resources_and_names_of_resources() {
    check(
        json!({"containers": [{"name": "a", "image": "x", "resources": {"requests": {"gpu": "1", "e.com/gpu": "2"}, "limits": {"e.com/gpu": "1"}}}]}),
        &[
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be equal to e.com/gpu limit of 1",
            "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
        ],
    );
}

#[test]
fn own_name_servers() {
    check(
        json!({"dnsPolicy": "None", "containers": [{"name": "a", "image": "x"}]}),
        &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
    );
}
