//! Strategic merge patch: lists merge by key where the type says so, and directives say the rest.
//!
//! Directives: `$patch: replace|delete|merge`, `$retainKeys`, `$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
//! See the Kubernetes API conventions, "Strategic Merge Patch".

use serde_json::{Map, Value};

use crate::types::{Field, Struct, Table, Type};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ELEMENT_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// A patch that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatchError(pub String);

type Result<T> = std::result::Result<T, PatchError>;

/// Applies `patch` to `target`, an object of the structure `name`. Unknown structures merge as in RFC 7386.
pub fn strategic_merge(table: &Table, name: &str, target: &mut Value, patch: &Value) -> Result<()> {
    merge_struct(table, table.get(name).map(|s| &**s), target, patch)
}

fn merge_struct(table: &Table, declared: Option<&Struct>, target: &mut Value, patch: &Value) -> Result<()> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match patch.get(PATCH).and_then(Value::as_str) {
        Some("replace") => {
            *target = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some("merge") | None => {}
        Some(other) => return Err(PatchError(format!("unknown patch type: {other}"))),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return Ok(()) };
    if let Some(retained) = patch.get(RETAIN_KEYS).and_then(Value::as_array) {
        object.retain(|key, _| retained.iter().any(|r| r == key));
    }
    for (key, value) in patch.iter().filter(|(k, _)| !k.starts_with('$')) {
        if value.is_null() {
            object.remove(key);
            continue;
        }
        let field = declared.and_then(|d| d.fields.get(key));
        merge_field(table, field, object.entry(key.clone()).or_insert(Value::Null), value)?;
    }
    for (key, values) in patch {
        if let Some(list) = key.strip_prefix(DELETE_PRIMITIVES) {
            let gone = values.as_array().cloned().unwrap_or_default();
            if let Some(Value::Array(items)) = object.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
        }
    }
    for (key, order) in patch {
        if let Some(list) = key.strip_prefix(ELEMENT_ORDER) {
            let merge_key = declared.and_then(|d| d.fields.get(list)).and_then(|f| f.merge_key.as_deref());
            if let Some(Value::Array(items)) = object.get_mut(list) {
                reorder(items, order.as_array().map_or(&[], Vec::as_slice), merge_key);
            }
        }
    }
    Ok(())
}

fn structure<'a>(table: &'a Table, kind: &Type) -> Option<&'a Struct> {
    match kind {
        Type::Struct(name) => table.get(&**name).map(|s| &**s),
        _ => None,
    }
}

fn merge_field(table: &Table, field: Option<&Field>, target: &mut Value, patch: &Value) -> Result<()> {
    match (field.map(|f| &f.kind), patch) {
        (Some(Type::List(element)), Value::Array(items)) if field.is_some_and(Field::merges) => {
            if !target.is_array() {
                *target = Value::Array(Vec::new());
            }
            let Value::Array(present) = target else { return Ok(()) };
            match field.and_then(|f| f.merge_key.as_deref()) {
                Some(key) => merge_list(table, structure(table, element), key, present, items),
                None => {
                    for item in items {
                        if !present.contains(item) {
                            present.push(item.clone());
                        }
                    }
                    Ok(())
                }
            }
        }
        (Some(kind @ Type::Struct(_)), Value::Object(_)) => merge_struct(table, structure(table, kind), target, patch),
        (Some(Type::Map(element)), Value::Object(entries)) if !entries.contains_key(PATCH) => {
            if !target.is_object() {
                *target = Value::Object(Map::new());
            }
            let Value::Object(present) = target else { return Ok(()) };
            for (key, value) in entries {
                if value.is_null() {
                    present.remove(key);
                } else {
                    merge_struct(
                        table,
                        structure(table, element),
                        present.entry(key.clone()).or_insert(Value::Null),
                        value,
                    )?;
                }
            }
            Ok(())
        }
        (_, Value::Object(_)) => merge_struct(table, None, target, patch),
        _ => {
            *target = patch.clone();
            Ok(())
        }
    }
}

fn merge_list(
    table: &Table,
    element: Option<&Struct>,
    key: &str,
    present: &mut Vec<Value>,
    patch: &[Value],
) -> Result<()> {
    if patch.iter().any(|item| item[PATCH] == "replace") {
        *present = patch.iter().filter(|i| i[PATCH] != "replace").cloned().collect();
        return Ok(());
    }
    for item in patch {
        let Some(identity) = item.get(key) else {
            return Err(PatchError(format!("map: {item} does not contain declared merge key: {key}")));
        };
        let found = present.iter().position(|p| p.get(key) == Some(identity));
        match (item[PATCH].as_str(), found) {
            (Some("delete"), Some(at)) => drop(present.remove(at)),
            (Some("delete"), None) => {}
            (_, Some(at)) => merge_struct(table, element, &mut present[at], item)?,
            (_, None) => {
                let mut fresh = Value::Object(Map::new());
                merge_struct(table, element, &mut fresh, item)?;
                present.push(fresh);
            }
        }
    }
    Ok(())
}

fn without_directives(patch: &Map<String, Value>) -> Value {
    patch.iter().filter(|(k, _)| !k.starts_with('$')).map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>().into()
}

/// Items that `order` names come in its order; the others keep their places behind the item that they followed.
fn reorder(items: &mut Vec<Value>, order: &[Value], merge_key: Option<&str>) {
    let identity = |value: &Value| merge_key.map_or_else(|| value.clone(), |key| value[key].clone());
    let rank = |item: &Value| order.iter().position(|o| identity(o) == identity(item));
    let mut last = None;
    let mut ranked: Vec<(Option<usize>, usize, Value)> = Vec::with_capacity(items.len());
    for (index, item) in items.drain(..).enumerate() {
        last = rank(&item).or(last);
        ranked.push((last, index, item));
    }
    ranked.sort_by_key(|(rank, index, _)| (*rank, *index));
    items.extend(ranked.into_iter().map(|(_, _, item)| item));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::table;
    use serde_json::json;

    fn check(target: Value, patch: Value, wanted: Value) {
        let mut patched = target;
        strategic_merge(table(), "io.k8s.api.core.v1.PodSpec", &mut patched, &patch).unwrap();
        assert_eq!(patched, wanted, "{patch}");
    }

    #[test]
    fn lists_merge_by_key() {
        let two = json!({"containers": [{"name": "a", "image": "1", "args": ["x", "y"]}, {"name": "b", "image": "1"}]});
        check(
            two.clone(),
            json!({"containers": [{"name": "b", "image": "2"}]}),
            json!({"containers": [{"name": "a", "image": "1", "args": ["x", "y"]}, {"name": "b", "image": "2"}]}),
        );
        check(
            two.clone(),
            json!({"containers": [{"name": "a", "args": ["z"]}]}),
            json!({"containers": [{"name": "a", "image": "1", "args": ["z"]}, {"name": "b", "image": "1"}]}),
        );
        check(
            two.clone(),
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!({"containers": [{"name": "b", "image": "1"}]}),
        );
        check(
            two.clone(),
            json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
            json!({"containers": [{"name": "c"}]}),
        );
        check(
            two,
            json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}], "containers": [{"name": "c", "image": "3"}]}),
            json!({"containers": [{"name": "b", "image": "1"}, {"name": "c", "image": "3"}, {"name": "a", "image": "1", "args": ["x", "y"]}]}),
        );
    }

    #[test]
    fn directives_and_nulls() {
        check(
            json!({"nodeSelector": {"a": "1", "b": "2"}, "hostname": "h"}),
            json!({"nodeSelector": {"a": null}, "hostname": null}),
            json!({"nodeSelector": {"b": "2"}}),
        );
        check(
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}),
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}),
        );
        check(
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "b"}]}),
            json!({"tolerations": [{"key": "b"}]}),
        );
        let mut meta = json!({"finalizers": ["a", "b"]});
        strategic_merge(
            table(),
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
            &mut meta,
            &json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}),
        )
        .unwrap();
        assert_eq!(meta, json!({"finalizers": ["b", "c"]}));
        let bad = strategic_merge(
            table(),
            "io.k8s.api.core.v1.PodSpec",
            &mut json!({}),
            &json!({"containers": [{"image": "x"}]}),
        );
        assert_eq!(bad.unwrap_err().0, r#"map: {"image":"x"} does not contain declared merge key: name"#);
    }
}
