//! Options of requests: queries, and the bodies of deletes.

use bytes::Bytes;
use object::{FieldSelector, Invalid, LabelSelector, Status};

use super::route::Query;
use crate::decode::{self, FieldValidation};
use crate::delete::DeleteRequest;
use crate::read::{ListQuery, Match};
use crate::watch::WatchQuery;
use crate::write::WriteQuery;

/// A number as Go's `strconv` reads it.
fn number(text: &str) -> Result<i64, Status> {
    text.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}

fn given(query: &Query, key: &str) -> Option<String> {
    query.get(key).filter(|v| !v.is_empty())
}

fn refused(errors: &[Invalid]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors)) }
}

fn selection(query: &Query) -> Result<ListQuery, Status> {
    let limit = given(query, "limit").map(|l| number(&l)).transpose()?.unwrap_or(0);
    given(query, "timeoutSeconds").map(|t| number(&t)).transpose()?;
    Ok(ListQuery {
        labels: LabelSelector::parse(&query.get("labelSelector").unwrap_or_default())?,
        fields: FieldSelector::parse(&query.get("fieldSelector").unwrap_or_default())?,
        limit: usize::try_from(limit).unwrap_or(0),
        ..ListQuery::default()
    })
}

/// The revision that a query names. `words` come before the error.
pub(crate) fn revision(query: &Query, words: &str) -> Result<Option<u64>, Status> {
    let parse = |text: String| {
        text.parse::<u64>().map_err(|_| {
            Status::bad_request(format!(
                "{words}resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        })
    };
    given(query, "resourceVersion").map(parse).transpose()
}

const MATCH: &str = "resourceVersionMatch";

/// The query of a LIST (and of a DELETE of a collection).
pub(crate) fn list(query: &Query) -> Result<ListQuery, Status> {
    let selection = selection(query)?;
    let mut errors = Vec::new();
    if query.get("sendInitialEvents").is_some() {
        errors.push(Invalid::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    let version = given(query, "resourceVersion");
    let token = given(query, "continue");
    let mut version_match = None;
    if let Some(text) = given(query, MATCH) {
        if version.is_none() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            errors.push(Invalid::forbidden(MATCH, why));
        }
        if token.is_some() {
            errors.push(Invalid::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        match text.as_str() {
            "Exact" if version.as_deref() == Some("0") => {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(Invalid::forbidden(MATCH, why));
            }
            "Exact" => version_match = Some(Match::Exact),
            "NotOlderThan" => version_match = Some(Match::NotOlderThan),
            other => errors.push(Invalid::unsupported(MATCH, &other.into(), &["Exact", "NotOlderThan", ""])),
        }
    }
    refused(&errors)?;
    let resource_version = match &token {
        None => revision(query, "invalid resource version: ")?,
        // The token is looked at first, and it takes no revision beside it.
        Some(_) => version.map(|version| version.parse().unwrap_or(u64::MAX)),
    };
    // Upstream answers this from its cache, whole.
    let limit = if resource_version == Some(0) { 0 } else { selection.limit };
    Ok(ListQuery { continue_token: token, resource_version, version_match, limit, ..selection })
}

/// The query of a WATCH, and how many seconds it may take.
pub(crate) fn watch(query: &Query) -> Result<(WatchQuery, Option<u64>), Status> {
    let seconds = given(query, "timeoutSeconds").map(|t| number(&t)).transpose()?;
    let selection = selection(query)?;
    let initial = query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
    let version_match = given(query, MATCH);
    let mut errors = Vec::new();
    match (initial, version_match.as_deref()) {
        (None, Some(_)) => errors.push(Invalid::forbidden(
            MATCH,
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        (Some(_), other) if other != Some("NotOlderThan") => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(Invalid::forbidden(MATCH, why));
        }
        _ => {}
    }
    if let Some(other) = version_match.filter(|wanted| wanted != "NotOlderThan") {
        errors.push(Invalid::not_supported(MATCH, &other.into(), &["NotOlderThan"]));
    }
    if given(query, "continue").is_some() {
        errors.push(Invalid::forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
    }
    refused(&errors)?;
    // Upstream words this one without a code of its own.
    let version = revision(query, "").map_err(|status| Status { code: 500, reason: None, ..status })?;
    let list = ListQuery { resource_version: version, ..selection };
    let bookmarks = query.flag("allowWatchBookmarks");
    // Who begins with the present state and takes bookmarks is told where it ends.
    let initial = initial.or((bookmarks && version.unwrap_or(0) == 0).then_some(true));
    let watch = WatchQuery { list, bookmarks, initial };
    Ok((watch, seconds.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0)))
}

/// The query of a write. `of` is the options' kind: `CreateOptions`.
pub(crate) fn write(query: &Query, of: &str, applies: bool) -> Result<WriteQuery, Status> {
    let mut errors = Vec::new();
    if of == "PatchOptions" && !applies && query.get("force").is_some() {
        errors.push(Invalid::forbidden("force", "may not be specified for non-apply patch"));
    }
    let manager = given(query, "fieldManager");
    if let Some(manager) = &manager {
        if manager.len() > 128 {
            errors.push(Invalid::too_long("fieldManager", 128));
        }
        if let Some((at, c)) = manager.chars().enumerate().find(|(_, c)| c.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {at})", c as u32);
            errors.push(Invalid::invalid("fieldManager", &manager.as_str().into(), why));
        }
    }
    if applies && manager.is_none() {
        errors.push(Invalid::required("fieldManager", "is required for apply patch"));
    }
    let dry_run = dry_run(query.all("dryRun"), &mut errors);
    let wanted = query.get("fieldValidation").unwrap_or_default();
    let validation = FieldValidation::parse(&wanted);
    if validation.is_none() {
        let known = ["", "Ignore", "Strict", "Warn"];
        errors.push(Invalid::not_supported("fieldValidation", &wanted.as_str().into(), &known));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", of, "", &errors));
    }
    Ok(WriteQuery {
        dry_run,
        validation: validation.unwrap_or_default(),
        says_validation: !wanted.is_empty(),
        manager,
        force: query.flag("force"),
        ..WriteQuery::default()
    })
}

fn dry_run(given: Vec<String>, errors: &mut Vec<Invalid>) -> bool {
    if given.iter().any(|d| d != "All") {
        errors.push(Invalid::not_supported("dryRun", &given.clone().into(), &["All"]));
    }
    !given.is_empty()
}

/// The options of a DELETE: its body, and the query where there is no body.
pub(crate) fn delete(query: &Query, body: &Bytes, content_type: &str) -> Result<DeleteRequest, Status> {
    let mut request = DeleteRequest::default();
    let mut errors = Vec::new();
    // As upstream: where there is a body, the query says nothing.
    if body.is_empty() {
        if let Some(grace) = given(query, "gracePeriodSeconds") {
            request.grace_period_seconds = Some(number(&grace)?);
        }
        request.propagation_policy = given(query, "propagationPolicy");
        request.orphan_dependents = given(query, "orphanDependents").map(|orphan| orphan == "true" || orphan == "1");
        request.dry_run = Some(query.all("dryRun")).filter(|given| !given.is_empty());
    } else if let Some((version, kind)) = decode::meta_of_options(body, content_type)? {
        if version.matches('/').count() > 1 {
            return Err(Status::bad_request(format!("unexpected GroupVersion string: {version}")));
        }
        if !matches!(kind.as_str(), "" | "DeleteOptions") {
            let version = if version.is_empty() { "meta.k8s.io/v1" } else { &version };
            return Err(Status::bad_request(format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/apis/meta/internalversion/scheme/register.go:27\"",
            )));
        }
        let value = decode::parse(body, content_type)?.value;
        request = serde_json::from_value(value).map_err(|e| Status::bad_request(format!("DeleteOptions: {e}")))?;
    }
    dry_run(request.dry_run.clone().unwrap_or_default(), &mut errors);
    request.check_options(&mut errors);
    if errors.is_empty() { Ok(request) } else { Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors)) }
}
