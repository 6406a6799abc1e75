//! The transport of components in this process: the same authorization and write path, no socket, shared objects.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use client::{
    DeleteOptions, List, ListOptions, Patch, Propagation, Resource, Result, Transport, WatchEvent, WatchStream,
    WriteOptions,
};
use futures::StreamExt;
use object::{FieldSelector, Object, Status};
use rbac::Attributes;

use crate::api::Api;
use crate::audit::{Asked, Recording, Stage};
use crate::delete::{DeleteRequest, Deleted, Preconditions};
use crate::metrics::{self, Counted};
use crate::read::ListQuery;
use crate::subresources::Change;
use crate::user::User;
use crate::watch::WatchQuery;
use crate::write::{Body, WriteQuery};

/// Enters the API under one identity.
pub struct InProcess {
    api: Arc<Api>,
    user: User,
}

impl InProcess {
    /// Requests of `user`.
    pub fn new(api: Arc<Api>, user: User) -> Self {
        Self { api, user }
    }

    async fn authorize(&self, verb: &str, at: &Resource) -> Result<()> {
        self.api.authorize(&self.user, &attributes(verb, at)).await
    }

    /// Begins to count a request, and its record, if the audit policy wants one.
    async fn begin(&self, verb: &str, at: &Resource, query: &str, sent: Option<&[u8]>) -> Begun {
        let counted = Counted::begin(&metrics::Asked::within(verb, at), || self.api.stored_kind_of(&at.gvr).is_ok());
        Begun { counted, recording: self.record(verb, at, query, sent).await }
    }

    async fn record(&self, verb: &str, at: &Resource, query: &str, sent: Option<&[u8]>) -> Option<Recording> {
        let audit = self.api.audit.as_ref()?;
        let path = at.path();
        let uri = if query.is_empty() { path.clone() } else { format!("{path}?{query}") };
        let id = uuid::Uuid::new_v4().to_string();
        let (user, agent, addresses) = (&self.user, AGENT, vec!["127.0.0.1".to_owned()]);
        let asked = Asked { verb, at: Some(at), path: &path, uri: &uri, id: &id, agent, addresses, user };
        let mut recording = audit.begin(&asked)?;
        recording.tell(Stage::RequestReceived).await;
        if let Some(object) = sent.and_then(|sent| serde_json::from_slice(sent).ok()) {
            recording.request(object, verb == "patch");
        }
        recording.decided(&self.api.explain(&self.user, &attributes(verb, at)).await);
        Some(recording)
    }
}

/// What components call themselves in the audit log.
const AGENT: &str = concat!("navarch/", env!("CARGO_PKG_VERSION"));

/// A request that is being handled.
struct Begun {
    counted: Option<Counted>,
    recording: Option<Recording>,
}

/// Ends a request's record, and counts it.
async fn end<T>(
    begun: Begun,
    code: u16,
    outcome: Result<T>,
    shown: impl FnOnce(&T) -> Option<serde_json::Value>,
) -> Result<T> {
    if let Some(counted) = begun.counted {
        counted.end(outcome.as_ref().map_or_else(|status| status.code, |_| code));
    }
    let Some(mut recording) = begun.recording else { return outcome };
    match &outcome {
        Ok(done) => {
            recording.outcome(code, None);
            if let Some(object) = Some(done).filter(|_| recording.wants_response()).and_then(shown) {
                recording.response(object);
            }
        }
        Err(status) => {
            recording.outcome(status.code, Some(status));
            if recording.wants_response() {
                recording.response(status.to_value());
            }
        }
    }
    recording.tell(Stage::ResponseComplete).await;
    outcome
}

fn tree(object: &Arc<Object>) -> Option<serde_json::Value> {
    object.value().ok()
}

/// A selection as a query has it.
fn query_of(options: &ListOptions, watch: bool) -> String {
    let mut parts = Vec::new();
    if watch {
        parts.push("watch=true".to_owned());
    }
    if let Some(revision) = options.resource_version {
        parts.push(format!("resourceVersion={revision}"));
    }
    if options.limit > 0 {
        parts.push(format!("limit={}", options.limit));
    }
    parts.join("&")
}

/// What a request on a resource wants.
pub(crate) fn attributes<'a>(verb: &'a str, at: &'a Resource) -> Attributes<'a> {
    Attributes {
        verb,
        group: &at.gvr.group,
        version: &at.gvr.version,
        resource: &at.gvr.resource,
        subresource: at.subresource.as_deref().unwrap_or(""),
        // The namespace of a Namespace is itself.
        namespace: at.namespace.as_deref().unwrap_or(if at.gvr.resource == "namespaces" {
            at.name.as_deref().unwrap_or("")
        } else {
            ""
        }),
        name: at.name.as_deref().unwrap_or(""),
        ..Attributes::default()
    }
}

/// What a request on a collection wants, when a selector limits it: rules with resourceNames, and nodes' rights, look at that.
pub(crate) fn selective<'a>(verb: &'a str, at: &'a Resource, fields: &'a FieldSelector) -> Attributes<'a> {
    let mut wanted = Attributes { fields: &fields.terms, ..attributes(verb, at) };
    let named = fields.terms.iter().find(|(field, equals, _)| *equals && field == "metadata.name");
    if let Some((_, _, name)) =
        named.filter(|_| at.name.is_none() && matches!(verb, "list" | "watch" | "deletecollection"))
    {
        wanted.name = name;
    }
    wanted
}

fn list_query(options: &ListOptions) -> ListQuery {
    ListQuery {
        labels: options.labels.clone(),
        fields: options.fields.clone(),
        limit: options.limit,
        continue_token: options.continue_token.clone(),
        resource_version: options.resource_version,
        version_match: None,
    }
}

fn write_query(options: &WriteOptions) -> WriteQuery {
    WriteQuery { dry_run: options.dry_run, manager: options.field_manager.clone(), ..WriteQuery::default() }
}

fn delete_request(options: &DeleteOptions) -> DeleteRequest {
    let policy = options.propagation.map(|p| match p {
        Propagation::Orphan => "Orphan",
        Propagation::Background => "Background",
        Propagation::Foreground => "Foreground",
    });
    DeleteRequest {
        grace_period_seconds: options.grace_period_seconds,
        propagation_policy: policy.map(Into::into),
        preconditions: Some(Preconditions {
            uid: options.uid.clone(),
            resource_version: options.resource_version.map(|rv| rv.to_string()),
        }),
        ..DeleteRequest::default()
    }
}

impl InProcess {
    async fn do_get(&self, at: &Resource) -> Result<Arc<Object>> {
        self.authorize("get", at).await?;
        self.api.fresh(None).await?;
        match at.subresource.as_deref() {
            Some("scale") => self.api.get_scale(at),
            _ => self.api.get_as(&*self.api.kind_of(&at.gvr)?, at, None).await,
        }
    }

    async fn do_list(&self, at: &Resource, options: &ListOptions) -> Result<List> {
        self.api.authorize(&self.user, &selective("list", at, &options.fields)).await?;
        let query = list_query(options);
        self.api.fresh(query.needs()).await?;
        let page = self.api.list_as(at, &query).await?;
        Ok(List { revision: page.revision, items: page.items, continue_token: page.continue_token })
    }

    async fn do_watch(&self, at: &Resource, options: &ListOptions) -> Result<WatchStream> {
        self.api.authorize(&self.user, &selective("watch", at, &options.fields)).await?;
        let query = WatchQuery { list: list_query(options), bookmarks: true, initial: None };
        self.api.fresh(query.needs()).await?;
        let events = self.api.watch(at, &query).await?;
        Ok(events.map(|delivered| delivered.map(|d| -> WatchEvent { d.event })).boxed())
    }

    async fn do_create(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>> {
        self.authorize("create", at).await?;
        self.api.fresh(None).await?;
        let body = Body { bytes: &body, content_type: "application/json" };
        let kind = &*self.api.kind_of(&at.gvr)?;
        let value = if at.subresource.is_some() {
            self.api.create_sub(&self.user, at, body, &write_query(options)).await?.0
        } else if kind.storage_prefix.is_none() {
            self.api.review(&self.user, kind, at, &body, &write_query(options)).await?.0
        } else {
            return Ok(self.api.create(&self.user, at, body, &write_query(options)).await?.object);
        };
        Object::from_value(&value).map(Arc::new).map_err(Status::internal)
    }

    async fn do_update(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>> {
        self.authorize("update", at).await?;
        self.api.fresh(None).await?;
        let body = Body { bytes: &body, content_type: "application/json" };
        Ok(self.api.update(&self.user, at, body, &write_query(options)).await?.object)
    }

    async fn do_patch(&self, at: &Resource, patch: &Patch, options: &WriteOptions) -> Result<Arc<Object>> {
        self.authorize("patch", at).await?;
        self.api.fresh(None).await?;
        let mut query = write_query(options);
        let change = match patch {
            Patch::Json(patch) => Change::parse(patch.to_string().as_bytes(), "application/json-patch+json")?,
            Patch::Merge(patch) => Change::Merge(patch.clone(), Vec::new()),
            Patch::Strategic(patch) => Change::Strategic(patch.clone()),
            Patch::Apply(config, options) => {
                query.manager = Some(options.field_manager.clone());
                query.force = options.force;
                Change::Apply(config.clone(), Vec::new())
            }
        };
        Ok(self.api.patch(&self.user, at, &change, &query).await?.object)
    }

    async fn do_delete(&self, at: &Resource, options: &DeleteOptions) -> Result<Option<Arc<Object>>> {
        self.authorize("delete", at).await?;
        self.api.fresh(None).await?;
        Ok(match self.api.delete(&self.user, at, &delete_request(options), &mut Vec::new()).await? {
            Deleted::Gone(_) => None,
            Deleted::Terminating(object) => Some(object),
        })
    }

    async fn do_delete_collection(
        &self,
        at: &Resource,
        options: &DeleteOptions,
        selection: &ListOptions,
    ) -> Result<()> {
        self.authorize("deletecollection", at).await?;
        self.api.fresh(None).await?;
        let request = delete_request(options);
        self.api.delete_collection(&self.user, at, &list_query(selection), &request, &mut Vec::new()).await.map(drop)
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn get(&self, at: &Resource) -> Result<Arc<Object>> {
        let begun = self.begin("get", at, "", None).await;
        end(begun, 200, self.do_get(at).await, tree).await
    }

    async fn list(&self, at: &Resource, options: &ListOptions) -> Result<List> {
        let begun = self.begin("list", at, &query_of(options, false), None).await;
        end(begun, 200, self.do_list(at, options).await, |_| None).await
    }

    async fn watch(&self, at: &Resource, options: &ListOptions) -> Result<WatchStream> {
        let mut begun = self.begin("watch", at, &query_of(options, true), None).await;
        match self.do_watch(at, options).await {
            Ok(events) => {
                if let Some(recording) = &mut begun.recording {
                    recording.outcome(200, None);
                    recording.tell(Stage::ResponseStarted).await;
                }
                let lasting = (begun.recording, begun.counted.map(Counted::lasts));
                // Dropped with the stream, they tell of its end.
                Ok(events
                    .map(move |event| {
                        let _ = &lasting;
                        event
                    })
                    .boxed())
            }
            Err(status) => end(begun, 0, Err(status), |_| None).await,
        }
    }

    async fn create(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>> {
        let begun = self.begin("create", at, "", Some(&body)).await;
        end(begun, 201, self.do_create(at, body, options).await, tree).await
    }

    async fn update(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>> {
        let begun = self.begin("update", at, "", Some(&body)).await;
        end(begun, 200, self.do_update(at, body, options).await, tree).await
    }

    async fn patch(&self, at: &Resource, patch: &Patch, options: &WriteOptions) -> Result<Arc<Object>> {
        let (Patch::Json(sent) | Patch::Merge(sent) | Patch::Strategic(sent) | Patch::Apply(sent, _)) = patch;
        let sent = self.api.audit.as_ref().map(|_| sent.to_string());
        let begun = self.begin("patch", at, "", sent.as_deref().map(str::as_bytes)).await;
        end(begun, 200, self.do_patch(at, patch, options).await, tree).await
    }

    async fn delete(&self, at: &Resource, options: &DeleteOptions) -> Result<Option<Arc<Object>>> {
        let begun = self.begin("delete", at, "", None).await;
        end(begun, 200, self.do_delete(at, options).await, |gone| gone.as_ref().and_then(tree)).await
    }

    async fn delete_collection(&self, at: &Resource, options: &DeleteOptions, selection: &ListOptions) -> Result<()> {
        let begun = self.begin("deletecollection", at, &query_of(selection, false), None).await;
        end(begun, 200, self.do_delete_collection(at, options, selection).await, |()| None).await
    }

    async fn raw_get(&self, path: &str) -> Result<Bytes> {
        let wanted = Attributes { verb: "get", path, ..Attributes::default() };
        self.api.authorize(&self.user, &wanted).await?;
        let found = self.api.document(path, "").map(|d| d.body.clone());
        found.ok_or_else(|| Status::new(object::Reason::NotFound, "the server could not find the requested resource"))
    }
}
