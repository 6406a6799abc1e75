//! Encryption at rest, seen from outside: nothing plain on disk, keys that change, a key that is lost.

use std::path::Path;
use std::sync::Arc;

use apiserver::{Encryption, Security};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::Resource;
use object::Gvr;
use serde_json::json;

use crate::world::{World, config_map, map_of};

const PLAIN: &str = "a-text-that-nobody-may-read";

fn secret(name: &str) -> Resource {
    Resource::object(&Gvr::new("", "v1", "secrets"), Some("default"), name)
}

fn configuration(path: &Path, keys: &[(&str, char)]) {
    let provider = |(name, letter): &(&str, char)| {
        let secret = STANDARD.encode(letter.to_string().repeat(32));
        json!({"aesgcm": {"keys": [{"name": name, "secret": secret}]}})
    };
    let mut providers: Vec<_> = keys.iter().map(provider).collect();
    providers.push(json!({"identity": {}}));
    let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": ["secrets"], "providers": providers}]});
    std::fs::write(path, file.to_string()).unwrap();
}

fn on_disk(dir: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(dir.join("state/state.redb")).unwrap()).into_owned()
}

async fn start(dir: &Path, config: &Path) -> World {
    let encryption = Arc::new(Encryption::load(config, true).unwrap());
    World::at(dir, Security::default(), Some(encryption)).await
}

#[tokio::test]
async fn secrets_are_sealed_on_disk_and_keys_can_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("encryption.yaml");
    let plain = World::at(dir.path(), Security::default(), None).await;
    let value =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "old"}, "stringData": {"key": PLAIN}});
    plain.create(value.clone()).await.unwrap();
    plain.create(map_of("open", "anybody-may-read-this")).await.unwrap();
    plain.stop().await;
    assert!(on_disk(dir.path()).contains(&STANDARD.encode(PLAIN)));

    // What is there is read as it is, and sealed when it is written again, though nothing else changes.
    configuration(&config, &[("first", 'a')]);
    let world = start(dir.path(), &config).await;
    let mut new = value;
    new["metadata"]["name"] = "new".into();
    world.create(new).await.unwrap();
    let before = world.get(&secret("old")).await.unwrap();
    assert!(
        !on_disk(dir.path()).contains("k8s:enc:aesgcm:v1:first:") || before["data"]["key"] == STANDARD.encode(PLAIN)
    );
    world.client.update(&secret("old"), &before).await.unwrap();
    let after = world.get(&secret("old")).await.unwrap();
    assert_ne!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"], "it was written");
    world.client.update(&secret("old"), &after).await.unwrap();
    let same = world.get(&secret("old")).await.unwrap();
    assert_eq!(after, same, "what is sealed already is not written again");

    // The file changes under the running server.
    configuration(&config, &[("second", 'b'), ("first", 'a')]);
    let mut last = same;
    loop {
        world.client.update(&secret("old"), &last).await.unwrap();
        let now = world.get(&secret("old")).await.unwrap();
        if now["metadata"]["resourceVersion"] != last["metadata"]["resourceVersion"] {
            break;
        }
        last = now;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let copy = dir.path().join("copy");
    world.store.snapshot(&copy).unwrap();
    world.stop().await;
    // redb does not wipe what it frees: a snapshot has the rows only.
    let saved = String::from_utf8_lossy(&std::fs::read(&copy).unwrap()).into_owned();
    assert!(!saved.contains(&STANDARD.encode(PLAIN)) && !saved.contains(PLAIN));
    assert!(saved.contains("anybody-may-read-this") && saved.contains("k8s:enc:aesgcm:v1:second:"));

    // The first key is lost, and with it what nobody has written since.
    configuration(&config, &[("second", 'b')]);
    let world = start(dir.path(), &config).await;
    assert_eq!(world.get(&secret("old")).await.unwrap()["data"]["key"], STANDARD.encode(PLAIN));
    world.get(&config_map("open")).await.unwrap();
    let why = "no matching key was found for the provided AES transformer";
    let said = |status: object::Status| (status.code, status.message);
    let lost = said(world.get(&secret("new")).await.unwrap_err());
    assert_eq!(lost, (500, format!("Internal error occurred: {why}")));
    assert_eq!(said(world.client.delete(&secret("new"), &Default::default()).await.unwrap_err()).0, 500);
    let again = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "new"}});
    assert_eq!(said(world.create(again).await.unwrap_err()).0, 409);
    let all = Resource::collection(&Gvr::new("", "v1", "secrets"), None);
    let listed = said(world.client.list(&all, &Default::default()).await.unwrap_err());
    let text = format!("Internal error occurred: unable to transform key \"/registry/secrets/default/new\": {why}");
    assert_eq!(listed, (500, text));

    // It is found again.
    configuration(&config, &[("second", 'b'), ("first", 'a')]);
    while world.get(&secret("new")).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(world.client.list(&all, &Default::default()).await.is_ok());
    world.stop().await;
}
