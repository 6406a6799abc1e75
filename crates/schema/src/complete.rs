//! What Go holds by value is always there: an object without `status` is written with an empty one, whose numbers are zero.

use serde_json::{Map, Value};

use crate::types::{Field, Scalar, Struct, Table, Type};

/// Adds to an object of the structure `name` the structures that Go holds by value, and to its `status` the fields that Go never leaves
/// out.
pub fn complete(table: &Table, name: &str, value: &mut Value) {
    let (Some(structure), Some(object)) = (table.get(name), value.as_object_mut()) else { return };
    for (field, declared) in &structure.fields {
        inline(table, field, declared, object, field == "status");
    }
}

fn inline(table: &Table, name: &str, field: &Field, object: &mut Map<String, Value>, in_status: bool) {
    if field.inline && !object.contains_key(name) {
        object.insert(name.into(), Value::Object(Map::new()));
    }
    match (&field.kind, object.get_mut(name)) {
        (Type::Scalar(scalar), None) if in_status && field.required => {
            if let Some(zero) = zero(*scalar) {
                object.insert(name.into(), zero);
            }
        }
        (kind, Some(value)) => within(table, kind, value, in_status),
        (_, None) => {}
    }
}

fn within(table: &Table, kind: &Type, value: &mut Value, in_status: bool) {
    match (kind, value) {
        (Type::Struct(name), Value::Object(object)) => {
            let Some(structure) = table.get(&**name) else { return };
            if !is_plain(structure) {
                for (field, declared) in &structure.fields {
                    inline(table, field, declared, object, in_status);
                }
            }
        }
        (Type::List(element), Value::Array(items)) => {
            items.iter_mut().for_each(|i| within(table, element, i, in_status))
        }
        (Type::Map(element), Value::Object(entries)) => {
            entries.values_mut().for_each(|entry| within(table, element, entry, in_status));
        }
        _ => {}
    }
}

/// Schemas refer to themselves, and hold nothing by value.
fn is_plain(structure: &Struct) -> bool {
    structure.name.ends_with(".JSONSchemaProps") || structure.name.ends_with(".ObjectMeta")
}

fn zero(scalar: Scalar) -> Option<Value> {
    match scalar {
        Scalar::String => Some("".into()),
        Scalar::Int32 | Scalar::Int64 => Some(0.into()),
        Scalar::Bool => Some(false.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::table;

    fn check(name: &str, mut value: Value, wanted: Value) {
        complete(table(), name, &mut value);
        assert_eq!(value, wanted);
        complete(table(), name, &mut value);
        assert_eq!(value, wanted, "again");
    }

    #[test]
    fn statuses_and_templates() {
        check(
            "io.k8s.api.apps.v1.ReplicaSet",
            json!({"metadata": {"name": "a"}, "spec": {"replicas": 1}}),
            json!({"metadata": {"name": "a"}, "spec": {"replicas": 1, "template": {"metadata": {}, "spec": {}}},
                "status": {"replicas": 0}}),
        );
        check(
            "io.k8s.api.networking.v1.Ingress",
            json!({"metadata": {}, "spec": {}}),
            json!({"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}}),
        );
        check("io.k8s.api.core.v1.ConfigMap", json!({"metadata": {}}), json!({"metadata": {}}));
        check("io.k8s.api.core.v1.Unknown", json!({"a": 1}), json!({"a": 1}));
    }
}
