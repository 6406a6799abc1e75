//! Impersonation: a request in the name of somebody else, by those who may (KEP-5284).
//!
//! There are five ways. The constrained ones say on what somebody may act as another, besides as whom: `impersonate-on:user-info:list`
//! on pods, and `impersonate:user-info` on the user. They are tried from the narrowest to the widest, and the unconstrained verb
//! `impersonate` comes last. The error is the first one's.

use std::collections::BTreeMap;

use http::HeaderMap;
use object::Status;
use rbac::Attributes;

use crate::api::Api;
use crate::user::{AUTHENTICATED, User};

const EXTRA: &str = "impersonate-extra-";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const MASTERS: &str = "system:masters";
const AUTHENTICATION: &str = "authentication.k8s.io";
/// Extra attribute: where the pod of a service account's token runs.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From so many groups or extra values on, the right to impersonate any is looked at first.
const MANY: usize = 4;

/// A way of impersonation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A node by a pod that runs on it.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    /// Without a say on what.
    Any,
}

/// Whom a request acts as.
pub(crate) struct Acting {
    pub(crate) user: User,
    /// The verb of the way that allowed it; empty for the unconstrained one.
    pub(crate) constraint: &'static str,
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
}

/// Whom the headers name; `None`: nobody.
fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let name = all(headers, "impersonate-user").into_iter().next().unwrap_or_default();
    let groups = all(headers, "impersonate-group");
    let uid = all(headers, "impersonate-uid").into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            let key = crate::http::percent_decoded(key);
            extra.entry(key).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
    }
    if !name.is_empty() {
        return Ok(Some(User { name, groups, uid, extra }));
    }
    if groups.is_empty() && uid.is_empty() && extra.is_empty() {
        return Ok(None);
    }
    let quoted = |texts: &[String]| texts.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
    let listed = if groups.is_empty() { "(nil)".into() } else { format!("{{{}}}", quoted(&groups)) };
    let shown: Vec<String> =
        extra.iter().map(|(key, values)| format!("{key:?}:[]string{{{}}}", quoted(values))).collect();
    let shown = if shown.is_empty() { "(nil)".into() } else { format!("{{{}}}", shown.join(", ")) };
    Err(Status::bad_request(format!(
        "requested &user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:[]string{listed}, Extra:map[string][]string{shown}}} without impersonating a user name"
    )))
}

fn is_subdomain(name: &str) -> bool {
    kinds::names::subdomain(name).is_empty()
}

fn node_of(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|node| is_subdomain(node))
}

fn account_of(name: &str) -> Option<(&str, &str)> {
    let (namespace, account) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (is_subdomain(namespace) && is_subdomain(account)).then_some((namespace, account))
}

impl Way {
    fn verb(self) -> &'static str {
        match self {
            Self::AssociatedNode => "impersonate:associated-node",
            Self::ArbitraryNode => "impersonate:arbitrary-node",
            Self::ServiceAccount => "impersonate:serviceaccount",
            Self::UserInfo => "impersonate:user-info",
            Self::Any => "impersonate",
        }
    }

    /// True when the way is for such users at all.
    fn is_for(self, wanted: &User, sender: &User) -> bool {
        let is_bare = wanted.groups.is_empty() && wanted.uid.is_empty() && wanted.extra.is_empty();
        let node = node_of(&wanted.name);
        match self {
            Self::AssociatedNode => {
                let here = sender.extra.get(NODE_NAME).map(Vec::as_slice);
                let is_here = matches!((here, node), (Some([here]), Some(node)) if here == node);
                is_bare && is_here && account_of(&sender.name).is_some()
            }
            Self::ArbitraryNode => is_bare && node.is_some(),
            Self::ServiceAccount => is_bare && account_of(&wanted.name).is_some(),
            Self::UserInfo => node.is_none() && account_of(&wanted.name).is_none(),
            Self::Any => true,
        }
    }
}

/// A check of the one who sends.
struct Check<'a> {
    api: &'a Api,
    sender: &'a User,
    way: Way,
}

impl Check<'_> {
    async fn may(&self, group: &str, resource: &str, sub: &str, namespace: &str, name: &str) -> Result<(), Status> {
        let (verb, subresource) = (self.way.verb(), sub);
        let wanted = Attributes { verb, group, resource, subresource, namespace, name, ..Attributes::default() };
        self.api.authorize(self.sender, &wanted).await
    }

    /// Whether the sender may act in this way on what the request is about.
    async fn on(&self, about: &Attributes<'_>) -> Result<(), Status> {
        let verb = format!("{}:{}", self.way.verb().replacen("impersonate:", "impersonate-on:", 1), about.verb);
        self.api.authorize(self.sender, &Attributes { verb: &verb, ..about.clone() }).await
    }

    /// Whether the sender may act as each part of the user. What comes is the user with all his groups.
    async fn user(&self, wanted: &User) -> Result<User, Status> {
        let is_constrained = self.way != Way::Any;
        let named = if is_constrained { AUTHENTICATION } else { "" };
        let mut user = wanted.clone();
        match (account_of(&wanted.name), node_of(&wanted.name).filter(|_| is_constrained)) {
            (Some((namespace, account)), _) => {
                self.may(named, "serviceaccounts", "", namespace, account).await?;
                if wanted.groups.is_empty() {
                    user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
                }
            }
            (None, Some(node)) => {
                // Where it runs is checked already: the right is for whatever node that is.
                let node = if self.way == Way::AssociatedNode { "*" } else { node };
                self.may(named, "nodes", "", "", node).await?;
                user.groups = vec!["system:nodes".into()];
            }
            (None, None) => self.may(named, "users", "", "", &wanted.name).await?,
        }
        if !wanted.uid.is_empty() {
            self.may(AUTHENTICATION, "uids", "", "", &wanted.uid).await?;
        }
        self.groups(named, &wanted.groups).await?;
        self.extra(&wanted.extra).await?;
        let has = |user: &User, group: &str| user.groups.iter().any(|g| g == group);
        if user.name == "system:anonymous" {
            if !has(&user, UNAUTHENTICATED) {
                user.groups.push(UNAUTHENTICATED.into());
            }
        } else if !has(&user, AUTHENTICATED) && !has(&user, UNAUTHENTICATED) {
            user.groups.push(AUTHENTICATED.into());
        }
        Ok(user)
    }

    fn refused(&self, group: &str, resource: &str, name: &str, why: &str) -> Status {
        let (verb, user) = (self.way.verb(), &self.sender.name);
        let wanted =
            Attributes { verb, group, resource, name, user, groups: &self.sender.groups, ..Attributes::default() };
        Status::forbidden(group, resource, name, &format!("{}: {why}", rbac::denial(&wanted)))
    }

    async fn groups(&self, named: &str, groups: &[String]) -> Result<(), Status> {
        if self.way != Way::Any {
            if groups.iter().any(String::is_empty) {
                return Err(self.refused(named, "groups", "", "impersonating the empty string group is not allowed"));
            }
            if groups.iter().any(|g| g == MASTERS) {
                let why = "impersonating the system:masters group is not allowed";
                return Err(self.refused(named, "groups", MASTERS, why));
            }
            if groups.len() >= MANY && self.may(named, "groups", "", "", "*").await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            self.may(named, "groups", "", "", group).await?;
        }
        Ok(())
    }

    async fn extra(&self, extra: &BTreeMap<String, Vec<String>>) -> Result<(), Status> {
        if self.way != Way::Any {
            for (key, values) in extra {
                let why = if key.is_empty() {
                    "impersonating the empty string key in extra is not allowed".to_owned()
                } else if !is_prefixed_path(key) {
                    format!("impersonating an invalid key in extra is not allowed: {key:?}")
                } else if values.iter().any(String::is_empty) {
                    "impersonating the empty string value in extra is not allowed".to_owned()
                } else {
                    continue;
                };
                return Err(self.refused(AUTHENTICATION, "userextras", "", &why));
            }
            let many = extra.len() >= MANY || extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if many && self.may(AUTHENTICATION, "userextras", "*", "", "*").await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                self.may(AUTHENTICATION, "userextras", key, "", value).await?;
            }
        }
        Ok(())
    }
}

/// `example.com/key`.
fn is_prefixed_path(key: &str) -> bool {
    key.split_once('/').is_some_and(|(domain, path)| {
        is_subdomain(domain) && !path.is_empty() && path.bytes().all(|b| b.is_ascii_graphic())
    })
}

impl Api {
    /// Whom a request about `about` acts as, if its headers say so and `sender` may.
    pub(crate) async fn impersonated(
        &self,
        sender: &User,
        headers: &HeaderMap,
        about: &Attributes<'_>,
    ) -> Result<Option<Acting>, Status> {
        let Some(wanted) = wanted(headers)? else { return Ok(None) };
        let mut first = None;
        for way in [Way::AssociatedNode, Way::ArbitraryNode, Way::ServiceAccount, Way::UserInfo, Way::Any] {
            if !way.is_for(&wanted, sender) {
                continue;
            }
            let check = Check { api: self, sender, way };
            let on = if way == Way::Any { Ok(()) } else { check.on(about).await };
            let found = match on {
                Ok(()) => check.user(&wanted).await,
                Err(status) => Err(status),
            };
            match found {
                Ok(user) => {
                    let constraint = if way == Way::Any { "" } else { way.verb() };
                    return Ok(Some(Acting { user, constraint }));
                }
                Err(status) => drop(first.get_or_insert(status)),
            }
        }
        Err(first.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
    }
}
