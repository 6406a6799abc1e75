//! Which requests are written down, and how much of them: `audit.k8s.io/v1 Policy`.

use serde::Deserialize;

use super::event::Asked;

/// How much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when and how it went.
    Metadata,
    /// The body as well.
    Request,
    /// And the reply.
    RequestResponse,
}

/// When in a request's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    api_version: String,
    kind: String,
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Rule {
    level: Level,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What a policy says of one request.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) level: Level,
    pub(crate) omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

/// A policy. The first rule that matches decides; none is nothing.
pub(crate) struct Policy(File);

impl Policy {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|e| format!("the audit policy is malformed: {e}"))?;
        if file.kind != "Policy" || file.api_version != "audit.k8s.io/v1" {
            return Err(format!("{} {} is no audit.k8s.io/v1 Policy", file.api_version, file.kind));
        }
        if file.rules.is_empty() {
            return Err("an audit policy with 0 rules is not valid".into());
        }
        for (index, rule) in file.rules.iter().enumerate() {
            let about_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
            if about_resources && !rule.non_resource_urls.is_empty() {
                return Err(format!(
                    "rules[{index}].nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs"
                ));
            }
        }
        Ok(Self(file))
    }

    pub(super) fn decide(&self, asked: &Asked<'_>) -> Decision {
        let Some(rule) = self.0.rules.iter().find(|rule| rule.matches(asked)) else {
            return Decision { level: Level::None, omit_stages: Vec::new(), omit_managed_fields: false };
        };
        Decision {
            level: rule.level,
            omit_stages: self.0.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.0.omit_managed_fields),
        }
    }
}

impl Rule {
    fn matches(&self, asked: &Asked<'_>) -> bool {
        let any = |list: &[String], wanted: &str| list.is_empty() || list.iter().any(|l| l == wanted);
        if !any(&self.users, &asked.user.name)
            || !(self.user_groups.is_empty() || asked.user.groups.iter().any(|g| self.user_groups.contains(g)))
            || !any(&self.verbs, asked.verb)
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let Some(at) = asked.at else { return false };
            let namespace = at.namespace.as_deref().unwrap_or("");
            return any(&self.namespaces, namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.matches(at)));
        }
        if !self.non_resource_urls.is_empty() {
            let matches = |pattern: &String| {
                pattern == "*"
                    || pattern == asked.path
                    || pattern.strip_suffix('*').is_some_and(|start| asked.path.starts_with(start))
            };
            return asked.at.is_none() && self.non_resource_urls.iter().any(matches);
        }
        true
    }
}

impl Resources {
    fn matches(&self, at: &client::Resource) -> bool {
        if self.group != at.gvr.group {
            return false;
        }
        let (resource, sub) = (at.gvr.resource.as_str(), at.subresource.as_deref().unwrap_or(""));
        let named = || {
            self.resource_names.is_empty() || at.name.as_ref().is_some_and(|name| self.resource_names.contains(name))
        };
        let pattern = |pattern: &String| match pattern.split_once('/') {
            None => pattern == "*" || (pattern == resource && sub.is_empty()),
            Some((left, right)) => {
                !sub.is_empty() && (left == "*" || left == resource) && (right == "*" || right == sub)
            }
        };
        (self.resources.is_empty() || self.resources.iter().any(pattern)) && named()
    }
}

#[cfg(test)]
mod tests {
    use client::Resource;
    use object::Gvr;

    use super::*;
    use crate::user::User;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:kube-proxy"], verbs: [watch]}
- {level: None, nonResourceURLs: ["/healthz*", /version]}
- {level: Request, resources: [{group: "", resources: [configmaps], resourceNames: [a]}], namespaces: [kube-system]}
- {level: Metadata, resources: [{group: "", resources: [secrets, "pods/*"]}], omitStages: [ResponseStarted]}
- {level: RequestResponse, resources: [{group: apps}], omitManagedFields: true}
"#;

    #[test]
    fn the_first_rule_decides() {
        let policy = Policy::parse(POLICY).unwrap();
        let check = |user: &str, verb: &str, at: Option<Resource>, path: &str, wanted: Level| {
            let user = User::new(user, &[]);
            let asked = Asked { at: at.as_ref(), path, ..Asked::new(&user, verb) };
            assert_eq!(policy.decide(&asked).level, wanted, "{} {verb} {path} {at:?}", user.name);
        };
        let of = |group: &str, resource: &str, namespace: &str, name: &str| {
            Resource::object(&Gvr::new(group, "v1", resource), Some(namespace), name)
        };
        check("system:kube-proxy", "watch", Some(of("", "secrets", "a", "a")), "", Level::None);
        check("bob", "watch", Some(of("", "secrets", "a", "a")), "", Level::Metadata);
        check("bob", "get", None, "/healthz/ping", Level::None);
        check("bob", "get", None, "/metrics", Level::None);
        check("bob", "get", Some(of("", "configmaps", "kube-system", "a")), "", Level::Request);
        check("bob", "get", Some(of("", "configmaps", "kube-system", "b")), "", Level::None);
        check("bob", "get", Some(of("", "pods", "a", "b")), "", Level::None);
        check("bob", "get", Some(of("", "pods", "a", "b").sub("log")), "", Level::Metadata);
        check("bob", "get", Some(of("apps", "deployments", "a", "b")), "", Level::RequestResponse);
        let user = User::new("bob", &[]);
        let at = of("", "secrets", "a", "a");
        let decision = policy.decide(&Asked { at: Some(&at), ..Asked::new(&user, "get") });
        assert_eq!(decision.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
        for bad in ["", "kind: Policy", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []", "a: ["] {
            assert!(Policy::parse(bad).is_err(), "{bad}");
        }
    }
}
