//! GET and LIST.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD};
use client::Resource;
use kinds::Kind;
use object::{FieldSelector, Head, Invalid, LabelSelector, Object, Reason, Status};
use serde_json::{Value, json};
use store::StoreError;

use crate::api::{Api, key, namespace_of, prefix, served, store_status};
use crate::metrics::Lists;

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Exact,
    NotOlderThan,
}

/// The query of a LIST or WATCH.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListQuery {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) limit: usize,
    pub(crate) continue_token: Option<String>,
    /// `None`: not given.
    pub(crate) resource_version: Option<u64>,
    pub(crate) version_match: Option<Match>,
}

/// A page: objects and the revision that they were read at, from one snapshot.
pub(crate) struct Listing {
    pub(crate) revision: u64,
    pub(crate) items: Vec<Arc<Object>>,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

/// Keys read at a time while a selector looks for enough items to fill a page.
const CHUNK: usize = 500;

impl ListQuery {
    /// True when the object is selected.
    pub(crate) fn selects(&self, kind: &Kind, object: &Arc<Object>) -> bool {
        if !self.labels.matches(&object.head.labels) {
            return false;
        }
        // Which fields of a custom resource can be selected on may change; what the head says of them may be of before.
        match kind.custom.as_ref().filter(|_| self.fields.terms.iter().any(is_content)) {
            None => self.fields.matches(&object.head),
            Some(custom) => served(kind, object.clone())
                .value()
                .is_ok_and(|value| self.fields.matches(&Head { fields: custom.fields(&value), ..object.head.clone() })),
        }
    }

    /// True when what is selected shows only once a webhook has converted the objects: it may change labels, too.
    pub(crate) fn selects_late(&self, kind: &Kind) -> bool {
        let converts = kind.custom.as_ref().is_some_and(|custom| custom.webhook.is_some());
        converts && (!self.labels.is_empty() || self.fields.terms.iter().any(is_content))
    }

    /// The same query by names alone: what no conversion changes.
    fn by_names(&self) -> Self {
        let mut query = self.clone();
        query.labels = LabelSelector::default();
        query.fields.terms.retain(|term| !is_content(term));
        query
    }

    /// The revision that the list needs; `None`: the newest.
    pub(crate) fn needs(&self) -> Option<u64> {
        match &self.continue_token {
            // A token that is none is refused later.
            Some(token) => Some(decode_token(token).map_or(0, |(revision, _)| revision)),
            None => self.resource_version,
        }
    }

    /// Refuses fields that the kind does not select by.
    pub(crate) fn check_fields(&self, kind: &Kind) -> Result<(), Status> {
        for (field, _, _) in &self.fields.terms {
            // Upstream's common conversion knows a namespace of everything.
            let common = kind.selectable.is_empty() && kind.custom.is_none();
            let known = field == "metadata.name" || (field == "metadata.namespace" && (kind.namespaced() || common));
            if !known && !kind.selectable.contains(field) {
                // Kinds without fields of their own have upstream's common conversion, which says more.
                return Err(Status::bad_request(match kind.kind.as_str() {
                    _ if common => {
                        format!(
                            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                        )
                    }
                    "Job" if kind.custom.is_none() => format!("field label {field:?} not supported for Job"),
                    "ResourceSlice" if kind.custom.is_none() => {
                        format!("field label not supported for {}, Kind=ResourceSlice: {field}", kind.api_version())
                    }
                    _ => format!("field label not supported: {field}"),
                }));
            }
        }
        Ok(())
    }
}

/// True for a field that is not of the metadata.
fn is_content((field, _, _): &(String, bool, String)) -> bool {
    !field.starts_with("metadata.")
}

/// Upstream's store forgets revisions after five minutes; a list that is not read on by then is not waited for.
const TOKEN_SECONDS: i64 = 300;
/// The revision of a token that goes on with whatever is there.
const INCONSISTENT: i64 = -1;

/// A token of upstream's form. `key` lies under `prefix`.
fn encode_token(revision: u64, prefix: &str, key: &str) -> String {
    let made = base::time::now_seconds();
    let start = key.strip_prefix(prefix).unwrap_or(key);
    let token = json!({"v": TOKEN_VERSION, "rv": revision, "start": format!("{start}\0"), "made": made});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

/// 410, with a token to go on without consistency.
fn expired(start: &str) -> Status {
    let text = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
    let token = json!({"v": TOKEN_VERSION, "rv": INCONSISTENT, "start": format!("{start}\0")});
    Status { continue_token: URL_SAFE_NO_PAD.encode(token.to_string()), ..Status::new(Reason::Expired, text) }
}

/// As Go: bits at the end that belong to no byte are nobody's business.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));
const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Where text stops being base64, as Go counts it.
fn not_base64(text: &str) -> usize {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    text.bytes().position(|b| !good(b)).unwrap_or_else(|| text.len().saturating_sub(1))
}

/// The revision (0: whatever is there) and the last key of the page before, under the collection's prefix.
fn decode_token(token: &str) -> Result<(u64, String), Status> {
    let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let illegal = |_| bad(&format!("illegal base64 data at input byte {}", not_base64(token)));
    let bytes = LENIENT.decode(token).map_err(illegal)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|e| bad(&schema::json::go_words(&bytes, &e)))?;
    let version = value["v"].as_str().unwrap_or("");
    if version != TOKEN_VERSION {
        return Err(bad(&format!("server does not recognize this encoded version {version}")));
    }
    let start = value["start"].as_str().unwrap_or("");
    let revision = match value["rv"].as_i64() {
        None | Some(0) => return Err(bad("incorrect encoded start resourceVersion (version meta.k8s.io/v1)")),
        Some(revision) => revision,
    };
    if start.is_empty() {
        return Err(bad("encoded start key empty (version meta.k8s.io/v1)"));
    }
    let after = start.strip_suffix('\0').unwrap_or(start).trim_start_matches('/');
    if after.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(bad(start));
    }
    let age = value["made"].as_i64().map(|made| base::time::now_seconds() - made);
    match u64::try_from(revision) {
        Err(_) => Ok((0, after.to_owned())),
        Ok(_) if age.is_none_or(|age| age > TOKEN_SECONDS) => Err(expired(after)),
        Ok(revision) => Ok((revision, after.to_owned())),
    }
}

impl Api {
    /// Why an object is not there: nobody has made it, or its value cannot be read.
    pub(crate) fn missing(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Status {
        match self.store.unreadable(&key(kind, namespace, name)) {
            Some((_, why)) => Status::internal(why),
            None => Status::not_found(&kind.group, &kind.plural, name),
        }
    }

    /// GET of an object, or of a subresource that shows it.
    pub(crate) fn get(&self, at: &Resource) -> Result<Arc<Object>, Status> {
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let namespace = namespace_of(kind, at)?;
        let name = at.name.as_deref().unwrap_or("");
        let found = self.store.get(&key(kind, namespace, name));
        let found = found.ok_or_else(|| self.missing(kind, namespace, name))?;
        Ok(served(kind, found.object))
    }

    /// GET in the version that was asked for; with any revision, what was converted before is as good.
    pub(crate) async fn get_as(
        &self,
        kind: &Kind,
        at: &Resource,
        revision: Option<u64>,
    ) -> Result<Arc<Object>, Status> {
        let object = self.get(at)?;
        if revision.is_none() {
            return self.conversions.one(kind, object).await;
        }
        let mut converted = self.conversions.converted(kind, vec![object]).await?;
        converted.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// LIST of a collection in the version that was asked for: one page.
    pub(crate) async fn list_as(&self, at: &Resource, query: &ListQuery) -> Result<Listing, Status> {
        let kind = &*self.stored_kind_of(&at.gvr)?;
        if !query.selects_late(kind) {
            let mut listing = self.list(at, query)?;
            listing.items = self.conversions.converted(kind, listing.items).await?;
            return Ok(listing);
        }
        query.check_fields(kind)?;
        let limit = query.limit;
        let mut page = ListQuery { limit: if limit == 0 { 0 } else { limit.max(CHUNK) }, ..query.by_names() };
        let mut items = Vec::new();
        loop {
            let listing = self.list(at, &page)?;
            let count = listing.items.len();
            let converted = self.conversions.converted(kind, listing.items).await?;
            for (index, object) in converted.into_iter().enumerate() {
                if query.selects(kind, &object) {
                    items.push(object);
                }
                if limit > 0 && items.len() == limit && (listing.continue_token.is_some() || index + 1 < count) {
                    let last = items.last().map(|last| &last.head);
                    let namespace = last.map(|head| head.namespace.as_str()).filter(|n| !n.is_empty());
                    let last = key(kind, namespace, last.map_or("", |head| &head.name));
                    let token = encode_token(listing.revision, &prefix(kind, namespace_of(kind, at)?), &last);
                    return Ok(Listing {
                        revision: listing.revision,
                        items,
                        continue_token: Some(token),
                        remaining: None,
                    });
                }
            }
            match listing.continue_token {
                None => {
                    return Ok(Listing { revision: listing.revision, items, continue_token: None, remaining: None });
                }
                Some(token) => {
                    (page.resource_version, page.version_match) = (None, None);
                    page.continue_token = Some(token);
                }
            }
        }
    }

    /// LIST of a collection as it is stored, but for what needs no webhook: one page.
    pub(crate) fn list(&self, at: &Resource, query: &ListQuery) -> Result<Listing, Status> {
        let kind = &*self.stored_kind_of(&at.gvr)?;
        let mut fetched = 0;
        let listing = self.page(kind, at, query, &mut fetched)?;
        Lists { fetched, returned: listing.items.len() }.count(kind);
        Ok(listing)
    }

    fn page(&self, kind: &Kind, at: &Resource, query: &ListQuery, fetched: &mut usize) -> Result<Listing, Status> {
        query.check_fields(kind)?;
        let prefix = prefix(kind, namespace_of(kind, at)?);
        if let Some((key, why)) = self.store.unreadable(&prefix) {
            return Err(Status::internal(format!("unable to transform key {key:?}: {why}")));
        }
        let (revision, mut after) = self.start(query, &prefix)?;
        let selective = !query.labels.is_empty() || !query.fields.is_empty();
        let mut items: Vec<Arc<Object>> = Vec::new();
        let mut at_revision = revision;
        loop {
            let chunk = match (query.limit, selective) {
                (0, _) => 0,
                (limit, false) => limit,
                (limit, true) => limit.max(CHUNK),
            };
            let page = match self.store.range(&prefix, after.as_deref(), chunk, at_revision) {
                Ok(page) => page,
                Err(StoreError::Compacted { .. }) => {
                    let text = "The resourceVersion for the provided list is too old.";
                    let start = after.as_deref().and_then(|key| key.strip_prefix(&*prefix));
                    return Err(start.map_or_else(|| Status::new(Reason::Expired, text), expired));
                }
                Err(error) => return Err(store_status(&error)),
            };
            at_revision = page.revision;
            let (more, remaining) = (page.more, page.remaining);
            let count = page.items.len();
            *fetched += count;
            for (index, value) in page.items.into_iter().enumerate() {
                after = Some(value.key);
                if query.selects(kind, &value.object) {
                    items.push(served(kind, value.object));
                    if query.limit > 0 && items.len() == query.limit && (more || index + 1 < count) {
                        let token = encode_token(at_revision, &prefix, after.as_deref().unwrap_or(""));
                        let remaining = (!selective).then_some(remaining + count - index - 1);
                        return Ok(Listing { revision: at_revision, items, continue_token: Some(token), remaining });
                    }
                }
            }
            if !more {
                return Ok(Listing { revision: at_revision, items, continue_token: None, remaining: None });
            }
        }
    }

    /// The revision to read at (0: newest) and the key to go on after.
    fn start(&self, query: &ListQuery, prefix: &str) -> Result<(u64, Option<Arc<str>>), Status> {
        let newest = self.store.revision();
        if let Some(token) = &query.continue_token {
            let (revision, start) = decode_token(token)?;
            if query.resource_version.is_some_and(|rv| rv > 0) {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            return Ok((revision, Some(format!("{prefix}{start}").into())));
        }
        match (query.resource_version, query.version_match) {
            (None, Some(_)) => {
                let text = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                let error = Invalid::forbidden("resourceVersionMatch", text);
                Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
            }
            (Some(0), Some(Match::Exact)) => {
                let error = Invalid::forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
                );
                Err(Status::invalid("meta.k8s.io", "ListOptions", "", &[error]))
            }
            (Some(revision), Some(Match::Exact)) => Ok((revision, None)),
            (Some(revision), _) if revision > newest => {
                Err(store_status(&StoreError::Future { wanted: revision, newest }))
            }
            // Pages have always been of the very revision, unless asked for otherwise.
            (Some(revision), None) if revision > 0 && query.limit > 0 => Ok((revision, None)),
            // Everything here is at least as new as asked for.
            _ => Ok((0, None)),
        }
    }
}

impl Listing {
    /// `metadata` of the list.
    pub(crate) fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if self.revision == 0 {
            metadata = json!({});
        }
        if let Some(token) = &self.continue_token {
            metadata["continue"] = token.as_str().into();
        }
        if let Some(remaining) = self.remaining {
            metadata["remainingItemCount"] = remaining.into();
        }
        metadata
    }
}
