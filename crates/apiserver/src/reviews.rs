//! Reviews: questions about identity and permission. Nothing of them is stored.

use client::Resource;
use kinds::Kind;
use object::{Invalid, Reason, Status};
use rbac::Attributes;
use serde_json::{Value, json};

use crate::admission;
use crate::api::Api;
use crate::authz::Denial;
use crate::decode;
use crate::user::User;
use crate::write::{Body, WriteQuery};

/// What a review must say.
fn check(kind: &str, spec: &Value, namespace: Option<&str>) -> Result<(), Status> {
    let mut errors = Vec::new();
    match kind {
        "TokenReview" if text(spec, "token").is_empty() => {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        "SelfSubjectRulesReview" if text(spec, "namespace").is_empty() => {
            return Err(Status::bad_request("no namespace on request"));
        }
        "SubjectAccessReview" | "LocalSubjectAccessReview" | "SelfSubjectAccessReview" => {
            let given = |key: &str| spec[key].is_object();
            let only_one = "nonResourceAttributes or resourceAttributes must be specified";
            match (given("resourceAttributes"), given("nonResourceAttributes")) {
                (true, true) => errors.push(Invalid::invalid(
                    "spec.nonResourceAttributes",
                    &spec["nonResourceAttributes"],
                    "cannot be specified in combination with resourceAttributes",
                )),
                (false, false) => {
                    let why = format!("exactly one of {only_one}");
                    errors.push(Invalid::invalid("spec.resourceAttributes", &Value::Null, why));
                }
                _ => {}
            }
            kinds::validate_attributes(&spec["resourceAttributes"], &mut errors);
            let nobody = text(spec, "user").is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
            if kind != "SelfSubjectAccessReview" && nobody {
                let why = "at least one of user or group must be specified";
                errors.push(Invalid::invalid("spec.user", &"".into(), why));
            }
            if kind == "LocalSubjectAccessReview" {
                let other = text(&spec["resourceAttributes"], "namespace");
                if given("nonResourceAttributes") {
                    let why = "disallowed on this kind of request";
                    errors.push(Invalid::invalid("spec.nonResourceAttributes", &spec["nonResourceAttributes"], why));
                }
                if given("resourceAttributes") && namespace.is_some_and(|namespace| namespace != other) {
                    let why = "must match metadata.namespace";
                    errors.push(Invalid::invalid("spec.resourceAttributes.namespace", &other.into(), why));
                }
            }
        }
        _ => {}
    }
    // As upstream: shown with Go's names.
    for error in errors.iter_mut().filter(|error| error.field == "spec.nonResourceAttributes") {
        let name = "io.k8s.api.authorization.v1.NonResourceAttributes";
        error.value = schema::go::shown(schema::table(), name, &spec["nonResourceAttributes"]);
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("authorization.k8s.io", "", "", &errors)) }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("")
}

impl Api {
    /// POST of a review: the review with its status.
    pub(crate) async fn review(
        &self,
        user: &User,
        kind: &Kind,
        at: &Resource,
        body: &Body<'_>,
        query: &WriteQuery,
    ) -> Result<(Value, Vec<String>), Status> {
        let mut warnings = Vec::new();
        let read = decode::object(body.bytes, body.content_type, kind, query.validation, &mut warnings)?;
        let mut review = read.value;
        let namespace = at.namespace.as_deref();
        let name = review["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let admitted = admission::Attributes {
            user,
            kind,
            operation: admission::Operation::Create,
            subresource: "",
            namespace: namespace.unwrap_or(""),
            name: &name,
            title: &name,
            dry_run: query.dry_run,
            sent: admission::Sent::Write(query),
        };
        admission::mutate(self, &admitted, &mut review, &Value::Null, &mut warnings).await?;
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        let spec = review["spec"].clone();
        check(&kind.kind, &spec, namespace)?;
        admission::validate(self, &admitted, &review, &Value::Null, &mut warnings).await?;
        if kind.kind == "SelfSubjectReview" {
            review["metadata"]["creationTimestamp"] = base::time::now().into();
        }
        let status = match kind.kind.as_str() {
            "SelfSubjectReview" => json!({"userInfo": user_info(user)}),
            "TokenReview" => self.token_review(&spec).await,
            "SelfSubjectAccessReview" => self.access(user, &spec, None).await,
            "SubjectAccessReview" => self.access(&subject(&spec), &spec, None).await,
            "LocalSubjectAccessReview" => self.access(&subject(&spec), &spec, namespace).await,
            "SelfSubjectRulesReview" => self.rules(user, text(&spec, "namespace")),
            _ => {
                return Err(Status::new(
                    Reason::MethodNotAllowed,
                    "the server does not allow this method on the requested resource",
                ));
            }
        };
        match (kind.kind.as_str(), namespace) {
            ("LocalSubjectAccessReview", Some(namespace)) => review["metadata"]["namespace"] = namespace.into(),
            // As upstream: what was asked is not said again.
            ("SelfSubjectRulesReview", _) => review["spec"] = json!({}),
            _ => {}
        }
        review["status"] = status;
        Ok((review, warnings))
    }

    async fn token_review(&self, spec: &Value) -> Value {
        let audiences: Vec<String> = match spec["audiences"].as_array() {
            Some(given) if !given.is_empty() => given.iter().filter_map(Value::as_str).map(Into::into).collect(),
            _ => self.audiences(),
        };
        match self.token_user(text(spec, "token"), &audiences).await {
            Ok(known) => json!({"authenticated": true, "user": user_info(&known.user), "audiences": known.audiences}),
            Err(_) => json!({"user": {}, "error": self.refusal(text(spec, "token"), &audiences)}),
        }
    }

    /// Why a token is refused: one of ours that is for others says so.
    fn refusal(&self, token: &str, audiences: &[String]) -> String {
        let claims = self.pki.tokens.verify(token).ok().filter(|claims| claims["iss"] == self.issuer.as_str());
        let given = claims.as_ref().and_then(|claims| claims["aud"].as_array());
        let is_for_others = |given: &&Vec<Value>| !given.iter().any(|a| audiences.iter().any(|wanted| a == wanted));
        let Some(given) = given.filter(is_for_others) else { return "invalid bearer token".into() };
        let list = |all: &[String]| all.join(" ");
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        let wanted: Vec<String> = audiences.iter().map(|a| format!("{a:?}")).collect();
        let (given, wanted) = (list(&given), list(&wanted));
        format!("[invalid bearer token, token audiences [{given}] is invalid for the target audiences [{wanted}]]")
    }

    async fn access(&self, user: &User, spec: &Value, namespace: Option<&str>) -> Value {
        let resource = &spec["resourceAttributes"];
        let path = &spec["nonResourceAttributes"];
        let fields = selected(&resource["fieldSelector"]);
        let wanted = if resource.is_object() {
            Attributes {
                verb: text(resource, "verb"),
                group: text(resource, "group"),
                version: text(resource, "version"),
                resource: text(resource, "resource"),
                subresource: text(resource, "subresource"),
                namespace: namespace.unwrap_or_else(|| text(resource, "namespace")),
                name: text(resource, "name"),
                fields: &fields,
                ..Attributes::default()
            }
        } else {
            Attributes { verb: text(path, "verb"), path: text(path, "path"), ..Attributes::default() }
        };
        let decided = self.decide(user, &wanted).await;
        let mut answer = json!({"allowed": decided.is_ok()});
        let (reason, failed) = match decided {
            Ok(reason) => (reason, None),
            Err(Denial { reason, error }) => (reason, error),
        };
        if !reason.is_empty() {
            answer["reason"] = reason.into();
        }
        let unread = ["fieldSelector", "labelSelector"]
            .into_iter()
            .filter(|field| !is_read(&resource[*field], *field == "labelSelector"))
            .map(|field| format!("spec.resourceAttributes.{field} ignored due to parse error"));
        let errors: Vec<String> = failed.into_iter().chain(unread).collect();
        match errors.as_slice() {
            [] => {}
            [one] => answer["evaluationError"] = one.as_str().into(),
            all => answer["evaluationError"] = format!("[{}]", all.join(", ")).into(),
        }
        answer
    }

    fn rules(&self, user: &User, namespace: &str) -> Value {
        let all = self.rules_of(user, namespace);
        let (paths, resources): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| !r.non_resource_urls.is_empty());
        let mut rules = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
        if crate::authz::node_of(user).is_some() {
            rules["incomplete"] = true.into();
            rules["evaluationError"] = "node authorizer does not support user rule resolution".into();
        }
        rules
    }
}

/// What a review's field selector demands of single fields.
fn selected(selector: &Value) -> Vec<(String, bool, String)> {
    let requirements = selector["requirements"].as_array().cloned().unwrap_or_default();
    let one = |r: &Value| match (r["values"].as_array()?.as_slice(), text(r, "operator")) {
        ([value], "In") => Some((text(r, "key").to_owned(), true, value.as_str()?.to_owned())),
        ([value], "NotIn") => Some((text(r, "key").to_owned(), false, value.as_str()?.to_owned())),
        _ => None,
    };
    match text(selector, "rawSelector") {
        "" => requirements.iter().filter_map(one).collect(),
        raw => object::FieldSelector::parse(raw).unwrap_or_default().terms,
    }
}

/// True for a selector that is understood, or none.
fn is_read(selector: &Value, of_labels: bool) -> bool {
    let known = |r: &Value| match (text(r, "operator"), r["values"].as_array().map_or(0, Vec::len)) {
        ("In" | "NotIn", 1) => true,
        ("In" | "NotIn", _) | ("Exists" | "DoesNotExist", _) => of_labels,
        _ => false,
    };
    let raw = text(selector, "rawSelector");
    match of_labels {
        _ if raw.is_empty() => selector["requirements"].as_array().into_iter().flatten().all(known),
        true => object::LabelSelector::parse(raw).is_ok(),
        false => object::FieldSelector::parse(raw).is_ok(),
    }
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.as_str().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn subject(spec: &Value) -> User {
    let groups = spec["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect();
    let extra = serde_json::from_value(spec["extra"].clone()).unwrap_or_default();
    User { name: text(spec, "user").into(), groups, uid: text(spec, "uid").into(), extra }
}
