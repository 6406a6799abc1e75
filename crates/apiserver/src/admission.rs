//! Admission: what needs other objects or the cluster's state. One file per plugin, called here in upstream's order.
//!
//! Every write passes here, whatever it writes: objects, parts of them, scales, bindings, evictions, tokens, deletions, streams.
//! [`mutate`] changes what is asked for, [`validate`] has the last word on it, [`charge`] says what it costs the quotas.

pub(crate) mod addresses;
pub(crate) mod attributes;
pub(crate) mod certificates;
pub(crate) mod escalation;
mod expressions;
mod hooks;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod node_restriction;
mod nodes;
mod optional;
mod plugins;
mod pod_security;
mod policies;
mod priority;
mod resource_quota;
mod rounds;
mod runtime_class;
mod service_account;
mod storage;
mod tolerations;

use object::Status;
use serde_json::Value;
use tokio::time::Instant;

use crate::api::Api;
use crate::metrics::{AdmissionStep, admission_step};
use node_restriction::Write;
use plugins::Plugin;

pub(crate) use addresses::Reserved;
pub(crate) use attributes::{Attributes, Operation};
pub(crate) use hooks::Hooks;
pub use plugins::AdmissionOptions;
pub(crate) use plugins::Settled;
pub(crate) use policies::Policies;
pub(crate) use resource_quota::Charges;
use rounds::Rounds;

/// Changes an object, or refuses it. `object` is `null` for a deletion, `old` for what is new.
pub(crate) async fn mutate(
    api: &Api,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let began = Instant::now();
    let outcome = in_rounds(api, at, object, old, warnings).await;
    admission_step(AdmissionStep::Admit, at.operation, outcome.is_err(), began.elapsed());
    outcome
}

async fn in_rounds(
    api: &Api,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let (mut policies, mut hooks) = (Rounds::default(), Rounds::default());
    mutate_once(api, at, object, old, (&mut policies, &mut hooks), warnings).await?;
    if policies.again() || hooks.again() {
        policies.next();
        hooks.next();
        mutate_once(api, at, object, old, (&mut policies, &mut hooks), warnings).await?;
    }
    Ok(())
}

async fn mutate_once(
    api: &Api,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    (policies, hooks): (&mut Rounds<String>, &mut Rounds<usize>),
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let runs = |plugin| api.admission.runs(plugin);
    if runs(Plugin::NamespaceLifecycle) {
        namespace_lifecycle::admit(api, at).await?;
    }
    if runs(Plugin::LimitRanger) {
        limit_ranger::admit(api, at, object, old)?;
    }
    if runs(Plugin::ServiceAccount) {
        service_account::admit(api, at, object).await?;
    }
    if runs(Plugin::NodeRestriction) && at.operation != Operation::Connect {
        node_restriction::check(api, at.user, &about(at, object, old))?;
    }
    if runs(Plugin::TaintNodesByCondition) {
        tolerations::of_node(at, object);
    }
    if runs(Plugin::AlwaysPullImages) {
        optional::pull(at, object, old);
    }
    if runs(Plugin::Priority) {
        priority::admit(api, at, object, old)?;
    }
    if runs(Plugin::DefaultTolerationSeconds) {
        tolerations::of_pod(at, object);
    }
    if runs(Plugin::DefaultStorageClass) {
        storage::default_storage(api, at, object)?;
    }
    if runs(Plugin::StorageObjectInUseProtection) {
        storage::protect(at, object);
    }
    if runs(Plugin::RuntimeClass) {
        runtime_class::admit(api, at, object)?;
    }
    if runs(Plugin::DefaultIngressClass) {
        storage::default_ingress(api, at, object)?;
    }
    if runs(Plugin::PodTopologyLabels) {
        nodes::topology(api, at, object);
    }
    if runs(Plugin::MutatingAdmissionPolicy) {
        policies::mutate(api, at, object, old, policies)?;
    }
    if runs(Plugin::MutatingAdmissionWebhook) {
        hooks::mutate(api, at, object, old, hooks, warnings).await?;
    }
    Ok(())
}

/// Has the last word. `object` is `null` for a deletion, `old` for what is new.
pub(crate) async fn validate(
    api: &Api,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let began = Instant::now();
    let outcome = judge(api, at, object, old, warnings).await;
    admission_step(AdmissionStep::Validate, at.operation, outcome.is_err(), began.elapsed());
    outcome
}

async fn judge(
    api: &Api,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let runs = |plugin| api.admission.runs(plugin);
    if runs(Plugin::LimitRanger) {
        limit_ranger::check(api, at, object, old)?;
    }
    if runs(Plugin::ServiceAccount) {
        service_account::validate(api, at, object).await?;
    }
    if runs(Plugin::AlwaysPullImages) {
        optional::pulled(at, object, old)?;
    }
    if runs(Plugin::PodSecurity) {
        pod_security::validate(api, at, object, old, warnings).await?;
    }
    if runs(Plugin::Priority) {
        priority::validate(api, at, object)?;
    }
    if runs(Plugin::PersistentVolumeClaimResize) {
        storage::resize(api, at, object, old)?;
    }
    if runs(Plugin::RuntimeClass) {
        runtime_class::validate(api, at, object)?;
    }
    if runs(Plugin::CertificateApproval) {
        certificates::approval(api, at, old)?;
    }
    if runs(Plugin::CertificateSigning) {
        certificates::signing(api, at, object, old)?;
    }
    if runs(Plugin::CertificateSubjectRestriction) {
        certificates::subject(at, object)?;
    }
    if runs(Plugin::DenyServiceExternalIPs) {
        optional::external_ips(at, object, old)?;
    }
    if runs(Plugin::PodResizeValidator) {
        nodes::resize(api, at, object, old)?;
    }
    if runs(Plugin::ValidatingAdmissionPolicy) {
        policies::validate(api, at, object, old, warnings)?;
    }
    if runs(Plugin::ValidatingAdmissionWebhook) {
        hooks::validate(api, at, object, old, warnings).await?;
    }
    Ok(())
}

/// What the write costs the quotas of its namespace: written along with it, so that two writes cannot spend the same rest.
pub(crate) fn charge(api: &Api, at: &Attributes<'_>, object: &Value, old: &Value) -> Result<Charges, Status> {
    if !api.admission.runs(Plugin::ResourceQuota) {
        return Ok(Charges::default());
    }
    resource_quota::charge(api, at, object, old)
}

fn about<'a>(at: &'a Attributes<'_>, object: &'a Value, old: &'a Value) -> Write<'a> {
    let given = |value: &'a Value| Some(value).filter(|value| value.is_object());
    Write {
        group: &at.kind.group,
        resource: &at.kind.plural,
        subresource: at.subresource,
        name: at.name,
        namespace: at.namespace,
        new: given(object),
        old: given(old),
    }
}
