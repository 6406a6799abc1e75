//! `--authentication-config`: issuers of tokens and what is open to nobody in particular (`AuthenticationConfiguration`, checked in
//! upstream's words).

use std::collections::HashSet;
use std::path::Path;

use cel::Type;
use object::Invalid;
use serde::Deserialize;
use serde_json::Value;

use super::claims::{Condition, Expression, Mapping, Rules};
use super::oidc::Issuer;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    jwt: Vec<Jwt>,
    anonymous: Option<Anonymous>,
}

/// Who may come without a credential.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Anonymous {
    pub(crate) enabled: bool,
    #[serde(default)]
    conditions: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Jwt {
    issuer: Of,
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    user_validation_rules: Vec<UserRule>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Of {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: String,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
    egress_selector_type: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Mappings {
    username: Prefixed,
    groups: Prefixed,
    uid: Prefixed,
    extra: Vec<Extra>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Prefixed {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Extra {
    key: String,
    value_expression: String,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct UserRule {
    expression: String,
    message: String,
}

/// What the file says.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(super) issuers: Vec<Issuer>,
    /// `None`: it says nothing about them.
    pub(crate) anonymous: Option<Anonymous>,
}

impl From<bool> for Anonymous {
    fn from(enabled: bool) -> Self {
        Self { enabled, conditions: Vec::new() }
    }
}

impl Anonymous {
    /// Whether requests for the path may come from nobody in particular.
    pub(crate) fn may_ask(&self, path: &str) -> bool {
        self.enabled && (self.conditions.is_empty() || self.conditions.iter().any(|place| place.path == path))
    }
}

/// More issuers than these are refused.
const MOST_ISSUERS: usize = 64;
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];

impl Settings {
    /// Reads the file: its text, and what it says. `own` is the issuer of this cluster's service accounts.
    pub(crate) fn load(path: &Path, own: &str) -> Result<(String, Self), String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let settings = Self::parse(&text, own).map_err(|why| format!("{}: {why}", path.display()))?;
        Ok((text, settings))
    }

    pub(crate) fn parse(text: &str, own: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|e| format!("strict decoding error: {e}"))?;
        let version = file.api_version.strip_prefix("apiserver.config.k8s.io/").unwrap_or("");
        if file.kind != "AuthenticationConfiguration" || !VERSIONS.contains(&version) {
            return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
        }
        let mut errors = Vec::new();
        let issuers = read(&file, own, &mut errors);
        match errors.as_slice() {
            [] => Ok(Self { issuers, anonymous: file.anonymous }),
            [one] => Err(one.to_string()),
            several => {
                let lines: Vec<String> = several.iter().map(ToString::to_string).collect();
                Err(format!("[{}]", lines.join(", ")))
            }
        }
    }
}

fn read(file: &File, own: &str, errors: &mut Vec<Invalid>) -> Vec<Issuer> {
    if file.jwt.len() > MOST_ISSUERS {
        errors.push(Invalid::too_many("jwt", file.jwt.len(), MOST_ISSUERS));
        return Vec::new();
    }
    let (mut urls, mut documents) = (HashSet::new(), HashSet::new());
    let mut issuers = Vec::new();
    for (index, jwt) in file.jwt.iter().enumerate() {
        let at = format!("jwt[{index}]");
        check_issuer(&jwt.issuer, own, &format!("{at}.issuer"), errors);
        issuers.extend(issuer(jwt, &at, errors));
        if !urls.insert(&jwt.issuer.url) {
            errors.push(Invalid::duplicate(&format!("{at}.issuer.url"), &jwt.issuer.url.as_str().into()));
        }
        let discovery = &jwt.issuer.discovery_url;
        if !discovery.is_empty() && !documents.insert(discovery) {
            errors.push(Invalid::duplicate(&format!("{at}.issuer.discoveryURL"), &discovery.as_str().into()));
        }
    }
    if let Some(anonymous) = file.anonymous.as_ref().filter(|a| !a.enabled && !a.conditions.is_empty()) {
        let given: Vec<Value> = anonymous.conditions.iter().map(|place| place.path.as_str().into()).collect();
        let why = "enabled should be set to true when conditions are defined";
        errors.push(Invalid::invalid("anonymous.conditions", &given.into(), why));
    }
    issuers
}

fn check_url(url: &str, at: &str, errors: &mut Vec<Invalid>) {
    let mut refuse = |why: &str| errors.push(Invalid::invalid(at, &url.into(), why));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        refuse("URL scheme must be https");
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if rest.split('/').next().unwrap_or("").contains('@') {
        refuse("URL must not contain a username or password");
    }
    if !query.is_empty() {
        refuse("URL must not contain a query");
    }
    if !fragment.is_empty() {
        refuse("URL must not contain a fragment");
    }
}

fn check_issuer(issuer: &Of, own: &str, at: &str, errors: &mut Vec<Invalid>) {
    let url_at = format!("{at}.url");
    if issuer.url.is_empty() {
        errors.push(Invalid::required(&url_at, ""));
    } else {
        if issuer.url == own {
            let why = format!("URL must not overlap with disallowed issuers: [{own}]");
            errors.push(Invalid::invalid(&url_at, &own.into(), why));
        }
        check_url(&issuer.url, &url_at, errors);
    }
    let discovery = issuer.discovery_url.as_str();
    if !discovery.is_empty() {
        let discovery_at = format!("{at}.discoveryURL");
        if !issuer.url.is_empty() && issuer.url.trim_end_matches('/') == discovery.trim_end_matches('/') {
            let why = "discoveryURL must be different from URL";
            errors.push(Invalid::invalid(&discovery_at, &discovery.into(), why));
        }
        check_url(discovery, &discovery_at, errors);
    }
    let audiences_at = format!("{at}.audiences");
    if issuer.audiences.is_empty() {
        errors.push(Invalid::required(&audiences_at, format!("at least one {audiences_at} is required")));
    }
    let mut seen = HashSet::new();
    for (index, audience) in issuer.audiences.iter().enumerate() {
        let at = format!("{audiences_at}[{index}]");
        if audience.is_empty() {
            errors.push(Invalid::required(&at, ""));
        }
        if !seen.insert(audience) {
            errors.push(Invalid::duplicate(&at, &audience.as_str().into()));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let why = match issuer.audiences.len() {
        0 => None,
        1 if policy.is_empty() => None,
        1 => Some("audienceMatchPolicy must be empty or MatchAny for single audience"),
        _ => Some("audienceMatchPolicy must be MatchAny for multiple audiences"),
    };
    if let Some(why) = why.filter(|_| policy != "MatchAny") {
        errors.push(Invalid::invalid(&format!("{at}.audienceMatchPolicy"), &policy.into(), why));
    }
    if !issuer.certificate_authority.is_empty() && pki::client_config(&issuer.certificate_authority, None).is_err() {
        let why = "data does not contain any valid RSA or ECDSA certificates";
        errors.push(Invalid::invalid(&format!("{at}.certificateAuthority"), &"<omitted>".into(), why));
    }
    let egress = issuer.egress_selector_type.as_str();
    if !matches!(egress, "" | "controlplane" | "cluster") {
        let why = "egress selector must be either controlplane or cluster";
        errors.push(Invalid::invalid(&format!("{at}.egressSelectorType"), &egress.into(), why));
    }
}

fn claims() -> Type {
    Type::Map(Box::new(Type::String), Box::new(Type::Dyn))
}

fn user() -> Type {
    let texts = || Type::List(Box::new(Type::String));
    let extra = Type::Map(Box::new(Type::String), Box::new(texts()));
    let fields = [("username", Type::String), ("uid", Type::String), ("groups", texts()), ("extra", extra)];
    Type::Object(std::sync::Arc::new(fields.map(|(name, kind)| (name.to_owned(), kind)).into()))
}

/// An expression over one variable; `must_hold`: a condition.
fn compile(
    source: &str,
    (variable, kind): (&str, Type),
    must_hold: bool,
    at: &str,
    errors: &mut Vec<Invalid>,
) -> Option<Expression> {
    let environment = [(variable.to_owned(), kind)].into();
    let compiled = cel::parse(source).and_then(|expr| Ok((cel::check(&expr, source, &environment)?, expr)));
    let why = match compiled {
        Ok((found, _)) if must_hold && found != Type::Bool => "must evaluate to bool".into(),
        Ok((_, expr)) => match cel::instantiate(&expr) {
            Ok(()) => return Some(Expression { source: source.into(), expr }),
            Err(why) => format!("program instantiation failed: {why}"),
        },
        Err(why) => format!("compilation failed: {why}"),
    };
    errors.push(Invalid::invalid(at, &source.into(), why));
    None
}

/// A claim with a prefix, or an expression.
fn mapping(given: &Prefixed, at: &str, is_username: bool, errors: &mut Vec<Invalid>) -> Option<Mapping> {
    match (given.claim.as_str(), given.expression.as_str()) {
        ("", "") => {
            if is_username {
                errors.push(Invalid::required(at, "claim or expression is required"));
            }
            None
        }
        ("", source) => {
            if let Some(prefix) = &given.prefix {
                let why = "may not be specified when expression is set";
                errors.push(Invalid::invalid(&format!("{at}.prefix"), &prefix.as_str().into(), why));
            }
            let at = format!("{at}.expression");
            compile(source, ("claims", claims()), false, &at, errors).map(Mapping::Expression)
        }
        (name, "") => {
            if given.prefix.is_none() {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.push(Invalid::required(&format!("{at}.prefix"), why));
            }
            Some(Mapping::Claim { name: name.into(), prefix: given.prefix.clone().unwrap_or_default() })
        }
        _ => {
            errors.push(Invalid::invalid(at, &"".into(), "claim and expression can't both be set"));
            None
        }
    }
}

/// What the claims must be: values of some, and conditions.
type Demands = (Vec<(String, String)>, Vec<Condition>);

fn demands(rules: &[ClaimRule], at: &str, errors: &mut Vec<Invalid>) -> Demands {
    let (mut required, mut conditions) = (Vec::new(), Vec::new());
    let (mut claims_seen, mut sources) = (HashSet::new(), HashSet::new());
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{at}[{index}]");
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => errors.push(Invalid::required(&at, "claim or expression is required")),
            (claim, "") => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.push(Invalid::invalid(&format!("{at}.message"), &rule.message.as_str().into(), why));
                }
                if !claims_seen.insert(claim) {
                    errors.push(Invalid::duplicate(&format!("{at}.claim"), &claim.into()));
                }
                required.push((claim.to_owned(), rule.required_value.clone()));
            }
            ("", source) => {
                let value = rule.required_value.as_str();
                if !value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.push(Invalid::invalid(&format!("{at}.requiredValue"), &value.into(), why));
                }
                let at = format!("{at}.expression");
                if !sources.insert(source) {
                    errors.push(Invalid::duplicate(&at, &source.into()));
                    continue;
                }
                let compiled = compile(source, ("claims", claims()), true, &at, errors);
                conditions.extend(compiled.map(|expression| Condition { expression, message: rule.message.clone() }));
            }
            (claim, _) => {
                errors.push(Invalid::invalid(&at, &claim.into(), "claim and expression can't both be set"));
            }
        }
    }
    (required, conditions)
}

fn check_key(key: &str, at: &str, errors: &mut Vec<Invalid>) {
    let mut refuse = |why: String| errors.push(Invalid::invalid(at, &key.into(), why));
    let domain = match key.split_once('/') {
        _ if key.is_empty() => {
            errors.push(Invalid::required(at, ""));
            return;
        }
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            kinds::names::subdomain(domain).into_iter().for_each(&mut refuse);
            domain
        }
        _ => {
            refuse("must be a domain-prefixed path (such as \"acme.io/foo\")".into());
            ""
        }
    };
    if key != key.to_lowercase() {
        refuse("must be lowercase".into());
    }
    if ["kubernetes.io", "k8s.io"].iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}"))) {
        refuse("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use".into());
    }
}

fn extras(given: &[Extra], at: &str, errors: &mut Vec<Invalid>) -> Vec<(String, Expression)> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (index, extra) in given.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let key_at = format!("{at}.key");
        check_key(&extra.key, &key_at, errors);
        let at = format!("{at}.valueExpression");
        if !seen.insert(&extra.key) {
            errors.push(Invalid::duplicate(&key_at, &extra.key.as_str().into()));
        } else if extra.value_expression.is_empty() {
            errors.push(Invalid::required(&at, ""));
        } else {
            let compiled = compile(&extra.value_expression, ("claims", claims()), false, &at, errors);
            all.extend(compiled.map(|expression| (extra.key.clone(), expression)));
        }
    }
    all
}

fn user_conditions(rules: &[UserRule], at: &str, errors: &mut Vec<Invalid>) -> Vec<Condition> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let at = format!("{at}[{index}].expression");
        if rule.expression.is_empty() {
            errors.push(Invalid::required(&at, ""));
        } else if !seen.insert(&rule.expression) {
            errors.push(Invalid::duplicate(&at, &rule.expression.as_str().into()));
        } else {
            let compiled = compile(&rule.expression, ("user", user()), true, &at, errors);
            all.extend(compiled.map(|expression| Condition { expression, message: rule.message.clone() }));
        }
    }
    all
}

fn issuer(jwt: &Jwt, at: &str, errors: &mut Vec<Invalid>) -> Option<Issuer> {
    let (required, conditions) = demands(&jwt.claim_validation_rules, &format!("{at}.claimValidationRules"), errors);
    let given = &jwt.claim_mappings;
    let at_mappings = format!("{at}.claimMappings");
    let username = mapping(&given.username, &format!("{at_mappings}.username"), true, errors);
    let groups = mapping(&given.groups, &format!("{at_mappings}.groups"), false, errors);
    let uid = match (given.uid.claim.as_str(), given.uid.expression.as_str()) {
        ("", "") => None,
        (name, "") => Some(Mapping::Claim { name: name.into(), prefix: String::new() }),
        ("", source) => {
            let at = format!("{at_mappings}.uid.expression");
            compile(source, ("claims", claims()), false, &at, errors).map(Mapping::Expression)
        }
        _ => {
            let why = "claim and expression can't both be set";
            errors.push(Invalid::invalid(&format!("{at_mappings}.uid"), &"".into(), why));
            None
        }
    };
    let extra = extras(&given.extra, &format!("{at_mappings}.extra"), errors);
    if let Some(Mapping::Expression(expression)) = &username
        && expression.expr.selects("claims", "email")
    {
        let others = conditions.iter().map(|c| &c.expression).chain(extra.iter().map(|(_, expression)| expression));
        if !others.chain([expression]).any(|e| e.expr.selects("claims", "email_verified")) {
            let why = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
            let source = expression.source.as_str();
            errors.push(Invalid::invalid(&format!("{at_mappings}.username.expression"), &source.into(), why));
        }
    }
    let user_conditions = user_conditions(&jwt.user_validation_rules, &format!("{at}.userValidationRules"), errors);
    let rules = Rules {
        issuer: jwt.issuer.url.clone(),
        audiences: jwt.issuer.audiences.clone(),
        required,
        conditions,
        username: username?,
        groups,
        uid,
        extra,
        user_conditions,
    };
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    Some(Issuer {
        rules,
        discovery: given(&jwt.issuer.discovery_url),
        authorities: given(&jwt.issuer.certificate_authority),
        algorithms: ALGORITHMS.map(Into::into).into(),
    })
}

/// Accepted signatures; which may be chosen by flags only.
const ALGORITHMS: [&str; 9] = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512", "EdDSA"];

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with the file of these issuers.
    fn refused(jwt: &str) -> String {
        let text = format!("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: [{jwt}]");
        Settings::parse(&text, "https://own").unwrap_err()
    }

    /// What is wrong with the issuer whose mappings and rules are these.
    fn mappings(rest: &str) -> String {
        refused(&format!("{{issuer: {{url: 'https://a', audiences: [x]}}, {rest}}}"))
    }

    const NAMED: &str = "claimMappings: {username: {claim: sub, prefix: ''}}";

    #[test]
    fn bad_issuers_are_refused_in_upstreams_words() {
        let check = |issuer: &str, wanted: &str| assert_eq!(refused(&format!("{{issuer: {issuer}, {NAMED}}}")), wanted);
        check("{audiences: [x]}", "jwt[0].issuer.url: Required value");
        check(
            "{url: 'http://a', audiences: [x]}",
            "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
        );
        check(
            "{url: 'https://u@a?q#f', audiences: [x]}",
            "[jwt[0].issuer.url: Invalid value: \"https://u@a?q#f\": URL must not contain a username or password, jwt[0].issuer.url: Invalid value: \"https://u@a?q#f\": URL must not contain a query, jwt[0].issuer.url: Invalid value: \"https://u@a?q#f\": URL must not contain a fragment]",
        );
        check(
            "{url: 'https://own', audiences: [x]}",
            "jwt[0].issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]",
        );
        check(
            "{url: 'https://a', discoveryURL: 'https://a/', audiences: [x]}",
            "jwt[0].issuer.discoveryURL: Invalid value: \"https://a/\": discoveryURL must be different from URL",
        );
        check(
            "{url: 'https://a'}",
            "jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required",
        );
        check(
            "{url: 'https://a', audiences: [x, x]}",
            "[jwt[0].issuer.audiences[1]: Duplicate value: \"x\", jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences]",
        );
        let twice = format!("{{issuer: {{url: 'https://a', audiences: [x]}}, {NAMED}}}");
        assert_eq!(refused(&format!("{twice}, {twice}")), "jwt[1].issuer.url: Duplicate value: \"https://a\"");
        let anonymous = "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\nanonymous: {enabled: false, conditions: [{path: /livez}]}";
        let why = Settings::parse(anonymous, "").unwrap_err();
        assert!(why.ends_with("enabled should be set to true when conditions are defined"), "{why}");
    }

    #[test]
    fn bad_mappings_and_rules_are_refused_in_upstreams_words() {
        let check = |rest: &str, wanted: &str| assert_eq!(mappings(rest), wanted);
        check("claimMappings: {}", "jwt[0].claimMappings.username: Required value: claim or expression is required");
        check(
            "claimMappings: {username: {claim: sub}}",
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        );
        check(
            "claimMappings: {username: {claim: sub, expression: claims.sub}}",
            "jwt[0].claimMappings.username: Invalid value: \"\": claim and expression can't both be set",
        );
        check(
            "claimMappings: {username: {expression: claims.email}}",
            "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
        );
        check(
            "claimMappings: {username: {expression: claims.sub}, extra: [{key: foo, valueExpression: claims.a}, {key: a.k8s.io/b, valueExpression: claims.a}]}",
            "[jwt[0].claimMappings.extra[0].key: Invalid value: \"foo\": must be a domain-prefixed path (such as \"acme.io/foo\"), jwt[0].claimMappings.extra[1].key: Invalid value: \"a.k8s.io/b\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use]",
        );
        check(
            &format!("{NAMED}, claimValidationRules: [{{expression: claims.sub}}, {{}}, {{claim: a, message: b}}]"),
            "[jwt[0].claimValidationRules[0].expression: Invalid value: \"claims.sub\": must evaluate to bool, jwt[0].claimValidationRules[1]: Required value: claim or expression is required, jwt[0].claimValidationRules[2].message: Invalid value: \"b\": may not be specified when claim is set]",
        );
        let why = mappings(&format!("{NAMED}, userValidationRules: [{{expression: user.name == 'a'}}]"));
        assert!(why.starts_with("jwt[0].userValidationRules[0].expression: Invalid value: \"user.name == 'a'\": compilation failed: ERROR: <input>:1:5: undefined field 'name'"), "{why}");
    }
}
