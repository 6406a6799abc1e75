//! The store as CRI's image service.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use base::Chain;
use protos::cri::v1::{
    FilesystemIdentifier, FilesystemUsage, Image as CriImage, ImageFsInfoRequest, ImageFsInfoResponse, ImageSpec,
    ImageStatusRequest, ImageStatusResponse, Int64Value, ListImagesRequest, ListImagesResponse, PullImageRequest,
    PullImageResponse, RemoveImageRequest, RemoveImageResponse, UInt64Value,
};
use protos::cri::{Code, Error as CriError, ImageService};

use crate::layer::{Usage, usage_of};
use crate::{Credentials, Error, Listed, Options, Prepared, Reference, Registry, RegistryError, Store};

/// The image service of the embedded runtime. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    registry: Registry,
}

impl Images {
    /// A service over the client and its store.
    pub fn new(registry: Registry) -> Self {
        Self { registry }
    }

    /// The client.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.registry.store()
    }

    /// [`Store::prepare`], off the asynchronous threads.
    pub async fn prepare(&self, container_id: &str, image: &str) -> Result<Prepared, Error> {
        let (id, image) = (container_id.to_owned(), image.to_owned());
        self.blocking(move |store| store.prepare(&id, &image)).await
    }

    /// [`Store::mount`], off the asynchronous threads.
    pub async fn mount(&self, container_id: &str) -> Result<Prepared, Error> {
        let id = container_id.to_owned();
        self.blocking(move |store| store.mount(&id)).await
    }

    /// [`Store::mount_image`], off the asynchronous threads.
    pub async fn mount_image(&self, container_id: &str, image: &str, sub: &str) -> Result<PathBuf, Error> {
        let (id, image, sub) = (container_id.to_owned(), image.to_owned(), sub.to_owned());
        self.blocking(move |store| store.mount_image(&id, &image, &sub)).await
    }

    /// [`Store::remove`], off the asynchronous threads.
    pub async fn remove(&self, container_id: &str) -> Result<(), Error> {
        let id = container_id.to_owned();
        self.blocking(move |store| store.remove(&id)).await
    }

    /// [`Store::usage`], off the asynchronous threads.
    pub async fn usage(&self, container_id: &str) -> Result<Usage, Error> {
        let id = container_id.to_owned();
        self.blocking(move |store| store.usage(&id)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store().clone();
        tokio::task::spawn_blocking(move || work(&store)).await.unwrap_or(Err(Error::Cut))
    }
}

impl From<Error> for CriError {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NotFound { .. } => Code::NotFound,
            Error::InvalidReference { .. } | Error::InvalidDigest { .. } | Error::InvalidContainer { .. } => {
                Code::InvalidArgument
            }
            _ => Code::Unknown,
        };
        Self::new(code, Chain(&error).to_string())
    }
}

impl From<RegistryError> for CriError {
    fn from(error: RegistryError) -> Self {
        let code = if error.is_not_found() { Code::NotFound } else { Code::Unknown };
        Self::new(code, Chain(&error).to_string())
    }
}

fn name_of(spec: Option<ImageSpec>) -> String {
    spec.map(|spec| spec.image).unwrap_or_default()
}

/// The user of the configuration: a number, or a name that only the root file system can resolve.
fn user_of(user: &str) -> (Option<Int64Value>, String) {
    let user = user.split(':').next().unwrap_or_default();
    match user.parse() {
        Ok(value) => (Some(Int64Value { value }), String::new()),
        Err(_) => (None, user.to_owned()),
    }
}

fn cri_image(listed: Listed) -> CriImage {
    let (uid, username) = user_of(&listed.image.user);
    CriImage {
        id: listed.image.id.to_string(),
        repo_tags: listed.repo_tags,
        repo_digests: listed.repo_digests,
        size: listed.image.size,
        uid,
        username,
        spec: None,
        pinned: listed.image.pinned,
    }
}

#[async_trait]
impl ImageService for Images {
    async fn list_images(&self, req: ListImagesRequest) -> Result<ListImagesResponse, CriError> {
        let name = name_of(req.filter.and_then(|filter| filter.image));
        let all = move |store: &Store| match name.is_empty() {
            true => store.list(),
            false => Ok(store.find(&name)?.into_iter().collect()),
        };
        let listed = self.blocking(all).await?;
        Ok(ListImagesResponse { images: listed.into_iter().map(cri_image).collect() })
    }

    async fn image_status(&self, req: ImageStatusRequest) -> Result<ImageStatusResponse, CriError> {
        let name = name_of(req.image);
        let is_verbose = req.verbose;
        let find = move |store: &Store| {
            let Some(found) = store.find(&name)? else { return Ok(None) };
            let info = if is_verbose { Some(store.config(&found.image)?) } else { None };
            Ok(Some((found, info)))
        };
        let Some((found, file)) = self.blocking(find).await? else { return Ok(ImageStatusResponse::default()) };
        let mut info = HashMap::new();
        if let Some(file) = file {
            let chain = crate::layer::chain_ids(&found.image.diff_ids).pop();
            let text = serde_json::json!({"chainID": chain, "imageSpec": file}).to_string();
            info.insert("info".to_owned(), text);
        }
        Ok(ImageStatusResponse { image: Some(cri_image(found)), info })
    }

    async fn pull_image(&self, req: PullImageRequest) -> Result<PullImageResponse, CriError> {
        let name = name_of(req.image);
        let reference = Reference::parse(&name).map_err(|e| {
            CriError::new(Code::InvalidArgument, format!("failed to parse image reference {name:?}: {}", Chain(&e)))
        })?;
        let credentials = req.auth.as_ref().and_then(Credentials::from_cri);
        let options = Options { credentials, ..Options::default() };
        let image = self.registry.pull(&reference, &options).await?;
        tracing::info!(%reference, id = %image.id, "pulled image");
        Ok(PullImageResponse { image_ref: image.id.to_string() })
    }

    async fn remove_image(&self, req: RemoveImageRequest) -> Result<RemoveImageResponse, CriError> {
        let name = name_of(req.image);
        self.blocking(move |store| store.remove_image(&name)).await?;
        Ok(RemoveImageResponse {})
    }

    async fn image_fs_info(&self, _req: ImageFsInfoRequest) -> Result<ImageFsInfoResponse, CriError> {
        let (images, containers) = self.blocking(|store| Ok(disk_use(store))).await?;
        let timestamp = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let usage = |path: &Path, usage: Usage| FilesystemUsage {
            timestamp,
            fs_id: Some(FilesystemIdentifier { mountpoint: path.display().to_string() }),
            used_bytes: Some(UInt64Value { value: usage.bytes }),
            inodes_used: Some(UInt64Value { value: usage.inodes }),
        };
        let root = self.store().root();
        Ok(ImageFsInfoResponse {
            image_filesystems: vec![usage(root, images)],
            container_filesystems: vec![usage(root, containers)],
        })
    }
}

/// Bytes and inodes of images (blobs and unpacked layers) and of what containers have written.
fn disk_use(store: &Store) -> (Usage, Usage) {
    let mut images = usage_of(&store.root().join("blobs"));
    let snapshots = std::fs::read_dir(store.root().join("snapshots"));
    for snapshot in snapshots.into_iter().flatten().flatten() {
        images += store.snapshot_usage(&snapshot.path());
    }
    let mut containers = Usage::default();
    for id in store.containers().unwrap_or_default() {
        containers += store.usage(&id).unwrap_or_default();
    }
    (images, containers)
}

#[cfg(test)]
mod tests {
    use super::user_of;

    #[test]
    fn users() {
        for (user, uid, name) in [
            ("", None, ""),
            ("0", Some(0), ""),
            ("101:101", Some(101), ""),
            ("nginx", None, "nginx"),
            ("nginx:nginx", None, "nginx"),
        ] {
            let (found, found_name) = user_of(user);
            assert_eq!((found.map(|v| v.value), found_name.as_str()), (uid, name), "{user}");
        }
    }
}
