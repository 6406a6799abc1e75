//! Who asks.

use std::collections::BTreeMap;

/// An authenticated (or anonymous) user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `system:admin`, `system:serviceaccount:ns:name`, `system:node:n1`.
    pub name: String,
    /// Groups; `system:authenticated` or `system:unauthenticated` among them.
    pub groups: Vec<String>,
    /// Uid, where the authenticator knows one.
    pub uid: String,
    /// Extra attributes (token bindings).
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group of all who said who they are.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";

impl User {
    /// An authenticated user in these groups.
    pub fn new(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        groups.push(AUTHENTICATED.into());
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        Self::new(&format!("system:serviceaccount:{namespace}:{name}"), &["system:serviceaccounts", &of_namespace])
    }

    /// A node agent.
    pub fn node(name: &str) -> Self {
        Self::new(&format!("system:node:{name}"), &["system:nodes"])
    }

    /// The server itself and its bootstrap.
    pub fn superuser() -> Self {
        Self::new("system:apiserver", &["system:masters"])
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..Self::default() }
    }
}
