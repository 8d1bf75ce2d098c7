//! Which request goes where.

use crate::access::Failures;
use crate::campaigns;
use crate::table::Format;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use ipnet::IpNet;
use postern_core::answer;
use postern_kafka::TopicAdmin;
use postern_runtime::http::{Chunks, Handler, Outgoing, Refusal, address};
use postern_runtime::metrics::{Metrics, MetricsError};
use postern_runtime::telemetry::chain;
use postern_store::{Store, StoreError};
use prometheus::{HistogramVec, IntCounterVec, IntGauge};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// Whether `path` is the reports' to answer.
#[must_use]
pub fn owns(path: &str) -> bool {
    Route::of(path).is_some()
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Route {
    Status,
    Conversions,
    Stats,
    Postbacks,
    /// With the campaign's id, if it is one.
    Campaign(Option<i64>),
}

const ROUTES: [Route; 5] = [
    Route::Status,
    Route::Conversions,
    Route::Stats,
    Route::Postbacks,
    Route::Campaign(None),
];

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/postback/status" => Some(Self::Status),
            "/v1/conversions.php" | "/v1/conversions" => Some(Self::Conversions),
            "/v1/stats.php" | "/v1/stats" => Some(Self::Stats),
            "/v1/postbacks" => Some(Self::Postbacks),
            _ => path
                .starts_with("/v1/campaigns/")
                .then(|| Self::Campaign(campaigns::id_of(path))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Conversions => "conversions",
            Self::Stats => "stats",
            Self::Postbacks => "postbacks",
            Self::Campaign(_) => "campaigns",
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Campaign(_) => method == Method::GET || method == Method::PUT,
            _ => method == Method::GET,
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Campaign(_) => "GET, PUT",
            _ => "GET",
        }
    }
}

/// A reports server's settings.
#[derive(Clone, Debug)]
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
    /// Proxies whose word on the caller's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Wrong tokens of an address in a minute before it is refused.
    pub failures_per_address: u32,
    /// Most exports at one time.
    pub max_exports: usize,
}

/// The metrics of a reports server.
#[derive(Clone, Debug)]
pub struct ReportsMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    pub(crate) exports: IntGauge,
}

impl ReportsMetrics {
    /// Registers them.
    ///
    /// # Errors
    ///
    /// A name is registered already.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let routes = ROUTES.map(Route::name);
        let seconds = metrics.histograms(
            "reports_answer_seconds",
            "From a request to its answer, by route; of an export to its first page.",
            &["route"],
            &[
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
            ],
        )?;
        for route in routes {
            seconds.with_label_values(&[route]);
        }
        Ok(Self {
            requests: metrics.counters_of(
                "reports_requests_total",
                "Requests to the reports role, by route, outcome and HTTP status.",
                &["route", "outcome", "status"],
                routes.iter().flat_map(|route| {
                    [
                        [*route, "ok", "200"],
                        [*route, "query_timeout", "503"],
                        [*route, "internal_error", "503"],
                    ]
                }),
            )?,
            seconds,
            exports: metrics.gauge("reports_exports_open", "Exports that are being sent.")?,
        })
    }
}

/// One answer, before its common headers.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// From a fixed set.
    pub(crate) outcome: &'static str,
    body: Outgoing,
    format: Format,
    /// What a browser calls the file that it saves.
    file: Option<&'static str>,
}

impl Answer {
    pub(crate) fn error(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self::json(status, answer::error(code, message), code)
    }

    pub(crate) fn json(status: StatusCode, body: Vec<u8>, outcome: &'static str) -> Self {
        Self {
            status,
            outcome,
            body: Full::new(Bytes::from(body)).into(),
            format: Format::Json,
            file: None,
        }
    }

    /// A whole table.
    pub(crate) fn whole_as(body: Vec<u8>, format: Format, file: &'static str) -> Self {
        Self {
            format,
            file: Some(file),
            ..Self::json(StatusCode::OK, body, "ok")
        }
    }

    /// A table that is made while it is sent.
    pub(crate) fn made(chunks: impl Chunks, format: Format, file: &'static str) -> Self {
        Self {
            body: Outgoing::made(chunks),
            ..Self::whole_as(Vec::new(), format, file)
        }
    }

    /// The store couldn't answer a question.
    pub(crate) fn failed(error: &StoreError) -> Self {
        if matches!(error, StoreError::TooSlow) {
            return Self::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "query_timeout",
                "The query took too long: name a shorter time (from, to) or a campaign_id",
            );
        }
        tracing::error!(why = chain(error), "a report could not be read");
        Self::unavailable()
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

/// A request, as far as every route needs it.
pub(crate) struct Call {
    pub(crate) headers: HeaderMap,
    pub(crate) address: IpAddr,
}

/// The reports server: a handler for the HTTP server.
pub struct Reports {
    pub(crate) config: ReportsConfig,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) topics: Arc<TopicAdmin>,
    pub(crate) lookups: Semaphore,
    pub(crate) exports: Arc<Semaphore>,
    pub(crate) failures: Failures,
    /// Told when a campaign was set.
    pub(crate) changed: Arc<Notify>,
    pub(crate) metrics: ReportsMetrics,
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
            exports: Arc::new(Semaphore::new(config.max_exports)),
            failures: Failures::new(config.failures_per_address),
            config,
            store,
            topics,
            changed,
            metrics,
        }
    }

    async fn route(&self, route: Route, peer: IpAddr, request: Request<Incoming>) -> Answer {
        if !route.takes(request.method()) {
            let message = format!("Use {}", route.methods().replace(", ", " or "));
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Answer::error(status, "method_not_allowed", &message);
        }
        let call = Call {
            headers: request.headers().clone(),
            address: address::of(peer, request.headers(), &self.config.trusted_proxies),
        };
        let query = request.uri().query().unwrap_or_default();
        match route {
            Route::Status => self.status(query).await,
            Route::Conversions => self.conversions(&call, query).await,
            Route::Stats => self.statistics(&call, query).await,
            Route::Postbacks => self.postbacks(&call, query).await,
            Route::Campaign(id) => self.campaign(&call, id, request).await,
        }
    }

    fn finish(&self, route: Option<Route>, answer: Answer) -> Response<Outgoing> {
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        let headers = response.headers_mut();
        let content_type = HeaderValue::from_static(answer.format.content_type());
        headers.insert(CONTENT_TYPE, content_type);
        if let Some(file) = answer.file {
            let end = answer.format.file_end();
            let value = format!("attachment; filename=\"{file}.{end}\"");
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(CONTENT_DISPOSITION, value);
            }
        }
        self.note(route, answer.outcome, &mut response);
        response
    }

    /// Counts an answer, and gives it what all answers have.
    fn note<B>(&self, route: Option<Route>, outcome: &str, response: &mut Response<B>) {
        let name = route.map_or("unknown", Route::name);
        let status = response.status();
        self.metrics
            .requests
            .with_label_values(&[name, outcome, status.as_str()])
            .inc();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let request_id = uuid::Uuid::now_v7().to_string();
        tracing::debug!(request_id, route = name, outcome, "answered");
        if let Ok(id) = HeaderValue::try_from(request_id) {
            headers.insert(HeaderName::from_static("x-request-id"), id);
        }
        match (status, route) {
            (StatusCode::METHOD_NOT_ALLOWED, Some(route)) => {
                headers.insert(ALLOW, HeaderValue::from_static(route.methods()));
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("60"));
            }
            (StatusCode::UNAUTHORIZED, _) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
    }
}

impl Handler for Reports {
    type Body = Outgoing;

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Outgoing> {
        let Some(route) = Route::of(request.uri().path()) else {
            let answer = Answer::error(StatusCode::NOT_FOUND, "not_found", "No such path");
            return self.finish(None, answer);
        };
        let began = Instant::now();
        let answer = self.route(route, peer.ip(), request).await;
        self.metrics
            .seconds
            .with_label_values(&[route.name()])
            .observe(began.elapsed().as_secs_f64());
        self.finish(Some(route), answer)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        let mut response = refusal.response();
        self.note(None, refusal.code(), &mut response);
        response
    }
}
