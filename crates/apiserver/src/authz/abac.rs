//! ABAC: a file of policies, one on each line (`--authorization-policy-file`).

use std::path::Path;

use rbac::{Attributes, Rule};
use serde::Deserialize;
use serde_json::Value;

use crate::user::AUTHENTICATED;

const V1BETA1: &str = "abac.authorization.kubernetes.io/v1beta1";

/// What one line allows.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    non_resource_path: String,
}

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<Vec<Policy>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("open {}: {e}", path.display()))?;
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let failed =
            |why: String| format!("error reading policy file {}, line {}: {line}: {why}", path.display(), index + 1);
        all.push(parse(trimmed).map_err(failed)?);
    }
    Ok(all)
}

fn parse(line: &str) -> Result<Policy, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let text = |field: &str| value[field].as_str().unwrap_or("");
    let policy = |value: &Value| match value {
        Value::Null => Ok(Policy::default()),
        value => serde_json::from_value::<Policy>(value.clone()).map_err(|e| e.to_string()),
    };
    match (text("apiVersion"), text("kind")) {
        (V1BETA1, "Policy") => policy(&value["spec"]),
        // Lines without a version are of the oldest form, where what is not said means everything.
        ("", _) | (_, "") => policy(&value).map(of_old),
        (version, kind) => Err(format!("no kind {kind:?} is registered for version {version:?}")),
    }
}

fn of_old(old: Policy) -> Policy {
    let or_any = |text: &str| if text.is_empty() { "*".to_owned() } else { text.to_owned() };
    let everywhere = old.namespace.is_empty() && old.resource.is_empty();
    let named_anybody = old.user == "*" || old.group == "*";
    let anybody = named_anybody || (old.user.is_empty() && old.group.is_empty());
    Policy {
        user: if named_anybody { String::new() } else { old.user },
        group: if anybody { AUTHENTICATED.to_owned() } else { old.group },
        readonly: old.readonly,
        api_group: "*".to_owned(),
        namespace: or_any(&old.namespace),
        resource: or_any(&old.resource),
        non_resource_path: if everywhere { "*".to_owned() } else { String::new() },
    }
}

impl Policy {
    /// Whether this line allows what is asked for.
    pub(super) fn allows(&self, wanted: &Attributes<'_>) -> bool {
        let reads = matches!(wanted.verb, "get" | "list" | "watch");
        let fits = |rule: &str, asked: &str| rule == "*" || rule == asked;
        let place = match wanted.resource {
            "" => path_fits(&self.non_resource_path, wanted.path),
            resource => {
                fits(&self.namespace, wanted.namespace)
                    && fits(&self.resource, resource)
                    && fits(&self.api_group, wanted.group)
            }
        };
        self.is_about(wanted) && (reads || !self.readonly) && place
    }

    fn is_about(&self, wanted: &Attributes<'_>) -> bool {
        let user = self.user == "*" || self.user == wanted.user;
        let group = self.group == "*" || wanted.groups.contains(&self.group);
        match (self.user.is_empty(), self.group.is_empty()) {
            (true, true) => false,
            (false, true) => user,
            (true, false) => group,
            (false, false) => user && group,
        }
    }
}

/// What the lines say of one who is asked about, in a namespace.
pub(super) fn rules<'a>(
    policies: &'a [Policy],
    who: &'a Attributes<'a>,
    namespace: &'a str,
) -> impl Iterator<Item = Rule> + use<'a> {
    let about = policies
        .iter()
        .filter(move |policy| policy.is_about(who) && (policy.namespace == "*" || policy.namespace == namespace));
    about.flat_map(|policy| {
        let verbs: &[&str] = if policy.readonly { &["get", "list", "watch"] } else { &["*"] };
        let verbs: Vec<String> = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        let resource = (!policy.resource.is_empty()).then(|| Rule {
            verbs: verbs.clone(),
            api_groups: vec![policy.api_group.clone()],
            resources: vec![policy.resource.clone()],
            ..Rule::default()
        });
        let path = (!policy.non_resource_path.is_empty()).then(|| Rule {
            verbs,
            non_resource_urls: vec![policy.non_resource_path.clone()],
            ..Rule::default()
        });
        resource.into_iter().chain(path)
    })
}

fn path_fits(rule: &str, path: &str) -> bool {
    rule == path || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_they_allow() {
        let policies = [
            parse(r#"{"user": "ann", "resource": "pods", "readonly": true}"#).unwrap(),
            parse(r#"{"group": "dev", "namespace": "a"}"#).unwrap(),
            parse(r#"{"user": "bob"}"#).unwrap(),
            parse(&format!(r#"{{"apiVersion": {V1BETA1:?}, "kind": "Policy", "spec": {{"user": "ann", "nonResourcePath": "/logs/*", "namespace": "a"}}}}"#)).unwrap(),
        ];
        let groups = ["dev".to_owned()];
        let who = Attributes { user: "ann", groups: &groups, ..Default::default() };
        let told = |namespace: &str| -> Vec<String> {
            let one = |rule: Rule| {
                let what = [rule.api_groups, rule.resources, rule.non_resource_urls].concat();
                format!("{} {}", rule.verbs.join(","), what.join("/"))
            };
            rules(&policies, &who, namespace).map(one).collect()
        };
        assert_eq!(told("a"), ["get,list,watch */pods", "* */*", "* /logs/*"]);
        assert_eq!(told("b"), ["get,list,watch */pods"]);
    }

    #[test]
    fn lines_allow() {
        let line = |spec: &str| {
            parse(&format!("{{\"apiVersion\": {V1BETA1:?}, \"kind\": \"Policy\", \"spec\": {spec}}}")).unwrap()
        };
        let groups = [AUTHENTICATED.to_owned()];
        let get = Attributes {
            user: "ann",
            groups: &groups,
            verb: "get",
            resource: "pods",
            namespace: "a",
            ..Default::default()
        };
        let write = Attributes { verb: "update", ..get.clone() };
        let path = Attributes { resource: "", namespace: "", path: "/logs/x", ..get.clone() };
        for (policy, wanted) in [
            (line(r#"{"user": "ann", "namespace": "a", "resource": "pods", "readonly": true}"#), [true, false, false]),
            (line(r#"{"user": "ann", "namespace": "*", "resource": "*", "apiGroup": "apps"}"#), [false, false, false]),
            (line(r#"{"user": "ann", "group": "others", "namespace": "*", "resource": "*"}"#), [false, false, false]),
            (line(r#"{"group": "*", "nonResourcePath": "/logs/*"}"#), [false, false, true]),
            (line(r#"{"namespace": "*", "resource": "*"}"#), [false, false, false]),
            (parse("{}").unwrap(), [true, true, true]),
            (parse(r#"{"user": "bob"}"#).unwrap(), [false, false, false]),
            (parse(r#"{"user": "ann", "resource": "pods"}"#).unwrap(), [true, true, false]),
        ] {
            assert_eq!([&get, &write, &path].map(|asked| policy.allows(asked)), wanted, "{policy:?}");
        }
        assert!(parse(r#"{"apiVersion": "x/v1", "kind": "Policy"}"#).is_err());
        assert!(parse("{").is_err());
    }
}
