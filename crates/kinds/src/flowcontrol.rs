//! Priority and fairness (`flowcontrol.apiserver.k8s.io/v1`).

use object::Invalid;
use serde_json::Value;

use crate::kind::{NO_RULES, Rules};
use crate::spot::{Errors, Spot};
use crate::tree::{child, list, text};
use crate::{age, names};

const ANY: Rules = Rules { prepare_status: crate::kind::keep_metadata, ..NO_RULES };
pub(crate) const SCHEMA_RULES: Rules =
    Rules { default: default_schema, validate: validate_schema, row, validate_status: conditions, ..ANY };
pub(crate) const LEVEL_RULES: Rules =
    Rules { default: default_level, validate: validate_level, validate_status: conditions, ..ANY };

fn default_schema(schema: &mut Value) {
    let Some(spec) = child(schema, "spec") else { return };
    if spec["matchingPrecedence"].as_i64().unwrap_or(0) == 0 {
        spec["matchingPrecedence"] = 1000.into();
    }
}

/// Conditions have types, each its own.
fn conditions(new: &Value, _: &Value, errors: &mut Vec<Invalid>) {
    let mut seen = Vec::new();
    for condition in Spot::new(&new["status"], "status").list("conditions") {
        let kind = condition.at("type");
        if seen.contains(&kind.text()) {
            kind.duplicate(errors);
        }
        seen.push(kind.text());
        kind.require(errors);
    }
}

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

fn validate_schema(new: &Value, _: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let place = spec.at("matchingPrecedence");
    match place.count() {
        ..=0 => place.fail_as(place.count(), "must be a positive value", errors),
        10_001.. => place.fail("must not be greater than 10000", errors),
        1 if new["metadata"]["name"] != "exempt" => {
            place.fail("only the schema named 'exempt' may have matchingPrecedence 1", errors);
        }
        _ => {}
    }
    let method = spec.at("distinguisherMethod");
    if method.is_set() && !["ByNamespace", "ByUser"].contains(&method.at("type").text()) {
        let shown = crate::checks::shown("flowcontrol.v1.FlowDistinguisherMethod", method.value);
        let mut error = Invalid::unsupported(&method.at("type").path(), &Value::Null, &["ByNamespace", "ByUser"]);
        error.value = shown;
        errors.push(error);
    }
    let level = spec.at("priorityLevelConfiguration");
    match level.at("name").text() {
        "" => level.at("name").missing("must reference a priority level", errors),
        _ => level.at("name").obey(names::subdomain, errors),
    }
    for rule in spec.list("rules") {
        let subjects = rule.at("subjects");
        if subjects.len() == 0 {
            subjects.missing("subjects must contain at least one value", errors);
        }
        rule.list("subjects").for_each(|subject| validate_subject(&subject, errors));
        if rule.at("resourceRules").len() == 0 && rule.at("nonResourceRules").len() == 0 {
            rule.missing("at least one of resourceRules and nonResourceRules has to be non-empty", errors);
        }
        rule.list("resourceRules").for_each(|rule| resources(&rule, errors));
        rule.list("nonResourceRules").for_each(|rule| urls(&rule, errors));
    }
}

fn validate_subject(subject: &Spot, errors: &mut Errors) {
    let known = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
    let kind = subject.at("kind");
    let Some((_, own)) = known.iter().find(|(name, _)| *name == kind.text()) else {
        return kind.unsupported(&["Group", "ServiceAccount", "User"], errors);
    };
    let who = subject.at(own);
    if !who.is_set() {
        who.missing(format!("{own} is required when subject kind is '{}'", kind.text()), errors);
    } else {
        let name = who.at("name");
        if name.require(errors) && *own == "serviceAccount" && name.text() != "*" {
            name.obey(names::subdomain, errors);
        }
        if *own == "serviceAccount" {
            match who.at("namespace").text() {
                "" => who.at("namespace").missing("must specify namespace for service account", errors),
                _ => who.at("namespace").obey(names::label, errors),
            }
        }
    }
    // Upstream looks at these in an order of its own.
    let others = if *own == "serviceAccount" {
        ["user", "group"]
    } else {
        ["serviceAccount", if *own == "user" { "group" } else { "user" }]
    };
    for other in others.into_iter().filter(|other| subject.at(other).is_set()) {
        let name = known.iter().find(|(_, field)| *field == other).map_or("", |(name, _)| name);
        subject.at(other).forbid(format!("{other} is forbidden when subject kind is not '{name}'"), errors);
    }
}

/// A list that has `*` alone, or others. True when it has no `*`.
fn alone(rule: &Spot, field: &'static str, none: &str, others: &str, errors: &mut Errors) -> bool {
    let all = rule.at(field);
    let any = rule.list(field).any(|item| item.text() == "*");
    if all.len() == 0 {
        if !none.is_empty() {
            all.missing(none, errors);
        }
        return false;
    }
    if any && all.len() > 1 {
        all.fail(format!("if '*' is present, must not specify other {others}"), errors);
    }
    !any
}

fn verbs(rule: &Spot, errors: &mut Errors) {
    let named = alone(rule, "verbs", "verbs must contain at least one value", "verbs", errors);
    if named && rule.list("verbs").any(|verb| !VERBS.contains(&verb.text())) {
        errors.push(Invalid::unsupported(&rule.at("verbs").path(), rule.at("verbs").value, &VERBS));
    }
}

fn resources(rule: &Spot, errors: &mut Errors) {
    verbs(rule, errors);
    alone(rule, "apiGroups", "resource rules must supply at least one api group", "api groups", errors);
    alone(rule, "resources", "resource rules must supply at least one resource", "resources", errors);
    let none = match rule.at("clusterScope").is_true() {
        true => "",
        false => "resource rules that are not cluster scoped must supply at least one namespace",
    };
    if alone(rule, "namespaces", none, "namespaces", errors) {
        for namespace in rule.list("namespaces") {
            for why in names::label(namespace.text()) {
                namespace.fail(format!("each member of this list must be '*' or a DNS-1123 label; {why}"), errors);
            }
        }
    }
}

fn urls(rule: &Spot, errors: &mut Errors) {
    verbs(rule, errors);
    let none = "nonResourceURLs must contain at least one value";
    if !alone(rule, "nonResourceURLs", none, "non-resource URLs", errors) {
        return;
    }
    for url in rule.list("nonResourceURLs") {
        let text = url.text();
        if text.is_empty() {
            url.fail("must not be empty", errors);
        } else if text == "/" {
        } else if !text.starts_with('/') {
            url.fail("must start with slash", errors);
        } else if text.contains(' ') {
            url.fail("must not contain white-space", errors);
        } else if text.contains("//") {
            url.fail("must not contain double slash", errors);
        } else if let Some(star) = text.find('*')
            && (star != text.len() - 1 || !text.ends_with("/*"))
        {
            url.fail("wildcard can only do suffix matching", errors);
        }
    }
}

fn default_level(level: &mut Value) {
    let number = |object: &mut Value, field: &str, value: i64| {
        if object[field].is_null() {
            object[field] = value.into();
        }
    };
    if let Some(exempt) = child(level, "spec.exempt") {
        number(exempt, "nominalConcurrencyShares", 0);
        number(exempt, "lendablePercent", 0);
    }
    let Some(limited) = child(level, "spec.limited") else { return };
    number(limited, "nominalConcurrencyShares", 30);
    number(limited, "lendablePercent", 0);
    if let Some(queuing) = child(limited, "limitResponse.queuing") {
        for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
            if queuing[field].as_i64().unwrap_or(0) == 0 {
                queuing[field] = value.into();
            }
        }
    }
}

fn validate_level(new: &Value, _: Option<&Value>, errors: &mut Errors) {
    let spec = Spot::new(&new["spec"], "spec");
    let kind = spec.at("type");
    if (new["metadata"]["name"] == "exempt") != (kind.text() == "Exempt") {
        kind.fail_as(kind.text(), "must be 'Exempt' if and only if `name` is 'exempt'", errors);
    }
    let (limited, exempt) = (spec.at("limited"), spec.at("exempt"));
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                limited.forbid("must be nil if the type is not Limited", errors);
            }
            shares(&exempt, errors);
            exempt.at("lendablePercent").within(0, 100, errors);
        }
        "Limited" => {
            if exempt.is_set() {
                exempt.forbid("must be nil if the type is Limited", errors);
            }
            match limited.is_set() {
                true => validate_limits(&limited, errors),
                false => limited.missing("must not be empty when type is Limited", errors),
            }
        }
        _ => kind.unsupported(&["Exempt", "Limited"], errors),
    }
}

fn shares(owner: &Spot, errors: &mut Errors) {
    let shares = owner.at("nominalConcurrencyShares");
    if shares.number().is_some_and(|n| n < 0) {
        shares.fail("must be a non-negative integer", errors);
    }
}

fn validate_limits(limited: &Spot, errors: &mut Errors) {
    shares(limited, errors);
    let response = limited.at("limitResponse");
    let queuing = response.at("queuing");
    match (response.at("type").text(), queuing.is_set()) {
        ("Reject", true) => queuing.forbid("must be nil if limited.limitResponse.type is not Limited", errors),
        ("Reject", false) => {}
        ("Queue", false) => queuing.missing("must not be empty if limited.limitResponse.type is Limited", errors),
        ("Queue", true) => queues(&queuing, errors),
        _ => response.at("type").unsupported(&["Queue", "Reject"], errors),
    }
    limited.at("lendablePercent").within(0, 100, errors);
    let borrowed = limited.at("borrowingLimitPercent");
    if borrowed.number().is_some_and(|n| n < 0) {
        borrowed.fail("if specified, must be a non-negative integer", errors);
    }
}

fn queues(queuing: &Spot, errors: &mut Errors) {
    let [length, queues, hand] = ["queueLengthLimit", "queues", "handSize"].map(|f| queuing.at(f));
    for number in [&length, &queues] {
        if number.count() <= 0 {
            number.fail_as(number.count(), "must be positive", errors);
        }
    }
    if queues.count() > 10_000_000 {
        queues.fail("must not be greater than 10000000", errors);
    }
    if hand.count() <= 0 {
        hand.fail_as(hand.count(), "must be positive", errors);
    } else if hand.count() > queues.count() {
        hand.fail(format!("should not be greater than queues ({})", queues.count()), errors);
    } else if entropy(queues.count(), hand.count()) > 60 {
        let detail = format!(
            "required entropy bits of deckSize {} and handSize {} should not be greater than 60",
            queues.count(),
            hand.count()
        );
        hand.fail(detail, errors);
    }
}

/// How many bits of a hash it takes to deal a hand.
fn entropy(deck: i64, hand: i64) -> u32 {
    let bits: f64 = (0..hand).map(|n| ((deck - n) as f64).log2()).sum();
    bits.ceil() as u32
}

fn row(schema: &Value, now: i64) -> Vec<Value> {
    let spec = &schema["spec"];
    let dangling = list(&schema["status"]["conditions"]).iter().find(|c| c["type"] == "Dangling");
    let method = &spec["distinguisherMethod"];
    vec![
        schema["metadata"]["name"].clone(),
        text(&spec["priorityLevelConfiguration"]["name"]).into(),
        spec["matchingPrecedence"].as_i64().unwrap_or(0).into(),
        method["type"].as_str().unwrap_or("<none>").into(),
        age::since(&schema["metadata"]["creationTimestamp"], now).into(),
        dangling.map_or("?", |c| text(&c["status"])).into(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::Case;

    #[test]
    fn schema_and_level() {
        let group = "flowcontrol.apiserver.k8s.io/v1";
        Case::new(group, "FlowSchema").row(
            json!({"spec": {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 5}, "status": {"conditions": [{"type": "Dangling", "status": "False"}]}}),
            json!(["x", "l", 5, "<none>", "10s", "False"]),
        );
        Case::new(group, "PriorityLevelConfiguration").defaulted(
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}}),
            json!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 30, "lendablePercent": 0,
                "limitResponse": {"type": "Queue", "queuing": {"handSize": 8, "queues": 64, "queueLengthLimit": 50}}}}}),
        );
    }
}
