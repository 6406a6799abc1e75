//! Who asks, and whether they may: counted and timed.

use std::sync::LazyLock;
use std::time::Duration;

use base::metrics::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, counter, counters, exponential, histogram, histograms,
};

static USERS: LazyLock<[IntCounter; 2]> = LazyLock::new(|| {
    let help = "[ALPHA] Counter of authenticated requests broken out by username.";
    let all = counters("authenticated_user_requests", help, &["username"]);
    ["admin", "other"].map(|user| all.with_label_values(&[user]))
});

/// By outcome: how many, how long.
struct Outcomes {
    attempts: [IntCounter; 2],
    seconds: [Histogram; 2],
}

impl Outcomes {
    fn of(attempts: &IntCounterVec, seconds: &HistogramVec, results: [&str; 2]) -> Self {
        Self {
            attempts: results.map(|result| attempts.with_label_values(&[result])),
            seconds: results.map(|result| seconds.with_label_values(&[result])),
        }
    }

    fn count(&self, good: bool, took: Duration) {
        let at = usize::from(!good);
        self.attempts[at].inc();
        self.seconds[at].observe(took.as_secs_f64());
    }
}

/// A thousandth of a second, and 14 times the double of it.
fn doubling() -> Vec<f64> {
    exponential(0.001, 2.0, 15)
}

static AUTHENTICATION: LazyLock<Outcomes> = LazyLock::new(|| {
    let attempts = counters("authentication_attempts", "[ALPHA] Counter of authenticated attempts.", &["result"]);
    let help = "[ALPHA] Authentication duration in seconds broken out by result.";
    let seconds = histograms("authentication_duration_seconds", help, &["result"], &doubling());
    Outcomes::of(&attempts, &seconds, ["success", "failure"])
});

static AUTHORIZATION: LazyLock<Outcomes> = LazyLock::new(|| {
    let help = "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.";
    let attempts = counters("authorization_attempts_total", help, &["result"]);
    let help = "[ALPHA] Authorization duration in seconds broken out by result.";
    let seconds = histograms("authorization_duration_seconds", help, &["result"], &doubling());
    // What nobody allows nobody has denied, either.
    Outcomes::of(&attempts, &seconds, ["allowed", "no-opinion"])
});

static DECISIONS: LazyLock<[IntCounter; 2]> = LazyLock::new(|| {
    let help = "[ALPHA] Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.";
    let all = counters("apiserver_authorization_decisions_total", help, &["decision", "name", "type"]);
    [["allowed", "node", "Node"], ["allowed", "rbac", "RBAC"]].map(|labels| all.with_label_values(&labels))
});

static CERTIFICATES: LazyLock<Histogram> = LazyLock::new(|| {
    let help = "[ALPHA] Distribution of the remaining lifetime on the certificate used to authenticate a request.";
    let (hour, day) = (3600.0, 86_400.0);
    let short = [0.0, hour / 2.0, hour, 2.0 * hour, 6.0 * hour, 12.0 * hour, day, 2.0 * day, 4.0 * day, 7.0 * day];
    let buckets: Vec<f64> = short.into_iter().chain([30.0, 90.0, 180.0, 360.0].map(|days| days * day)).collect();
    histogram("apiserver_client_certificate_expiration_seconds", help, &buckets)
});

/// Authentication, authorization.
static FILTERS: LazyLock<[Histogram; 2]> = LazyLock::new(|| {
    let help = "[ALPHA] Request filter latency distribution in seconds, for each filter type";
    let buckets = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0, 10.0, 15.0, 30.0];
    let all = histograms("apiserver_request_filter_duration_seconds", help, &["filter"], &buckets);
    ["authentication", "authorization"].map(|filter| all.with_label_values(&[filter]))
});

/// Tokens of service accounts by their kind.
pub(crate) struct ServiceAccountTokens {
    /// Bound ones that are good.
    pub(crate) valid: IntCounter,
    /// Out of Secrets.
    pub(crate) legacy: IntCounter,
    /// Out of Secrets that were made by hand.
    pub(crate) manual: IntCounter,
    /// Out of Secrets that a cluster made by itself.
    pub(crate) auto: IntCounter,
    /// Of those, such as are no longer good.
    pub(crate) invalid: IntCounter,
}

static TOKENS: LazyLock<ServiceAccountTokens> = LazyLock::new(|| {
    let one = |name: &str, help: &str| counter(&format!("serviceaccount_{name}_total"), &format!("[ALPHA] {help}"));
    ServiceAccountTokens {
        valid: one("valid_tokens", "Cumulative valid projected service account tokens used"),
        legacy: one("legacy_tokens", "Cumulative legacy service account tokens used"),
        manual: one("legacy_manual_token_uses", "Cumulative manually created legacy tokens used"),
        auto: one("legacy_auto_token_uses", "Cumulative auto-generated legacy tokens used"),
        invalid: one("invalid_legacy_auto_token_uses", "Cumulative invalid auto-generated legacy tokens used"),
    }
});

impl ServiceAccountTokens {
    pub(crate) fn get() -> &'static Self {
        &TOKENS
    }
}

/// Somebody has said who they are (`None`: in vain).
pub(crate) fn authenticated(user: Option<&str>, took: Duration) {
    AUTHENTICATION.count(user.is_some(), took);
    FILTERS[0].observe(took.as_secs_f64());
    if let Some(user) = user {
        // As upstream: names of people have no place in metrics.
        USERS[usize::from(user != "admin")].inc();
    }
}

/// By a certificate that ends at this time (seconds since 1970).
pub(crate) fn by_certificate(not_after: i64) {
    CERTIFICATES.observe((not_after - base::time::now_seconds()) as f64);
}

/// A request may go on or not; `by_node`: as what a node needs.
pub(crate) fn authorized(allowed: bool, by_node: bool, took: Duration) {
    AUTHORIZATION.count(allowed, took);
    FILTERS[1].observe(took.as_secs_f64());
    if allowed {
        DECISIONS[usize::from(!by_node)].inc();
    }
}

/// What has not happened yet is told, too.
pub(super) fn force() {
    LazyLock::force(&TOKENS);
    LazyLock::force(&CERTIFICATES);
}
