//! Which credentials of a pull secret fit an image.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use object::Object;
use protos::cri::v1::AuthConfig;
use serde_json::Value;

/// Credentials of a `dockerconfigjson` or `dockercfg` secret for `image`, the most specific first.
pub(crate) fn matching(secret: &Object, image: &str) -> Vec<AuthConfig> {
    let tree: Value = crate::api::view(secret).unwrap_or_default();
    let decode = |key: &str| -> Option<Value> {
        let bytes = STANDARD.decode(tree["data"][key].as_str()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let auths = match decode(".dockerconfigjson") {
        Some(config) => config["auths"].clone(),
        None => decode(".dockercfg").unwrap_or_default(),
    };
    let mut found: Vec<(&String, AuthConfig)> = auths
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| fits(key, image))
        .map(|(key, entry)| (key, auth(key, entry)))
        .collect();
    found.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn auth(server: &str, entry: &Value) -> AuthConfig {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut out = AuthConfig {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        server_address: server.to_owned(),
        auth: String::new(),
    };
    let decoded = STANDARD.decode(text("auth")).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    if let Some((user, password)) = decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        out.username = user.to_owned();
        out.password = password.trim_end_matches('\0').to_owned();
    }
    out
}

/// Whether a key of a docker configuration (`registry:5000`, `https://r/v1/`, `*.example.com/team`) covers an image.
fn fits(key: &str, image: &str) -> bool {
    let (host, path) = split(key);
    let (image_host, image_path) = image_parts(image);
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    host_fits(host, image_host)
        && (path.is_empty() || image_path == path || image_path.starts_with(&format!("{path}/")))
}

fn split(key: &str) -> (&str, &str) {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.trim_end_matches('/');
    (host, if matches!(path, "v1" | "v2") { "" } else { path })
}

fn image_parts(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("docker.io", image),
    }
}

fn host_fits(pattern: &str, host: &str) -> bool {
    let mut wanted = pattern.split('.');
    let mut found = host.split('.');
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(p), Some(h)) if part_fits(p, h) => {}
            _ => return false,
        }
    }
}

fn part_fits(pattern: &str, part: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == part,
        Some((before, after)) => {
            part.len() >= before.len() + after.len() && part.starts_with(before) && part.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_cover_images() {
        for (key, image, expect) in [
            ("localhost:5000", "localhost:5000/a:1", true),
            ("https://localhost:5000", "localhost:5000/a:1", true),
            ("localhost:5000", "localhost:5001/a:1", false),
            ("https://index.docker.io/v1/", "nginx:1", true),
            ("docker.io", "library/nginx:1", true),
            ("*.example.com", "r.example.com/a", true),
            ("*.example.com", "example.com/a", false),
            ("r.example.com/team", "r.example.com/team/a:1", true),
            ("r.example.com/team", "r.example.com/teams/a:1", false),
        ] {
            assert_eq!(fits(key, image), expect, "{key} {image}");
        }
    }

    #[test]
    fn secrets() {
        let config = json!({"auths": {"r.io": {"auth": STANDARD.encode("user:pa:ss")}, "x.io": {}}});
        let data = json!({".dockerconfigjson": STANDARD.encode(config.to_string())});
        let secret = Object::from_value(&json!({"apiVersion": "v1", "kind": "Secret", "data": data})).unwrap();
        let found = matching(&secret, "r.io/a:1");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].username.as_str(), found[0].password.as_str()), ("user", "pa:ss"));
        assert!(matching(&secret, "y.io/a").is_empty());
    }
}
