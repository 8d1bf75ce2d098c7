//! Which request goes where.

use crate::campaigns;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use postern_core::answer;
use postern_kafka::TopicAdmin;
use postern_runtime::http::{Handler, Refusal, json};
use postern_runtime::metrics::{Metrics, MetricsError};
use postern_store::Store;
use prometheus::IntCounterVec;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Whether `path` is the reports' to answer.
#[must_use]
pub fn owns(path: &str) -> bool {
    Route::of(path).is_some()
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Route {
    Status,
    /// With the campaign's id, if it is one.
    Campaign(Option<i64>),
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        if path == "/v1/postback/status" {
            return Some(Self::Status);
        }
        path.starts_with("/v1/campaigns/")
            .then(|| Self::Campaign(campaigns::id_of(path)))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Campaign(_) => "campaigns",
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Status => method == Method::GET,
            Self::Campaign(_) => method == Method::GET || method == Method::PUT,
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Status => "GET",
            Self::Campaign(_) => "GET, PUT",
        }
    }
}

/// A reports server's settings.
#[derive(Copy, Clone, Debug)]
pub struct ReportsConfig {
    /// How long a postback can be on its way to Kafka before it is given up; until then an
    /// unknown request id may still turn up.
    pub in_transit: Duration,
    /// How long the postbacks topic keeps its records.
    pub postbacks_retention: Duration,
    /// Most questions to Kafka at one time.
    pub max_lookups: usize,
    /// Longest body, in bytes.
    pub max_body: usize,
    /// Longest wait for a body.
    pub body_timeout: Duration,
}

/// The metrics of a reports server.
#[derive(Clone, Debug)]
pub struct ReportsMetrics {
    requests: IntCounterVec,
}

impl ReportsMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name is registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            requests: metrics.counters(
                "reports_requests_total",
                "Requests to the reports role, by route, outcome and HTTP status.",
                &["route", "outcome", "status"],
            )?,
        })
    }
}

/// One answer, before its common headers.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    /// From a fixed set.
    pub(crate) outcome: &'static str,
}

impl Answer {
    pub(crate) fn error(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self {
            status,
            body: answer::error(code, message),
            outcome: code,
        }
    }

    /// Something inside failed; it is in the log.
    pub(crate) fn unavailable() -> Self {
        Self::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "internal_error",
            answer::INTERNAL_ERROR,
        )
    }
}

/// The reports server: a handler for the HTTP server.
pub struct Reports {
    pub(crate) config: ReportsConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) topics: Arc<TopicAdmin>,
    pub(crate) lookups: Semaphore,
    /// Told when a campaign was set.
    pub(crate) changed: Arc<Notify>,
    metrics: ReportsMetrics,
}

impl Reports {
    /// Assembles a reports server. `changed` wakes a publisher of campaigns.
    #[must_use]
    pub fn new(
        config: ReportsConfig,
        store: Arc<dyn Store>,
        topics: Arc<TopicAdmin>,
        changed: Arc<Notify>,
        metrics: ReportsMetrics,
    ) -> Self {
        Self {
            lookups: Semaphore::new(config.max_lookups),
            config,
            store,
            topics,
            changed,
            metrics,
        }
    }

    async fn route(&self, route: Route, request: Request<Incoming>) -> Answer {
        if !route.takes(request.method()) {
            let message = format!("Use {}", route.methods().replace(", ", " or "));
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Answer::error(status, "method_not_allowed", &message);
        }
        match route {
            Route::Status => self.status(request.uri().query().unwrap_or_default()).await,
            Route::Campaign(id) => self.campaign(id, request).await,
        }
    }

    fn finish(&self, route: Option<Route>, answer: Answer) -> Response<Full<Bytes>> {
        let name = route.map_or("unknown", Route::name);
        self.metrics
            .requests
            .with_label_values(&[name, answer.outcome, answer.status.as_str()])
            .inc();
        let mut response = json(answer.status, answer.body);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let request_id = uuid::Uuid::now_v7().to_string();
        tracing::debug!(
            request_id,
            route = name,
            outcome = answer.outcome,
            "answered"
        );
        if let Ok(id) = HeaderValue::try_from(request_id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        match (answer.status, route) {
            (StatusCode::METHOD_NOT_ALLOWED, Some(route)) => {
                headers.insert(ALLOW, HeaderValue::from_static(route.methods()));
            }
            (StatusCode::UNAUTHORIZED, _) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl Handler for Reports {
    async fn handle(&self, request: Request<Incoming>, _peer: SocketAddr) -> Response<Full<Bytes>> {
        let Some(route) = Route::of(request.uri().path()) else {
            let answer = Answer::error(StatusCode::NOT_FOUND, "not_found", "No such path");
            return self.finish(None, answer);
        };
        let answer = self.route(route, request).await;
        self.finish(Some(route), answer)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        let answer = Answer::error(refusal.status(), refusal.code(), &refusal.message());
        self.finish(None, answer)
    }
}
