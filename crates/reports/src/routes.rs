//! Which request goes where.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue};
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
use tokio::sync::Semaphore;

/// Whether `path` is the reports' to answer.
#[must_use]
pub fn owns(path: &str) -> bool {
    path == "/v1/postback/status"
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
}

/// The reports server: a handler for the HTTP server.
pub struct Reports {
    pub(crate) config: ReportsConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) topics: Arc<TopicAdmin>,
    pub(crate) lookups: Semaphore,
    metrics: ReportsMetrics,
}

impl Reports {
    /// Assembles a reports server.
    #[must_use]
    pub fn new(
        config: ReportsConfig,
        store: Arc<dyn Store>,
        topics: Arc<TopicAdmin>,
        metrics: ReportsMetrics,
    ) -> Self {
        Self {
            lookups: Semaphore::new(config.max_lookups),
            config,
            store,
            topics,
            metrics,
        }
    }

    fn finish(&self, route: &str, answer: Answer) -> Response<Full<Bytes>> {
        self.metrics
            .requests
            .with_label_values(&[route, answer.outcome, answer.status.as_str()])
            .inc();
        let mut response = json(answer.status, answer.body);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let request_id = uuid::Uuid::now_v7().to_string();
        tracing::debug!(request_id, route, outcome = answer.outcome, "answered");
        if let Ok(id) = HeaderValue::try_from(request_id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        if answer.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

impl Handler for Reports {
    async fn handle(&self, request: Request<Incoming>, _peer: SocketAddr) -> Response<Full<Bytes>> {
        if !owns(request.uri().path()) {
            let answer = Answer::error(StatusCode::NOT_FOUND, "not_found", "No such path");
            return self.finish("unknown", answer);
        }
        let answer = if request.method() == Method::GET {
            self.status(request.uri().query().unwrap_or_default()).await
        } else {
            Answer::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Use GET",
            )
        };
        self.finish("status", answer)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        let answer = Answer::error(refusal.status(), refusal.code(), &refusal.message());
        self.finish("unknown", answer)
    }
}
