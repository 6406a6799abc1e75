//! Push: blobs that the registry lacks, then the manifest.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio_util::io::ReaderStream;

use super::download::blocking;
use super::http::{Body, Call, resolve_url};
use super::{Options, Registry, RegistryError, Session};
use crate::{Descriptor, Digest, Error, Manifest, Reference, media};

impl Registry {
    /// Pushes the image called `name` as `to`; returns the manifest's digest.
    pub async fn push(&self, name: &str, to: &Reference, options: &Options) -> Result<Digest, RegistryError> {
        let failed = |source| RegistryError::Push { reference: to.to_string(), source: Box::new(source) };
        self.push_inner(name, to, options).await.map_err(failed)
    }

    async fn push_inner(&self, name: &str, to: &Reference, options: &Options) -> Result<Digest, RegistryError> {
        let (store, name) = (self.store().clone(), name.to_owned());
        let lease_and_image = blocking(move || Ok((store.lease()?, store.get(&name)?.image)));
        let (_lease, image) = lease_and_image.await?;
        // The registry itself, which stands last: mirrors are for reading.
        let session = self.sessions(to, options, "pull,push").pop().ok_or(Error::Cut)?;
        let store = self.store().clone();
        let manifest_at = image.manifest.clone();
        let (bytes, manifest) = blocking(move || {
            let manifest: Manifest = store.document(&manifest_at.digest, "manifest")?;
            Ok((store.read_blob(&manifest_at.digest)?, manifest))
        })
        .await?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.push_blob(&session, blob).await?;
        }
        let kind = match image.manifest.media_type.as_str() {
            kind if media::is_manifest(kind) => kind,
            _ => crate::store::sniff(&bytes),
        };
        let call = Call::new(Method::PUT, session.url(&format!("manifests/{}", to.selector())));
        let call = Call { body: bytes.into(), ..call.header(header::CONTENT_TYPE, kind)? };
        let answer = session.send(call).await?;
        match answer.status().is_success() {
            true => Ok(image.manifest.digest),
            false => Err(session.refused(answer).await),
        }
    }

    async fn push_blob(&self, session: &Arc<Session>, blob: &Descriptor) -> Result<(), RegistryError> {
        let known = session.send(Call::new(Method::HEAD, session.url(&format!("blobs/{}", blob.digest)))).await?;
        if known.status().is_success() {
            return Ok(());
        }
        // The first call with a push in it earns the authorization that the streamed one needs.
        let begun = session.send(Call::new(Method::POST, session.url("blobs/uploads/"))).await?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(session.refused(begun).await);
        }
        let location = begun.header("location").and_then(|to| resolve_url(&begun.call.url, to));
        let location = location.ok_or_else(|| begun.call.malformed("no place to upload to"))?;
        let mark = if location.contains('?') { '&' } else { '?' };
        let call = Call::new(Method::PUT, format!("{location}{mark}digest={}", blob.digest))
            .header(header::CONTENT_TYPE, "application/octet-stream")?
            .header(header::CONTENT_LENGTH, &blob.size.to_string())?;
        let (store, digest) = (self.store().clone(), blob.digest.clone());
        let (file, _) = blocking(move || store.open_blob(&digest)).await?;
        let answer = session.upload(call, file_body(file)).await?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(session.refused(answer).await),
        }
    }
}

fn file_body(file: std::fs::File) -> Body {
    let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 256 << 10);
    StreamBody::new(chunks.map_ok(|chunk: Bytes| Frame::data(chunk))).boxed_unsync()
}
