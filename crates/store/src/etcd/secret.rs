//! What the servers of one cluster agree on besides objects: bytes under a key of its own.

use protos::etcd::{self as wire, Request, Response};

use super::endpoints::Repeat;
use super::{Etcd, key_bytes, op, range, unchanged};
use crate::backend::StoreError;

impl Etcd {
    /// The value of `key`; `proposal` becomes it when there is none. All servers get the same. Not for keys of objects.
    pub async fn agree(&self, key: &str, proposal: &[u8]) -> Result<Vec<u8>, StoreError> {
        let put = wire::PutRequest { key: key_bytes(key), value: bytes::Bytes::copy_from_slice(proposal) };
        let txn = wire::TxnRequest {
            compare: vec![unchanged(key, 0)],
            success: vec![op(Request::Put(put))],
            failure: vec![op(Request::Range(range(key, "")))],
        };
        // Done twice, it finds what it wrote.
        let answer = self.shared.txn(&txn, Repeat::Always).await?;
        if answer.succeeded {
            return Ok(proposal.to_vec());
        }
        match answer.responses.first().and_then(|r| r.response.as_ref()) {
            Some(Response::Range(found)) if !found.kvs.is_empty() => Ok(found.kvs[0].value.to_vec()),
            _ => Err(StoreError::Corrupt(format!("etcd says that {key} exists, and does not show it"))),
        }
    }

    /// The value of `key`, if it has one.
    pub async fn agreed(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.shared.range(&range(key, "")).await?;
        Ok(found.kvs.first().map(|kv| kv.value.to_vec()))
    }
}
