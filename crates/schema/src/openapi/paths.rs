//! Which paths there are and what can be done at each, as upstream's installer has it.

use object::Gvk;
use serde_json::{Map, Value};

use super::operation::{Answer, Body, Operation, item};
use super::parameters::Parameter;
use super::{Dialect, META, Part, Served};

const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Custom resources have no merge keys. By this clients know which patch to send.
const CUSTOM_PATCHES: [&str; 3] = [PATCHES[0], PATCHES[1], PATCHES[3]];
const OBJECTS: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAMS: [&str; 5] = [
    OBJECTS[0],
    OBJECTS[1],
    OBJECTS[2],
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
const CUSTOM_OBJECTS: [&str; 2] = [OBJECTS[0], OBJECTS[1]];

const PRETTY: &str = "pretty-tJGM1-ng";
const NAMESPACE: &str = "namespace-vgWSWtn3";
const REST_OF_PATH: &str = "path-z6Ciiujn";
const REVISION: &str = "resourceVersion-5WAnf1kx";
const WRITE: [&str; 3] = ["dryRun", "fieldManager-Qy4HdaTW", "fieldValidation"];
const PATCH: [&str; 4] = ["dryRun", "fieldManager-7c6nTn1T", "fieldValidation", "force-tOGGb0Yi"];
const DELETE: [&str; 5] = [
    "dryRun",
    "gracePeriodSeconds--K5HaBOS",
    "ignoreStoreReadErrorWithClusterBreakingPotential-QbNkfIqj",
    "orphanDependents-uRB25kX5",
    "propagationPolicy-6jk3prlO",
];
const SELECT: [&str; 9] = [
    "continue-QfD61s0i",
    "fieldSelector-xIcQKXFG",
    "labelSelector-5Zw57w4C",
    "limit-1NfNmdNH",
    REVISION,
    "resourceVersionMatch-t8XhRHeC",
    "sendInitialEvents-rLXlEK_k",
    "shardSelector-Kgyki_3_",
    "timeoutSeconds-yvYezaOC",
];
const WATCH: [&str; 2] = ["allowWatchBookmarks-HC2hJt-J", "watch-XNNPZGbK"];
const LOG: [&str; 9] = [
    "container-1GeXxFDC",
    "follow-9OIXh_2R",
    "insecureSkipTLSVerifyBackend-gM00jVbe",
    "limitBytes-zwd1RXuc",
    "previous-1jxDPu3y",
    "sinceSeconds-vE2NLdnP",
    "stream-l-48cgXv",
    "tailLines-9xQLWHMV",
    "timestamps-c17fW1w_",
];

/// What a connection's options take.
fn connect_parameters(kind: &str) -> &'static [&'static str] {
    match kind {
        "PodExecOptions" => &[
            "command-Py3eQybp",
            "container-i5dOmRiM",
            "stderr-W_1TNlWc",
            "stdin-PSzNhyUC",
            "stdout--EZLRwV1",
            "tty-s0flW37O",
        ],
        "PodAttachOptions" => {
            &["container-_Q-EJ3nR", "stderr-26jJhFUR", "stdin-sEFnN3IS", "stdout-005YMKE6", "tty-g7MlET_l"]
        }
        "PodPortForwardOptions" => &["ports-91KROJmm"],
        "PodProxyOptions" => &["path-oPbzgLUj"],
        "ServiceProxyOptions" => &["path-QCf0eosM"],
        "NodeProxyOptions" => &["path-rFDtV0x9"],
        _ => &[],
    }
}

/// The paths of all resources.
pub(super) fn all(resources: &[Served], dialect: Dialect) -> Map<String, Value> {
    let mut paths = Map::new();
    let mut add = |path: String, operations: Vec<Operation>| {
        if !operations.is_empty() {
            paths.insert(path, item(operations, dialect));
        }
    };
    for resource in resources {
        let of = Of { resource, across: false };
        let gvr = object::Gvr::new(&resource.group, &resource.version, &resource.plural);
        let collection = gvr.path(resource.namespaced.then_some("{namespace}"));
        let one = format!("{collection}/{{name}}");
        let root = gvr.path(None).trim_end_matches(&resource.plural).trim_end_matches('/').to_owned();
        let watched = |path: &str| format!("{root}/watch{}", path.trim_start_matches(&root));
        let watches = resource.custom.is_none() && resource.has("watch");
        add(
            collection.clone(),
            ["list", "create", "deletecollection"].iter().filter_map(|v| of.on_collection(v)).collect(),
        );
        add(one.clone(), ["get", "update", "patch", "delete"].iter().filter_map(|v| of.on_one(v)).collect());
        if watches {
            add(watched(&collection), vec![of.watch(true)]);
            add(watched(&one), vec![of.watch(false)]);
        }
        if resource.namespaced && resource.has("list") {
            let of = Of { resource, across: true };
            add(gvr.path(None), of.on_collection("list").into_iter().collect());
            if watches {
                add(watched(&gvr.path(None)), vec![of.watch(true)]);
            }
        }
        for part in &resource.parts {
            let path = format!("{one}/{}", part.name);
            add(path.clone(), of.part(part, false));
            if part.name == "proxy" {
                add(format!("{path}/{{path}}"), of.part(part, true));
            }
        }
    }
    paths
}

/// A document about documents: what groups and versions there are, what is in a version.
pub(super) fn discovery(path: &str, group: Option<(&str, Option<&str>)>) -> Operation {
    let (id, words, tag, answer) = match group {
        None if path == "/api/" => {
            ("getCoreAPIVersions".into(), "get available API versions", "core".into(), "APIVersions")
        }
        None => ("getAPIVersions".into(), "get available API versions", "apis".into(), "APIGroupList"),
        Some((group, None)) => (
            format!("get{}APIGroup", identifier(group, true)),
            "get information of a group",
            identifier(group, false),
            "APIGroup",
        ),
        Some((group, Some(version))) => (
            format!("get{}{}APIResources", identifier(group, true), identifier(version, true)),
            "get available resources",
            format!("{}_{version}", identifier(group, false)),
            "APIResourceList",
        ),
    };
    Operation {
        method: "get",
        id,
        words: words.into(),
        tag,
        action: None,
        parameters: Vec::new(),
        body: Body::None,
        consumes: OBJECTS.into(),
        produces: OBJECTS.into(),
        answer: Answer::Object(format!("{META}.{answer}")),
        codes: &[200],
    }
}

/// A document beside the API: the version, the keys of tokens.
pub(super) fn other(path: &str) -> Option<Operation> {
    let (id, words, tag, media, answer) = match path {
        "/version/" => (
            "getCodeVersion",
            "get the version information for this server",
            "version",
            "application/json",
            Answer::Object("io.k8s.apimachinery.pkg.version.Info".into()),
        ),
        "/.well-known/openid-configuration/" => (
            "getServiceAccountIssuerOpenIDConfiguration",
            "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
            "WellKnown",
            "application/json",
            Answer::Text,
        ),
        "/openid/v1/jwks/" => (
            "getServiceAccountIssuerOpenIDKeyset",
            "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
            "openid",
            "application/jwk-set+json",
            Answer::Text,
        ),
        _ => return None,
    };
    Some(Operation {
        method: "get",
        id: id.into(),
        words: words.into(),
        tag: tag.into(),
        action: None,
        parameters: Vec::new(),
        body: Body::None,
        consumes: if path == "/version/" { vec![media] } else { Vec::new() },
        produces: vec![media],
        answer,
        codes: &[200],
    })
}

/// The group as identifiers have it (`core`, `apps`, `rbacAuthorization`, `exampleOrg`).
fn identifier(text: &str, mut capital: bool) -> String {
    let text = if text.is_empty() { "core" } else { text.strip_suffix(".k8s.io").unwrap_or(text) };
    let mut out = String::new();
    for c in text.chars() {
        if !c.is_alphanumeric() && c != '_' {
            capital = true;
        } else if std::mem::take(&mut capital) {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// `a Pod`, `an Event`, `Endpoints`.
fn with_article(kind: &str) -> String {
    match kind {
        plural if plural.ends_with('s') && !plural.ends_with("ss") => plural.into(),
        _ if kind.starts_with(['A', 'E', 'I', 'O', 'U']) => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}

/// A resource, in one namespace or in all.
struct Of<'a> {
    resource: &'a Served,
    across: bool,
}

impl Of<'_> {
    /// `readAppsV1NamespacedDeploymentScale`.
    fn id(&self, verb: &str, before: &str, after: &str) -> String {
        let resource = self.resource;
        let scope = if resource.namespaced && !self.across { "Namespaced" } else { "" };
        let all = if self.across { "ForAllNamespaces" } else { "" };
        let group = identifier(&resource.group, true);
        format!("{verb}{group}{}{before}{scope}{}{after}{all}", identifier(&resource.version, true), resource.kind)
    }

    fn one(&self, method: &'static str, action: &'static str, id: String, words: String) -> Operation {
        let resource = self.resource;
        let custom = resource.custom.is_some();
        let parameters = if resource.namespaced && !self.across { vec![PRETTY, NAMESPACE] } else { vec![PRETTY] };
        Operation {
            method,
            id,
            words,
            tag: format!("{}_{}", identifier(&resource.group, false), resource.version),
            action: Some((action, Gvk::new(&resource.group, &resource.version, &resource.kind))),
            parameters: parameters.into_iter().map(Parameter::Known).collect(),
            body: Body::None,
            consumes: if custom { CUSTOM_OBJECTS.into() } else { vec!["*/*"] },
            produces: if custom { CUSTOM_OBJECTS.into() } else { OBJECTS.into() },
            answer: Answer::Object(resource.schema.clone()),
            codes: &[200],
        }
    }

    /// The same for one object, by its name.
    fn named(&self, method: &'static str, action: &'static str, id: String, words: String) -> Operation {
        let mut operation = self.one(method, action, id, words);
        operation.parameters.push(Parameter::Name(self.resource.kind.clone()));
        operation
    }

    fn on_collection(&self, verb: &str) -> Option<Operation> {
        let resource = self.resource;
        let (kind, custom) = (&resource.kind, resource.custom.is_some());
        if !resource.has(verb) {
            return None;
        }
        let mut operation = match verb {
            "list" => {
                let watch = if resource.has("watch") && !custom { "list or watch" } else { "list" };
                let words = format!("{watch} objects of kind {kind}");
                let mut list = self.one("get", "list", self.id("list", "", ""), words);
                if !custom {
                    list.produces = STREAMS.into();
                }
                list.answer = Answer::Object(format!("{}List", resource.schema));
                list
            }
            "create" => {
                let mut create =
                    self.one("post", "post", self.id("create", "", ""), format!("create {}", with_article(kind)));
                create.body = Body::Object(resource.schema.clone());
                create.codes = &[200, 201, 202];
                create
            }
            _ => {
                let words = format!("delete collection of {kind}");
                let mut delete = self.one("delete", "deletecollection", self.id("delete", "Collection", ""), words);
                delete.answer = Answer::Object(format!("{META}.Status"));
                if !custom {
                    delete.body = Body::DeleteOptions;
                }
                delete
            }
        };
        operation.parameters.extend(match (verb, custom) {
            ("create", _) => known(&[&WRITE]),
            ("list", _) | (_, true) => known(&[&SELECT, &WATCH]),
            _ => known(&[&SELECT, &DELETE]),
        });
        Some(operation)
    }

    fn on_one(&self, verb: &str) -> Option<Operation> {
        let resource = self.resource;
        let kind = &resource.kind;
        if !resource.has(verb) {
            return None;
        }
        if verb != "delete" {
            return self.read_or_write(verb, "", format!("the specified {kind}"), &resource.schema);
        }
        let words = format!("delete {}", with_article(kind));
        let mut delete = self.named("delete", "delete", self.id("delete", "", ""), words);
        delete.body = Body::DeleteOptions;
        delete.codes = &[200, 202];
        delete.parameters.extend(known(&[&DELETE]));
        // A namespace is returned, too, but upstream's document does not say so.
        if !resource.returned_by_delete || resource.plural == "namespaces" {
            delete.answer = Answer::Object(format!("{META}.Status"));
        }
        Some(delete)
    }

    /// A read, a replacement or a patch, of an object or of a part.
    fn read_or_write(&self, verb: &str, part: &str, what: String, schema: &str) -> Option<Operation> {
        let custom = self.resource.custom.is_some();
        let part = capital(part);
        let mut operation = match verb {
            "get" => {
                let mut get = self.named("get", "get", self.id("read", "", &part), format!("read {what}"));
                if custom {
                    get.parameters.push(Parameter::Known(REVISION));
                }
                get
            }
            "update" => {
                let mut put = self.named("put", "put", self.id("replace", "", &part), format!("replace {what}"));
                put.parameters.extend(known(&[&WRITE]));
                put.body = Body::Object(schema.into());
                put.codes = &[200, 201];
                put
            }
            "patch" => {
                let words = format!("partially update {what}");
                let mut patch = self.named("patch", "patch", self.id("patch", "", &part), words);
                patch.parameters.extend(known(&[&PATCH]));
                patch.body = Body::Patch;
                patch.consumes = if custom { CUSTOM_PATCHES.into() } else { PATCHES.into() };
                patch.codes = if custom { &[200] } else { &[200, 201] };
                patch
            }
            _ => return None,
        };
        operation.answer = Answer::Object(schema.into());
        Some(operation)
    }

    fn watch(&self, list: bool) -> Operation {
        let kind = &self.resource.kind;
        let instead = "deprecated: use the 'watch' parameter with a list operation instead";
        let mut watch = if list {
            let words = format!("watch individual changes to a list of {kind}. {instead}.");
            self.one("get", "watchlist", self.id("watch", "", "List"), words)
        } else {
            let words = format!(
                "watch changes to an object of kind {kind}. {instead}, filtered to a single item with the 'fieldSelector' parameter."
            );
            self.named("get", "watch", self.id("watch", "", ""), words)
        };
        watch.parameters.extend(known(&[&SELECT, &WATCH]));
        watch.produces = STREAMS.into();
        watch.answer = Answer::Object(format!("{META}.WatchEvent"));
        watch
    }

    /// The operations of a subresource.
    fn part(&self, part: &Part, with_path: bool) -> Vec<Operation> {
        let (kind, name) = (&self.resource.kind, &part.name);
        if part.body.kind.ends_with("Options") {
            let methods: &[&str] = match name.as_str() {
                "proxy" => &["get", "put", "post", "delete", "options", "head", "patch"],
                _ => &["get", "post"],
            };
            return methods.iter().map(|method| self.connect(method, part, with_path)).collect();
        }
        let mut operations = Vec::new();
        for verb in &part.verbs {
            let mut operation = if verb == "create" {
                let words = format!("create {name} of {}", with_article(kind));
                let mut create = self.named("post", "post", self.id("create", "", &capital(name)), words);
                create.parameters.extend(known(&[&WRITE]));
                create.body = Body::Object(part.schema.clone());
                create.answer = Answer::Object(part.schema.clone());
                create.codes = &[200, 201, 202];
                create
            } else {
                let what = format!("{name} of the specified {kind}");
                let Some(operation) = self.read_or_write(verb, name, what, &part.schema) else { continue };
                operation
            };
            if name == "log" {
                operation.answer = Answer::Text;
                operation.produces = [&["text/plain"], &OBJECTS[..]].concat();
                operation.parameters.extend(known(&[&LOG]));
            }
            operations.push(self.about(part, operation));
        }
        operations
    }

    fn connect(&self, method: &&'static str, part: &Part, with_path: bool) -> Operation {
        let name = capital(&part.name);
        let rest = if with_path { "WithPath" } else { "" };
        let id = self.id("connect", &capital(method), &format!("{name}{rest}"));
        let words = format!("connect {} requests to {} of {}", method.to_uppercase(), part.name, self.resource.kind);
        let mut connect = self.named(method, "connect", id, words);
        connect.parameters.retain(|p| *p != Parameter::Known(PRETTY));
        connect.parameters.extend(known(&[connect_parameters(&part.body.kind)]));
        if with_path {
            connect.parameters.push(Parameter::Known(REST_OF_PATH));
        }
        connect.produces = vec!["*/*"];
        connect.answer = Answer::Text;
        self.about(part, connect)
    }

    /// Operations on parts of built-in resources speak of what is sent.
    fn about(&self, part: &Part, mut operation: Operation) -> Operation {
        if self.resource.custom.is_none() {
            for parameter in &mut operation.parameters {
                if let Parameter::Name(kind) = parameter {
                    kind.clone_from(&part.body.kind);
                }
            }
            if let Some((_, gvk)) = &mut operation.action {
                *gvk = part.body.clone();
            }
        }
        operation
    }
}

fn known(sets: &[&[&'static str]]) -> Vec<Parameter> {
    sets.iter().flat_map(|set| set.iter().map(|id| Parameter::Known(id))).collect()
}
