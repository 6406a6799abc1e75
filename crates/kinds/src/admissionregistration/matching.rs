//! What webhooks and policies match, and whom webhooks call.

use crate::names;
use crate::spot::{Errors, Spot};

/// A rule with its operations.
pub(super) fn rule(rule: &Spot, errors: &mut Errors) {
    let operations = rule.at("operations");
    operations.require(errors);
    alone(&operations, "if '*' is present, must not specify other operations", errors);
    for operation in rule.list("operations") {
        operation.exactly_one_of(&["*", "CONNECT", "CREATE", "DELETE", "UPDATE"], errors);
    }
    let (groups, versions) = (rule.at("apiGroups"), rule.at("apiVersions"));
    groups.require(errors);
    alone(&groups, "if '*' is present, must not specify other API groups", errors);
    versions.require(errors);
    alone(&versions, "if '*' is present, must not specify other API versions", errors);
    for version in rule.list("apiVersions") {
        version.require(errors);
    }
    names_of_resources(rule, errors);
    rule.at("scope").one_of(&["*", "Cluster", "Namespaced"], errors);
}

/// What stands for all stands alone.
fn alone(list: &Spot, why: &str, errors: &mut Errors) {
    let all = list.value.as_array().map_or(&[][..], Vec::as_slice);
    if all.len() > 1 && all.iter().any(|item| item == "*") {
        list.fail(why, errors);
    }
}

fn names_of_resources(rule: &Spot, errors: &mut Errors) {
    let all = rule.at("resources");
    all.require(errors);
    let (mut whole, mut everywhere) = (Vec::new(), Vec::new());
    let (mut double, mut single, mut plain) = (false, false, false);
    for resource in rule.list("resources") {
        if !resource.require(errors) {
            continue;
        }
        double |= resource.text() == "*/*";
        single |= resource.text() == "*";
        let Some((name, sub)) = resource.text().split_once('/') else {
            // As upstream: the last one says.
            plain = resource.text() != "*";
            continue;
        };
        if whole.contains(&name) {
            let why = format!("if '{name}/*' is present, must not specify {}", resource.text());
            resource.fail(why, errors);
        }
        if everywhere.contains(&sub) {
            let why = format!("if '*/{sub}' is present, must not specify {}", resource.text());
            resource.fail(why, errors);
        }
        if sub == "*" {
            whole.push(name);
        }
        if name == "*" {
            everywhere.push(sub);
        }
    }
    if all.len() > 1 && double {
        all.fail("if '*/*' is present, must not specify other resources", errors);
    }
    if single && plain {
        all.fail("if '*' is present, must not specify other resources without subresources", errors);
    }
}

/// What a policy or its binding matches.
pub(super) fn resources(matched: &Spot, errors: &mut Errors) {
    matched.at("matchPolicy").one_of(&["Equivalent", "Exact"], errors);
    for selector in ["namespaceSelector", "objectSelector"] {
        matched.at(selector).selector(errors);
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for one in matched.list(field) {
            let mut seen = Vec::new();
            for name in one.list("resourceNames") {
                name.obey(names::path_segment, errors);
                match seen.contains(&name.text()) {
                    true => name.duplicate(errors),
                    false => seen.push(name.text()),
                }
            }
            rule(&one, errors);
        }
    }
}

/// What is deleted is not changed before.
pub(super) fn mutable(matched: &Spot, errors: &mut Errors) {
    let operations = ["*", "CONNECT", "CREATE", "UPDATE"];
    for rule in matched.list("resourceRules") {
        for operation in rule.list("operations").filter(|o| !operations.contains(&o.text())) {
            let at = format!("{}.resourceRules.operations", matched.path());
            errors.push(object::Invalid::unsupported(&at, operation.value, &operations));
        }
    }
}

/// The kind of a policy's parameters.
pub(super) fn parameters(kind: &Spot, errors: &mut Errors) {
    let (version, name) = (kind.at("apiVersion"), kind.at("kind"));
    if version.require(errors) {
        match version.text().split('/').collect::<Vec<_>>()[..] {
            [only] => versioned(&version, "", only, errors),
            [group, only] => versioned(&version, group, only, errors),
            _ => version.fail(format!("unexpected GroupVersion string: {}", version.text()), errors),
        }
    }
    if name.require(errors)
        && let Some(why) = names::joined(names::label_1035(&name.text().to_lowercase()))
    {
        name.fail(format!("may have mixed case, but should otherwise match: {why}"), errors);
    }
}

fn versioned(at: &Spot, group: &str, version: &str, errors: &mut Errors) {
    if let Some(why) = names::joined(names::subdomain(group)).filter(|_| !group.is_empty()) {
        at.fail_as(group, why, errors);
    }
    if version.is_empty() {
        at.fail("version must be specified", errors);
    } else if let Some(why) = names::joined(names::label_1035(version)) {
        at.fail_as(version, why, errors);
    }
}

/// Which parameters a binding takes.
pub(super) fn reference(reference: &Spot, errors: &mut Errors) {
    const BOTH: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.at("name"), reference.at("selector"));
    let (named, selected) = (!name.text().is_empty(), selector.is_set());
    if named {
        name.obey(names::path_segment, errors);
    }
    if named && selected {
        name.forbid(BOTH, errors);
    }
    selector.selector(errors);
    if named && selected {
        selector.forbid(BOTH, errors);
    }
    if !named && !selected {
        reference.missing("one of name or selector must be specified", errors);
    }
    reference.at("parameterNotFoundAction").must_be_one_of(&["Deny", "Allow"], errors);
}

/// Whom a webhook calls.
pub(super) fn client(client: &Spot, errors: &mut Errors) {
    let (url, service) = (client.at("url"), client.at("service"));
    match (url.is_set(), service.is_set()) {
        (true, false) => address(&url, errors),
        (false, true) => called(&service, errors),
        _ => client.missing("exactly one of url or service is required", errors),
    }
}

fn address(url: &Spot, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let text = url.text();
    if text.chars().any(|c| c.is_ascii_control()) {
        let shown = object::quoted(text);
        let why = format!("url must be a valid URL: parse {shown}: net/url: invalid control character in URL{FORM}");
        return url.missing(why, errors);
    }
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let is_scheme = |s: &str| {
        s.starts_with(|c: char| c.is_ascii_alphabetic())
            && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (scheme, rest) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).unwrap_or(("", text));
    let authority = rest.strip_prefix("//").map_or("", |rest| rest.split('/').next().unwrap_or(""));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let scheme = scheme.to_lowercase();
    if scheme != "https" {
        url.fail_as(scheme, format!("'https' is the only allowed URL scheme{FORM}"), errors);
    }
    if host.is_empty() {
        url.fail_as(host, format!("host must be specified{FORM}"), errors);
    }
    if let Some(user) = user {
        url.fail_as(user, "user information is not permitted in the URL", errors);
    }
    if !fragment.is_empty() {
        url.fail_as(fragment, "fragments are not permitted in the URL", errors);
    }
    if !query.is_empty() {
        url.fail_as(query, "query parameters are not permitted in the URL", errors);
    }
}

fn called(service: &Spot, errors: &mut Errors) {
    // As upstream, which takes the one for the other.
    for (told, found) in [("name", "namespace"), ("namespace", "name")] {
        if service.at(found).text().is_empty() {
            service.at(told).missing("", errors);
        }
    }
    let port = service.at("port");
    if !(1..=65_535).contains(&port.count()) {
        port.fail_as(port.count(), "port is not valid: must be between 1 and 65535, inclusive", errors);
    }
    let path = service.at("path");
    match path.text() {
        "" | "/" => return,
        "//" => return path.fail("segment[0] may not be empty", errors),
        text if !text.starts_with('/') => path.fail("must start with a '/'", errors),
        _ => {}
    }
    // As upstream, which leaves the first byte out whatever it is.
    let rest = path.text().get(1..).unwrap_or("");
    for (index, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            path.fail(format!("segment[{index}] may not be empty"), errors);
            continue;
        }
        for why in names::subdomain(step) {
            path.fail(format!("segment[{index}]: {why}"), errors);
        }
    }
}
