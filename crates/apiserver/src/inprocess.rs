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
use crate::conversion;
use crate::delete::{DeleteRequest, Deleted, Preconditions};
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

    fn authorize(&self, verb: &str, at: &Resource) -> Result<()> {
        self.api.authorize(&self.user, &attributes(verb, at))
    }
}

/// What a request on a resource wants.
pub(crate) fn attributes<'a>(verb: &'a str, at: &'a Resource) -> Attributes<'a> {
    Attributes {
        verb,
        group: &at.gvr.group,
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

#[async_trait]
impl Transport for InProcess {
    async fn get(&self, at: &Resource) -> Result<Arc<Object>> {
        self.authorize("get", at)?;
        self.api.fresh(None).await?;
        match at.subresource.as_deref() {
            Some("scale") => self.api.get_scale(at),
            _ => conversion::one(&self.api.store, &*self.api.kind_of(&at.gvr)?, self.api.get(at)?).await,
        }
    }

    async fn list(&self, at: &Resource, options: &ListOptions) -> Result<List> {
        self.api.authorize(&self.user, &selective("list", at, &options.fields))?;
        let query = list_query(options);
        self.api.fresh(query.needs()).await?;
        let page = self.api.list_as(at, &query).await?;
        Ok(List { revision: page.revision, items: page.items, continue_token: page.continue_token })
    }

    async fn watch(&self, at: &Resource, options: &ListOptions) -> Result<WatchStream> {
        self.api.authorize(&self.user, &selective("watch", at, &options.fields))?;
        let query = WatchQuery { list: list_query(options), bookmarks: true, initial: None };
        self.api.fresh(query.needs()).await?;
        let events = self.api.watch(at, &query).await?;
        Ok(events.map(|delivered| delivered.map(|d| -> WatchEvent { d.event })).boxed())
    }

    async fn create(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>> {
        self.authorize("create", at)?;
        self.api.fresh(None).await?;
        let body = Body { bytes: &body, content_type: "application/json" };
        let kind = &*self.api.kind_of(&at.gvr)?;
        let value = if at.subresource.is_some() {
            self.api.create_sub(&self.user, at, body, &write_query(options)).await?.0
        } else if kind.storage_prefix.is_none() {
            self.api.review(&self.user, kind, at.namespace.as_deref(), &body).await?
        } else {
            return Ok(self.api.create(&self.user, at, body, &write_query(options)).await?.object);
        };
        Object::from_value(&value).map(Arc::new).map_err(Status::internal)
    }

    async fn update(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>> {
        self.authorize("update", at)?;
        self.api.fresh(None).await?;
        let body = Body { bytes: &body, content_type: "application/json" };
        Ok(self.api.update(&self.user, at, body, &write_query(options)).await?.object)
    }

    async fn patch(&self, at: &Resource, patch: &Patch, options: &WriteOptions) -> Result<Arc<Object>> {
        self.authorize("patch", at)?;
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

    async fn delete(&self, at: &Resource, options: &DeleteOptions) -> Result<Option<Arc<Object>>> {
        self.authorize("delete", at)?;
        self.api.fresh(None).await?;
        Ok(match self.api.delete(&self.user, at, &delete_request(options), &mut Vec::new()).await? {
            Deleted::Gone(_) => None,
            Deleted::Terminating(object) => Some(object),
        })
    }

    async fn delete_collection(&self, at: &Resource, options: &DeleteOptions, selection: &ListOptions) -> Result<()> {
        self.authorize("deletecollection", at)?;
        self.api.fresh(None).await?;
        let request = delete_request(options);
        self.api.delete_collection(&self.user, at, &list_query(selection), &request, &mut Vec::new()).await.map(drop)
    }

    async fn raw_get(&self, path: &str) -> Result<Bytes> {
        let wanted = Attributes { verb: "get", path, ..Attributes::default() };
        self.api.authorize(&self.user, &wanted)?;
        let found = self.api.document(path, "").map(|d| d.body.clone());
        found.ok_or_else(|| Status::new(object::Reason::NotFound, "the server could not find the requested resource"))
    }
}
