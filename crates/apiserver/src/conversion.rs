//! Custom resources between their versions, where a webhook converts them: `apiextensions.k8s.io/v1 ConversionReview`.

use std::sync::Arc;
use std::time::Duration;

use kinds::Kind;
use object::{Object, Status};
use serde_json::{Value, json};
use store::Backend;

use crate::webhook::Webhook;

/// As upstream: conversions have no timeout of their own to set.
const TIMEOUT: Duration = Duration::from_secs(30);

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// The objects in the version that the kind serves; those that are cost nothing, the others are converted in one call.
pub(crate) async fn converted(
    store: &Arc<dyn Backend>,
    kind: &Kind,
    mut objects: Vec<Arc<Object>>,
) -> Result<Vec<Arc<Object>>, Status> {
    let Some(custom) = kind.custom.as_ref().filter(|custom| custom.webhook.is_some()) else { return Ok(objects) };
    let wanted = kind.api_version();
    let foreign = |object: &Arc<Object>| object.head.api_version != wanted;
    let values = objects.iter().filter(|o| foreign(o)).map(|o| o.value()).collect::<Result<Vec<_>, _>>();
    let values = values.map_err(Status::internal)?;
    if values.is_empty() {
        return Ok(objects);
    }
    let mut done = convert(store, kind, &wanted, values).await?.into_iter();
    for object in objects.iter_mut().filter(|o| foreign(o)) {
        let Some(mut value) = done.next() else { break };
        custom.adapt(kind, &mut value);
        *object = Arc::new(Object::from_value(&value).map_err(Status::internal)?);
    }
    Ok(objects)
}

/// One object, as [`converted`] does it.
pub(crate) async fn one(store: &Arc<dyn Backend>, kind: &Kind, object: Arc<Object>) -> Result<Arc<Object>, Status> {
    if kind.custom.as_ref().is_none_or(|custom| custom.webhook.is_none()) {
        return Ok(object);
    }
    let mut all = converted(store, kind, vec![object]).await?;
    all.pop().ok_or_else(|| Status::internal("a conversion lost its object"))
}

/// The value in the version that the kind's objects are stored in.
pub(crate) async fn to_storage(store: &Arc<dyn Backend>, kind: &Kind, value: &Value) -> Result<Option<Value>, Status> {
    let stored = kind.storage_version.as_ref().filter(|stored| stored.version != kind.version);
    let has_webhook = kind.custom.as_ref().is_some_and(|custom| custom.webhook.is_some());
    match stored.filter(|_| has_webhook) {
        Some(stored) => Ok(convert(store, kind, &stored.api_version(), vec![value.clone()]).await?.pop()),
        None => Ok(None),
    }
}

/// Objects of one version of a custom resource as another one has them, in one call; `null` stays.
pub(crate) async fn between(store: &Arc<dyn Backend>, to: &Kind, values: [&Value; 2]) -> Result<[Value; 2], Status> {
    let Some(custom) = &to.custom else { return Ok(values.map(Value::clone)) };
    let present: Vec<Value> = values.iter().filter(|value| !value.is_null()).map(|value| (*value).clone()).collect();
    let converted = match &custom.webhook {
        Some(_) if !present.is_empty() => convert(store, to, &to.api_version(), present).await?,
        _ => present,
    };
    let mut converted = converted.into_iter().map(|mut value| {
        custom.adapt(to, &mut value);
        value
    });
    Ok(values.map(|value| if value.is_null() { Value::Null } else { converted.next().unwrap_or_default() }))
}

async fn convert(
    store: &Arc<dyn Backend>,
    kind: &Kind,
    wanted: &str,
    values: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let declared = kind.custom.as_ref().and_then(|custom| custom.webhook.clone()).unwrap_or_default();
    let from = values.first().map(|v| text(&v["apiVersion"]).to_owned()).unwrap_or_default();
    let failed =
        |why: String| Status::internal(format!("conversion webhook for {from}, Kind={} failed: {why}", kind.kind));
    let webhook = Webhook::parse(&declared["webhook"]["clientConfig"]).map_err(failed)?;
    let uid = uuid::Uuid::new_v4().to_string();
    let review = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": values}});
    let answer = webhook.call(store, &review, TIMEOUT).await.map_err(failed)?;
    read(&answer, &uid, values, wanted).map_err(failed)
}

/// The objects of an answer to `values`.
pub(crate) fn read(answer: &Value, uid: &str, values: Vec<Value>, wanted: &str) -> Result<Vec<Value>, String> {
    let response = &answer["response"];
    if response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", text(&response["uid"])));
    }
    if response["result"]["status"] != "Success" {
        return Err(text(&response["result"]["message"]).to_owned());
    }
    let done = response["convertedObjects"].as_array().cloned().unwrap_or_default();
    if done.len() != values.len() {
        return Err(format!("webhook returned {} objects, expected {}", done.len(), values.len()));
    }
    done.into_iter().zip(values).map(|(done, value)| checked(done, &value, wanted)).collect()
}

/// Conversion may change labels and annotations, but nothing else of the metadata.
fn checked(mut done: Value, value: &Value, wanted: &str) -> Result<Value, String> {
    if done["apiVersion"] != wanted {
        return Err(format!("returned object is of version {}, expected {wanted}", done["apiVersion"]));
    }
    if done["kind"] != value["kind"] {
        return Err(format!("returned object is of kind {}, expected {}", done["kind"], value["kind"]));
    }
    let mut metadata = value["metadata"].clone();
    for field in ["labels", "annotations"] {
        match done["metadata"].get(field) {
            Some(given) => metadata[field] = given.clone(),
            None => drop(metadata.as_object_mut().and_then(|m| m.remove(field))),
        }
    }
    done["metadata"] = metadata;
    Ok(done)
}
