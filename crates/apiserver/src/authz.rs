//! Who may do what: RBAC, and what a node may read of what its pods refer to; other authorizers where the administrator says so.

mod abac;
mod node;
mod settings;
mod webhook;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use object::{Object, Status};
use rbac::{Attributes, Rule};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::user::User;
use crate::{metrics, reload};

pub(crate) use node::node_of;
pub use settings::AuthorizationOptions;
use settings::Authorizer;

/// Resources whose objects are the policy.
const POLICY: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// The pause before the policy is read again after its watch has ended.
const RETRY: Duration = Duration::from_secs(1);
/// These may do everything.
const MASTERS: &str = "system:masters";

/// What one authorizer thinks, and why; for failures, what failed.
enum Opinion {
    Allowed(String),
    Denied(String, Option<String>),
    None(String, Option<String>),
}

/// Why somebody may not.
#[derive(Debug, Default)]
pub(crate) struct Denial {
    /// Empty where there is no more to say than that no rule allows it.
    pub(crate) reason: String,
    /// What failed meanwhile.
    pub(crate) error: Option<String>,
}

/// The authorizers, in their order.
pub(crate) struct Authorizers {
    all: ArcSwap<Vec<Authorizer>>,
    /// The file that they are read from, and its text when it was read first.
    config: Option<(PathBuf, String)>,
    options: AuthorizationOptions,
}

impl Authorizers {
    /// The error says what is wrong with the options.
    pub(crate) fn new(options: &AuthorizationOptions) -> Result<Self, String> {
        let (all, text) = options.read()?;
        let config = options.config_file.clone().map(|path| (path, text));
        Ok(Self { all: ArcSwap::from_pointee(all), config, options: options.clone() })
    }

    /// Reads the file again whenever it changes. A file that is no good leaves what was.
    async fn follow(&self) {
        let Some((path, first)) = &self.config else { return };
        let take = |text: &str| {
            self.all.store(Arc::new(self.options.parse_again(text, &self.all.load())?));
            Ok(())
        };
        reload::follow(path, first, "authorization configuration", take).await;
    }
}

impl Api {
    /// True when the user may.
    pub(crate) async fn may(&self, user: &User, wanted: &Attributes<'_>) -> bool {
        self.decide(user, wanted).await.is_ok()
    }

    /// Whether the user may, and the reason.
    pub(crate) async fn decide(&self, user: &User, wanted: &Attributes<'_>) -> Result<String, Denial> {
        // Before all others, as upstream: nobody locks the administrators out.
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(String::new());
        }
        let wanted = Attributes { user: &user.name, groups: &user.groups, ..wanted.clone() };
        let authorizers = self.authorizers.all.load();
        let mut denial = Denial::default();
        for authorizer in authorizers.iter() {
            let (reason, error) = match self.opinion(authorizer, user, &wanted).await {
                Opinion::Allowed(reason) => return Ok(reason),
                Opinion::Denied(reason, error) => return Err(Denial { reason, error }),
                Opinion::None(reason, error) => (reason, error),
            };
            if !reason.is_empty() && !denial.reason.is_empty() {
                denial.reason.push('\n');
            }
            denial.reason.push_str(&reason);
            denial.error = denial.error.or(error);
        }
        Err(denial)
    }

    async fn opinion(&self, authorizer: &Authorizer, user: &User, wanted: &Attributes<'_>) -> Opinion {
        match authorizer {
            Authorizer::Abac(policies) if policies.iter().any(|policy| policy.allows(wanted)) => {
                Opinion::Allowed(String::new())
            }
            Authorizer::Abac(_) => Opinion::None("No policy matched.".into(), None),
            Authorizer::AlwaysAllow => Opinion::Allowed(String::new()),
            Authorizer::AlwaysDeny => Opinion::None("Everything is forbidden.".into(), None),
            Authorizer::Rbac if self.rbac.load().allows(wanted) => Opinion::Allowed(String::new()),
            Authorizer::Rbac => Opinion::None(String::new(), None),
            Authorizer::Node => match node_of(user).map(|node| self.node_may(node, wanted)) {
                Some(Ok(())) => Opinion::Allowed(String::new()),
                Some(Err(reason)) => Opinion::None(reason, None),
                None => Opinion::None(String::new(), None),
            },
            Authorizer::Webhook(webhook) => webhook.opinion(user, wanted).await,
        }
    }

    /// What the user may do in a namespace, as far as rules say so.
    pub(crate) fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut all = Vec::new();
        let who = Attributes { user: &user.name, groups: &user.groups, ..Attributes::default() };
        for authorizer in self.authorizers.all.load().iter() {
            match authorizer {
                Authorizer::Rbac => all.extend(self.rbac.load().rules_for(&user.name, &user.groups, namespace)),
                Authorizer::Abac(policies) => all.extend(abac::rules(policies, &who, namespace)),
                _ => {}
            }
        }
        all
    }

    /// What the audit log says of a decision: whether, and why.
    pub(crate) async fn explain(&self, user: &User, wanted: &Attributes<'_>) -> (bool, String) {
        match self.decide(user, wanted).await {
            Ok(reason) if !reason.is_empty() => (true, reason),
            Ok(_) => {
                let wanted = Attributes { user: &user.name, groups: &user.groups, ..wanted.clone() };
                (true, self.rbac.load().reason(&wanted))
            }
            Err(denial) => (false, denial.reason),
        }
    }

    /// 403 in upstream's words unless the user may.
    pub(crate) async fn authorize(&self, user: &User, wanted: &Attributes<'_>) -> Result<(), Status> {
        let began = Instant::now();
        let decision = self.decide(user, wanted).await;
        metrics::authorized(decision.is_ok(), node_of(user).is_some(), began.elapsed());
        let Err(Denial { reason, error }) = decision else { return Ok(()) };
        if let Some(error) = error {
            return Err(Status::internal(error));
        }
        let wanted = Attributes { user: &user.name, groups: &user.groups, ..wanted.clone() };
        let mut why = rbac::denial(&wanted);
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        Err(Status::forbidden(wanted.group, wanted.resource, wanted.name, &why))
    }

    /// Keeps the authorizers as their file has them.
    pub(crate) async fn follow_authorizers(self: Arc<Self>, token: CancellationToken) {
        token.run_until_cancelled(self.authorizers.follow()).await;
    }

    /// Reads the policy anew.
    pub(crate) fn reload_policy(&self) -> u64 {
        let mut objects: Vec<Arc<Object>> = Vec::new();
        let mut revision = u64::MAX;
        for resource in POLICY {
            if let Ok(page) = self.store.range(&format!("/registry/{resource}/"), None, 0, 0) {
                revision = revision.min(page.revision);
                objects.extend(page.items.into_iter().map(|v| v.object));
            }
        }
        self.rbac.store(Arc::new(rbac::Index::build(objects.iter().map(|o| &**o))));
        revision
    }

    /// Keeps the policy current until the token is cancelled.
    pub(crate) async fn follow_policy(self: Arc<Self>, token: CancellationToken) {
        loop {
            let revision = self.reload_policy();
            let watches: Vec<_> =
                POLICY.iter().filter_map(|r| self.store.watch(&format!("/registry/{r}/"), revision).ok()).collect();
            let mut changes = futures::stream::select_all(watches);
            tokio::select! {
                () = token.cancelled() => return,
                // The streams end with the store, or when etcd has gone back in time.
                change = changes.next() => if change.is_none() { tokio::time::sleep(RETRY).await },
            }
        }
    }
}
