//! Bootstrap tokens: `<id>.<secret>` of a Secret in kube-system, by which new nodes introduce themselves.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object::Object;
use serde_json::Value;

use crate::api::Api;
use crate::user::User;

const KIND: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// The parts of a token: six and sixteen letters and digits.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// A key of a secret's data, decoded.
pub(super) fn data(secret: &Value, key: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(secret["data"][key].as_str()?).ok()?).ok()
}

/// Equal, in a time that does not tell where they differ.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

impl Api {
    /// The user of a bootstrap token.
    pub(super) fn bootstrap_user(&self, token: &str) -> Option<User> {
        let (id, secret) = parts(token)?;
        let found = self.store.get(&format!("/registry/secrets/kube-system/bootstrap-token-{id}"))?;
        user(&found.object, id, secret, base::time::now_seconds())
    }
}

fn user(object: &Object, id: &str, secret: &str, now: i64) -> Option<User> {
    let value = object.value().ok()?;
    let text = |key: &str| data(&value, key);
    let alive = !object.head.is_terminating()
        && text("expiration")
            .is_none_or(|at| at.is_empty() || base::time::parse_seconds(&at).is_some_and(|at| now < at));
    let fits = value["type"] == KIND
        && same(text("token-secret")?.as_bytes(), secret.as_bytes())
        && text("token-id").as_deref() == Some(id)
        && text("usage-bootstrap-authentication").as_deref() == Some("true");
    if !alive || !fits {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in text("auth-extra-groups").unwrap_or_default().split(',').filter(|g| !g.is_empty()) {
        let tail = group.strip_prefix("system:bootstrappers:")?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b':' || b == b'-';
        let ends = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if tail.len() > 256 || !tail.bytes().all(plain) || !tail.as_bytes().last().is_some_and(ends) {
            return None;
        }
        groups.push(group.into());
    }
    groups.sort();
    groups.dedup();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    Some(User::new(&format!("system:bootstrap:{id}"), &groups))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_good_until_something_is_wrong_with_it() {
        let check = |key: &str, value: &str, good: bool| {
            let mut data = json!({"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
                "expiration": "2026-01-01T00:00:10Z", "auth-extra-groups": "system:bootstrappers:workers"});
            data[key] = value.into();
            for (_, value) in data.as_object_mut().unwrap() {
                *value = STANDARD.encode(value.as_str().unwrap()).into();
            }
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": KIND, "data": data,
                "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}});
            let now = base::time::parse_seconds("2026-01-01T00:00:00Z").unwrap();
            let found = user(&Object::from_value(&secret).unwrap(), "abcdef", "0123456789abcdef", now);
            assert_eq!(found.is_some(), good, "{key} {value}");
            found
        };
        let user = check("description", "x", true).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, [GROUP, "system:bootstrappers:workers", "system:authenticated"]);
        check("token-secret", "0123456789abcdeg", false);
        check("token-id", "abcdeg", false);
        check("usage-bootstrap-authentication", "false", false);
        check("expiration", "2025-12-31T23:59:59Z", false);
        check("expiration", "tomorrow", false);
        check("auth-extra-groups", "system:masters", false);
        check("auth-extra-groups", "system:bootstrappers:", false);
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        assert_eq!(parts("ABCDEF.0123456789abcdef"), None);
    }
}
