//! A request in the version of its resource that a webhook or a policy is about.

use std::sync::Arc;

use kinds::Kind;
use object::{Gvr, Status};
use serde_json::Value;

use super::attributes::Attributes;
use crate::api::Api;

/// The objects as they are in the version of `kind`.
pub(super) async fn convert(
    api: &Api,
    at: &Attributes<'_>,
    values: [&Value; 2],
    kind: &Kind,
) -> Result<[Value; 2], Status> {
    let (own, wanted) = (at.gvk(), kind.gvk());
    if at.has_own_body() || own == wanted {
        return Ok(values.map(Value::clone));
    }
    if kind.custom.is_some() {
        return api.conversions.between(kind, values).await;
    }
    let convert =
        |value: &Value| if value.is_null() { Value::Null } else { kinds::convert(value.clone(), &own, &wanted) };
    Ok(values.map(convert))
}

/// The object, changed in the version of `kind`, as the request has it.
pub(super) async fn back(api: &Api, at: &Attributes<'_>, changed: Value, kind: &Kind) -> Result<Value, Status> {
    let (own, seen) = (at.kind.gvk(), kind.gvk());
    Ok(match (&at.kind.custom, own == seen) {
        (_, true) => changed,
        (Some(_), false) => {
            let [changed, _] = api.conversions.between(at.kind, [&changed, &Value::Null]).await?;
            changed
        }
        (None, false) => kinds::convert(changed, &seen, &own),
    })
}

/// A request as somebody sees it who is about another version than it has.
pub(super) struct Seen {
    pub(super) kind: Arc<Kind>,
    /// The object and the old one; `None` where they are as the request has them.
    converted: Option<[Value; 2]>,
}

impl Seen {
    pub(super) async fn new(
        api: &Api,
        at: &Attributes<'_>,
        object: &Value,
        old: &Value,
        gvr: &Gvr,
    ) -> Result<Self, Status> {
        let kind = api.kind_of(gvr)?;
        let converted = match *gvr == at.gvr() {
            true => None,
            false => Some(convert(api, at, [object, old], &kind).await?),
        };
        Ok(Self { kind, converted })
    }

    /// The object, and the old one.
    pub(super) fn objects<'s>(&'s self, object: &'s Value, old: &'s Value) -> (&'s Value, &'s Value) {
        match &self.converted {
            Some([object, old]) => (object, old),
            None => (object, old),
        }
    }
}
