//! Nobody grants what they do not have.

use crate::rules::{Rule, has, path_matches, resource_matches};

/// One verb on one thing.
#[derive(Clone, Copy)]
struct Grain<'a> {
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    name: &'a str,
    url: &'a str,
}

impl Grain<'_> {
    fn is_covered(&self, owned: &Rule) -> bool {
        if !has(&owned.verbs, self.verb) {
            return false;
        }
        if !self.url.is_empty() {
            return owned.non_resource_urls.iter().any(|p| path_matches(p, self.url));
        }
        let (left, right) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let covers = |pattern: &String| match self.resource {
            "*" => pattern == "*",
            resource => pattern == resource || resource_matches(pattern, left, right),
        };
        has(&owned.api_groups, self.group)
            && owned.resources.iter().any(covers)
            && (owned.resource_names.is_empty()
                || (!self.name.is_empty() && owned.resource_names.iter().any(|n| n == self.name)))
    }
}

fn grains(rule: &Rule) -> impl Iterator<Item = Grain<'_>> {
    let names: Vec<&str> = match rule.resource_names.as_slice() {
        [] => vec![""],
        names => names.iter().map(String::as_str).collect(),
    };
    let mut all = Vec::new();
    for group in &rule.api_groups {
        for resource in &rule.resources {
            for verb in &rule.verbs {
                all.extend(names.iter().map(|name| Grain { verb, group, resource, name, url: "" }));
            }
        }
    }
    for url in &rule.non_resource_urls {
        all.extend(rule.verbs.iter().map(|verb| Grain { verb, group: "", resource: "", name: "", url }));
    }
    all.into_iter()
}

/// What of `wanted` the owner of `owned` does not have: one rule for each thing. Empty when they may grant all of it.
pub fn missing(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing: Vec<Rule> = Vec::new();
    for grain in wanted.iter().flat_map(grains).filter(|grain| !owned.iter().any(|rule| grain.is_covered(rule))) {
        let list = |text: &str| if text.is_empty() { vec![] } else { vec![text.to_owned()] };
        let rule = Rule {
            verbs: vec![grain.verb.to_owned()],
            api_groups: if grain.url.is_empty() { vec![grain.group.to_owned()] } else { vec![] },
            resources: list(grain.resource),
            resource_names: list(grain.name),
            non_resource_urls: list(grain.url),
        };
        let alike = |other: &&mut Rule| {
            grain.url.is_empty()
                && Rule { verbs: vec![], ..(**other).clone() } == Rule { verbs: vec![], ..rule.clone() }
        };
        match missing.iter_mut().find(alike) {
            Some(other) => other.verbs.push(grain.verb.to_owned()),
            None => missing.push(rule),
        }
    }
    missing
}

/// A rule as upstream prints it in refusals.
pub fn describe(rule: &Rule) -> String {
    let list = |list: &[String]| list.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" ");
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts = parts.iter().filter(|(_, values)| !values.is_empty());
    let parts: Vec<String> = parts.map(|(name, values)| format!("{name}:[{}]", list(values))).collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Rule {
            verbs: own(verbs),
            api_groups: own(groups),
            resources: own(resources),
            resource_names: own(names),
            non_resource_urls: vec![],
        }
    }

    #[test]
    fn nobody_grants_more_than_they_have() {
        let check = |owned: &[Rule], wanted: Rule, lacks: &[&str]| {
            let found: Vec<String> = missing(owned, std::slice::from_ref(&wanted)).iter().map(describe).collect();
            assert_eq!(found, lacks, "{wanted:?}");
        };
        let owned = [rule(&["get", "list"], &[""], &["pods", "configmaps"], &[])];
        check(&owned, rule(&["get"], &[""], &["pods"], &["x"]), &[]);
        check(
            &owned,
            rule(&["get", "list", "watch"], &[""], &["pods", "secrets"], &[]),
            &[
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["watch"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "watch"]}"#,
            ],
        );
        check(
            &owned,
            rule(&["*"], &[""], &["pods"], &["a"]),
            &[r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["*"]}"#],
        );
        check(&[rule(&["*"], &["*"], &["*"], &[])], rule(&["*"], &["*"], &["*", "pods/log"], &[]), &[]);
        check(
            &[rule(&["get"], &[""], &["pods"], &["x"])],
            rule(&["get"], &[""], &["pods"], &[]),
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#],
        );
        let urls =
            |url: &str| Rule { verbs: vec!["get".into()], non_resource_urls: vec![url.into()], ..Rule::default() };
        check(&[urls("/healthz/*")], urls("/healthz/ping"), &[]);
        check(&[urls("/healthz/ping")], urls("/healthz/*"), &[r#"{NonResourceURLs:["/healthz/*"], Verbs:["get"]}"#]);
    }
}
