//! A snapshot becomes the state of an etcd cluster.

use std::collections::HashSet;
use std::sync::Arc;

use protos::etcd::{self as wire, Request};

use super::{Etcd, key_bytes, op};
use crate::Snapshot;
use crate::backend::{Backend, StoreError};

/// Operations per transaction; etcd takes 128.
const MOST_OPS: usize = 100;
/// Bytes per transaction; etcd takes 1.5 MiB.
const MOST_BYTES: usize = 1 << 20;

impl Etcd {
    /// Makes the snapshot's objects the only ones, under new revisions. In several transactions: no server may run meanwhile.
    pub async fn restore(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let closed = snapshot.closed.iter().map(|(key, _)| key);
        let wanted: HashSet<&Arc<str>> = snapshot.objects.iter().map(|v| &v.key).chain(closed).collect();
        let present = self.range(super::OBJECTS, None, 0, 0)?;
        let mut ops: Vec<Request> = Vec::new();
        let unreadable: Vec<_> = self.shared.memory.read().closed.keys().cloned().collect();
        for key in present.items.into_iter().map(|v| v.key).chain(unreadable).filter(|k| !wanted.contains(k)) {
            ops.push(Request::DeleteRange(wire::DeleteRangeRequest { key: key_bytes(&key), prev_kv: false }));
        }
        for value in &snapshot.objects {
            let mut tree = value.object.value().map_err(|e| StoreError::Corrupt(format!("{}: {e}", value.key)))?;
            let draft =
                object::Draft::new(&mut tree).map_err(|e| StoreError::Corrupt(format!("{}: {e}", value.key)))?;
            ops.push(Request::Put(wire::PutRequest { key: key_bytes(&value.key), value: draft.unsealed() }));
        }
        // Encrypted ones stay as they are.
        for (key, row) in &snapshot.closed {
            ops.push(Request::Put(wire::PutRequest { key: key_bytes(key), value: row.stored.clone() }));
        }
        let mut batch: Vec<Request> = Vec::new();
        let mut bytes = 0;
        for op in ops {
            let size = match &op {
                Request::Put(put) => put.key.len() + put.value.len(),
                Request::DeleteRange(delete) => delete.key.len(),
                Request::Range(range) => range.key.len(),
            };
            if batch.len() == MOST_OPS || (bytes + size > MOST_BYTES && !batch.is_empty()) {
                self.write(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += size;
            batch.push(op);
        }
        self.write(batch).await
    }

    /// One transaction without conditions; done twice, it is the same.
    async fn write(&self, ops: Vec<Request>) -> Result<(), StoreError> {
        let txn = wire::TxnRequest { success: ops.into_iter().map(op).collect(), ..Default::default() };
        let answer = self.shared.txn(&txn, super::Repeat::Always).await?;
        self.shared.reach(super::revision_of(answer.header.as_ref()), super::READ).await
    }
}
