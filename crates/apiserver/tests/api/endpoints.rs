//! Paths that are no resources, read off upstream's API server v1.36.2: which methods they take, and what is not there.

use serde_json::Value;

use crate::bad_input::send;
use crate::world::World;

#[tokio::test]
async fn paths_answer_as_upstreams_do() {
    let world = World::new().await;
    let (json, text) = ("content-type: application/json", "content-type: text/plain; charset=utf-8");
    let missing = "the server could not find the requested resource";
    let refused = "the server does not allow this method on the requested resource";
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (request, code, media, words) in [
        // Some take GET alone, some do not look at the method.
        ("HEAD /api/v1".to_owned(), 405, json, ""),
        ("HEAD /version".into(), 405, json, ""),
        ("POST /apis/apps/v1".into(), 405, json, refused),
        ("HEAD /apis".into(), 200, json, ""),
        ("POST /apis".into(), 200, json, "\"kind\":\"APIGroupList\""),
        ("PUT /apis/apps".into(), 200, json, "\"kind\":\"APIGroup\""),
        ("DELETE /openapi/v3".into(), 200, text, "serverRelativeURL"),
        // What is not there.
        ("GET /version/x".into(), 404, json, missing),
        ("POST /api/v2".into(), 404, json, missing),
        ("GET /openapi/v2/".into(), 404, text, "404 page not found\n"),
        ("GET /openapi/v3/api/".into(), 404, "content-length: 0", ""),
        (format!("GET {reviews}/x"), 404, json, missing),
        (format!("DELETE {reviews}/x"), 404, json, missing),
        (format!("GET {reviews}"), 405, json, refused),
        // What is no path, and no namespace.
        ("GET /api/v1/namespaces/%zz/pods".into(), 400, text, "400 Bad Request"),
        ("GET /%".into(), 400, text, "400 Bad Request"),
        ("GET /api/v1/namespaces/../pods".into(), 500, json, "invalid key: \\\"/pods/..\\\""),
        (
            "DELETE /apis/apps/v1/namespaces/%2e%2e/deployments".into(),
            500,
            json,
            "invalid key: \\\"/deployments/..\\\"",
        ),
        ("GET /api/v1/namespaces/../pods/a".into(), 404, json, missing),
        ("GET /flagz".into(), 200, text, "\nservice-cidr:10.43.0.0/16\n"),
        ("GET /debug/flags".into(), 200, "text/html", "full flags configurable"),
        ("GET /statusz".into(), 200, text, "\napiserver statusz\nWarning: "),
    ] {
        let reply = send(&world, false, &request, "", b"").await;
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.code, code, "{request}: {body}");
        assert!(reply.head.contains(media), "{request}: {}", reply.head);
        assert!(body.contains(words), "{request}: {body}");
    }
    let accept = "Accept: application/json;v=v1alpha1;g=config.k8s.io;as=Statusz\r\n";
    let status: Value = send(&world, false, "GET /statusz", accept, b"").await.json();
    assert_eq!((&status["kind"], &status["emulationVersion"]), (&"Statusz".into(), &"1.36".into()));
    assert_eq!(send(&world, false, "GET /statusz", "Accept: application/json\r\n", b"").await.code, 406);
    let accept = "Accept: application/yaml;v=v1beta1;g=config.k8s.io;as=Flagz\r\n";
    let flags = send(&world, false, "GET /flagz", accept, b"").await;
    let words = "apiVersion: config.k8s.io/v1beta1\nflags:\n  service-cidr: 10.43.0.0/16\nkind: Flagz\n";
    assert!(String::from_utf8_lossy(&flags.body).starts_with(words), "{}", String::from_utf8_lossy(&flags.body));

    // How much is logged; who is nobody may neither see nor set that.
    for (request, body, code, words) in [
        ("PUT /debug/flags/v", "4", 200, "successfully set klog.logging.verbosity to 4\n"),
        ("PUT /debug/flags/v", "x", 400, "strconv.ParseUint: parsing \"x\": invalid syntax\n"),
        ("PUT /debug/flags/v", "99999999999", 400, "strconv.ParseUint: parsing \"99999999999\": value out of range\n"),
        ("GET /debug/flags/v", "", 406, "unsupported http method\n"),
    ] {
        let reply = send(&world, false, request, "", body.as_bytes()).await;
        assert_eq!((reply.code, String::from_utf8_lossy(&reply.body).as_ref()), (code, words), "{request} {body}");
        assert_eq!(send(&world, true, request, "", body.as_bytes()).await.code, 403, "{request}");
    }
    assert_eq!(send(&world, true, "GET /statusz", "", b"").await.code, 403);

    // What clients take, as upstream reads it: a first look without weights, then the best.
    for (path, accept, code, media) in [
        ("/version", "application/*", 406, "application/json"),
        ("/api/v1/namespaces", "application/*", 406, "application/json"),
        ("/api/v1/namespaces", "application/json;q=0.1,application/yaml", 200, "application/yaml"),
        ("/api/v1/namespaces", "application/json;as=Table;g=meta.k8s.io", 406, "application/json"),
        ("/api/v1/namespaces?watch=1", "application/yaml", 406, "application/yaml"),
        ("/apis", "application/json;stream=watch", 200, "application/json"),
    ] {
        let accept = format!("Accept: {accept}\r\n");
        let reply = send(&world, false, &format!("GET {path}"), &accept, b"").await;
        assert_eq!(reply.code, code, "{path} {accept}");
        assert!(reply.head.contains(&format!("content-type: {media}\r\n")), "{path} {accept}: {}", reply.head);
    }

    // Discovery and OpenAPI in other encodings than JSON.
    let aggregated = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for (path, media, begins) in [
        (
            "/apis",
            format!("application/vnd.kubernetes.protobuf;{aggregated}"),
            &b"k8s\0\n/\n\x16apidiscovery.k8s.io/v2\x12\x15APIGroupDiscoveryList"[..],
        ),
        ("/api", format!("application/yaml;{aggregated}"), b""),
        (
            "/openapi/v3/apis/apps/v1",
            "application/com.github.proto-openapi.spec.v3.v1.0+protobuf".into(),
            b"\n\x053.0.0\x12\x12\n\nKubernetes",
        ),
    ] {
        let reply =
            send(&world, false, &format!("GET {path}"), &format!("Accept: {media},application/json\r\n"), b"").await;
        let media = format!("content-type: {}\r\n", media.to_lowercase());
        assert!(reply.code == 200 && reply.head.contains(&media), "{}", reply.head);
        assert!(reply.body.starts_with(begins), "{path}");
    }
    world.stop().await;
}
