//! Admission webhooks: who is asked, in which order, and what their answers do.
//!
//! The configurations are kept compiled and followed by a task; a server without any asks nobody and pays nothing.

mod review;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use kinds::Kind;
use object::{Gvk, Status};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::expressions::Condition;
use super::matching;
use crate::api::Api;
use crate::webhook::Webhook;

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
    declared: Value,
    conditions: Vec<Condition>,
    client: Result<Webhook, String>,
    timeout: Duration,
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

impl Hook {
    fn new(declared: &Value) -> Self {
        Self {
            name: text(&declared["name"]).into(),
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
        let values = page.into_iter().flat_map(|page| page.items).filter_map(|item| item.object.value().ok());
        values
            .flat_map(|value| value["webhooks"].as_array().cloned().unwrap_or_default())
            .map(|hook| Hook::new(&hook))
            .collect()
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
    kind: Arc<Kind>,
}

/// The webhook's question, if it is about the request.
fn question<'h>(
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
    match super::expressions::all_hold(api, &hook.conditions, at, object, old) {
        Ok(true) => Ok(Some(Question { hook, kind: api.kind_of(&gvr)? })),
        Ok(false) => Ok(None),
        Err(_) if hook.ignores_failures() => Ok(None),
        Err(why) => {
            let text = format!("failed calling webhook {:?}: {why}", hook.name);
            Err(Status::internal(text))
        }
    }
}

/// What a webhook said.
enum Answer {
    /// It may; with a patch.
    Allowed(Option<json_patch::Patch>),
    /// It could not be asked, and that does not matter.
    Skipped,
}

async fn ask(
    api: &Api,
    question: &Question<'_>,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<Answer, Status> {
    let hook = question.hook;
    let name = &hook.name;
    if at.dry_run && !matches!(text(&hook.declared["sideEffects"]), "None" | "NoneOnDryRun") {
        return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
    }
    let target = (&*question.kind, question.kind.gvk());
    let shown = |value: &Value| in_version(at, value, target.0, &target.1);
    let (review, uid) = review::request(at, &question.kind, &shown(object), &shown(old));
    let answer = match &hook.client {
        Ok(client) => client.call(&api.store, &review, hook.timeout).await,
        Err(why) => Err(format!("failed to call webhook: {why}")),
    };
    let read = answer.and_then(|answer| review::response(answer, &uid, &hook.declared));
    match read {
        Ok(response) => {
            warnings.extend(response.warnings);
            match response.denied {
                Some(result) => Err(review::denial(name, &result)),
                None => Ok(Answer::Allowed(response.patch)),
            }
        }
        Err(why) if hook.ignores_failures() => {
            tracing::warn!(webhook = name, why, "failed calling webhook, failing open");
            Ok(Answer::Skipped)
        }
        Err(why) => Err(Status::internal(format!("failed calling webhook {name:?}: {why}"))),
    }
}

/// The object as the resource's other version has it.
fn in_version(at: &Attributes<'_>, value: &Value, kind: &Kind, gvk: &Gvk) -> Value {
    let own = at.gvk();
    if value.is_null() || at.has_own_body() || own == *gvk {
        return value.clone();
    }
    match &kind.custom {
        Some(custom) => {
            let mut value = value.clone();
            custom.adapt(kind, &mut value);
            value
        }
        None => kinds::convert(value.clone(), &own, gvk),
    }
}

/// Lets the mutating webhooks change the object.
pub(super) async fn mutate(
    api: &Api,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let hooks = api.hooks.load_full();
    if hooks.mutating.is_empty() || is_exempt(at.kind) {
        return Ok(());
    }
    // Who is asked again when others changed the object after them.
    let mut again: Vec<&Hook> = Vec::new();
    for hook in &hooks.mutating {
        if call_mutating(api, hook, at, object, old, warnings).await? {
            again.retain(|h| h.declared["reinvocationPolicy"] == "IfNeeded");
            for earlier in std::mem::take(&mut again) {
                call_mutating(api, earlier, at, object, old, warnings).await?;
            }
        } else {
            again.push(hook);
            continue;
        }
        again.push(hook);
    }
    Ok(())
}

/// Asks one mutating webhook; true when it changed the object.
async fn call_mutating(
    api: &Api,
    hook: &Hook,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<bool, Status> {
    let Some(question) = question(api, hook, at, object, old)? else { return Ok(false) };
    let Answer::Allowed(Some(patch)) = ask(api, &question, at, object, old, warnings).await? else { return Ok(false) };
    if patch.0.is_empty() {
        return Ok(false);
    }
    if object.is_null() {
        return Err(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    if at.has_own_body() {
        let before = object.clone();
        json_patch::patch(object, &patch)
            .map_err(|e| Status::internal(format!("failed calling webhook {:?}: {e}", hook.name)))?;
        return Ok(*object != before);
    }
    let (own, asked) = (at.kind.gvk(), question.kind.gvk());
    let mut changed = in_version(at, object, &question.kind, &asked);
    json_patch::patch(&mut changed, &patch)
        .map_err(|e| Status::internal(format!("failed calling webhook {:?}: {e}", hook.name)))?;
    let changed = match (&at.kind.custom, own == asked) {
        (_, true) => changed,
        (Some(custom), false) => {
            custom.adapt(at.kind, &mut changed);
            changed
        }
        (None, false) => kinds::convert(changed, &asked, &own),
    };
    let mut problems = Vec::new();
    let mut decoded = at
        .kind
        .decode(changed, &mut problems)
        .map_err(|e| Status::internal(format!("failed calling webhook {:?}: {e}", hook.name)))?;
    decoded["apiVersion"] = at.kind.api_version().into();
    decoded["kind"] = at.kind.kind.as_str().into();
    at.kind.default(&mut decoded);
    let differs = decoded != *object;
    *object = decoded;
    Ok(differs)
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
        questions.extend(question(api, hook, at, object, old)?);
    }
    let asked = join_all(questions.iter().map(|question| async move {
        let mut warnings = Vec::new();
        let answer = ask(api, question, at, object, old, &mut warnings).await;
        (answer, warnings)
    }));
    for (answer, said) in asked.await {
        warnings.extend(said);
        answer?;
    }
    Ok(())
}
