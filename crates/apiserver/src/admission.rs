//! Admission: what needs other objects or the cluster's state. One file per plugin, called here in upstream's order.
//!
//! Every write passes here, whatever it writes: objects, parts of them, scales, bindings, evictions, tokens, deletions, streams.
//! [`mutate`] changes what is asked for, [`validate`] has the last word on it, [`charge`] says what it costs the quotas.

pub(crate) mod addresses;
pub(crate) mod attributes;
pub(crate) mod certificates;
pub(crate) mod escalation;
mod event_rate_limit;
mod expressions;
pub(crate) mod hooks;
mod image_policy;
mod limit_ranger;
mod matching;
mod namespace_lifecycle;
mod namespace_optional;
mod node_restriction;
mod nodes;
mod optional;
mod owner_references;
mod plugins;
mod pod_restrictions;
mod pod_security;
mod policies;
mod priority;
mod resource_quota;
mod rounds;
mod runtime_class;
mod service_account;
mod storage;
mod tolerations;
mod versions;

use object::{Cause, Status};
use serde_json::Value;

use crate::api::Api;
use crate::metrics::{Clock, Step};
use crate::warned;
use node_restriction::Write;

pub(crate) use addresses::Reserved;
pub(crate) use attributes::{Attributes, Operation, Sent};
pub(crate) use hooks::Hooks;
pub use plugins::AdmissionOptions;
pub(crate) use plugins::{Plugin, Settled};
pub(crate) use policies::Policies;
pub(crate) use resource_quota::Charges;
use rounds::Rounds;

/// The one cause of a refusal.
fn cause(message: &str) -> Vec<Cause> {
    vec![Cause { reason: String::new(), message: message.into(), field: String::new() }]
}

/// A failure that is the server's, with its cause.
fn internal(why: String) -> Status {
    Status { causes: cause(&why), ..Status::internal(why) }
}

/// Changes an object, or refuses it. `object` is `null` for a deletion, `old` for what is new.
pub(crate) async fn mutate(
    api: &Api,
    at: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let clock = Clock::start(Step::Admit, at.operation);
    let known = warnings.len();
    let outcome = in_rounds(api, at, object, old, warnings).await;
    warned::note(&warnings[known..]);
    clock.stop(outcome.is_err());
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
    let mut clock = Clock::start(Step::Admit, at.operation);
    let runs = |plugin| api.admission.runs(plugin);
    if runs(Plugin::NamespaceAutoProvision) {
        clock.lap(Plugin::NamespaceAutoProvision, namespace_optional::provision(api, at).await)?;
    }
    if runs(Plugin::NamespaceLifecycle) {
        clock.lap(Plugin::NamespaceLifecycle, namespace_lifecycle::admit(api, at).await)?;
    }
    if runs(Plugin::LimitRanger) {
        clock.lap(Plugin::LimitRanger, limit_ranger::admit(api, at, object, old))?;
    }
    if runs(Plugin::ServiceAccount) {
        clock.lap(Plugin::ServiceAccount, service_account::admit(api, at, object).await)?;
    }
    if runs(Plugin::NodeRestriction) && at.operation != Operation::Connect {
        let checked = node_restriction::check(api, at.user, &about(at, object, old)).await;
        clock.lap(Plugin::NodeRestriction, checked)?;
    }
    if runs(Plugin::TaintNodesByCondition) {
        tolerations::of_node(at, object);
        clock.lap(Plugin::TaintNodesByCondition, Ok(()))?;
    }
    if runs(Plugin::AlwaysPullImages) {
        optional::pull(at, object, old);
        clock.lap(Plugin::AlwaysPullImages, Ok(()))?;
    }
    if runs(Plugin::PodNodeSelector) {
        clock.lap(Plugin::PodNodeSelector, pod_restrictions::select(api, at, object))?;
    }
    if runs(Plugin::Priority) {
        clock.lap(Plugin::Priority, priority::admit(api, at, object, old))?;
    }
    if runs(Plugin::DefaultTolerationSeconds) {
        tolerations::of_pod(at, object);
        clock.lap(Plugin::DefaultTolerationSeconds, Ok(()))?;
    }
    if runs(Plugin::PodTolerationRestriction) {
        clock.lap(Plugin::PodTolerationRestriction, pod_restrictions::tolerate(api, at, object))?;
    }
    if runs(Plugin::ExtendedResourceToleration) {
        pod_restrictions::tolerate_devices(at, object);
        clock.lap(Plugin::ExtendedResourceToleration, Ok(()))?;
    }
    if runs(Plugin::DefaultStorageClass) {
        clock.lap(Plugin::DefaultStorageClass, storage::default_storage(api, at, object))?;
    }
    if runs(Plugin::StorageObjectInUseProtection) {
        storage::protect(at, object);
        clock.lap(Plugin::StorageObjectInUseProtection, Ok(()))?;
    }
    if runs(Plugin::RuntimeClass) {
        clock.lap(Plugin::RuntimeClass, runtime_class::admit(api, at, object))?;
    }
    if runs(Plugin::DefaultIngressClass) {
        clock.lap(Plugin::DefaultIngressClass, storage::default_ingress(api, at, object))?;
    }
    if runs(Plugin::PodTopologyLabels) {
        nodes::topology(api, at, object);
        clock.lap(Plugin::PodTopologyLabels, Ok(()))?;
    }
    if runs(Plugin::MutatingAdmissionPolicy) {
        clock.lap(Plugin::MutatingAdmissionPolicy, policies::mutate(api, at, object, old, policies).await)?;
    }
    if runs(Plugin::MutatingAdmissionWebhook) {
        clock.lap(Plugin::MutatingAdmissionWebhook, hooks::mutate(api, at, object, old, hooks, warnings).await)?;
    }
    if runs(Plugin::AlwaysDeny) {
        clock.lap(Plugin::AlwaysDeny, optional::deny(at))?;
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
    let clock = Clock::start(Step::Validate, at.operation);
    let known = warnings.len();
    let outcome = judge(api, at, object, old, warnings).await;
    warned::note(&warnings[known..]);
    clock.stop(outcome.is_err());
    outcome
}

async fn judge(
    api: &Api,
    at: &Attributes<'_>,
    object: &Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let mut clock = Clock::start(Step::Validate, at.operation);
    let runs = |plugin| api.admission.runs(plugin);
    if runs(Plugin::NamespaceExists) {
        clock.lap(Plugin::NamespaceExists, namespace_optional::check(api, at))?;
    }
    if runs(Plugin::LimitPodHardAntiAffinityTopology) {
        clock.lap(Plugin::LimitPodHardAntiAffinityTopology, pod_restrictions::anti_affinity(at, object))?;
    }
    if runs(Plugin::LimitRanger) {
        clock.lap(Plugin::LimitRanger, limit_ranger::check(api, at, object, old))?;
    }
    if runs(Plugin::ServiceAccount) {
        clock.lap(Plugin::ServiceAccount, service_account::validate(api, at, object).await)?;
    }
    if runs(Plugin::AlwaysPullImages) {
        clock.lap(Plugin::AlwaysPullImages, optional::pulled(at, object, old))?;
    }
    if runs(Plugin::ImagePolicyWebhook) {
        let checked = image_policy::check(api.admission.images.as_ref(), at, object).await;
        clock.lap(Plugin::ImagePolicyWebhook, checked)?;
    }
    if runs(Plugin::PodSecurity) {
        clock.lap(Plugin::PodSecurity, pod_security::validate(api, at, object, old, warnings).await)?;
    }
    if runs(Plugin::PodNodeSelector) {
        clock.lap(Plugin::PodNodeSelector, pod_restrictions::selected(api, at, object))?;
    }
    if runs(Plugin::Priority) {
        clock.lap(Plugin::Priority, priority::validate(api, at, object))?;
    }
    if runs(Plugin::PodTolerationRestriction) {
        clock.lap(Plugin::PodTolerationRestriction, pod_restrictions::tolerated(api, at, object))?;
    }
    if runs(Plugin::EventRateLimit) {
        clock.lap(Plugin::EventRateLimit, event_rate_limit::check(&api.admission.event_limits, at, object))?;
    }
    if runs(Plugin::OwnerReferencesPermissionEnforcement) {
        let checked = owner_references::check(api, at, object, old).await;
        clock.lap(Plugin::OwnerReferencesPermissionEnforcement, checked)?;
    }
    if runs(Plugin::PersistentVolumeClaimResize) {
        clock.lap(Plugin::PersistentVolumeClaimResize, storage::resize(api, at, object, old))?;
    }
    if runs(Plugin::RuntimeClass) {
        clock.lap(Plugin::RuntimeClass, runtime_class::validate(api, at, object))?;
    }
    if runs(Plugin::CertificateApproval) {
        clock.lap(Plugin::CertificateApproval, certificates::approval(api, at, old).await)?;
    }
    if runs(Plugin::CertificateSigning) {
        clock.lap(Plugin::CertificateSigning, certificates::signing(api, at, object, old).await)?;
    }
    if runs(Plugin::CertificateSubjectRestriction) {
        clock.lap(Plugin::CertificateSubjectRestriction, certificates::subject(at, object))?;
    }
    if runs(Plugin::DenyServiceExternalIPs) {
        clock.lap(Plugin::DenyServiceExternalIPs, optional::external_ips(at, object, old))?;
    }
    if runs(Plugin::PodResizeValidator) {
        clock.lap(Plugin::PodResizeValidator, nodes::resize(api, at, object, old))?;
    }
    if runs(Plugin::ValidatingAdmissionPolicy) {
        clock.lap(Plugin::ValidatingAdmissionPolicy, policies::validate(api, at, object, old, warnings).await)?;
    }
    if runs(Plugin::ValidatingAdmissionWebhook) {
        clock.lap(Plugin::ValidatingAdmissionWebhook, hooks::validate(api, at, object, old, warnings).await)?;
    }
    Ok(())
}

/// What the write costs the quotas of its namespace: written along with it, so that two writes cannot spend the same rest.
pub(crate) fn charge(api: &Api, at: &Attributes<'_>, object: &Value, old: &Value) -> Result<Charges, Status> {
    if !api.admission.runs(Plugin::ResourceQuota) {
        return Ok(Charges::default());
    }
    let mut clock = Clock::start(Step::Validate, at.operation);
    clock.lap(Plugin::ResourceQuota, resource_quota::charge(api, at, object, old))
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
