//! The seam between components and an API server.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object::{FieldSelector, Gvr, LabelSelector, Object, Status};
use serde_json::Value;

/// A result whose error is what the server said (or, for transport faults, a 503/504 [`Status`] that says so).
pub type Result<T> = std::result::Result<T, Status>;

/// A resource, and optionally an object and a subresource of it: where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Group, version, plural resource.
    pub gvr: Gvr,
    /// Namespace; `None` for cluster-scoped resources and for all namespaces.
    pub namespace: Option<String>,
    /// Object name; `None` for the collection.
    pub name: Option<String>,
    /// `status`, `scale`, `binding`, `eviction`, `token` ...
    pub subresource: Option<String>,
}

impl Resource {
    /// The collection of `gvr` in `namespace` (or everywhere).
    pub fn collection(gvr: &Gvr, namespace: Option<&str>) -> Self {
        Self {
            gvr: gvr.clone(),
            namespace: namespace.filter(|n| !n.is_empty()).map(Into::into),
            name: None,
            subresource: None,
        }
    }
    /// One object; `namespace` empty or `None` for cluster scope.
    pub fn object(gvr: &Gvr, namespace: Option<&str>, name: &str) -> Self {
        Self { name: Some(name.into()), ..Self::collection(gvr, namespace) }
    }
    /// A subresource of this object.
    pub fn sub(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.into());
        self
    }
    /// The URL path.
    pub fn path(&self) -> String {
        let mut path = self.gvr.path(self.namespace.as_deref());
        for part in [&self.name, &self.subresource].into_iter().flatten() {
            path.push('/');
            path.push_str(part);
        }
        path
    }
}

/// What a LIST or WATCH selects.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
    /// At most this many items; 0 for all.
    pub limit: usize,
    /// Continue token of the page before.
    pub continue_token: Option<String>,
    /// `resourceVersion`: for a watch, events after it.
    pub resource_version: Option<u64>,
}

/// A page of objects and the revision of the snapshot that it was read from.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The snapshot's revision: watch from here.
    pub revision: u64,
    /// The objects, in key order.
    pub items: Vec<Arc<Object>>,
    /// Set when there is more.
    pub continue_token: Option<String>,
}

/// One watch event.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// The object is new to this watch.
    Added(Arc<Object>),
    /// It changed.
    Modified(Arc<Object>),
    /// It is gone (or left the selection): its last state.
    Deleted(Arc<Object>),
    /// Nothing happened up to this revision.
    Bookmark(u64),
}

/// A watch: ends with `Err` (410 when the revision is too old) or just ends, and is then begun again by its owner.
pub type WatchStream = BoxStream<'static, Result<WatchEvent>>;

/// Options of create and update.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// `fieldManager` recorded in managedFields.
    pub field_manager: Option<String>,
    /// `dryRun=All`.
    pub dry_run: bool,
}

/// Options of server-side apply.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// `fieldManager`; required by the API.
    pub field_manager: String,
    /// Take fields over from other managers.
    pub force: bool,
}

/// A patch and its type.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Strategic merge (built-in kinds).
    Strategic(Value),
    /// Server-side apply.
    Apply(Value, ApplyOptions),
}

/// What happens to dependents on delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They lose the owner reference and stay.
    Orphan,
    /// The garbage collector deletes them afterwards.
    Background,
    /// They go first.
    Foreground,
}

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds; `Some(0)` deletes at once.
    pub grace_period_seconds: Option<i64>,
    /// Dependents.
    pub propagation: Option<Propagation>,
    /// Only if the uid is this.
    pub uid: Option<String>,
    /// Only if the revision is this.
    pub resource_version: Option<u64>,
}

/// Carries requests to an API server under one identity.
#[async_trait]
pub trait Transport: Send + Sync {
    /// GET of an object (or a subresource that is an object).
    async fn get(&self, at: &Resource) -> Result<Arc<Object>>;
    /// LIST of a collection: one page.
    async fn list(&self, at: &Resource, options: &ListOptions) -> Result<List>;
    /// WATCH of a collection from `options.resource_version` on. Bookmarks are always asked for.
    async fn watch(&self, at: &Resource, options: &ListOptions) -> Result<WatchStream>;
    /// POST: create, or a create-only subresource (binding, eviction, token): returns what the server returned.
    async fn create(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>>;
    /// PUT.
    async fn update(&self, at: &Resource, body: Bytes, options: &WriteOptions) -> Result<Arc<Object>>;
    /// PATCH.
    async fn patch(&self, at: &Resource, patch: &Patch, options: &WriteOptions) -> Result<Arc<Object>>;
    /// DELETE of an object. `None` when it is gone, the object when finalizers or grace keep it.
    async fn delete(&self, at: &Resource, options: &DeleteOptions) -> Result<Option<Arc<Object>>>;
    /// DELETE of a collection.
    async fn delete_collection(&self, at: &Resource, options: &DeleteOptions, selection: &ListOptions) -> Result<()>;
    /// Any GET that is not an object (discovery, `/version`, `/readyz`): the body of a 2xx reply.
    async fn raw_get(&self, path: &str) -> Result<Bytes>;
}

/// A handle on an API server under one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    /// Who writes: `fieldManager` of every write.
    manager: Arc<str>,
}

impl Client {
    /// A client over `transport` whose writes are recorded under `manager` (`kubelet`, `kube-controller-manager`).
    pub fn new(transport: Arc<dyn Transport>, manager: &str) -> Self {
        Self { transport, manager: manager.into() }
    }

    /// The same identity under another field manager name.
    pub fn with_manager(&self, manager: &str) -> Self {
        Self { transport: self.transport.clone(), manager: manager.into() }
    }

    /// Under whose name writes are recorded.
    pub fn manager(&self) -> &str {
        &self.manager
    }

    /// The transport below, for what has no method here.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    fn write_options(&self) -> WriteOptions {
        WriteOptions { field_manager: Some(self.manager.to_string()), dry_run: false }
    }

    /// See [`Transport::get`].
    pub async fn get(&self, at: &Resource) -> Result<Arc<Object>> {
        self.transport.get(at).await
    }

    /// All pages of a LIST, at one revision; with a limit, one of them.
    pub async fn list(&self, at: &Resource, options: &ListOptions) -> Result<List> {
        let mut all = self.transport.list(at, options).await?;
        while options.limit == 0
            && let Some(token) = all.continue_token.take()
        {
            let next = ListOptions { continue_token: Some(token), resource_version: None, ..options.clone() };
            let page = self.transport.list(at, &next).await?;
            all.items.extend(page.items);
            all.continue_token = page.continue_token;
        }
        Ok(all)
    }

    /// See [`Transport::watch`].
    pub async fn watch(&self, at: &Resource, options: &ListOptions) -> Result<WatchStream> {
        self.transport.watch(at, options).await
    }

    /// Creates `object` in the collection `at` (or posts to a subresource).
    pub async fn create(&self, at: &Resource, object: &Value) -> Result<Arc<Object>> {
        self.transport.create(at, encode(object)?, &self.write_options()).await
    }

    /// Replaces the object at `at`.
    pub async fn update(&self, at: &Resource, object: &Value) -> Result<Arc<Object>> {
        self.transport.update(at, encode(object)?, &self.write_options()).await
    }

    /// Patches the object at `at`.
    pub async fn patch(&self, at: &Resource, patch: &Patch) -> Result<Arc<Object>> {
        self.transport.patch(at, patch, &self.write_options()).await
    }

    /// Deletes the object at `at`; an object that is gone already is an error (404).
    pub async fn delete(&self, at: &Resource, options: &DeleteOptions) -> Result<Option<Arc<Object>>> {
        self.transport.delete(at, options).await
    }

    /// Deletes the objects of the collection `at` that `selection` selects.
    pub async fn delete_collection(
        &self,
        at: &Resource,
        options: &DeleteOptions,
        selection: &ListOptions,
    ) -> Result<()> {
        self.transport.delete_collection(at, options, selection).await
    }

    /// See [`Transport::raw_get`].
    pub async fn raw_get(&self, path: &str) -> Result<Bytes> {
        self.transport.raw_get(path).await
    }
}

fn encode(object: &Value) -> Result<Bytes> {
    serde_json::to_vec(object)
        .map(Bytes::from)
        .map_err(|e| Status::bad_request(format!("cannot encode the object: {e}")))
}
