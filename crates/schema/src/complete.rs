//! What Go writes into every object: structures that it holds by value, and zero values of fields that it never leaves out.

use serde_json::{Map, Value};

use crate::types::{Field, Struct, Table, Type};

/// Adds to an object of the structure `name` what Go's encoder writes into every such object, but for `null`s.
pub fn complete(table: &Table, name: &str, value: &mut Value) {
    walk(table, name, value, false);
}

/// The same with `null` for lists and times that are not set: the form in which objects are stored.
pub fn complete_with_nulls(table: &Table, name: &str, value: &mut Value) {
    walk(table, name, value, true);
}

fn walk(table: &Table, name: &str, value: &mut Value, nulls: bool) {
    let (Some(structure), Some(object)) = (table.get(name), value.as_object_mut()) else { return };
    for (field, declared) in &structure.fields {
        add(table, field, declared, object, nulls);
    }
}

fn add(table: &Table, name: &str, field: &Field, object: &mut Map<String, Value>, nulls: bool) {
    match object.get_mut(name) {
        Some(value) => within(table, &field.kind, value, nulls),
        None if field.inline => {
            let mut made = Value::Object(Map::new());
            within(table, &field.kind, &mut made, nulls);
            object.insert(name.into(), made);
        }
        None => {
            if let Some(zero) = field.written().filter(|zero| nulls || !zero.is_null()) {
                object.insert(name.into(), zero.clone());
            }
        }
    }
}

fn within(table: &Table, kind: &Type, value: &mut Value, nulls: bool) {
    match (kind, value) {
        (Type::Struct(name), Value::Object(object)) => {
            let Some(structure) = table.get(&**name) else { return };
            if !is_plain(structure) {
                for (field, declared) in &structure.fields {
                    add(table, field, declared, object, nulls);
                }
            }
        }
        (Type::List(element), Value::Array(items)) => items.iter_mut().for_each(|i| within(table, element, i, nulls)),
        (Type::Map(element), Value::Object(entries)) => {
            entries.values_mut().for_each(|entry| within(table, element, entry, nulls));
        }
        _ => {}
    }
}

/// Schemas refer to themselves, and hold nothing by value.
fn is_plain(structure: &Struct) -> bool {
    structure.name.ends_with(".JSONSchemaProps") || structure.name.ends_with(".ObjectMeta")
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
