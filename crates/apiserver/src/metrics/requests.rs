//! Requests: how many, how long, how large, and which are on their way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, OnceLock};
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use base::metrics::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, REQUEST_SECONDS, counters, exponential,
    gauges, histograms,
};
use bytes::Bytes;
use client::Resource;
use http::{HeaderMap, Method, Response, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kinds::Kind;
use object::{Gvr, Status};
use tokio::time::Instant;

use crate::http::Body;

const LABELS: &[&str] = &["component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"];
const NO_DRY_RUN: &[&str] = &["component", "group", "resource", "scope", "subresource", "verb", "version"];

static TOTAL: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let labels = ["code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"];
    let help = "[STABLE] Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.";
    counters("apiserver_request_total", help, &labels)
});

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[STABLE] Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.";
    histograms("apiserver_request_duration_seconds", help, LABELS, REQUEST_SECONDS)
});

static SLI: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Response latency distribution (not counting webhook duration and priority & fairness queue wait times) in seconds for each verb, group, version, resource, subresource, scope and component.";
    histograms("apiserver_request_sli_duration_seconds", help, NO_DRY_RUN, &REQUEST_SECONDS[2..])
});

static SIZES: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[STABLE] Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.";
    histograms("apiserver_response_sizes", help, NO_DRY_RUN, &exponential(1000.0, 10.0, 7))
});

static LONG_RUNNING: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[STABLE] Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.";
    gauges("apiserver_longrunning_requests", help, NO_DRY_RUN)
});

static IN_FLIGHT: LazyLock<[IntGauge; 2]> = LazyLock::new(|| {
    let help = "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in last second.";
    let all = gauges("apiserver_current_inflight_requests", help, &["request_kind"]);
    ["readOnly", "mutating"].map(|kind| all.with_label_values(&[kind]))
});

static DEPRECATED: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    let help = "[STABLE] Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.";
    let labels = ["group", "removed_release", "resource", "subresource", "version"];
    gauges("apiserver_requested_deprecated_apis", help, &labels)
});

static BODIES: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Apiserver request body size in bytes broken out by resource and verb.";
    let bytes: Vec<f64> = (0..31).map(|step| f64::from(50_000 + step * 100_000)).collect();
    histograms("apiserver_request_body_size_bytes", help, &["group", "resource", "verb"], &bytes)
});

/// A request to write came with so many bytes.
pub(crate) fn body(kind: &Kind, verb: &str, bytes: usize) {
    BODIES.with_label_values(&[kind.group.as_str(), kind.plural.as_str(), verb]).observe(bytes as f64);
}

/// Somebody uses a kind on its way out. When it goes is not known of any.
pub(crate) fn deprecated(kind: &Kind, subresource: &str) {
    let labels = [kind.group.as_str(), "", kind.plural.as_str(), subresource, kind.version.as_str()];
    DEPRECATED.with_label_values(&labels).set(1);
}

static EVENTS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    let help = "[ALPHA] Number of events sent in watch clients";
    counters("apiserver_watch_events_total", help, &["group", "resource", "version"])
});

static EVENT_SIZES: LazyLock<HistogramVec> = LazyLock::new(|| {
    let help = "[ALPHA] Watch event size distribution in bytes";
    let labels = ["group", "resource", "version"];
    histograms("apiserver_watch_events_sizes", help, &labels, &exponential(1024.0, 2.0, 8))
});

/// What a request is about, as labels have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked<'a> {
    pub(crate) verb: &'a str,
    pub(crate) dry_run: &'a str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) resource: &'a str,
    /// Of a request that is not about a resource, its path.
    pub(crate) subresource: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) component: &'a str,
}

impl<'a> Asked<'a> {
    /// What a request is about; `None` for paths that stand for nothing. Whether such a resource is served is not known here.
    pub(crate) fn of<B>(request: &'a http::Request<B>) -> Option<Self> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or(""));
        Place::of(path).map_or_else(
            || Self::path(request.method(), path),
            |place| Some(Self::resource(&place, request.method(), query, request.headers())),
        )
    }

    fn resource(place: &Place<'a>, method: &Method, query: &str, headers: &HeaderMap) -> Self {
        let asks = |wanted: &[&str]| query.split('&').any(|pair| wanted.contains(&pair));
        let applies = || {
            let media = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |media| media.as_bytes());
            media.starts_with(b"application/apply-patch")
        };
        let verb = match *method {
            _ if matches!(place.subresource, "exec" | "attach" | "portforward" | "proxy") => "CONNECT",
            Method::GET if place.subresource == "log" => "CONNECT",
            Method::GET if place.watch || asks(&["watch=1", "watch=true", "watch=True"]) => "WATCH",
            Method::GET if place.named => "GET",
            Method::GET => "LIST",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH if applies() => "APPLY",
            Method::PATCH => "PATCH",
            Method::DELETE if place.named => "DELETE",
            Method::DELETE => "DELETECOLLECTION",
            _ => "other",
        };
        let scope = match (place.named || verb == "POST", place.namespaced) {
            (true, _) => "resource",
            (false, true) => "namespace",
            (false, false) => "cluster",
        };
        Self {
            verb,
            dry_run: if verb != "GET" && asks(&["dryRun=All"]) { "All" } else { "" },
            group: place.group,
            version: place.version,
            resource: place.resource,
            subresource: place.subresource,
            scope,
            component: "apiserver",
        }
    }

    /// What a component in this process asks for.
    pub(crate) fn within(verb: &str, at: &'a Resource) -> Self {
        let verb = match verb {
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" => "POST",
            "update" => "PUT",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            _ => "other",
        };
        let scope = match (at.name.is_some() || verb == "POST", at.namespace.is_some()) {
            (true, _) => "resource",
            (false, true) => "namespace",
            (false, false) => "cluster",
        };
        Self {
            verb,
            dry_run: "",
            group: &at.gvr.group,
            version: &at.gvr.version,
            resource: &at.gvr.resource,
            subresource: at.subresource.as_deref().unwrap_or(""),
            scope,
            component: "apiserver",
        }
    }

    fn path(method: &Method, path: &'a str) -> Option<Self> {
        let trimmed = path.trim_end_matches('/');
        let (subresource, component) = match trimmed {
            "/healthz" | "/livez" | "/readyz" | "/metrics" | "/metrics/slis" => (trimmed, ""),
            "/api" | "/apis" | "/version" | "/openapi/v2" | "/openapi/v3" | "/openid/v1/jwks" => {
                (&trimmed[1..], "apiserver")
            }
            _ => return None,
        };
        let verb = if *method == Method::GET { "GET" } else { "other" };
        let (dry_run, group, version, resource, scope) = ("", "", "", "", "");
        Some(Self { verb, dry_run, group, version, resource, subresource, scope, component })
    }

    /// It lasts as long as it is asked to.
    pub(crate) fn is_long(&self) -> bool {
        matches!(self.verb, "WATCH" | "CONNECT")
    }

    /// The resource that it is about; `None` when it is about a path.
    pub(crate) fn gvr(&self) -> Option<Gvr> {
        (!self.resource.is_empty()).then(|| Gvr::new(self.group, self.version, self.resource))
    }

    fn all(&self) -> [&'a str; 8] {
        [self.component, self.dry_run, self.group, self.resource, self.scope, self.subresource, self.verb, self.version]
    }

    fn without_dry_run(&self) -> [&'a str; 7] {
        let [component, _, rest @ ..] = self.all();
        let [group, resource, scope, subresource, verb, version] = rest;
        [component, group, resource, scope, subresource, verb, version]
    }
}

/// A resource's path, as far as labels look at it. [`crate::http`]'s own reading is the one that counts; this one allocates nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespaced: bool,
    named: bool,
    watch: bool,
}

impl<'a> Place<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.trim_end_matches('/').split('/');
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let mut rest = [""; 6];
        let mut count = 0;
        for (place, part) in rest.iter_mut().zip(parts) {
            *place = part;
            count += 1;
        }
        let mut rest = &rest[..count];
        let watch = rest.len() > 1 && rest[0] == "watch";
        if watch {
            rest = &rest[1..];
        }
        let of_namespace = group.is_empty() && rest.len() == 3 && matches!(rest[2], "status" | "finalize");
        let namespaced = rest.len() > 2 && rest[0] == "namespaces" && !of_namespace;
        if namespaced {
            rest = &rest[2..];
        }
        let resource = rest.first()?;
        let subresource = rest.get(2).copied().unwrap_or("");
        Some(Self { group, version, resource, subresource, namespaced, named: rest.len() > 1, watch })
    }
}

/// Codes whose counters are kept at hand.
const CODES: [u16; 14] = [200, 201, 202, 101, 304, 400, 401, 403, 404, 405, 409, 410, 422, 429];

/// The metrics of all requests that ask the same.
pub(crate) struct Series {
    labels: [String; 8],
    codes: [OnceLock<IntCounter>; CODES.len()],
    duration: Histogram,
    /// Not of those that last as long as they are asked to.
    sli: Option<Histogram>,
    /// Of reads.
    sizes: Option<Histogram>,
    long_running: Option<IntGauge>,
}

impl Series {
    fn new(asked: &Asked<'_>) -> Self {
        let (all, fewer) = (asked.all(), asked.without_dry_run());
        let long = matches!(asked.verb, "WATCH" | "CONNECT");
        Self {
            labels: all.map(str::to_owned),
            codes: Default::default(),
            duration: DURATION.with_label_values(&all),
            sli: (!long).then(|| SLI.with_label_values(&fewer)),
            sizes: matches!(asked.verb, "GET" | "LIST").then(|| SIZES.with_label_values(&fewer)),
            long_running: long.then(|| LONG_RUNNING.with_label_values(&fewer)),
        }
    }

    fn is(&self, asked: &Asked<'_>) -> bool {
        self.labels.iter().eq(asked.all().iter())
    }

    fn count(&self, code: u16) {
        let make = || {
            let code = code.to_string();
            let mut labels = vec![code.as_str()];
            labels.extend(self.labels.iter().map(String::as_str));
            TOTAL.with_label_values(&labels)
        };
        match CODES.iter().position(|known| *known == code) {
            Some(at) => self.codes[at].get_or_init(make).inc(),
            None => make().inc(),
        }
    }

    fn done(&self, took: f64, size: Option<u64>) {
        self.duration.observe(took);
        if let Some(sli) = &self.sli {
            sli.observe(took);
        }
        if let (Some(sizes), Some(size)) = (&self.sizes, size) {
            sizes.observe(size as f64);
        }
    }

    /// Counts the request by its outcome: now, or when what is sent piece by piece has been sent.
    pub(crate) fn outcome(
        self: Arc<Self>,
        began: Instant,
        outcome: Result<Response<Body>, Status>,
    ) -> Result<Response<Body>, Status> {
        let response = match outcome {
            Err(status) => {
                self.count(status.code);
                self.done(began.elapsed().as_secs_f64(), None);
                return Err(status);
            }
            Ok(response) => response,
        };
        self.count(response.status().as_u16());
        let size = response.body().size_hint().exact().filter(|size| *size <= SHORT);
        if let (Some(size), None) = (size, &self.long_running) {
            self.done(began.elapsed().as_secs_f64(), Some(size));
            return Ok(response);
        }
        if let Some(gauge) = &self.long_running {
            gauge.inc();
        }
        let (parts, body) = response.into_parts();
        Ok(Response::from_parts(parts, Body::new(Sent { body, series: self, began, bytes: 0 })))
    }
}

/// Shorter replies are as good as sent when they are made.
const SHORT: u64 = 64 << 10;

/// All that were asked for so far, by the hash of their labels. What it holds is bounded: verbs, scopes, and resources that are served.
static ALL: LazyLock<ArcSwap<HashMap<u64, Arc<Series>>>> = LazyLock::new(ArcSwap::default);

/// The series of what was asked, if such a thing is `served`: that is asked the first time only.
pub(crate) fn series(asked: &Asked<'_>, served: impl FnOnce() -> bool) -> Option<Arc<Series>> {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(asked);
    if let Some(known) = ALL.load().get(&hash).filter(|known| known.is(asked)) {
        return Some(known.clone());
    }
    if !served() {
        return None;
    }
    let made = Arc::new(Series::new(asked));
    ALL.rcu(|all| {
        let mut all = HashMap::clone(all);
        all.entry(hash).or_insert_with(|| made.clone());
        all
    });
    Some(made)
}

/// By what is done about fields that a type does not have.
static BY_VALIDATION: LazyLock<[Histogram; 5]> = LazyLock::new(|| {
    let help = "[ALPHA] Response latency distribution in seconds for each field validation value";
    let buckets = [
        0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
    ];
    let all = histograms("field_validation_request_duration_seconds", help, &["field_validation"], &buckets);
    ["", "Ignore", "Warn", "Strict", "invalid"].map(|value| all.with_label_values(&[value]))
});

/// Where the duration of a write with this query belongs.
pub(crate) fn field_validation(query: Option<&str>) -> &'static Histogram {
    let pairs = query.unwrap_or("").split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == "fieldValidation").map(|(_, value)| value);
    let known = match (values.next(), values.next()) {
        (None, _) => 0,
        (Some("Ignore"), None) => 1,
        (Some("Warn"), None) => 2,
        (Some("Strict"), None) => 3,
        _ => 4,
    };
    &BY_VALIDATION[known]
}

/// A request of a component in this process, from its beginning.
pub(crate) struct Counted {
    series: Arc<Series>,
    began: Instant,
}

impl Counted {
    /// As [`series`]; `None` when there is nothing to count.
    pub(crate) fn begin(asked: &Asked<'_>, served: impl FnOnce() -> bool) -> Option<Self> {
        Some(Self { series: series(asked, served)?, began: Instant::now() })
    }

    /// It has been answered.
    pub(crate) fn end(self, code: u16) {
        self.series.count(code);
        self.series.done(self.began.elapsed().as_secs_f64(), None);
    }

    /// It has been answered by what lasts: until what comes is dropped.
    pub(crate) fn lasts(self) -> Lasting {
        self.series.count(200);
        if let Some(gauge) = &self.series.long_running {
            gauge.inc();
        }
        Lasting(self)
    }
}

/// A watch that goes on.
pub(crate) struct Lasting(Counted);

impl Drop for Lasting {
    fn drop(&mut self) {
        let Counted { series, began } = &self.0;
        if let Some(gauge) = &series.long_running {
            gauge.dec();
        }
        series.done(began.elapsed().as_secs_f64(), None);
    }
}

/// A request that is being handled.
pub(crate) struct InFlight(&'static IntGauge);

impl InFlight {
    pub(crate) fn begin(mutating: bool) -> Self {
        let gauge = &IN_FLIGHT[usize::from(mutating)];
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A body whose end is noted.
struct Sent {
    body: Body,
    series: Arc<Series>,
    began: Instant,
    bytes: u64,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(gauge) = &self.series.long_running {
            gauge.dec();
        }
        self.series.done(self.began.elapsed().as_secs_f64(), Some(self.bytes));
    }
}

/// Counts the events of a kind's watches.
#[derive(Clone)]
pub(crate) struct WatchEvents {
    total: IntCounter,
    sizes: Histogram,
}

impl WatchEvents {
    pub(crate) fn of(kind: &Kind) -> Self {
        let labels = [kind.group.as_str(), kind.plural.as_str(), kind.version.as_str()];
        Self { total: EVENTS.with_label_values(&labels), sizes: EVENT_SIZES.with_label_values(&labels) }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.total.inc();
        self.sizes.observe(bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_upstreams() {
        let check = |method: Method, target: &str, wanted: Option<[&str; 6]>| {
            let request = http::Request::builder().method(method).uri(target).body(()).unwrap();
            let asked = Asked::of(&request);
            let found = asked.map(|a| [a.verb, a.scope, a.group, a.resource, a.subresource, a.dry_run]);
            assert_eq!(found, wanted, "{target}");
            if let Some(asked) = asked {
                assert!(series(&asked, || false).is_none());
                let one = series(&asked, || true).unwrap();
                assert!(Arc::ptr_eq(&one, &series(&asked, || false).unwrap()), "made once");
            }
        };
        let deployments = "/apis/apps/v1/namespaces/ns/deployments";
        let all = "/apis/apps/v1/deployments?limit=5";
        check(Method::GET, all, Some(["LIST", "cluster", "apps", "deployments", "", ""]));
        check(Method::GET, deployments, Some(["LIST", "namespace", "apps", "deployments", "", ""]));
        check(
            Method::POST,
            &format!("{deployments}?dryRun=All"),
            Some(["POST", "resource", "apps", "deployments", "", "All"]),
        );
        let scale = format!("{deployments}/a/scale");
        check(Method::PUT, &scale, Some(["PUT", "resource", "apps", "deployments", "scale", ""]));
        let watch = format!("{deployments}?a=b&watch=true");
        check(Method::GET, &watch, Some(["WATCH", "namespace", "apps", "deployments", "", ""]));
        check(Method::GET, "/api/v1/watch/pods", Some(["WATCH", "cluster", "", "pods", "", ""]));
        check(Method::GET, "/api/v1/namespaces/a", Some(["GET", "resource", "", "namespaces", "", ""]));
        check(
            Method::PUT,
            "/api/v1/namespaces/a/finalize",
            Some(["PUT", "resource", "", "namespaces", "finalize", ""]),
        );
        let exec = "/api/v1/namespaces/ns/pods/p/exec?command=x";
        check(Method::GET, exec, Some(["CONNECT", "resource", "", "pods", "exec", ""]));
        check(Method::GET, "/readyz", Some(["GET", "", "", "", "/readyz", ""]));
        check(Method::GET, "/apis/", Some(["GET", "", "", "", "apis", ""]));
        check(Method::GET, "/nope", None);
    }
}
