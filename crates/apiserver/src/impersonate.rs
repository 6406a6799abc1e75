//! Impersonation: a request in the name of somebody else, by those who may.

use std::collections::BTreeMap;

use http::HeaderMap;
use object::Status;
use rbac::Attributes;

use crate::api::Api;
use crate::user::User;

const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
}

impl Api {
    /// Who the request acts as: `user`, or whom its headers name, if `user` may impersonate each part of that.
    pub(crate) fn impersonated(&self, user: User, headers: &HeaderMap) -> Result<User, Status> {
        let name = all(headers, "impersonate-user").pop().unwrap_or_default();
        let mut groups = all(headers, "impersonate-group");
        let uid = all(headers, "impersonate-uid").pop().unwrap_or_default();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in headers {
            if let Some(key) = header.as_str().strip_prefix(EXTRA) {
                let key = crate::http::percent_decoded(key);
                extra.entry(key).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
            }
        }
        if name.is_empty() {
            if groups.is_empty() && uid.is_empty() && extra.is_empty() {
                return Ok(user);
            }
            let listed: Vec<String> = groups.iter().map(|g| format!("{g:?}")).collect();
            return Err(Status::bad_request(format!(
                "requested &user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:[]string{{{}}}, Extra:map[string][]string(nil)}} without impersonating a user name",
                listed.join(", ")
            )));
        }
        let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
            let verb = "impersonate";
            let wanted = Attributes { verb, group, resource, subresource, namespace, name, ..Attributes::default() };
            self.authorize(&user, &wanted)
        };
        const AUTHENTICATION: &str = "authentication.k8s.io";
        let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
        match account {
            Some((namespace, account)) => may("", "serviceaccounts", "", namespace, account)?,
            None => may("", "users", "", "", &name)?,
        }
        for group in &groups {
            may("", "groups", "", "", group)?;
        }
        for (key, values) in &extra {
            for value in values {
                may(AUTHENTICATION, "userextras", key, "", value)?;
            }
        }
        if !uid.is_empty() {
            may(AUTHENTICATION, "uids", "", "", &uid)?;
        }
        if let Some((namespace, _)) = account.filter(|_| groups.is_empty()) {
            groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
        }
        if name == "system:anonymous" {
            if !groups.iter().any(|g| g == UNAUTHENTICATED) {
                groups.push(UNAUTHENTICATED.into());
            }
        } else if !groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        Ok(User { name, groups, uid, extra })
    }
}
