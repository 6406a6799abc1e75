//! What goes wrong between here and a registry.

use std::sync::Arc;

use super::fake::{Fake, Faults};
use super::{client, listener, pull_error, reference};
use crate::registry::Stage;
use crate::testing::{TestStore, content};
use crate::{Builder, Compression, Credentials, Image, Layer, Options, Store, media};

/// One incompressible layer of 3 MB.
fn large(store: &Store) -> Image {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    let bytes: Vec<u8> = (0..3_000_000).map(|_| next()).collect();
    let layer = Layer::new().file("/large", 0o644, bytes);
    Builder::new().compression(Compression::None).layer(layer).build(store, "a:1").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_goes_on_where_it_broke() {
    let from = TestStore::new();
    let image = large(&from);
    let layer = &image.layers[0].digest;
    let fake = Fake::start(&from, Faults::default()).await;
    fake.change(|f| f.cut = [(layer.clone(), (1_000_000, 2))].into());
    let (store, registry) = client("{}");
    let (options, heard) = listener();
    registry.pull(&reference(&fake.name("a:1")), &options).await.unwrap();
    let fetches = fake.fetches(layer);
    assert_eq!(fetches.len(), 3);
    assert!(fetches[0].range.is_none() && fetches[1..].iter().all(|s| s.range.is_some()), "{fetches:?}");
    assert!(heard.lock().iter().any(|p| p.stage == Stage::Downloading && p.done > 0 && p.done < p.total));
    assert!(store.get(&fake.name("a:1")).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_pull_goes_on_in_the_next_one() {
    let from = TestStore::new();
    let image = large(&from);
    let layer = &image.layers[0].digest;
    let name;
    let (store, registry) = client("{}");
    {
        let fake = Fake::start(&from, Faults::default()).await;
        name = fake.name("a:1");
        // Attempts that bring nothing more, and the pull gives up.
        fake.change(|f| f.cut = [(layer.clone(), (0, usize::MAX))].into());
        let part = store.root().join("ingest").join(format!("{}.part", layer.hex()));
        std::fs::write(&part, &from.read_blob(layer).unwrap()[..2_000_000]).unwrap();
        let (text, error) = pull_error(&registry, &name, &Options::default()).await;
        assert!(text.contains(&format!("failed to copy {layer}")), "{text}");
        assert!(!error.is_not_found());
        assert_eq!(std::fs::metadata(&part).unwrap().len(), 2_000_000);
        store.prune().unwrap();
        assert!(part.exists(), "collection keeps what can be resumed");
        assert!(store.find(&name).unwrap().is_none());
        fake.change(|f| f.cut.clear());
        registry.pull(&reference(&name), &Options::default()).await.unwrap();
        assert_eq!(fake.fetches(layer).last().unwrap().range.as_deref(), Some("bytes=2000000-"));
        assert!(!part.exists());
    }
    assert!(store.get(&name).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_ignore_ranges_and_rotten_parts() {
    let from = TestStore::new();
    let image = large(&from);
    let layer = &image.layers[0].digest;
    let fake = Fake::start(&from, Faults { ignores_ranges: true, ..Faults::default() }).await;
    let (store, registry) = client("{}");
    let part = |store: &Store| store.root().join("ingest").join(format!("{}.part", layer.hex()));
    let good = from.read_blob(layer).unwrap();
    std::fs::write(part(&store), &good[..1_234_567]).unwrap();
    registry.pull(&reference(&fake.name("a:1")), &Options::default()).await.unwrap();
    assert_eq!(fake.fetches(layer).len(), 1);

    fake.change(|f| f.ignores_ranges = false);
    for rotten in [vec![0; 1_000], vec![0; good.len()], vec![0; good.len() + 1]] {
        let (store, registry) = client("{}");
        std::fs::write(part(&store), rotten).unwrap();
        registry.pull(&reference(&fake.name("a:1")), &Options::default()).await.unwrap();
        assert_eq!(store.read_blob(layer).unwrap().len(), good.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_its_digest_says_is_refused() {
    let from = TestStore::new();
    let image = large(&from);
    let layer = &image.layers[0].digest;
    let good = from.read_blob(layer).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let fake = Fake::start(&from, Faults::default()).await;
    let (store, registry) = client("{}");
    for (wrong, words) in [
        (flipped, "content has digest sha256:"),
        ([good.clone(), vec![0]].concat(), "expected"),
        (good[..good.len() - 1].to_vec(), "the body ended after"),
    ] {
        fake.change(|f| f.content = [(layer.clone(), wrong)].into());
        let (text, _) = pull_error(&registry, &fake.name("a:1"), &Options::default()).await;
        assert!(text.contains(words), "{text}");
        assert!(!store.has_blob(layer) && store.list().unwrap().is_empty());
    }
    fake.change(|f| f.content = [(image.id.clone(), b"{}".to_vec())].into());
    let (store, registry) = client("{}");
    let (text, _) = pull_error(&registry, &fake.name("a:1"), &Options::default()).await;
    assert!(text.contains("content has 2 bytes"), "{text}");
    store.prune().unwrap();
    assert_eq!(content(&store), (0, 0));
    fake.change(|f| f.content.clear());
    registry.pull(&reference(&fake.name("a:1")), &Options::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_at_once_share_their_downloads() {
    let from = TestStore::new();
    let image = large(&from);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let fake = Fake::start(&from, Faults { gate: Some(gate.clone()), ..Faults::default() }).await;
    let (store, registry) = client("{}");
    // Another process, too.
    let other = crate::Registry::new(store.reopen(), crate::Registries::default());
    let mut pulls = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (registry, name) =
            (if n % 2 == 0 { registry.clone() } else { other.clone() }, reference(&fake.name("a:1")));
        pulls.spawn(async move { registry.pull(&name, &Options::default()).await.unwrap().id });
    }
    // All have asked what the name means before the first blob is served.
    while fake.seen().iter().filter(|s| s.method == http::Method::HEAD).count() < 8 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1_000);
    while let Some(id) = pulls.join_next().await {
        assert_eq!(id.unwrap(), image.id);
    }
    assert_eq!(fake.fetches(&image.layers[0].digest).len(), 1);
    assert_eq!(content(&store), (3, 1));
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_nobody_waits_for_lets_others_go_on() {
    let from = TestStore::new();
    let image = large(&from);
    let gate = Arc::new(tokio::sync::Semaphore::new(1)); // the configuration passes, the layer waits
    let fake = Fake::start(&from, Faults { gate: Some(gate.clone()), ..Faults::default() }).await;
    let (store, registry) = client("{}");
    let name = reference(&fake.name("a:1"));
    let mut first = tokio::task::JoinSet::new();
    let (own, given) = (registry.clone(), name.clone());
    first.spawn(async move { drop(own.pull(&given, &Options::default()).await) });
    while fake.fetches(&image.layers[0].digest).is_empty() {
        tokio::task::yield_now().await;
    }
    first.shutdown().await;
    gate.add_permits(1_000);
    registry.pull(&name, &Options::default()).await.unwrap();
    assert!(store.get(&name.to_string()).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_redirects() {
    let from = TestStore::new();
    large(&from);
    let fake = Fake::start(&from, Faults { token: Some("good"), ..Faults::default() }).await;
    let blobs = Fake::start(&from, Faults::default()).await;
    fake.change(|f| f.redirect = Some(blobs.address.to_string()));
    let user = |password: &str| {
        let credentials = Credentials { username: "user".into(), password: password.into(), ..Credentials::default() };
        Options { credentials: Some(credentials), ..Options::default() }
    };
    let (_store, registry) = client("{}");
    let (text, _) = pull_error(&registry, &fake.name("a:1"), &user("wrong")).await;
    assert!(
        text.contains("failed to authorize: failed to fetch anonymous or oauth token: unexpected status"),
        "{text}"
    );
    let (text, _) = pull_error(&registry, &fake.name("a:1"), &Options::default()).await;
    assert!(text.contains("failed to authorize"), "{text}");
    registry.pull(&reference(&fake.name("a:1")), &user("password")).await.unwrap();
    assert!(!blobs.seen().is_empty());
    assert!(blobs.seen().iter().all(|s| s.authorization.is_none()), "credentials stay with the host they are for");
    let token = fake.seen().into_iter().rfind(|s| s.path.starts_with("/token")).unwrap();
    assert!(token.path.contains("service=fake") && token.path.contains("scope=repository%3Aa%3Apull"), "{token:?}");
    // A token for the registry itself needs no token service.
    let (_store, registry) = client("{}");
    let credentials = Credentials { registry_token: "good".into(), ..Credentials::default() };
    let before = fake.seen().iter().filter(|s| s.path.starts_with("/token")).count();
    let options = Options { credentials: Some(credentials), ..Options::default() };
    registry.pull(&reference(&fake.name("a:1")), &options).await.unwrap();
    assert_eq!(fake.seen().iter().filter(|s| s.path.starts_with("/token")).count(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_registry_is_asked_again() {
    let from = TestStore::new();
    large(&from);
    let fake = Fake::start(&from, Faults { busy: 2, ..Faults::default() }).await;
    let (_store, registry) = client("{}");
    registry.pull(&reference(&fake.name("a:1")), &Options::default()).await.unwrap();
    fake.change(|f| f.busy = usize::MAX);
    let (_store, registry) = client("{}");
    let (text, _) = pull_error(&registry, &fake.name("a:1"), &Options::default()).await;
    assert!(text.contains("503 Service Unavailable"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_member_for_this_machine_is_pulled() {
    let from = TestStore::new();
    let image = large(&from);
    let fake = Fake::start(&from, Faults::default()).await;
    let put = |media_type: Option<&str>, tag: &str, kind: &str| {
        let host = serde_json::to_value(crate::Platform::host()).unwrap();
        let mut own =
            serde_json::json!({"digest": image.manifest.digest, "size": image.manifest.size, "platform": host});
        if let Some(media_type) = media_type {
            own["mediaType"] = media_type.into();
        }
        let absent = crate::Digest::of(b"of another platform");
        let other = serde_json::json!({"mediaType": media::OCI_MANIFEST, "digest": absent, "size": 3,
            "platform": {"os": "linux", "architecture": "s390x"}});
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": [other, own]}).to_string();
        let target = crate::Descriptor::new(kind, from.put_blob(index.as_bytes()).unwrap(), index.len() as u64);
        from.register(&[format!("docker.io/library/a:{tag}")], &target, &crate::Platform::host()).unwrap();
        target.digest
    };
    for (media_type, tag, kind) in [
        (Some(media::OCI_MANIFEST), "oci", media::OCI_INDEX),
        (Some(media::OCI_MANIFEST), "docker", media::DOCKER_LIST),
        (None, "silent", media::OCI_INDEX),
    ] {
        let digest = put(media_type, tag, kind);
        let (store, registry) = client("{}");
        let name = fake.name(&format!("a:{tag}"));
        assert_eq!(registry.pull(&reference(&name), &Options::default()).await.unwrap().id, image.id);
        assert_eq!(store.get(&name).unwrap().repo_digests, [format!("{}@{digest}", fake.name("a"))]);
        store.prune().unwrap();
        assert_eq!(content(&store), (4, 1), "the index is kept");
    }
    let (_store, registry) = client("{}");
    let options = Options { platform: crate::Platform::parse("linux/riscv64"), ..Options::default() };
    let (text, _) = pull_error(&registry, &fake.name("a:oci"), &options).await;
    assert!(text.contains("no match for platform in manifest: linux/riscv64"), "{text}");
}
