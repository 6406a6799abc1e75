//! Pulls and pushes: against Debian's docker-registry, and against a registry that misbehaves on demand.

mod fake;
mod faults;
mod real;
mod server;

use std::sync::Arc;
use std::time::Duration;

use crate::testing::TestStore;
use crate::{Options, Reference, Registries, Registry, RegistryError};

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

/// A client with this `registries.yaml` over a store of its own.
fn client(yaml: &str) -> (TestStore, Registry) {
    let store = TestStore::new();
    let registries: Registries = serde_saphyr::from_str(yaml).unwrap();
    registries.check().unwrap();
    let registry = Registry::new(store.clone(), registries);
    (store, registry)
}

async fn pull_error(registry: &Registry, name: &str, options: &Options) -> (String, RegistryError) {
    let error = registry.pull(&reference(name), options).await.unwrap_err();
    (base::Chain(&error).to_string(), error)
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let (_store, registry) = client("{}");
    // Bound and not listening: nobody else gets the port, and connections are refused.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let name = format!("{}/a:1", socket.local_addr().unwrap());
    let options = Options::default();
    let pull = pull_error(&registry, &name, &options);
    let (text, error) = tokio::time::timeout(Duration::from_secs(20), pull).await.unwrap();
    let start = format!(
        "failed to pull and unpack image {name:?}: failed to resolve reference {name:?}: failed to do request: HEAD \
         \"http://{}/v2/a/manifests/1\"",
        socket.local_addr().unwrap()
    );
    assert!(text.starts_with(&start) && text.contains("onnection refused"), "{text}");
    assert!(!error.is_not_found());
}

/// Collects progress.
fn listener() -> (Options, Arc<parking_lot::Mutex<Vec<crate::Progress>>>) {
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let to = heard.clone();
    let options = Options { on_progress: Some(Arc::new(move |p| to.lock().push(p))), ..Options::default() };
    (options, heard)
}
