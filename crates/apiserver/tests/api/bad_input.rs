//! What upstream answers to bad requests, read off its API server v1.36.2: code, reason, message.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, default_account, map_of};

/// A reply: code, head in lower case, body.
pub struct Reply {
    pub code: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// One request on a connection of its own; as the superuser unless `nobody` asks. `head` has further header lines.
pub async fn send(world: &World, nobody: bool, request: &str, head: &str, body: &[u8]) -> Reply {
    let pair = world.pki.client("admin", "kubernetes-admin", "system:masters").unwrap();
    let pair = Some(&pair).filter(|_| !nobody);
    let mut config = pki::client_config(world.pki.server_ca.certificate_pem(), pair).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(world.server.address()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    let length = body.len();
    let head = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that has seen enough does not read the rest.
    let _ = stream.write_all(body).await;
    let _ = stream.flush().await;
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { code, head, body: all[end + 4..].to_vec() }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const JSON: &str = "Content-Type: application/json\r\n";
const YAML: &str = "Content-Type: application/yaml\r\n";
const MERGE: &str = "Content-Type: application/merge-patch+json\r\n";
const STEPS: &str = "Content-Type: application/json-patch+json\r\n";
const STRATEGIC: &str = "Content-Type: application/strategic-merge-patch+json\r\n";
const APPLY: &str = "Content-Type: application/apply-patch+yaml\r\n";

/// (request, head, body, code, reason, message or its beginning where it ends with `…`)
type Case<'a> = (&'a str, &'a str, &'a str, u16, &'a str, &'a str);

async fn check(world: &World, cases: &[Case<'_>]) {
    for (request, head, body, code, reason, message) in cases {
        let reply = send(world, false, request, head, body.as_bytes()).await;
        let status = reply.json();
        let found = status["message"].as_str().unwrap_or("");
        let fits = match message.strip_suffix('…') {
            Some(beginning) => found.starts_with(beginning),
            None => found == *message,
        };
        assert!(
            reply.code == *code && status["reason"].as_str().unwrap_or("") == *reason && fits,
            "{request} {body}: {} {}",
            reply.code,
            String::from_utf8_lossy(&reply.body)
        );
    }
}

#[tokio::test]
async fn bodies() {
    let world = World::new().await;
    let post = &format!("POST {MAPS}");
    let strict = &format!("POST {MAPS}?fieldValidation=Strict");
    let bad = "BadRequest";
    check(&world, &[
        (post, JSON, "{", 400, bad, "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input ({)"),
        (post, JSON, "", 400, bad, "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"),
        (post, JSON, "[]", 400, bad, "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)"),
        (post, JSON, "{\"metadata\":{\"name\":\"x\"}} y", 400, bad, "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: invalid character 'y' after top-level value ({\"metadata\":{\"name\":\"x\"}} y)"),
        (post, JSON, "null", 422, "Invalid", "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"),
        (post, JSON, r#"{"kind":"Secret","apiVersion":"v1"}"#, 400, bad, "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"),
        (post, JSON, r#"{"kind":"Nope","apiVersion":"v1"}"#, 400, bad, "Nope in version \"v1\" cannot be handled as a ConfigMap: no kind \"Nope\" is registered for version \"v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""),
        (post, JSON, r#"{"data":{"a":1}}"#, 400, bad, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        (post, YAML, "a: b: c", 400, bad, "the object provided is unrecognized (must be of type ConfigMap): yaml: mapping values are not allowed in this context (613a20623a2063)"),
        (strict, JSON, r#"{"metadata":{"name":"x","nope":1},"foo":1,"data":{"a":"1","a":"2"}}"#, 400, bad, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"metadata.nope\", unknown field \"foo\", duplicate field \"data.a\""),
        (post, "Content-Type: text/plain\r\n", "x", 415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"),
        (post, JSON, r#"{"metadata":{"name":"x","namespace":"other"}}"#, 400, bad, "the namespace of the provided object does not match the namespace sent on the request"),
        (post, JSON, r#"{"metadata":{"name":"x","resourceVersion":"5"}}"#, 500, "", "resourceVersion should not be set on objects to be created"),
        (post, JSON, r#"{"metadata":{"name":"A_b"}}"#, 422, "Invalid", "ConfigMap \"A_b\" is invalid: metadata.name: Invalid value: \"A_b\": a lowercase RFC 1123 subdomain must consist…"),
        (post, JSON, r#"{"metadata":{"name":"x","finalizers":["x"]}}"#, 422, "Invalid", "ConfigMap \"x\" is invalid: metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified"),
    ])
    .await;
    let deep = format!("{{\"data\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(send(&world, false, post, JSON, deep.as_bytes()).await.code, 400);
    let big = json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat((1 << 20) + 1)}}).to_string();
    let reply = send(&world, false, post, JSON, big.as_bytes()).await;
    assert_eq!(
        reply.json()["message"],
        "ConfigMap \"big\" is invalid: []: Too long: may not be more than 1048576 bytes"
    );
    let garbled = send(&world, false, post, JSON, b"{\"metadata\":{\"name\":\"g\"},\"data\":{\"a\":\"\xff\"}}").await;
    assert_eq!((garbled.code, &garbled.json()["data"]["a"]), (201, &json!("\u{fffd}")));
    let warned = send(&world, false, post, JSON, br#"{"metadata":{"name":"w"},"foo":1}"#).await;
    assert!(
        warned.code == 201 && warned.head.contains("warning: 299 - \"unknown field \\\"foo\\\"\""),
        "{}",
        warned.head
    );
    world.stop().await;
}

#[tokio::test]
async fn changes() {
    let world = World::new().await;
    default_account(&world).await;
    world.create(map_of("c", "1")).await.unwrap();
    let put = &format!("PUT {MAPS}/c");
    let patch = &format!("PATCH {MAPS}/c");
    let apply = &format!("PATCH {MAPS}/c?fieldManager=m");
    let delete = &format!("DELETE {MAPS}/c");
    let bad = "BadRequest";
    let step_error = "the server rejected our request due to an error in our request";
    check(&world, &[
        (put, JSON, r#"{"metadata":{"name":"c","resourceVersion":"1"}}"#, 409, "Conflict", "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your changes to the latest version and try again"),
        (put, JSON, r#"{"metadata":{"name":"other"}}"#, 400, bad, "the name of the object (other) does not match the name on the URL (c)"),
        (put, JSON, r#"{"metadata":{}}"#, 400, bad, "the name of the object (c based on URL) was undeterminable: name must be provided"),
        (put, JSON, r#"{"metadata":{"name":"c","namespace":"kube-system"}}"#, 400, bad, "the namespace of the provided object does not match the namespace sent on the request"),
        (put, JSON, r#"{"metadata":{"name":"c","uid":"u"}}"#, 409, "Conflict", "Operation cannot be fulfilled on configmaps \"c\": StorageError: invalid object, Code: 4, Key: /registry/configmaps/default/c, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: u, UID in object meta: …"),
        (patch, JSON, "{}", 415, "UnsupportedMediaType", "415: Unsupported Media Type"),
        (patch, MERGE, "{", 400, bad, "error decoding patch: unexpected end of JSON input"),
        (patch, MERGE, "[]", 400, bad, "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (patch, MERGE, r#"{"data":{"a":1}}"#, 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"{\\\"…"),
        (patch, STRATEGIC, r#"{"data":{"a":1,"b":null}}"#, 422, "Invalid", " \"\" is invalid: patch: Invalid value: \"map[data:map[a:1 b:<nil>]]\": cannot convert int64 to string"),
        (patch, STRATEGIC, r#"{"kind":"Secret","apiVersion":"v7"}"#, 200, "", ""),
        (patch, MERGE, r#"{"metadata":null}"#, 400, bad, "the name of the object (c based on URL) was undeterminable: name must be provided"),
        (patch, MERGE, r#"{"apiVersion":null}"#, 400, bad, "the name of the object (c based on URL) was undeterminable: name must be provided"),
        (patch, MERGE, r#"{"metadata":{"name":"z"}}"#, 400, bad, "the name of the object (z) does not match the name on the URL (c)"),
        (patch, MERGE, r#"{"metadata":{"uid":"z"}}"#, 422, "Invalid", "ConfigMap \"c\" is invalid: metadata.uid: Invalid value: \"z\": field is immutable"),
        (patch, STEPS, "{}", 400, bad, "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (patch, STEPS, r#"[{"op":"remove","path":"/nope"}]"#, 422, "Invalid", step_error),
        (patch, STEPS, r#"[{"op":"frob","path":"/data"}]"#, 422, "Invalid", step_error),
        (patch, APPLY, r#"{"apiVersion":"v1","kind":"ConfigMap"}"#, 422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"),
        (apply, APPLY, r#"{"kind":"ConfigMap"}"#, 400, bad, "invalid object type: /, Kind=ConfigMap"),
        (apply, APPLY, r#"{"apiVersion":"v1","kind":"Secret"}"#, 400, bad, "invalid object type: /v1, Kind=Secret"),
        (apply, APPLY, r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"a":1}}"#, 500, "", "failed to create typed patch object (/; /v1, Kind=ConfigMap): .data.a: expected string, got &value.valueUnstructured{Value:1}"),
        (apply, APPLY, r#"{"apiVersion":"v1","kind":"ConfigMap","immutable":1.5}"#, 500, "", "failed to create typed patch object (/; /v1, Kind=ConfigMap): .immutable: expected boolean, got &{1.5}"),
        (&format!("PATCH {MAPS}/new?fieldManager=m"), APPLY, r#"{"apiVersion":"v1","kind":"ConfigMap"}"#, 400, bad, "the name of the object (new based on URL) was undeterminable: name must be provided"),
        (apply, APPLY, "apiVersion: v1\nkind: ConfigMap\nfoo: 1", 500, "", "failed to create typed patch object (/; /v1, Kind=ConfigMap): .foo: field not declared in schema"),
        (&format!("{apply}&fieldValidation=Strict"), APPLY, "apiVersion: v1\nkind: ConfigMap\nkind: ConfigMap", 400, bad, "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 3: key \"kind\" already set in map"),
        (&format!("{patch}?force=true"), MERGE, "{}", 422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"),
        (&format!("{patch}?fieldManager=a%01b"), MERGE, "{}", 422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\x01b\": invalid character U+0001 (at position 1)"),
        (&format!("{patch}?fieldValidation=No"), MERGE, "{}", 422, "Invalid", "PatchOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"No\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""),
        (&format!("{put}?dryRun=No"), JSON, "{}", 422, "Invalid", "UpdateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"No\"]: supported values: \"All\""),
        (delete, JSON, r#"{"propagationPolicy":"No"}"#, 422, "Invalid", "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"No\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""),
        (delete, JSON, r#"{"preconditions":{"resourceVersion":"1"}}"#, 409, "Conflict", "Operation cannot be fulfilled on ConfigMap \"c\": the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (…"),
        (&format!("{delete}?gracePeriodSeconds=x"), "", "", 400, bad, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        ("DELETE /api/v1/namespaces/default", "", "", 403, "Forbidden", "namespaces \"default\" is forbidden: this namespace may not be deleted"),
        (&format!("POST {PODS}"), JSON, r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","image":"x","env":[{"name":"A","value":"b","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]}]}}"#, 422, "Invalid", "Pod \"p\" is invalid: spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty"),
    ])
    .await;
    world.stop().await;
}

#[tokio::test]
async fn paths_and_queries() {
    let world = World::new().await;
    let none = "the server could not find the requested resource";
    let refused = "the server does not allow this method on the requested resource";
    let (missing, no_method, bad) = ("NotFound", "MethodNotAllowed", "BadRequest");
    let get = |rest: &str| format!("GET {MAPS}{rest}");
    check(&world, &[
        ("GET /api/v1/nope", "", "", 404, missing, none),
        ("GET /apis/apps/v9/deployments", "", "", 404, missing, none),
        ("GET /apis/apps/v1beta1/deployments", "", "", 404, missing, "the server could not find the requested resource: apps/v1beta1 Deployment is no longer served, use apps/v1"),
        ("GET /apis/extensions/v1beta1/ingresses", "", "", 404, missing, "the server could not find the requested resource: extensions/v1beta1 Ingress is no longer served, use networking.k8s.io/v1"),
        ("GET /api/v1/namespaces/default/nodes", "", "", 404, missing, none),
        (&format!("GET {PODS}/x/nope"), "", "", 404, missing, none),
        ("GET /api/v1//pods", "", "", 404, missing, none),
        (&format!("GET {PODS}/x"), "", "", 404, missing, "pods \"x\" not found"),
        ("DELETE /api/v1/namespaces", "", "", 405, no_method, refused),
        (&format!("PUT {MAPS}"), "", "", 405, no_method, refused),
        (&format!("POST {MAPS}/x"), "", "", 405, no_method, refused),
        ("POST /api/v1/pods", JSON, "{}", 405, no_method, refused),
        (&get(""), "Accept: text/html\r\n", "", 406, "NotAcceptable", "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf…"),
        (&get("?limit=x"), "", "", 400, bad, "strconv.ParseInt: parsing \"x\": invalid syntax"),
        (&get("?continue=zz"), "", "", 400, bad, "invalid continue token: continue key is not valid…"),
        (&get("?labelSelector=a===b"), "", "", 400, bad, "unable to parse requirement: found '=', expected: identifier"),
        (&get("?fieldSelector=foo=bar"), "", "", 400, bad, "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
        (&format!("GET {PODS}?fieldSelector=foo=bar"), "", "", 400, bad, "field label not supported: foo"),
        (&get("?resourceVersion=x"), "", "", 400, bad, "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax"),
        (&get("?resourceVersion=999999"), "", "", 504, "Timeout", "Timeout: Too large resource version: 999999, current: …"),
        (&get("?resourceVersionMatch=Exact"), "", "", 422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"),
        (&get("?sendInitialEvents=true"), "", "", 422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
        (&get("?watch=1&sendInitialEvents=true"), "", "", 422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
    ])
    .await;
    for path in ["/nope", "/apis/nope/v1/pods", "//api/v1/pods"] {
        let reply = send(&world, false, &format!("GET {path}"), "", b"").await;
        assert_eq!((reply.code, reply.body.as_slice()), (404, &b"404 page not found\n"[..]), "{path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn who_asks() {
    let world = World::new().await;
    let of = |reply: &Reply| reply.json()["message"].as_str().unwrap_or("").to_owned();
    let nobody = send(&world, true, "GET /api/v1/pods", "", b"").await;
    let text = "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope";
    assert_eq!((nobody.code, of(&nobody)), (403, text.into()));
    let forged = send(&world, true, "GET /api/v1/pods", "Authorization: Bearer x\r\n", b"").await;
    assert_eq!((forged.code, of(&forged)), (401, "Unauthorized".into()));
    let bob = "Impersonate-User: bob\r\nImpersonate-Group: devs\r\n";
    let refused = send(&world, false, "GET /api/v1/pods", bob, b"").await;
    assert_eq!((refused.code, of(&refused)), (403, text.replace("system:anonymous", "bob")));
    let review = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
    let head = format!("{JSON}{bob}Impersonate-Uid: 5\r\nImpersonate-Extra-Scope%2Fa: b\r\n");
    let me = send(&world, false, review, &head, b"{}").await.json();
    let wanted =
        json!({"username": "bob", "uid": "5", "groups": ["devs", "system:authenticated"], "extra": {"scope/a": ["b"]}});
    assert_eq!(me["status"]["userInfo"], wanted);
    let account = format!("{JSON}Impersonate-User: system:serviceaccount:a:b\r\n");
    let groups = send(&world, false, review, &account, b"{}").await.json()["status"]["userInfo"]["groups"].clone();
    assert_eq!(groups, json!(["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]));
    let nameless = send(&world, false, "GET /api/v1/pods", "Impersonate-Group: g\r\n", b"").await;
    assert_eq!(nameless.code, 400);
    let head = send(&world, false, "HEAD /api/v1/pods", "", b"").await;
    assert_eq!(head.code, 405, "as upstream");
    assert_eq!(send(&world, false, "GET /api/v1/pods?timeout=5", "", b"").await.code, 400);
    assert_eq!(send(&world, false, "GET /api/v1/pods?timeout=1ns", "", b"").await.code, 504);
    // Nobody may be somebody else.
    let anonymous = send(&world, true, "GET /api/v1/pods", "Impersonate-User: admin\r\n", b"").await;
    assert_eq!(of(&anonymous), text.replace("cannot list", "cannot impersonate-on:user-info:list"));
    world.stop().await;
}
