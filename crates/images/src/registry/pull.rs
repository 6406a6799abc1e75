//! A whole pull: from a reference to an unpacked image with names.

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::download::blocking;
use super::session::Resolved;
use super::{Options, Registry, RegistryError, Session, Stage};
use crate::layer::chain_ids;
use crate::{Descriptor, Error, Image, ImageFile, Manifest, Platform, Reference, media};

/// Layers of one image that are downloaded at once, as containerd has it.
const PARALLEL: usize = 3;

impl Registry {
    /// Pulls the image and gives it the reference's name, and its name by digest. The image's id is the result's `id`.
    pub async fn pull(&self, reference: &Reference, options: &Options) -> Result<Image, RegistryError> {
        let failed = |source| RegistryError::Pull { reference: reference.to_string(), source: Box::new(source) };
        self.pull_inner(reference, options).await.map_err(failed)
    }

    async fn pull_inner(&self, reference: &Reference, options: &Options) -> Result<Image, RegistryError> {
        let store = self.store().clone();
        // Collection waits until the image has its names.
        let lease = blocking(move || store.lease()).await?;
        let mut sessions = self.sessions(reference, options, "pull");
        let (resolved, by) = resolve(&sessions, reference).await?;
        sessions.swap(0, by);
        if let Some(bytes) = resolved.document {
            self.keep_document(&resolved.target, bytes.into()).await?;
        }
        let target = resolved.target;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        self.manifests(&sessions, &target, &platform).await?;
        self.content(&sessions, &target, &platform, options).await?;
        let names = vec![reference.to_string(), reference.with_digest(&target.digest).to_string()];
        let store = self.store().clone();
        let done = blocking(move || {
            let image = store.register(&names, &target, &platform);
            drop(lease);
            image
        });
        Ok(done.await?)
    }

    /// The manifest that `target` means for the platform, with the indexes on the way to it.
    async fn manifests(
        &self,
        sessions: &[Arc<Session>],
        target: &Descriptor,
        platform: &Platform,
    ) -> Result<(), RegistryError> {
        self.document(sessions, target).await?;
        let mut missing = self.select(target, platform).await;
        // Each round brings one member of an index.
        while let Err(Error::MissingBlob { digest }) = &missing {
            let member = self.member(target, digest).await?;
            self.document(sessions, &member).await?;
            missing = self.select(target, platform).await;
        }
        let manifest = missing?;
        self.document(sessions, &manifest).await
    }

    async fn select(&self, target: &Descriptor, platform: &Platform) -> Result<Descriptor, Error> {
        let (store, target, platform) = (self.store().clone(), target.clone(), platform.clone());
        blocking(move || store.select(&target, &platform)).await
    }

    /// The descriptor of a missing member of an index.
    async fn member(&self, target: &Descriptor, digest: &crate::Digest) -> Result<Descriptor, Error> {
        let (store, at, wanted) = (self.store().clone(), target.digest.clone(), digest.clone());
        let index: crate::Index = blocking(move || store.document(&at, "index")).await?;
        let mut found = index.manifests.into_iter().find(|m| m.digest == wanted);
        // Members are manifests, even where the index forgets to say so.
        if let Some(member) = found.as_mut().filter(|m| !media::is_index(&m.media_type)) {
            member.media_type = media::OCI_MANIFEST.to_owned();
        }
        found.ok_or(Error::MissingBlob { digest: digest.clone() })
    }

    /// Configuration and layers; a layer is unpacked when it and those below it are here.
    async fn content(
        &self,
        sessions: &[Arc<Session>],
        target: &Descriptor,
        platform: &Platform,
        options: &Options,
    ) -> Result<(), RegistryError> {
        let at = self.select(target, platform).await?;
        let store = self.store().clone();
        let manifest: Manifest = blocking(move || store.document(&at.digest, "manifest")).await?;
        self.document(sessions, &manifest.config).await?;
        let (store, id) = (self.store().clone(), manifest.config.digest.clone());
        let file: ImageFile = blocking(move || store.document(&id, "image configuration")).await?;
        let chain = chain_ids(&file.rootfs.diff_ids);
        if chain.len() != manifest.layers.len() {
            return Err(
                Error::malformed(manifest.config.digest.as_str(), "layers and their digests differ in number").into()
            );
        }
        let (_downloads, arrivals) = self.start_downloads(sessions, &manifest.layers, options);
        for (nth, arrival) in arrivals.into_iter().enumerate() {
            arrival.await.unwrap_or(Err(Error::Cut.into()))?;
            let (store, layer) = (self.store().clone(), manifest.layers[nth].clone());
            let (diff_id, chain) = (file.rootfs.diff_ids[nth].clone(), chain[..=nth].to_vec());
            blocking(move || store.unpack_layer(&layer, &diff_id, &chain)).await?;
            let layer = &manifest.layers[nth];
            options.report(&layer.digest, layer.size, layer.size, Stage::Unpacked);
        }
        Ok(())
    }

    /// Downloads in parallel; the set ends them when it is dropped.
    fn start_downloads(
        &self,
        sessions: &[Arc<Session>],
        layers: &[Descriptor],
        options: &Options,
    ) -> (JoinSet<()>, Vec<oneshot::Receiver<Result<(), RegistryError>>>) {
        let mut set = JoinSet::new();
        let slots = Arc::new(Semaphore::new(PARALLEL));
        let start = |layer: &Descriptor| {
            let (done, arrival) = oneshot::channel();
            let (registry, sessions, layer) = (self.clone(), sessions.to_vec(), layer.clone());
            let (options, slots) = (options.clone(), slots.clone());
            set.spawn(async move {
                // The semaphore is never closed.
                let _slot = slots.acquire().await;
                // Nobody waits any more when an earlier layer has failed.
                let _ = done.send(registry.blob(&sessions, &layer, &options).await);
            });
            arrival
        };
        let arrivals = layers.iter().map(start).collect();
        (set, arrivals)
    }
}

/// Asks the hosts in order; returns which one knew. The first failure is told when nobody knows.
async fn resolve(sessions: &[Arc<Session>], reference: &Reference) -> Result<(Resolved, usize), RegistryError> {
    let mut first = None;
    for (nth, session) in sessions.iter().enumerate() {
        match session.resolve(reference.selector()).await {
            Ok(Some(resolved)) => match reference.digest() {
                Some(wanted) if *wanted != resolved.target.digest => {
                    let found = resolved.target.digest;
                    let wrong = Error::Mismatch { what: reference.to_string(), expected: wanted.clone(), found };
                    first = first.or(Some(wrong.into()));
                }
                _ => return Ok((resolved, nth)),
            },
            Ok(None) => {}
            Err(error) => first = first.or(Some(error)),
        }
    }
    let source = first.unwrap_or_else(|| RegistryError::NotFound { what: reference.to_string() });
    Err(RegistryError::Resolve { reference: reference.to_string(), source: Box::new(source) })
}
