//! Custom resources between their versions, where a webhook converts them: `apiextensions.k8s.io/v1 ConversionReview`.

mod kept;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kinds::Kind;
use kinds::custom::Custom;
use object::{Object, Status};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::Backend;
use tokio::time::Instant;

use crate::metrics::conversions;
use crate::webhook::Webhook;
use kept::Kept;

/// As upstream: conversions have no timeout of their own to set.
const TIMEOUT: Duration = Duration::from_secs(30);

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Calls the webhooks that convert, each over connections that are kept.
pub(crate) struct Conversions {
    store: Arc<dyn Backend>,
    /// By the names of the definitions: what they declared, and the webhook.
    webhooks: Mutex<HashMap<String, Declared>>,
    kept: Kept,
}

type Declared = (Arc<Value>, Arc<Webhook>);

impl Conversions {
    pub(crate) fn new(store: Arc<dyn Backend>) -> Self {
        Self { store, webhooks: Mutex::default(), kept: Kept::new() }
    }

    /// Forgets the webhook of a definition that is gone.
    pub(crate) fn forget(&self, definition: &str) {
        self.webhooks.lock().remove(definition);
        self.kept.retain(definition, &[]);
    }

    /// Forgets what was made of a definition's objects while it was another one than these kinds show.
    pub(crate) fn settle(&self, definition: &str, kinds: &[Kind]) {
        let customs = kinds.iter().filter_map(|kind| kind.custom.as_ref()).filter(|custom| custom.webhook.is_some());
        self.kept.retain(definition, &customs.map(|custom| custom.fingerprint).collect::<Vec<_>>());
    }

    fn webhook(&self, kind: &Kind, declared: &Arc<Value>) -> Result<Arc<Webhook>, String> {
        let config = &declared["webhook"]["clientConfig"];
        let mut webhooks = self.webhooks.lock();
        let name = kind.gvr().group_resource();
        if let Some((_, webhook)) = webhooks.get(&name).filter(|(known, _)| known["webhook"]["clientConfig"] == *config)
        {
            return Ok(webhook.clone());
        }
        let webhook = Arc::new(Webhook::parse(config)?);
        webhooks.insert(name, (declared.clone(), webhook.clone()));
        Ok(webhook)
    }

    /// The objects in the version that the kind serves; those that are cost nothing, nor do those that were converted before. The others are
    /// converted in one call.
    pub(crate) async fn converted(
        &self,
        kind: &Kind,
        mut objects: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let Some(custom) = kind.custom.as_ref().filter(|custom| custom.webhook.is_some()) else { return Ok(objects) };
        let wanted = kind.api_version();
        let mut foreign: Vec<&mut Arc<Object>> =
            objects.iter_mut().filter(|object| object.head.api_version != wanted).collect();
        self.kept.find(custom, &mut foreign);
        foreign.retain(|object| object.head.api_version != wanted);
        if foreign.is_empty() {
            return Ok(objects);
        }
        let sources: Vec<Arc<Object>> = foreign.iter().map(|object| (**object).clone()).collect();
        let values = sources.iter().map(|o| o.value()).collect::<Result<_, _>>().map_err(Status::internal)?;
        let done = self.convert(kind, &wanted, values).await?;
        for (object, value) in foreign.iter_mut().zip(done) {
            **object = adapted(kind, custom, value)?;
        }
        let made = sources.into_iter().zip(foreign.iter().map(|object| (**object).clone()));
        self.kept.keep(&*self.store, kind, custom, Instant::now(), made);
        Ok(objects)
    }

    /// One object as the webhook has it now: upstream keeps none for whoever asks for the newest state.
    pub(crate) async fn one(&self, kind: &Kind, object: Arc<Object>) -> Result<Arc<Object>, Status> {
        let Some(custom) = kind.custom.as_ref().filter(|custom| custom.webhook.is_some()) else { return Ok(object) };
        let wanted = kind.api_version();
        if object.head.api_version == wanted {
            return Ok(object);
        }
        let done = self.convert(kind, &wanted, vec![object.value().map_err(Status::internal)?]).await?;
        adapted(kind, custom, done.into_iter().next().unwrap_or_default())
    }

    /// The value in the version that the kind's objects are stored in.
    pub(crate) async fn to_storage(&self, kind: &Kind, value: &Value) -> Result<Option<Value>, Status> {
        let stored = kind.storage_version.as_ref().filter(|stored| stored.version != kind.version);
        let has_webhook = kind.custom.as_ref().is_some_and(|custom| custom.webhook.is_some());
        match stored.filter(|_| has_webhook) {
            Some(stored) => Ok(self.convert(kind, &stored.api_version(), vec![value.clone()]).await?.pop()),
            None => Ok(None),
        }
    }

    /// Objects of one version of a custom resource as another one has them, in one call; `null` stays.
    pub(crate) async fn between(&self, to: &Kind, values: [&Value; 2]) -> Result<[Value; 2], Status> {
        let Some(custom) = &to.custom else { return Ok(values.map(Value::clone)) };
        let present: Vec<Value> =
            values.iter().filter(|value| !value.is_null()).map(|value| (*value).clone()).collect();
        let converted = match &custom.webhook {
            Some(_) if !present.is_empty() => self.convert(to, &to.api_version(), present).await?,
            _ => present,
        };
        let mut converted = converted.into_iter().map(|mut value| {
            custom.adapt(to, &mut value);
            value
        });
        Ok(values.map(|value| if value.is_null() { Value::Null } else { converted.next().unwrap_or_default() }))
    }

    async fn convert(&self, kind: &Kind, wanted: &str, values: Vec<Value>) -> Result<Vec<Value>, Status> {
        let from = values.first().map(|v| text(&v["apiVersion"]).to_owned()).unwrap_or_default();
        let began = Instant::now();
        let outcome = self.exchange(kind, wanted, values).await;
        let version = |api_version: &str| api_version.rsplit('/').next().unwrap_or_default().to_owned();
        let (versions, failure) = ([version(&from), version(wanted)], outcome.as_ref().err().map(Failure::kind));
        let definition = kind.custom.as_ref().map_or("", |custom| custom.definition.as_str());
        conversions::asked(definition, versions.each_ref().map(String::as_str), began.elapsed(), failure);
        let said = |why: String| unknown(format!("conversion webhook for {from}, Kind={} {why}", kind.kind));
        outcome.map_err(|failure| match failure {
            Failure::Call(why) => said(format!("failed: {why}")),
            Failure::Misfit(Misfit::Broken) => unknown("unexpected end of JSON input".into()),
            Failure::Misfit(misfit) => said(misfit.words()),
        })
    }

    async fn exchange(&self, kind: &Kind, wanted: &str, mut values: Vec<Value>) -> Result<Vec<Value>, Failure> {
        let declared = kind.custom.as_ref().and_then(|custom| custom.webhook.clone()).unwrap_or_default();
        let webhook = self.webhook(kind, &declared).map_err(Failure::Call)?;
        let uid = uuid::Uuid::new_v4().to_string();
        // The store's versions are none of the webhook's business.
        let versions: Vec<Option<Value>> = values.iter_mut().map(take_version).collect();
        let review = json!({"kind": "ConversionReview", "apiVersion": API, "request": {"uid": uid, "desiredAPIVersion": wanted, "objects": values}});
        let answer = webhook.call(&self.store, &review, TIMEOUT).await.map_err(|e| Failure::Call(e.why))?;
        let done = read(answer, &uid, values, wanted).map_err(Failure::Misfit)?;
        let versioned = done.into_iter().zip(versions).map(|(mut done, version)| {
            if let Some(version) = version {
                done["metadata"]["resourceVersion"] = version;
            }
            done
        });
        Ok(versioned.collect())
    }
}

/// What a webhook made, as an object of the kind.
fn adapted(kind: &Kind, custom: &Custom, mut value: Value) -> Result<Arc<Object>, Status> {
    custom.adapt(kind, &mut value);
    Object::from_value(&value).map(Arc::new).map_err(Status::internal)
}

/// Why nothing was converted.
enum Failure {
    /// The webhook could not be asked.
    Call(String),
    Misfit(Misfit),
}

impl Failure {
    /// What it is called in metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::Misfit(Misfit::Failed(_)) => "malformed_response",
            Self::Misfit(Misfit::Count(..)) => "partial_response",
            Self::Misfit(_) => "invalid_converted_object",
        }
    }
}

const API: &str = "apiextensions.k8s.io/v1";

fn take_version(value: &mut Value) -> Option<Value> {
    value.get_mut("metadata")?.as_object_mut()?.remove("resourceVersion")
}

/// As upstream: a failure without a reason.
fn unknown(text: String) -> Status {
    Status { code: 500, reason: None, ..Status::bad_request(text) }
}

/// What a webhook has made.
fn objects(mut answer: Value, uid: &str) -> Result<Vec<Value>, String> {
    let (version, kind) = (text(&answer["apiVersion"]), text(&answer["kind"]));
    if (version, kind) != (API, "ConversionReview") {
        return Err(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/util/webhook/client.go:71\""
        ));
    }
    let response = &mut answer["response"];
    if !response.is_object() {
        return Err("no response provided".into());
    }
    if response["uid"] != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", text(&response["uid"])));
    }
    match (text(&response["result"]["status"]), text(&response["result"]["message"])) {
        ("Success", _) => {}
        (status, "") => return Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => return Err(message.to_owned()),
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// The objects of an answer to `values`.
pub(crate) fn read(answer: Value, uid: &str, values: Vec<Value>, wanted: &str) -> Result<Vec<Value>, Misfit> {
    let done = objects(answer, uid).map_err(Misfit::Failed)?;
    if done.len() != values.len() {
        return Err(Misfit::Count(done.len(), values.len()));
    }
    let pairs = done.into_iter().zip(values).enumerate();
    pairs.map(|(index, (done, value))| checked(index, done, &value, wanted)).collect()
}

/// How an answer does not fit the question.
pub(crate) enum Misfit {
    /// It is no answer.
    Failed(String),
    /// It has so many objects instead of so many.
    Count(usize, usize),
    /// An object is of another type.
    Type(usize, String),
    /// It is another one.
    Identity(String),
    Metadata(String),
    /// It is none.
    Broken,
}

impl Misfit {
    fn words(self) -> String {
        match self {
            Self::Failed(why) => format!("failed: {why}"),
            Self::Count(is, wanted) => format!("returned {is} objects, expected {wanted}"),
            Self::Type(index, why) => format!("returned invalid object at index {index}: {why}"),
            Self::Identity(why) => format!("returned invalid object: {why}"),
            Self::Metadata(why) => format!("returned invalid metadata: {why}"),
            Self::Broken => "returned nothing".into(),
        }
    }
}

/// Conversion may change labels and annotations, but nothing else of the metadata.
fn checked(index: usize, mut done: Value, value: &Value, wanted: &str) -> Result<Value, Misfit> {
    if done.is_null() {
        return Err(Misfit::Broken);
    }
    if done["apiVersion"] != wanted {
        let received = text(&done["apiVersion"]);
        return Err(Misfit::Type(index, format!("invalid groupVersion (expected {wanted}, received {received})")));
    }
    if done["kind"] != value["kind"] {
        let (expected, received) = (text(&value["kind"]), text(&done["kind"]));
        return Err(Misfit::Type(index, format!("invalid kind (expected {expected}, received {received})")));
    }
    for (field, called) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (was, is) = (text(&value["metadata"][field]), text(&done["metadata"][field]));
        if was != is {
            return Err(Misfit::Identity(format!("must have the same {called}: {was} != {is}")));
        }
    }
    let errors: Vec<String> = kinds::validate_tags(&done["metadata"]).iter().map(ToString::to_string).collect();
    match errors.as_slice() {
        [] => {}
        [one] => return Err(Misfit::Metadata(one.clone())),
        several => return Err(Misfit::Metadata(format!("[{}]", several.join(", ")))),
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
