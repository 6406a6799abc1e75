//! Compaction: what is older than five to ten minutes is forgotten, as upstream does it, by one of all servers.

use std::sync::Arc;
use std::time::Duration;

use protos::etcd::{self as wire, Request, Response};

use super::endpoints::Repeat;
use super::{Shared, key_bytes, number, op, range, revision_of};
use crate::backend::StoreError;

/// Upstream's key: its servers and ours on one etcd take turns.
const KEY: &str = "compact_rev_key";
/// Upstream's `--etcd-compaction-interval`.
const EVERY: Duration = Duration::from_secs(300);

/// The version of the key when it was last looked at, and the revision then.
#[derive(Clone, Copy, Default)]
pub(super) struct Round {
    version: i64,
    revision: u64,
}

impl Shared {
    /// Compacts again and again, whenever no other server has done so.
    pub(super) async fn compact(self: Arc<Self>) {
        let mut round = Round::default();
        loop {
            tokio::time::sleep(EVERY).await;
            match self.compact_once(round).await {
                Ok(next) => round = next,
                Err(error) => tracing::warn!(error = %base::Chain(&error), "etcd is not compacted"),
            }
        }
    }

    /// One turn: if the key is as it was left, this server compacts up to the revision of its last turn.
    pub(super) async fn compact_once(&self, round: Round) -> Result<Round, StoreError> {
        let version = wire::Compare {
            target: wire::CompareTarget::Version as i32,
            key: key_bytes(KEY),
            wanted: Some(wire::Wanted::Version(round.version)),
        };
        let value = round.revision.to_string().into();
        let txn = wire::TxnRequest {
            compare: vec![version],
            success: vec![op(Request::Put(wire::PutRequest { key: key_bytes(KEY), value }))],
            failure: vec![op(Request::Range(range(KEY, "")))],
        };
        let answer = self.txn(&txn, Repeat::IfNotDone).await?;
        let revision = revision_of(answer.header.as_ref());
        if !answer.succeeded {
            let found = answer.responses.first().and_then(|r| r.response.as_ref());
            let version = match found {
                Some(Response::Range(found)) => found.kvs.first().map_or(0, |kv| kv.version),
                _ => 0,
            };
            return Ok(Round { version, revision });
        }
        if round.revision > 0 {
            let request = wire::CompactionRequest { revision: number(round.revision) };
            let done: Result<wire::CompactionResponse, _> =
                self.call("/etcdserverpb.KV/Compact", &request, Repeat::IfNotDone).await;
            match done {
                Ok(_) => tracing::debug!(revision = round.revision, "etcd is compacted"),
                Err(StoreError::Io { source, .. }) if source.to_string().contains("compacted") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Round { version: round.version + 1, revision })
    }
}
