//! What Go writes into every object: structures that it holds by value, and zero values of fields that it never leaves out.

use serde_json::{Map, Value};

use crate::types::{Field, Struct, Table, Type, Zero};

/// Adds to an object of the structure `name` what Go's encoder writes into every such object: the form in which objects are stored. Lists,
/// times and pointers that are not set are `null`: who writes a condition owns the times that it does not give. True when there are empty
/// lists in it that are not left out: see [`hollow`].
pub fn complete(table: &Table, name: &str, value: &mut Value) -> bool {
    walk(table, name, value, Form::Completed)
}

/// Makes lists that are empty and not left out `null`: protobuf, in which upstream stores objects, does not tell the two apart.
pub fn hollow(table: &Table, name: &str, value: &mut Value) {
    // Definitions are stored in JSON.
    if !name.starts_with("io.k8s.apiextensions") && !name.starts_with("io.k8s.kube-aggregator") {
        walk(table, name, value, Form::Hollow);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Completed,
    Hollow,
}

fn walk(table: &Table, name: &str, value: &mut Value, form: Form) -> bool {
    let (Some(structure), Some(object)) = (table.get(name), value.as_object_mut()) else { return false };
    structure.fields.iter().fold(false, |found, (field, declared)| add(table, field, declared, object, form) | found)
}

fn add(table: &Table, name: &str, field: &Field, object: &mut Map<String, Value>, form: Form) -> bool {
    match object.get_mut(name) {
        Some(Value::Array(items)) if items.is_empty() && field.zero == Zero::Written => {
            if form == Form::Hollow {
                object.insert(name.into(), Value::Null);
            }
            return true;
        }
        Some(value) => return within(table, &field.kind, value, form),
        None if field.inline => {
            let mut made = Value::Object(Map::new());
            within(table, &field.kind, &mut made, form);
            object.insert(name.into(), made);
        }
        None => {
            if let Some(zero) = field.written() {
                object.insert(name.into(), zero.clone());
            }
        }
    }
    false
}

fn within(table: &Table, kind: &Type, value: &mut Value, form: Form) -> bool {
    match (kind, value) {
        (Type::Struct(name), Value::Object(object)) => match table.get(&**name) {
            Some(structure) if !is_plain(structure) => structure
                .fields
                .iter()
                .fold(false, |found, (name, field)| add(table, name, field, object, form) | found),
            _ => false,
        },
        (Type::List(element), Value::Array(items)) => {
            items.iter_mut().fold(false, |found, item| within(table, element, item, form) | found)
        }
        (Type::Map(element), Value::Object(entries)) => {
            entries.values_mut().fold(false, |found, entry| within(table, element, entry, form) | found)
        }
        _ => false,
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
            json!({"metadata": {"name": "a"}, "spec": {"replicas": 1, "selector": null, "template": {"metadata": {}, "spec": {"containers": null}}},
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
