//! One blob: shared by all who want it, resumed where it broke off, verified before it has a name.
//!
//! Bytes go to `<root>/ingest/<hex>.part`, written and hashed by a thread of its own. The file is locked, so that two
//! processes do not write it at once.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::error::BodyError;
use super::http::Answer;
use super::{Options, Registry, RegistryError, Session, Stage};
use crate::digest::Hashing;
use crate::error::IoContext as _;
use crate::store::{DOCUMENT_LIMIT, verify};
use crate::{Descriptor, Digest, Error, Store};

/// Attempts in a row that bring nothing.
const ATTEMPTS: usize = 4;
/// Between reports of progress.
const REPORT_BYTES: u64 = 1 << 20;

impl Registry {
    /// A manifest or configuration, kept in the store.
    pub(super) async fn document(&self, sessions: &[Arc<Session>], of: &Descriptor) -> Result<(), RegistryError> {
        if self.store().has_blob(&of.digest) {
            return Ok(());
        }
        if of.size > DOCUMENT_LIMIT {
            return Err(Error::malformed(of.digest.as_str(), "too long for a document").into());
        }
        let bytes = retried(|| async {
            let answer = open(sessions, of, 0).await?;
            answer.bytes(DOCUMENT_LIMIT).await
        });
        let bytes = bytes.await.map_err(|e| copying(of, e))?;
        self.keep_document(of, bytes).await
    }

    /// Keeps a manifest or configuration that has arrived.
    pub(super) async fn keep_document(&self, of: &Descriptor, bytes: Bytes) -> Result<(), RegistryError> {
        verify(of.digest.as_str(), of, &Digest::of(&bytes), bytes.len() as u64)?;
        let store = self.store().clone();
        Ok(blocking(move || store.put_blob(&bytes)).await.map(drop)?)
    }

    /// A blob of any length, kept in the store.
    pub(super) async fn blob(
        &self,
        sessions: &[Arc<Session>],
        of: &Descriptor,
        options: &Options,
    ) -> Result<(), RegistryError> {
        let flight = self.flight(&of.digest);
        let _alone = flight.lock().await;
        // A part that was resumed and proves wrong is thrown away: once more from the start.
        for is_last in [false, true] {
            let (store, wanted) = (self.store().clone(), of.clone());
            let Some(part) = blocking(move || Part::open(store, wanted)).await? else {
                options.report(&of.digest, of.size, of.size, Stage::Present);
                return Ok(());
            };
            let was_resumed = part.out.count() > 0;
            match self.fill(sessions, of, part, options).await {
                Err(RegistryError::Store(Error::Mismatch { .. })) if was_resumed && !is_last => {}
                done => return done.map_err(|e| copying(of, e)),
            }
        }
        Ok(())
    }

    async fn fill(
        &self,
        sessions: &[Arc<Session>],
        of: &Descriptor,
        part: Part,
        options: &Options,
    ) -> Result<(), RegistryError> {
        let have = part.out.count();
        let (sender, receiver) = mpsc::channel(32);
        let writer = tokio::task::spawn_blocking(move || part.write(receiver));
        let received = receive(sessions, of, have, &sender, options).await;
        drop(sender);
        let part = writer.await.map_err(|_| Error::Cut)??;
        received?;
        blocking(move || part.finish()).await?;
        options.report(&of.digest, of.size, of.size, Stage::Present);
        Ok(())
    }
}

/// Sends the missing bytes to the writer, in as many requests as it takes.
async fn receive(
    sessions: &[Arc<Session>],
    of: &Descriptor,
    mut have: u64,
    writer: &mpsc::Sender<Bytes>,
    options: &Options,
) -> Result<(), RegistryError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut attempts = 0;
    while have < of.size {
        let before = have;
        let error = match receive_once(sessions, of, &mut have, writer, options).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        attempts = if have > before { 1 } else { attempts + 1 };
        if !error.is_transient() || attempts >= ATTEMPTS {
            return Err(error);
        }
        tracing::debug!(digest = %of.digest, have, error = %base::Chain(&error), "a download broke off and goes on");
        tokio::time::sleep(backoff.next_wait()).await;
    }
    Ok(())
}

async fn receive_once(
    sessions: &[Arc<Session>],
    of: &Descriptor,
    have: &mut u64,
    writer: &mpsc::Sender<Bytes>,
    options: &Options,
) -> Result<(), RegistryError> {
    let mut answer = open(sessions, of, *have).await?;
    let mut skip = to_skip(&answer, *have)?;
    let mut reported = *have;
    options.report(&of.digest, *have, of.size, Stage::Downloading);
    while let Some(mut chunk) = answer.chunk().await? {
        let skipped = skip.min(chunk.len() as u64);
        skip -= skipped;
        let _ = chunk.split_to(usize::try_from(skipped).unwrap_or(chunk.len()));
        if chunk.is_empty() {
            continue;
        }
        *have += chunk.len() as u64;
        if *have > of.size {
            let what = of.digest.to_string();
            return Err(Error::Length { what, expected: of.size, found: *have }.into());
        }
        if writer.send(chunk).await.is_err() {
            return Ok(()); // the writer has failed and will say why
        }
        if *have - reported >= REPORT_BYTES {
            reported = *have;
            options.report(&of.digest, *have, of.size, Stage::Downloading);
        }
    }
    if *have < of.size {
        return Err(answer.call.failed(BodyError::Short { found: *have, expected: of.size }));
    }
    Ok(())
}

/// Bytes of the answer that we have already: a host may ignore the wish for a range.
fn to_skip(answer: &Answer, have: u64) -> Result<u64, RegistryError> {
    if answer.status() != ::http::StatusCode::PARTIAL_CONTENT {
        return Ok(have);
    }
    let start: Option<u64> =
        answer.header("content-range").and_then(|r| r.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
    match start {
        Some(start) if start <= have => Ok(have - start),
        _ => Err(answer.call.malformed("the answer is not the range that was asked for")),
    }
}

/// Asks the hosts in order.
async fn open(sessions: &[Arc<Session>], of: &Descriptor, offset: u64) -> Result<Answer, RegistryError> {
    let mut first = None;
    for session in sessions {
        match session.open(of, offset).await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| RegistryError::NotFound { what: of.digest.to_string() }))
}

async fn retried<T, F: Future<Output = Result<T, RegistryError>>>(work: impl Fn() -> F) -> Result<T, RegistryError> {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    for _ in 1..3 {
        match work().await {
            Err(error) if error.is_transient() => tokio::time::sleep(backoff.next_wait()).await,
            done => return done,
        }
    }
    work().await
}

fn copying(of: &Descriptor, source: RegistryError) -> RegistryError {
    RegistryError::Copy { digest: of.digest.to_string(), source: Box::new(source) }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Cut))
}

/// A download that is under way.
struct Part {
    store: Store,
    of: Descriptor,
    path: PathBuf,
    out: Hashing<File>,
}

impl Part {
    /// Opens, locks and hashes what an earlier attempt left. `None`: the blob is complete in the store.
    fn open(store: Store, of: Descriptor) -> Result<Option<Self>, Error> {
        let path = store.root().join("ingest").join(format!("{}.part", of.digest.hex()));
        loop {
            if store.has_blob(&of.digest) {
                return Ok(None);
            }
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
            let file = file.at("open", &path)?;
            file.lock().at("lock", &path)?;
            // Whoever held the lock may have finished it meanwhile, or thrown it away.
            let own = file.metadata().at("look at", &path)?;
            if !fs::metadata(&path).is_ok_and(|named| named.ino() == own.ino()) {
                continue;
            }
            if own.len() > of.size {
                file.set_len(0).at("truncate", &path)?;
            }
            let mut left = Hashing::new(file);
            io::copy(&mut left, &mut io::sink()).at("read", &path)?;
            return Ok(Some(Self { store, of, path, out: left }));
        }
    }

    fn write(mut self, mut receiver: mpsc::Receiver<Bytes>) -> Result<Self, Error> {
        while let Some(chunk) = receiver.blocking_recv() {
            self.out.write_all(&chunk).at("write", &self.path)?;
        }
        Ok(self)
    }

    fn finish(self) -> Result<(), Error> {
        let (file, digest, size) = self.out.finish();
        let done = verify("downloaded content", &self.of, &digest, size)
            .and_then(|()| self.store.commit(&file, &self.path, &digest));
        if done.is_err() {
            crate::store::remove(&self.path)?;
        }
        done
    }
}
