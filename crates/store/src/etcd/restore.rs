//! A snapshot becomes the state of an etcd cluster.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Etcd, last_ops, request};
use crate::Snapshot;
use crate::backend::{Backend, Op, StoreError, Txn};

/// Operations per transaction; etcd takes 128.
const MOST_OPS: usize = 100;
/// Bytes per transaction; etcd takes 1.5 MiB.
const MOST_BYTES: usize = 1 << 20;

impl Etcd {
    /// Makes the snapshot's objects the only ones, under new revisions. In several transactions: no server may run meanwhile.
    pub async fn restore(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let wanted: HashSet<&Arc<str>> = snapshot.objects.iter().map(|v| &v.key).collect();
        let present = self.range(super::OBJECTS, None, 0, 0)?;
        let mut ops: Vec<Op> =
            present.items.into_iter().map(|v| v.key).filter(|k| !wanted.contains(k)).map(Op::Delete).collect();
        for value in &snapshot.objects {
            let mut tree = value.object.value().map_err(|e| StoreError::Corrupt(format!("{}: {e}", value.key)))?;
            let draft =
                object::Draft::new(&mut tree).map_err(|e| StoreError::Corrupt(format!("{}: {e}", value.key)))?;
            ops.push(Op::Put(value.key.clone(), draft));
        }
        let mut batch: Vec<Op> = Vec::new();
        let mut bytes = 0;
        for op in ops {
            let size = match &op {
                Op::Put(key, draft) => key.len() + draft.len(),
                Op::Delete(key) => key.len(),
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
    async fn write(&self, ops: Vec<Op>) -> Result<(), StoreError> {
        let txn = Txn { compares: Vec::new(), ops };
        let answer = self.shared.txn(&request(&txn, &last_ops(&txn.ops)), super::Repeat::Always).await?;
        self.shared.reach(super::revision_of(answer.header.as_ref()), super::READ).await
    }
}
