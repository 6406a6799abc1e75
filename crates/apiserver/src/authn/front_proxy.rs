//! Proxies that have checked their user themselves and say so in headers (`--requestheader-*`): the certificate is from the front
//! proxies' own authority, so no other client can say it.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::user::{AUTHENTICATED, User};

pub(super) const USER: &str = "x-remote-user";
pub(super) const UID: &str = "x-remote-uid";
pub(super) const GROUP: &str = "x-remote-group";
pub(super) const EXTRA: &str = "x-remote-extra-";

/// The user that a proxy speaks for; `None` when it may not, or names none.
pub(super) fn user(proxy: &pki::Identity, headers: &HeaderMap) -> Option<User> {
    if proxy.user != pki::FRONT_PROXY {
        return None;
    }
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(Into::into).collect()
    };
    let groups = all(GROUP);
    let groups: Vec<&str> = groups.iter().map(String::as_str).filter(|g| *g != AUTHENTICATED).collect();
    let mut user = User::new(text(USER)?, &groups);
    user.uid = text(UID).unwrap_or("").into();
    user.extra = extra(headers, EXTRA);
    Some(user)
}

/// Extra attributes in headers: the name after the prefix is percent-encoded.
pub(super) fn extra(headers: &HeaderMap, prefix: &str) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(prefix) else { continue };
        let Ok(value) = value.to_str() else { continue };
        let key = crate::http::percent_decoded(key);
        extra.entry(key).or_default().push(value.into());
    }
    extra
}
