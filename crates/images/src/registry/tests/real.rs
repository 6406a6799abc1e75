//! Against docker-registry: plain, with TLS, with basic authentication, as a mirror.

use super::server::{Server, Settings};
use super::{client, listener, pull_error, reference};
use crate::registry::Stage;
use crate::testing::{content, sample};
use crate::{Credentials, Images, Options, RegistryError};
use protos::cri::v1::{
    AuthConfig, ImageSpec, ImageStatusRequest, ListImagesRequest, PullImageRequest, RemoveImageRequest,
};
use protos::cri::{Code, ImageService as _};

fn user(username: &str, password: &str, server: &str) -> Options {
    let credentials = Credentials {
        username: username.into(),
        password: password.into(),
        server: server.into(),
        ..Credentials::default()
    };
    Options { credentials: Some(credentials), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_and_pulled() {
    let server = Server::start(Settings::default()).await;
    let (from, pusher) = client("{}");
    let image = sample(&from, "a:1", "x");
    let name = format!("{}/team/a:1", server.authority());
    let digest = pusher.push("a:1", &reference(&name), &Options::default()).await.unwrap();
    assert_eq!(digest, image.manifest.digest);
    // A second push finds everything there.
    pusher.push("a:1", &reference(&name), &Options::default()).await.unwrap();

    let (store, registry) = client("{}");
    let (options, heard) = listener();
    let pulled = registry.pull(&reference(&name), &options).await.unwrap();
    assert_eq!((&pulled.id, pulled.size), (&image.id, image.size));
    let listed = store.get(&name).unwrap();
    assert_eq!(listed.repo_tags, [name.as_str()]);
    let by_digest = format!("{}/team/a@{digest}", server.authority());
    assert_eq!(listed.repo_digests, [by_digest.as_str()]);
    let unpacked = heard.lock().iter().filter(|p| p.stage == Stage::Unpacked).count();
    assert_eq!(unpacked, 2);
    let rootfs = store.prepare("c", &name).unwrap().rootfs;
    assert_eq!(std::fs::read_to_string(rootfs.join("etc/salt")).unwrap(), "x");

    let (other, registry) = client("{}");
    assert_eq!(registry.pull(&reference(&by_digest), &Options::default()).await.unwrap().id, image.id);
    assert!(other.get(&by_digest).unwrap().repo_tags.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_service() {
    let server = Server::start(Settings::default()).await;
    let (from, pusher) = client("{}");
    let image = sample(&from, "a:1", "x");
    let name = format!("{}/a:1", server.authority());
    pusher.push("a:1", &reference(&name), &Options::default()).await.unwrap();

    let (store, registry) = client("{}");
    let images = Images::new(registry);
    let spec = |name: &str| Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() });
    let status = |name: &str| ImageStatusRequest { image: spec(name), verbose: true };
    assert!(images.image_status(status(&name)).await.unwrap().image.is_none());
    let pull = |name: &str| PullImageRequest { image: spec(name), ..PullImageRequest::default() };
    let reply = images.pull_image(pull(&name)).await.unwrap();
    assert_eq!(reply.image_ref, image.id.as_str());
    let found = images.image_status(status(&name)).await.unwrap();
    assert!(found.info["info"].contains("SALT=x"));
    let found = found.image.unwrap();
    assert_eq!((found.id.as_str(), found.uid.unwrap().value, found.username.as_str()), (image.id.as_str(), 7, ""));
    assert_eq!(images.list_images(ListImagesRequest::default()).await.unwrap().images, [found]);
    let usage = images.image_fs_info(Default::default()).await.unwrap().image_filesystems.remove(0);
    assert!(usage.used_bytes.unwrap().value > 0 && usage.inodes_used.unwrap().value > 8);

    let missing = format!("{}/a:2", server.authority());
    let error = images.pull_image(pull(&missing)).await.unwrap_err();
    let words = format!(
        "failed to pull and unpack image {missing:?}: failed to resolve reference {missing:?}: {missing}: not found"
    );
    assert_eq!((error.code, error.message), (Code::NotFound, words));
    assert_eq!(images.pull_image(pull("Bad Name")).await.unwrap_err().code, Code::InvalidArgument);

    for _ in 0..2 {
        images.remove_image(RemoveImageRequest { image: spec(image.id.as_str()) }).await.unwrap();
    }
    assert_eq!(content(&store), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked() {
    let server = Server::start(Settings { with_tls: true, ..Settings::default() }).await;
    let host = server.authority();
    let trusting = format!("configs: {{ '{host}': {{ tls: {{ ca_file: '{}' }} }} }}", server.certificate().display());
    let (from, pusher) = client(&trusting);
    let image = sample(&from, "a:1", "x");
    let name = format!("{host}/a:1");
    pusher.push("a:1", &reference(&name), &Options::default()).await.unwrap();

    let (_store, registry) = client(&trusting);
    assert_eq!(registry.pull(&reference(&name), &Options::default()).await.unwrap().id, image.id);
    // Nothing is configured: it is on loopback, speaks TLS, and is not known.
    let (_store, registry) = client("{}");
    let (text, _) = pull_error(&registry, &name, &Options::default()).await;
    assert!(text.contains("https://localhost") && text.contains("invalid peer certificate"), "{text}");
    let (_store, registry) = client(&format!("configs: {{ '{host}': {{ tls: {{ insecure_skip_verify: true }} }} }}"));
    assert_eq!(registry.pull(&reference(&name), &Options::default()).await.unwrap().id, image.id);
    let (_store, registry) = client(&format!("configs: {{ '{host}': {{ tls: {{ ca_file: /no/such/ca.pem }} }} }}"));
    let (text, _) = pull_error(&registry, &name, &Options::default()).await;
    assert!(text.contains("cannot use the TLS file /no/such/ca.pem"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_authentication() {
    let server = Server::start(Settings { user: Some(("tim", "s:ecret")), ..Settings::default() }).await;
    let host = server.authority();
    let (from, pusher) = client("{}");
    let image = sample(&from, "a:1", "x");
    let name = format!("{host}/a:1");
    let (right, wrong) = (user("tim", "s:ecret", &host), user("tim", "guess", &host));
    pusher.push("a:1", &reference(&name), &right).await.unwrap();
    assert!(pusher.push("a:1", &reference(&format!("{host}/a:2")), &Options::default()).await.is_err());

    let (_store, registry) = client("{}");
    let (text, error) = pull_error(&registry, &name, &Options::default()).await;
    assert!(text.ends_with("may require authorization: authorization failed: no basic auth credentials"), "{text}");
    assert!(!error.is_not_found());
    let (text, _) = pull_error(&registry, &name, &wrong).await;
    assert!(text.contains("unexpected status from HEAD request to http://localhost") && text.contains("401"), "{text}");
    // Credentials of another host are not shown to this one.
    let (text, _) = pull_error(&registry, &name, &user("tim", "s:ecret", "other.io")).await;
    assert!(text.contains("no basic auth credentials"), "{text}");
    assert_eq!(registry.pull(&reference(&name), &right).await.unwrap().id, image.id);

    let (_store, registry) =
        client(&format!("configs: {{ '{host}': {{ auth: {{ username: tim, password: 's:ecret' }} }} }}"));
    assert_eq!(registry.pull(&reference(&name), &Options::default()).await.unwrap().id, image.id);
    // As the kubelet sends what stands in a pull secret.
    let (_store, registry) = client("{}");
    let auth = AuthConfig {
        auth: "dGltOnM6ZWNyZXQ=".into(),
        server_address: format!("https://{host}/v1/"),
        ..AuthConfig::default()
    };
    let options = Options { credentials: Credentials::from_cri(&auth), ..Options::default() };
    assert_eq!(registry.pull(&reference(&name), &options).await.unwrap().id, image.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors() {
    let server = Server::start(Settings::default()).await;
    let (from, pusher) = client("{}");
    let image = sample(&from, "a:1", "x");
    let stored = format!("{}/mirrored/nginx:1.22", server.authority());
    pusher.push("a:1", &reference(&stored), &Options::default()).await.unwrap();
    let yaml = format!(
        "mirrors: {{ '*': {{ endpoint: ['http://127.0.0.1:1', 'http://{}'], rewrite: {{ '^library/(.*)$': 'mirrored/$1' }} }} }}",
        server.authority()
    );
    let (store, registry) = client(&yaml);
    assert_eq!(registry.pull(&reference("nginx:1.22"), &Options::default()).await.unwrap().id, image.id);
    let listed = store.get("nginx:1.22").unwrap();
    assert_eq!(
        listed.repo_tags,
        ["docker.io/library/nginx:1.22"],
        "the name is that of the reference, not the mirror's"
    );
    // The registry itself comes last, and is as unreachable as the first mirror.
    let (text, error) = pull_error(&registry, "127.0.0.1:1/other:1", &Options::default()).await;
    assert!(text.contains("127.0.0.1:1/v2/other/manifests/1?ns=127.0.0.1:1") && !error.is_not_found(), "{text}");
    assert!(matches!(error, RegistryError::Pull { .. }));
}
