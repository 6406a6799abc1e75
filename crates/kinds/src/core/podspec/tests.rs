use super::*;

fn check(spec: Value, wanted: &[&str]) {
    let mut spec = spec;
    default(&mut spec);
    let mut errors = Vec::new();
    validate(&spec, "spec", &mut errors);
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), wanted, "{spec}");
}

#[test]
fn defaults_of_a_small_pod() {
    let mut spec = json!({"containers": [{"name": "a", "image": "nginx:1.22", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"memory": "128Mi"}}, "livenessProbe": {"httpGet": {"port": 80}}}],
        "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "x"}}]});
    default(&mut spec);
    let again = spec.clone();
    default(&mut spec);
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
        &[&format!("spec.containers[0].name: Invalid value: \"A_b\": {}", names::label("A_b").unwrap())],
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
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ],
    );
    check(
        json!({"containers": [{"name": "a", "image": "x"}], "volumes": [{"name": "h", "hostPath": {"path": "/x", "type": "Sock"}}]}),
        &[
            "spec.volumes[0].hostPath.type: Unsupported value: \"Sock\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ],
    );
}
