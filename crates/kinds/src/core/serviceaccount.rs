//! `v1/ServiceAccount`: of its secrets only the names are kept.

use serde_json::{Value, json};

use crate::kind::{NO_RULES, Rules};
use crate::tree::each;

pub(crate) const RULES: Rules =
    Rules { prepare_create: only_names, prepare_update: |new, _| only_names(new), ..NO_RULES };

fn only_names(account: &mut Value) {
    each(account, "secrets", |secret| {
        *secret = match secret.get("name") {
            Some(name) => json!({"name": name}),
            None => json!({}),
        };
    });
}
