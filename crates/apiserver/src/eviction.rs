//! `pods/eviction`: a delete that disruption budgets may refuse.

use client::Resource;
use kinds::Kind;
use object::{Cause, Gvr, LabelSelector, Reason, Status};
use serde_json::{Value, json};

use crate::api::{Api, store_status};
use crate::delete::{DeleteRequest, Preconditions};
use crate::user::User;
use crate::write::{Part, WriteQuery};

/// Attempts against concurrent writers.
const ATTEMPTS: usize = 20;
/// Pods that a budget remembers; more means that nobody confirms evictions.
const MOST_DISRUPTED: usize = 2000;

fn refused(cause: String, seconds: u32) -> Status {
    let why = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::new(Reason::TooManyRequests, why);
    status.retry_after_seconds = seconds;
    status.causes = vec![Cause { reason: "DisruptionBudget".into(), message: cause, field: String::new() }];
    status
}

fn busy(budget: &str) -> Status {
    refused(format!("The disruption budget {budget} is still being processed by the server."), 10)
}

/// What serves nobody any more, or not yet, is no disruption.
fn ignores_budgets(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
        || matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// One disruption less of a budget; the reason why not.
fn take(budget: &Value, pod: &str) -> Result<Value, Status> {
    let (metadata, status) = (&budget["metadata"], &budget["status"]);
    let name = metadata["name"].as_str().unwrap_or("");
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    if number("observedGeneration") < metadata["generation"].as_i64().unwrap_or(0) {
        return Err(busy(name));
    }
    let forbidden = |why| Status::forbidden("policy", "poddisruptionbudget", name, why);
    let allowed = number("disruptionsAllowed");
    if allowed < 0 {
        return Err(forbidden("pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return Err(forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller"));
    }
    if allowed == 0 {
        return Err(refused(why_none(name, status), 0));
    }
    let mut new = budget.clone();
    new["status"]["disruptionsAllowed"] = (allowed - 1).into();
    new["status"]["disruptedPods"][pod] = base::time::now().into();
    if allowed == 1 {
        let conditions = new["status"].get_mut("conditions").and_then(Value::as_array_mut);
        for condition in conditions.into_iter().flatten().filter(|c| c["type"] == "DisruptionAllowed") {
            condition["status"] = "False".into();
            condition["reason"] = "InsufficientPods".into();
            condition["lastTransitionTime"] = base::time::now().into();
            condition["observedGeneration"] = metadata["generation"].clone();
        }
    }
    Ok(new)
}

fn why_none(name: &str, status: &Value) -> String {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let condition = conditions.find(|c| c["type"] == "DisruptionAllowed" && c["status"] == "False");
    let text = |field: &str| condition.and_then(|c| c[field].as_str()).unwrap_or("");
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let (healthy, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let none = format!("The disruption budget {name} does not allow evicting pods currently");
    match (text("reason"), text("message")) {
        ("SyncFailed", message) if !message.is_empty() => format!("{none} because it failed sync: {message}"),
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        (reason, message) if !message.is_empty() => format!("{none} ({reason}): {message}"),
        _ => none,
    }
}

impl Api {
    /// POST of an admitted eviction.
    pub(crate) async fn evict(&self, user: &User, at: &Resource, eviction: &Value, dry: bool) -> Result<(), Status> {
        let at = &Resource { subresource: None, ..at.clone() };
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let mut options: DeleteRequest = match &eviction["deleteOptions"] {
            Value::Null => DeleteRequest::default(),
            given => serde_json::from_value(given.clone()).map_err(|e| Status::bad_request(e.to_string()))?,
        };
        if dry && !options.is_dry_run() {
            options.dry_run = Some(vec!["All".into()]);
        }
        let mut errors = Vec::new();
        options.check_options(&mut errors);
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
        let pinned = options.preconditions.as_ref().is_some_and(|p| p.resource_version.is_some());
        let mut last = Status::stale(&kind.group, &kind.plural, at.name.as_deref().unwrap_or(""));
        for _ in 0..ATTEMPTS {
            let pod = self.get(at)?.value().map_err(Status::internal)?;
            if !ignores_budgets(&pod) {
                return self.evict_running(kind, at, &pod, options, pinned, user).await;
            }
            let mut options = options.clone();
            // A pod that begins to serve meanwhile is protected.
            if pod["status"]["phase"] == "Pending" && !pod["metadata"]["deletionTimestamp"].is_string() && !pinned {
                pin(&mut options, &pod);
            }
            match self.mark_and_delete(kind, at, options).await {
                Err(status) if status.is_conflict() && !pinned => last = status,
                outcome => return outcome,
            }
        }
        Err(last)
    }

    async fn evict_running(
        &self,
        kind: &Kind,
        at: &Resource,
        pod: &Value,
        mut options: DeleteRequest,
        pinned: bool,
        user: &User,
    ) -> Result<(), Status> {
        let budgets = self.budgets(pod)?;
        if budgets.len() > 1 {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
        let mut guard = None;
        if let Some(budget) = budgets.first() {
            let name = budget["metadata"]["name"].as_str().unwrap_or("");
            let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
            let healthy = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
            // Who is not ready is missed by nobody, if the others are enough.
            if !is_ready(pod) && (budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" || healthy) {
                pin(&mut options, pod);
                guard = Some(name.to_owned()).filter(|_| !pinned);
            } else {
                self.take_from_budget(user, budget, pod, options.is_dry_run()).await?;
            }
        }
        match (self.mark_and_delete(kind, at, options).await, guard) {
            (Err(status), Some(budget)) if status.is_conflict() => Err(busy(&budget)),
            (outcome, _) => outcome,
        }
    }

    fn budgets(&self, pod: &Value) -> Result<Vec<Value>, Status> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
        let prefix = format!("/registry/poddisruptionbudgets/{namespace}/");
        let page = self.store.range(&prefix, None, 0, 0).map_err(|e| store_status(&e))?;
        let labels: object::Texts = serde_json::from_value(pod["metadata"]["labels"].clone()).unwrap_or_default();
        let values = page.items.into_iter().filter_map(|item| item.object.value().ok());
        let covers = |b: &Value| LabelSelector::from_object(&b["spec"]["selector"]).is_some_and(|s| s.matches(&labels));
        Ok(values.filter(covers).collect())
    }

    async fn take_from_budget(&self, user: &User, budget: &Value, pod: &Value, dry: bool) -> Result<(), Status> {
        let pod_name = pod["metadata"]["name"].as_str().unwrap_or("");
        if dry {
            return take(budget, pod_name).map(drop);
        }
        let gvr = Gvr::new("policy", "v1", "poddisruptionbudgets");
        let (namespace, name) = (budget["metadata"]["namespace"].as_str(), budget["metadata"]["name"].as_str());
        let at = Resource::object(&gvr, namespace, name.unwrap_or(""));
        let kind = &*self.stored_kind_of(&gvr)?;
        for _ in 0..ATTEMPTS {
            let changed =
                self.change(user, kind, &at, Part::Inner, &WriteQuery::default(), |old| take(old, pod_name)).await;
            match changed {
                Err(status) if status.is_conflict() => {}
                outcome => return outcome.map(drop),
            }
        }
        let text = format!("Timeout: couldn't update PodDisruptionBudget {:?} due to conflicts", name.unwrap_or(""));
        let mut status = Status::new(Reason::Timeout, text);
        status.retry_after_seconds = 10;
        Err(status)
    }

    /// Says in the pod's status why it goes, and deletes it.
    async fn mark_and_delete(&self, kind: &Kind, at: &Resource, mut options: DeleteRequest) -> Result<(), Status> {
        if !options.is_dry_run() {
            let wanted = options.preconditions.clone().unwrap_or_default();
            let mark = |old: &Value| {
                let name = old["metadata"]["name"].as_str().unwrap_or("");
                for (what, wanted, is, but) in [
                    ("UID", &wanted.uid, &old["metadata"]["uid"], "deleted and then recreated"),
                    ("ResourceVersion", &wanted.resource_version, &old["metadata"]["resourceVersion"], "modified"),
                ] {
                    if let Some(wanted) = wanted.as_ref().filter(|w| !w.is_empty() && is != w.as_str()) {
                        let is = is.as_str().unwrap_or("");
                        let why = format!(
                            "the {what} in the precondition ({wanted}) does not match the {what} in record ({is}). The object might have been {but}"
                        );
                        return Err(Status::conflict("", "Pod", name, &why));
                    }
                }
                let mut new = old.clone();
                let mut conditions = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.retain(|c| c["type"] != "DisruptionTarget");
                conditions.push(
                    json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": base::time::now(),
                    "observedGeneration": old["metadata"]["generation"]}),
                );
                new["status"]["conditions"] = conditions.into();
                Ok(new)
            };
            let user = User::superuser();
            let written = self.change(&user, kind, at, Part::Inner, &WriteQuery::default(), mark).await?;
            if let Some(preconditions) = options.preconditions.as_mut().filter(|p| p.resource_version.is_some()) {
                preconditions.resource_version = Some(written.object.head.resource_version.to_string());
            }
        }
        self.delete_as(kind, at, &options).await.map(drop)
    }
}

fn pin(options: &mut DeleteRequest, pod: &Value) {
    let revision = pod["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    options.preconditions.get_or_insert_with(Preconditions::default).resource_version = revision;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_says_why_not() {
        let check = |status: Value| {
            let budget = json!({"metadata": {"name": "b", "generation": 2}, "status": status});
            take(&budget, "p").map_err(|s| s.causes.first().map_or(s.message, |c| c.message.clone()))
        };
        let taken = check(json!({"observedGeneration": 2, "disruptionsAllowed": 1})).unwrap();
        assert_eq!(taken["status"]["disruptionsAllowed"], 0);
        assert!(taken["status"]["disruptedPods"]["p"].is_string());
        assert_eq!(
            check(json!({"observedGeneration": 1, "disruptionsAllowed": 1})).unwrap_err(),
            "The disruption budget b is still being processed by the server."
        );
        assert_eq!(
            check(json!({"observedGeneration": 2, "disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 3}))
                .unwrap_err(),
            "The disruption budget b needs 3 healthy pods and has 2 currently"
        );
        assert_eq!(
            check(json!({"observedGeneration": 2, "disruptionsAllowed": 0, "currentHealthy": 5, "desiredHealthy": 3}))
                .unwrap_err(),
            "The disruption budget b does not allow evicting pods currently"
        );
    }
}
