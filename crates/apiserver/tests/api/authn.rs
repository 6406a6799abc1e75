//! Who is who: tokens of every kind, proxies, and what is refused.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use apiserver::{OidcOptions, Security};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use client::Resource;
use object::Gvr;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::world::{World, default_account};

/// A connection of its own.
pub async fn connect(
    world: &World,
    pair: Option<&pki::Pair>,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut config = pki::client_config(world.pki.server_ca.certificate_pem(), pair).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(world.server.address()).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    connector.connect(name, stream).await.unwrap()
}

/// A request over a connection of its own: code and body.
pub async fn exchange(world: &World, pair: Option<&pki::Pair>, request: &str) -> (u16, String) {
    let reply = reply(world, pair, request).await;
    let code = reply.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
    (code, reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// The whole reply, head and body.
pub async fn reply(world: &World, pair: Option<&pki::Pair>, request: &str) -> String {
    let mut stream = connect(world, pair).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8_lossy(&reply).into_owned()
}

/// Who the server takes the sender for; the code when it refuses.
async fn whoami(world: &World, pair: Option<&pki::Pair>, headers: &str) -> Result<Value, u16> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let request = format!(
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    let (code, body) = exchange(world, pair, &request).await;
    let review: Value = serde_json::from_str(&body).map_err(|_| code)?;
    if code == 201 { Ok(review["status"]["userInfo"].clone()) } else { Err(code) }
}

/// Who the server takes a bearer of the token for; the code when it refuses.
pub async fn bearer(world: &World, token: &str) -> Result<Value, u16> {
    whoami(world, None, &format!("Authorization: Bearer {token}\r\n")).await
}

fn encoded(data: Value) -> Value {
    let pairs = data.as_object().unwrap().iter();
    pairs.map(|(k, v)| (k.clone(), Value::from(STANDARD.encode(v.as_str().unwrap())))).collect()
}

#[tokio::test]
async fn tokens_from_a_file_and_of_joining_nodes() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "s3cret,jane,u1,\"dev,ops\"").unwrap();
    let security = Security { token_auth_file: Some(file.path().into()), ..Security::default() };
    let world = World::with(security).await;
    let jane = bearer(&world, "s3cret").await.unwrap();
    assert_eq!(jane, json!({"username": "jane", "uid": "u1", "groups": ["dev", "ops", "system:authenticated"]}));
    assert_eq!(bearer(&world, "s3cres").await, Err(401));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
        "data": encoded(json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}))});
    assert_eq!(bearer(&world, "abcdef.0123456789abcdef").await, Err(401), "not there yet");
    world.create(secret).await.unwrap();
    let node = bearer(&world, "abcdef.0123456789abcdef").await.unwrap();
    assert_eq!(node["username"], "system:bootstrap:abcdef");
    assert_eq!(node["groups"], json!(["system:bootstrappers", "system:authenticated"]));
    assert_eq!(bearer(&world, "abcdef.0123456789abcdee").await, Err(401));
    world.stop().await;
}

#[tokio::test]
async fn a_token_in_a_secret_is_good_while_it_lies_there() {
    let world = World::new().await;
    default_account(&world).await;
    let account = Resource::object(&Gvr::new("", "v1", "serviceaccounts"), Some("default"), "default");
    let uid = world.get(&account).await.unwrap()["metadata"]["uid"].clone();
    let of = "kubernetes.io/serviceaccount";
    let claims = json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:default", (format!("{of}/namespace")): "default",
        (format!("{of}/secret.name")): "s", (format!("{of}/service-account.name")): "default", (format!("{of}/service-account.uid")): uid});
    let token = world.pki.tokens.sign(&claims).unwrap();
    assert_eq!(bearer(&world, &token).await, Err(401), "there is no such secret");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "s", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "data": encoded(json!({"token": token}))});
    world.create(secret).await.unwrap();
    let user = bearer(&world, &token).await.unwrap();
    assert_eq!((&user["username"], &user["uid"]), (&json!("system:serviceaccount:default:default"), &uid));
    let at = Resource::object(&Gvr::new("", "v1", "secrets"), Some("default"), "s");
    let used = world.get(&at).await.unwrap()["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].clone();
    assert_eq!(used, base::time::now()[..10]);
    world.client.delete(&at, &Default::default()).await.unwrap();
    assert_eq!(bearer(&world, &token).await, Err(401));
    world.stop().await;
}

#[tokio::test]
async fn a_pods_token_names_its_node_and_goes_with_it() {
    let world = World::new().await;
    default_account(&world).await;
    let nodes = Resource::collection(&Gvr::new("", "v1", "nodes"), None);
    world
        .client
        .create(&nodes, &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}))
        .await
        .unwrap();
    world.create(crate::world::pod_of("web", Some("n1"))).await.unwrap();
    let account = Resource::object(&Gvr::new("", "v1", "serviceaccounts"), Some("default"), "default").sub("token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3607, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web"}}});
    let issued = world.client.create(&account, &request).await.unwrap().value().unwrap();
    let token = issued["status"]["token"].as_str().unwrap();
    let user = bearer(&world, token).await.unwrap();
    let extra = &user["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["web"]));
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["n1"]));
    assert!(extra["authentication.kubernetes.io/credential-id"][0].as_str().unwrap().starts_with("JTI="));
    let claims = pki::jwt::peek(token).unwrap();
    let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!(lasts > 360 * 86_400 && claims["kubernetes.io"]["warnafter"].is_i64(), "{claims}");
    let pod = Resource::object(&crate::world::pods(), Some("default"), "web");
    let now = client::DeleteOptions { grace_period_seconds: Some(0), ..Default::default() };
    world.client.delete(&pod, &now).await.unwrap();
    assert_eq!(bearer(&world, token).await, Err(401));
    world.stop().await;
}

#[tokio::test]
async fn only_the_front_proxy_speaks_for_others() {
    let world = World::new().await;
    let claim =
        "X-Remote-User: jane\r\nX-Remote-Group: dev\r\nX-Remote-Group: ops\r\nX-Remote-Extra-Scopes%2fof: a\r\n";
    let proxy = world.pki.front_proxy().unwrap();
    let jane = whoami(&world, Some(&proxy), claim).await.unwrap();
    assert_eq!(jane["groups"], json!(["dev", "ops", "system:authenticated"]));
    assert_eq!((&jane["username"], &jane["extra"]["scopes/of"]), (&json!("jane"), &json!(["a"])));
    assert_eq!(whoami(&world, Some(&proxy), "").await, Err(401), "it names nobody");
    let bob = world.pki.client("bob", "bob", "dev").unwrap();
    let user = whoami(&world, Some(&bob), claim).await.unwrap();
    assert_eq!(user["username"], "bob", "a user's certificate is no proxy's");
    let leaf = pki::Leaf { common_name: "mallory".into(), ..Default::default() };
    let other = world.pki.front_proxy_ca.issue(&leaf).unwrap();
    assert_eq!(whoami(&world, Some(&other), claim).await, Err(401), "the name is not allowed");
    world.stop().await;
}

/// An issuer on a loopback port: serves its two documents until it is dropped.
async fn issuer(keys: Value, pki: &pki::Pki, tasks: &mut JoinSet<()>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let pair = pki.server("issuer", "issuer", &["127.0.0.1".into()]).unwrap();
    let tls = pki::server_config(&pair, pki.client_ca.certificate_pem()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            let count = stream.read(&mut request).await.unwrap_or(0);
            let keys = keys.to_string();
            let body = if request[..count].starts_with(b"GET /keys ") { &keys } else { &discovery };
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(reply.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

#[tokio::test]
async fn an_openid_issuer_vouches_for_its_users() {
    let dir = tempfile::tempdir().unwrap();
    let idp = pki::Pki::load_or_create(dir.path()).unwrap();
    let mut tasks = JoinSet::new();
    let url = issuer(idp.tokens.jwks(), &idp, &mut tasks).await;
    let ca_file = dir.path().join("server-ca.crt");
    let oidc = OidcOptions {
        issuer: url.clone(),
        client_id: "cluster".into(),
        ca_file: Some(ca_file),
        username_claim: "email".into(),
        groups_claim: "groups".into(),
        groups_prefix: "idp:".into(),
        algorithms: vec!["ES256".into()],
        ..OidcOptions::default()
    };
    let world = World::with(Security { oidc: Some(oidc), ..Security::default() }).await;
    let ends = base::time::now_seconds() + 600;
    let claims = |aud: &str, exp: i64| json!({"iss": url, "aud": aud, "exp": exp, "sub": "1", "email": "jane@example.org", "groups": ["dev"]});
    let token = idp.tokens.sign(&claims("cluster", ends)).unwrap();
    let user = bearer(&world, &token).await.unwrap();
    assert_eq!(user, json!({"username": "jane@example.org", "groups": ["idp:dev", "system:authenticated"]}));
    assert_eq!(bearer(&world, &idp.tokens.sign(&claims("other", ends)).unwrap()).await, Err(401));
    assert_eq!(bearer(&world, &idp.tokens.sign(&claims("cluster", 1)).unwrap()).await, Err(401));
    let forged = world.pki.tokens.sign(&claims("cluster", ends)).unwrap();
    assert_eq!(bearer(&world, &forged).await, Err(401), "this cluster's key is not the issuer's");
    let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), token.split('.').nth(1).unwrap());
    assert_eq!(bearer(&world, &none).await, Err(401));
    world.stop().await;
}

/// Waits until a bearer of the token is who is wanted, or the code that is.
async fn until_known(world: &World, token: &str, wanted: Result<&str, u16>) {
    let reached = async {
        loop {
            let found = bearer(world, token).await.map(|user| user["username"].as_str().unwrap_or("").to_owned());
            if found.as_deref().map_err(|code| *code) == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.unwrap_or_else(|_| panic!("never {wanted:?}"));
}

#[tokio::test]
async fn issuers_of_a_file_are_read_by_expressions() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let idp = pki::Pki::load_or_create(dir.path()).unwrap();
    let other = pki::Pki::load_or_create(other_dir.path()).unwrap();
    let mut tasks = JoinSet::new();
    let url = issuer(idp.tokens.jwks(), &idp, &mut tasks).await;
    let other_url = issuer(other.tokens.jwks(), &other, &mut tasks).await;
    let with = |prefix: &str| {
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "anonymous": {"enabled": true, "conditions": [{"path": "/livez"}]},
        "jwt": [
            {"issuer": {"url": url, "audiences": ["a", "b"], "audienceMatchPolicy": "MatchAny", "certificateAuthority": idp.server_ca.certificate_pem()},
             "claimValidationRules": [{"claim": "hd", "requiredValue": "example.org"}, {"expression": "claims.exp - claims.iat <= 3600", "message": "too long"}],
             "claimMappings": {
                "username": {"expression": format!("'{prefix}' + claims.sub")},
                "groups": {"expression": "claims.roles.split(',').map(r, 'idp:' + r)"},
                "uid": {"claim": "oid"},
                "extra": [{"key": "example.org/tenant", "valueExpression": "claims.tenant.name"}, {"key": "example.org/none", "valueExpression": "''"}]},
             "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"},
                {"expression": "user.groups.all(g, !g.startsWith('system:'))"}]},
            {"issuer": {"url": other_url, "audiences": ["c"], "certificateAuthority": other.server_ca.certificate_pem()},
             "claimMappings": {"username": {"claim": "sub", "prefix": "other:"}, "groups": {"claim": "groups", "prefix": ""}}}]})
        .to_string()
    };
    let file = dir.path().join("authentication.yaml");
    std::fs::write(&file, with("idp-")).unwrap();
    let world = World::with(Security { authentication_config: Some(file.clone()), ..Security::default() }).await;
    let now = base::time::now_seconds();
    let claims = json!({"iss": url, "aud": "b", "exp": now + 600, "iat": now, "sub": "jane", "oid": "77", "jti": "j", "hd": "example.org",
        "roles": "dev,ops", "tenant": {"name": "t1"}});
    let user = bearer(&world, &idp.tokens.sign(&claims).unwrap()).await.unwrap();
    let wanted = json!({"username": "idp-jane", "uid": "77", "groups": ["idp:dev", "idp:ops", "system:authenticated"],
        "extra": {"authentication.kubernetes.io/credential-id": ["JTI=j"], "example.org/tenant": ["t1"]}});
    assert_eq!(user, wanted);
    let refused = [
        ("aud", json!("c")),
        ("hd", json!("example.com")),
        ("exp", json!(now + 7200)),
        ("roles", json!(["dev"])),
        ("tenant", Value::Null),
        ("oid", json!(7)),
    ];
    for (claim, value) in refused {
        let mut claims = claims.clone();
        claims[claim] = value;
        assert_eq!(bearer(&world, &idp.tokens.sign(&claims).unwrap()).await, Err(401), "{claims}");
    }
    let theirs = json!({"iss": other_url, "aud": "c", "exp": now + 600, "sub": "bob", "groups": ["dev"]});
    let known = bearer(&world, &other.tokens.sign(&theirs).unwrap()).await.unwrap();
    assert_eq!(known, json!({"username": "other:bob", "groups": ["dev", "system:authenticated"]}));
    assert_eq!(bearer(&world, &idp.tokens.sign(&theirs).unwrap()).await, Err(401), "another issuer's key");

    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    for (path, code) in [("/livez", 200), ("/readyz", 401), ("/livez/ping", 401), ("/api/v1/pods", 401)] {
        assert_eq!(exchange(&world, None, &get(path)).await.0, code, "{path}");
    }

    // A file that is no good leaves what was; a good one is taken.
    let token = idp.tokens.sign(&claims).unwrap();
    std::fs::write(&file, "kind: AuthenticationConfiguration").unwrap();
    std::fs::write(&file, with("new-")).unwrap();
    until_known(&world, &token, Ok("new-jane")).await;
    std::fs::write(&file, with("system:")).unwrap();
    until_known(&world, &token, Err(401)).await;
    world.stop().await;
}
