//! The same object in JSON, YAML and protobuf, as a table and as metadata; alone, in lists and in watches.

use serde_json::json;

use crate::bad_input::send;
use crate::world::{World, map_of};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TYPE: &str = "io.k8s.api.core.v1.ConfigMap";

#[tokio::test]
async fn objects_lists_watches_and_failures() {
    let world = World::new().await;
    let made = world.create(map_of("a", "1")).await.unwrap();
    let ask = async |path: &str, accept: &str| {
        send(&world, false, &format!("GET {path}"), &format!("Accept: {accept}\r\n"), b"").await
    };
    let protobuf = "application/vnd.kubernetes.protobuf";
    let one = ask(&format!("{MAPS}/a"), protobuf).await;
    assert!(one.head.contains("content-type: application/vnd.kubernetes.protobuf"), "{}", one.head);
    let opened = schema::protobuf::open(&one.body).unwrap();
    let mut value = schema::protobuf::decode(schema::table(), TYPE, opened.raw).unwrap();
    (value["kind"], value["apiVersion"]) = (opened.kind.into(), opened.api_version.into());
    assert_eq!(value, made);

    let list = ask(MAPS, "application/vnd.kubernetes.protobuf,application/json").await;
    let opened = schema::protobuf::open(&list.body).unwrap();
    assert_eq!(opened.kind, "ConfigMapList");

    let gone = ask(&format!("{MAPS}/b"), protobuf).await;
    assert_eq!((gone.code, schema::protobuf::open(&gone.body).unwrap().kind.as_str()), (404, "Status"));

    let watch = ask(&format!("{MAPS}?watch=1&timeoutSeconds=1"), protobuf).await;
    assert!(watch.head.contains("protobuf;stream=watch"), "{}", watch.head);
    let event = watch.body.windows(7).any(|w| w == b"\x0a\x05ADDED");
    assert!(event, "{:?}", watch.body);

    let yaml = ask(&format!("{MAPS}/a"), "application/yaml").await;
    let text = String::from_utf8(yaml.body).unwrap();
    assert!(yaml.head.contains("application/yaml") && text.contains("kind: ConfigMap"), "{text}");

    let old = ask(MAPS, "application/json;as=Table;v=v1beta1;g=meta.k8s.io").await.json();
    assert_eq!((&old["apiVersion"], &old["kind"]), (&json!("meta.k8s.io/v1beta1"), &json!("Table")));
    assert_eq!(old["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = ask(MAPS, partial).await;
    assert_eq!(schema::protobuf::open(&partial.body).unwrap().kind, "PartialObjectMetadataList");
    world.stop().await;
}
