use serde_json::Value;

use super::*;
use crate::testing::FakeServer;

fn about() -> ObjectReference {
    ObjectReference {
        kind: "Pod".into(),
        namespace: "ns".into(),
        name: "p".into(),
        uid: "u".into(),
        ..Default::default()
    }
}

fn written(server: &FakeServer) -> Vec<Value> {
    server.list(&events()).iter().map(|o| o.value().unwrap()).collect()
}

#[tokio::test]
async fn events_are_created_and_counted() {
    let server = FakeServer::new();
    let (recorder, writer) = Recorder::new(server.client("test"), "kubelet", "n1");
    let mut tasks = base::Tasks::new(&CancellationToken::new());
    let token = tasks.token().clone();
    tasks.spawn("events", writer.run(token));
    recorder.normal(about(), "Pulled", "image is there");
    recorder.warning(about(), "Failed", "no");
    recorder.normal(about(), "Pulled", "image is there");
    server.until(|| written(&server).iter().any(|e| e["count"] == 2)).await;
    let events = written(&server);
    assert_eq!(events.len(), 2);
    let pulled = events.iter().find(|e| e["reason"] == "Pulled").unwrap();
    assert_eq!(pulled["type"], "Normal");
    assert_eq!(pulled["source"], json!({"component": "kubelet", "host": "n1"}));
    assert_eq!(pulled["involvedObject"]["name"], "p");
    let name = pulled["metadata"]["name"].as_str().unwrap();
    assert!(u64::from_str_radix(name.strip_prefix("p.").unwrap(), 16).is_ok(), "{name}");
    tasks.shutdown().await;
}

#[test]
fn a_full_queue_drops_the_oldest() {
    let server = FakeServer::new();
    let (recorder, writer) = Recorder::new(server.client("test"), "kubelet", "");
    for i in 0..QUEUE + 5 {
        recorder.normal(about(), "Reason", i.to_string());
    }
    let waiting = writer.queue.waiting.lock();
    assert_eq!((waiting.len(), waiting[0].message.as_str()), (QUEUE, "5"));
}
