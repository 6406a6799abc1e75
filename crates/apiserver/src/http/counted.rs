//! Every request is counted, whatever becomes of it.

use http::{Method, Request};
use tokio::time::Instant;

use super::reply::Body;
use super::{Handled, Service};
use crate::metrics::{self, Asked, InFlight};

impl Service {
    /// Handles a request, and counts it.
    pub(super) async fn counted(&self, identity: Option<pki::Identity>, id: &str, request: Request<Body>) -> Handled {
        let began = Instant::now();
        let (series, is_long) = {
            let asked = Asked::of(&request);
            let series = asked.as_ref().and_then(|asked| metrics::series(asked, || self.serves(asked)));
            (series, asked.is_some_and(|asked| asked.is_long()))
        };
        // What lasts as long as it is asked to has a gauge of its own.
        let mutating = !matches!(*request.method(), Method::GET | Method::HEAD);
        let _in_flight = (!is_long).then(|| InFlight::begin(mutating));
        let validation = (mutating && series.is_some()).then(|| metrics::field_validation(request.uri().query()));
        let outcome = self.dispatch(identity, id, request).await;
        if let Some(validation) = validation {
            validation.observe(began.elapsed().as_secs_f64());
        }
        match series {
            Some(series) => series.outcome(began, outcome),
            None => outcome,
        }
    }

    /// True when there is such a thing: what is asked for in vain has no metrics, or their number would have no bound.
    fn serves(&self, asked: &Asked<'_>) -> bool {
        let Some(gvr) = asked.gvr() else { return true };
        let kind = self.api.registry.by_gvr(&gvr);
        kind.is_some_and(|kind| asked.subresource.is_empty() || kind.subresource(asked.subresource).is_some())
    }
}
