//! Admission webhooks: who is asked, in which order, and what their answers do.
//!
//! The configurations are kept compiled and followed by a task; a server without any asks nobody and pays nothing.

pub(crate) mod review;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use kinds::Kind;
use object::patch::json;
use object::{Gvk, Status};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::expressions::Condition;
use super::rounds::Rounds;
use super::versions::{self, Seen};
use super::{internal, matching};
use crate::api::Api;
use crate::metrics::extensions::Said;
use crate::webhook::{Unanswered, Webhook};
use crate::{audit, metrics};

const MUTATING: &str = "/registry/mutatingwebhookconfigurations/";
const VALIDATING: &str = "/registry/validatingwebhookconfigurations/";

/// All webhooks, in the order in which they are asked.
#[derive(Default)]
pub(crate) struct Hooks {
    mutating: Vec<Hook>,
    validating: Vec<Hook>,
}

/// One webhook of a configuration.
struct Hook {
    name: String,
    /// The name of its configuration.
    configuration: String,
    declared: Value,
    conditions: Vec<Condition>,
    client: Result<Webhook, String>,
    timeout: Duration,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

impl Hook {
    fn new(declared: &Value, configuration: &str) -> Self {
        Self {
            name: text(&declared["name"]).into(),
            configuration: configuration.into(),
            conditions: Condition::list(&declared["matchConditions"]),
            client: Webhook::parse(&declared["clientConfig"]),
            timeout: Duration::from_secs(declared["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30)),
            declared: declared.clone(),
        }
    }

    fn ignores_failures(&self) -> bool {
        self.declared["failurePolicy"] == "Ignore"
    }
}

impl Api {
    fn hooks_below(&self, prefix: &str) -> Vec<Hook> {
        let page = self.store.range(prefix, None, 0, 0);
        let objects = page.into_iter().flat_map(|page| page.items).map(|item| item.object);
        let mut hooks = Vec::new();
        for object in objects {
            let declared = object.value().unwrap_or_default();
            let declared = declared["webhooks"].as_array().into_iter().flatten();
            hooks.extend(declared.map(|hook| Hook::new(hook, &object.head.name)));
        }
        hooks
    }

    /// Reads the configurations anew; returns the revision that they are of at least.
    pub(crate) fn reload_hooks(&self) -> u64 {
        let revision = self.store.revision();
        let hooks = Hooks { mutating: self.hooks_below(MUTATING), validating: self.hooks_below(VALIDATING) };
        self.hooks.store(Arc::new(hooks));
        revision
    }

    /// Keeps the webhooks current until the token is cancelled.
    pub(crate) async fn follow_hooks(self: Arc<Self>, token: CancellationToken) {
        loop {
            let revision = self.reload_hooks();
            let watches: Vec<_> =
                [MUTATING, VALIDATING].iter().filter_map(|p| self.store.watch(p, revision).ok()).collect();
            let mut changes = futures::stream::select_all(watches);
            tokio::select! {
                () = token.cancelled() => return,
                // The streams end only with the store.
                change = changes.next() => if change.is_none() { return },
            }
        }
    }
}

/// The configurations themselves are asked about by nobody, so that a broken one can be mended.
fn is_exempt(kind: &Kind) -> bool {
    kind.group == "admissionregistration.k8s.io"
        && matches!(
            kind.kind.as_str(),
            "MutatingWebhookConfiguration"
                | "ValidatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}

/// How a webhook is to be asked: in which version of the resource.
struct Question<'h> {
    hook: &'h Hook,
    seen: Seen,
}

/// The webhook's question, if it is about the request.
async fn question<'h>(
    api: &Api,
    hook: &'h Hook,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
) -> Result<Option<Question<'h>>, Status> {
    let equivalent = hook.declared["matchPolicy"] != "Exact";
    let Some(gvr) = matching::by_rules(api, &hook.declared["rules"], at, equivalent) else { return Ok(None) };
    if !matching::by_namespace(api, &hook.declared["namespaceSelector"], at, object, old)
        || !matching::by_object(&hook.declared["objectSelector"], object, old)
    {
        return Ok(None);
    }
    let seen = Seen::new(api, at, object, old, &gvr).await?;
    let (object, old) = seen.objects(object, old);
    match super::expressions::all_hold(api, &hook.conditions, at, &seen.kind, object, old) {
        Ok(true) => Ok(Some(Question { hook, seen })),
        Ok(false) => Ok(None),
        Err(_) if hook.ignores_failures() => Ok(None),
        Err(why) => Err(at.forbidden(&why)),
    }
}

/// What a webhook said.
enum Answer {
    /// It may; with a patch.
    Allowed(Option<Value>),
    /// It could not be asked, and that does not matter.
    Skipped,
}

/// Which call of which webhook it is, for the audit log.
#[derive(Clone, Copy)]
struct Turn {
    sort: &'static str,
    round: usize,
    index: usize,
}

impl Turn {
    fn key(self, what: &str) -> String {
        format!("{what}webhook.admission.k8s.io/round_{}_index_{}", self.round, self.index)
    }
}

async fn ask(
    api: &Api,
    question: &Question<'_>,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
    turn: Turn,
    warnings: &mut Vec<String>,
) -> Result<Answer, Status> {
    let hook = question.hook;
    let name = &hook.name;
    if at.dry_run && !matches!(text(&hook.declared["sideEffects"]), "None" | "NoneOnDryRun") {
        return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
    }
    let (object, old) = question.seen.objects(object, old);
    let (review, uid) = review::request(at, &question.seen.kind, object, old);
    let began = Instant::now();
    let answer = match &hook.client {
        Ok(client) => client.call(&api.store, &review, hook.timeout).await,
        Err(why) => Err(Unanswered { why: why.clone(), code: Some(500) }),
    };
    // As upstream: what is no answer is a service that is unavailable.
    let failure = answer.as_ref().err().and_then(|unanswered| unanswered.code).unwrap_or(503);
    let answer = answer.map_err(|unanswered| format!("failed to call webhook: {}", unanswered.why));
    let read = answer.and_then(|answer| review::response(answer, &uid, &hook.declared));
    let denial = read.as_ref().ok().and_then(|response| Some(review::denial(name, response.denied.as_ref()?)));
    let said = match (&read, &denial) {
        (Ok(_), None) => Said::Yes,
        (Ok(_), Some(denial)) => Said::No(denial.code),
        (Err(_), _) if hook.ignores_failures() => Said::Ignored(failure),
        (Err(_), _) => Said::Nothing(failure),
    };
    let sort = if turn.sort == "mutating" { "admit" } else { turn.sort };
    metrics::extensions::asked(name, at.operation.name(), sort, began.elapsed(), &said);
    match read {
        Ok(response) => {
            warnings.extend(response.warnings);
            for (key, value) in response.annotations {
                audit::annotate(format!("{name}/{key}"), value);
            }
            denial.map_or(Ok(Answer::Allowed(response.patch)), Err)
        }
        Err(why) if hook.ignores_failures() => {
            tracing::warn!(webhook = name, why, "failed calling webhook, failing open");
            audit::annotate(turn.key(&format!("failed-open.{}.", turn.sort)), name.clone());
            Ok(Answer::Skipped)
        }
        Err(why) => Err(internal(format!("failed calling webhook {name:?}: {why}"))),
    }
}

/// Lets the mutating webhooks change the object. In the second round those are asked again that want to be when others changed it
/// after them.
pub(super) async fn mutate(
    api: &Api,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    rounds: &mut Rounds<usize>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let hooks = api.hooks.load_full();
    if hooks.mutating.is_empty() || is_exempt(at.kind) {
        return Ok(());
    }
    rounds.enter(object);
    for (index, hook) in hooks.mutating.iter().enumerate() {
        if !rounds.concerns(&index) {
            continue;
        }
        let turn = Turn { sort: "mutating", round: rounds.number(), index };
        let Some(changed) = call_mutating(api, hook, at, object, old, turn, warnings).await? else { continue };
        rounds.done(index, changed, hook.declared["reinvocationPolicy"] == "IfNeeded");
    }
    rounds.leave(object);
    Ok(())
}

/// Asks one mutating webhook, if it is about the request; true when it changed the object.
async fn call_mutating(
    api: &Api,
    hook: &Hook,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    turn: Turn,
    warnings: &mut Vec<String>,
) -> Result<Option<bool>, Status> {
    let Some(question) = question(api, hook, at, object, old).await? else { return Ok(None) };
    let answer = ask(api, &question, at, object, old, turn, warnings).await?;
    let changed = match answer {
        Answer::Skipped => return Ok(Some(false)),
        Answer::Allowed(None) => false,
        Answer::Allowed(Some(patch)) => patched(api, &question, at, object, &patch).await?,
    };
    let told = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
    audit::annotate(turn.key("mutation."), told.to_string());
    Ok(Some(changed))
}

/// Does what a webhook wants; true when that changed the object.
async fn patched(
    api: &Api,
    question: &Question<'_>,
    at: &Attributes<'_>,
    object: &mut Value,
    patch: &Value,
) -> Result<bool, Status> {
    if patch.as_array().is_none_or(Vec::is_empty) {
        return Ok(false);
    }
    let name = &question.hook.name;
    let failed = |error: json::JsonPatchError| internal(error.to_string());
    if object.is_null() {
        return Err(Status::internal(format!(
            "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
        )));
    }
    if at.has_own_body() {
        let before = object.clone();
        json::apply(object, patch).map_err(failed)?;
        return Ok(*object != before);
    }
    let mut changed = question.seen.objects(object, &Value::Null).0.clone();
    json::apply(&mut changed, patch).map_err(failed)?;
    same_kind(&changed, &question.seen.kind.gvk(), at.kind.custom.is_some())?;
    let changed = versions::back(api, at, changed, &question.seen.kind).await?;
    let mut problems = Vec::new();
    let mut decoded = at.kind.decode(changed, &mut problems).map_err(|e| internal(e.to_string()))?;
    decoded["apiVersion"] = at.kind.api_version().into();
    decoded["kind"] = at.kind.kind.as_str().into();
    at.kind.default(&mut decoded);
    let differs = decoded != *object;
    *object = decoded;
    Ok(differs)
}

/// Nobody may make something else of the object.
fn same_kind(changed: &Value, asked: &Gvk, is_custom: bool) -> Result<(), Status> {
    let (version, kind) = (text(&changed["apiVersion"]), text(&changed["kind"]));
    // What it says nothing of it leaves as it is.
    let is_silent = version.is_empty() && kind.is_empty();
    let found = Gvk::from_api_version(version, kind);
    if is_custom || is_silent || found == *asked {
        return Ok(());
    }
    let package = match asked.group.split('.').next() {
        None | Some("") => "core",
        Some(package) => package,
    };
    let text = format!("converting ({}.{kind}) to ({package}.{}): unknown conversion", found.version, asked.kind);
    Err(Status { code: 500, reason: None, ..Status::bad_request(text) })
}

/// Asks the validating webhooks, all at once; the first in order that refuses decides.
pub(super) async fn validate(
    api: &Api,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let hooks = api.hooks.load_full();
    if hooks.validating.is_empty() || is_exempt(at.kind) {
        return Ok(());
    }
    let mut questions = Vec::new();
    for hook in &hooks.validating {
        questions.extend(question(api, hook, at, object, old).await?);
    }
    let asked = join_all(questions.iter().enumerate().map(|(index, question)| async move {
        let mut warnings = Vec::new();
        let turn = Turn { sort: "validating", round: 0, index };
        let answer = ask(api, question, at, object, old, turn, &mut warnings).await;
        (answer, warnings)
    }));
    let mut outcome = Ok(());
    for (answer, said) in asked.await {
        warnings.extend(said);
        outcome = outcome.and(answer.map(drop));
    }
    outcome
}
