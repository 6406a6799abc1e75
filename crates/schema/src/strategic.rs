//! Strategic merge patch by the table of types.

use object::patch::strategic;
use serde_json::Value;

pub use object::patch::strategic::StrategicError as PatchError;

use crate::place::place;
use crate::types::Table;

/// Applies `patch` to `target`, an object of the structure `name`. Unknown structures merge as in RFC 7386.
pub fn strategic_merge(table: &Table, name: &str, target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    strategic::merge(place(table, name), target, patch)
}

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::table;
    use serde_json::json;

    #[test]
    fn built_in_types_have_their_merge_keys() {
        let check = |name: &str, mut target: Value, patch: Value, wanted: Value| {
            strategic_merge(table(), name, &mut target, &patch).unwrap();
            assert_eq!(target, wanted, "{patch}");
        };
        check(
            "io.k8s.api.core.v1.PodSpec",
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]}], "tolerations": [{"key": "a"}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}]}], "tolerations": [{"key": "b"}]}),
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}]}], "tolerations": [{"key": "b"}]}),
        );
        check(
            "io.k8s.api.core.v1.PodSpec",
            json!({"volumes": [{"name": "v", "emptyDir": {}}], "nodeSelector": {"a": "1"}}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}], "nodeSelector": {"a": null, "b": "2"}}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}], "nodeSelector": {"b": "2"}}),
        );
        check(
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            json!({"finalizers": ["a", "b"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}),
            json!({"finalizers": ["c", "b"]}),
        );
    }
}
