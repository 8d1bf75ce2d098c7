//! Which request goes where, and what every answer has in common.

use crate::breaker::Breaker;
use crate::campaigns::Campaigns;
use crate::config::{AnswerMode, IngressConfig};
use crate::drain::{Answers, Drain};
use crate::durable::DurabilityWatch;
use crate::guesses::Guesses;
use crate::metrics::IngressMetrics;
use crate::occasion::Occasion;
use crate::outlet::{Gate, Outlet};
use crate::pending::Pending;
use crate::per_address::PerAddress;
use crate::redirect::Left;
use crate::refusals::Refusals;
use crate::verdicts::ReplyAddress;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use postern_core::answer;
use postern_core::ids::RequestId;
use postern_core::record::postback::MAX_RAW_QUERY_BYTES;
use postern_kafka::Producer;
use postern_runtime::http::{Handler, Refusal, address, json};
use postern_spool::Spool;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::Instrument;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest path and query.
pub(crate) const MAX_URI: usize = MAX_RAW_QUERY_BYTES;

/// What so many bytes take of the room for bodies.
fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

/// Whether `path` is the ingress' to answer.
#[must_use]
pub fn owns(path: &str) -> bool {
    Route::of(path).is_some()
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Route {
    Postback,
    /// A postback that is only looked at.
    Check,
    /// From the ad server.
    Clicks,
    /// A visitor's.
    Click,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/postback.php" | "/v1/postback" => Some(Self::Postback),
            "/v1/postback/check" => Some(Self::Check),
            "/v1/clicks" => Some(Self::Clicks),
            "/v1/click" => Some(Self::Click),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Postback => "postback",
            Self::Check => "check",
            Self::Clicks => "clicks",
            Self::Click => "click",
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Postback | Self::Check => "GET, POST",
            Self::Clicks => "POST",
            Self::Click => "GET",
        }
    }
}

/// One answer, before its common headers.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    /// The word for metrics and logs: from a fixed set.
    pub(crate) outcome: &'static str,
    /// Where a visitor is sent.
    pub(crate) location: Option<HeaderValue>,
}

impl Answer {
    pub(crate) fn error(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self {
            status,
            body: answer::error(code, message),
            outcome: code,
            location: None,
        }
    }

    /// Not known to be stored; sending it again is safe.
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
    pub(crate) request_id: RequestId,
    pub(crate) received_at: jiff::Timestamp,
    pub(crate) started: Instant,
    pub(crate) address: IpAddr,
}

/// What connects an ingress with Kafka.
pub struct KafkaSide {
    /// Publishes.
    pub producer: Producer,
    /// Opened when the topics are known.
    pub gate: Gate,
    /// Requests that wait for their verdicts.
    pub pending: Pending,
    /// Where verdicts come back.
    pub reply: ReplyAddress,
}

/// The ingress: a handler for the HTTP server.
pub struct Ingress {
    pub(crate) config: IngressConfig,
    pub(crate) outlet: Outlet,
    pub(crate) pending: Pending,
    pub(crate) reply: ReplyAddress,
    pub(crate) breaker: Breaker,
    pub(crate) refusals: Refusals,
    pub(crate) metrics: IngressMetrics,
    pub(crate) campaigns: Campaigns,
    /// For the line in the log about what could not be kept.
    pub(crate) said: Arc<Occasion>,
    /// Clicks whose visitors have left before they were durable.
    pub(crate) left: Arc<Left>,
    slots: Arc<Semaphore>,
    /// Room for bodies, in KiB.
    room: Arc<Semaphore>,
    rate: Option<PerAddress>,
    pub(crate) guesses: Guesses,
}

impl Ingress {
    /// Assembles an ingress. Verdicts reach it through `pending`; `reply` says where the
    /// consumer sends them; `campaigns` are filled by a [`crate::CampaignReader`]. Gives who
    /// drains the spool too, where there is one, and who tells whether postbacks can be kept.
    #[must_use]
    pub fn new(
        config: IngressConfig,
        kafka: KafkaSide,
        spool: Option<Spool>,
        campaigns: Campaigns,
        metrics: IngressMetrics,
    ) -> (Self, Option<Drain>, DurabilityWatch) {
        let KafkaSide {
            producer,
            gate,
            pending,
            reply,
        } = kafka;
        // The other half of the time is for the spool and the verdict.
        let patience = (config.answer_timeout / 2).min(Duration::from_secs(1));
        let outlet = Outlet::new(producer, gate, spool.clone(), patience, metrics.clone());
        let breaker = Breaker::new(metrics.breaker_open.clone());
        let drain = spool.map(|spool| Drain {
            outlet: outlet.clone(),
            spool,
            answers: (config.answer_mode == AnswerMode::Verdict).then(|| Answers {
                pending: pending.clone(),
                reply: reply.clone(),
                breaker: breaker.clone(),
                timeout: config.answer_timeout,
            }),
            metrics: metrics.clone(),
            longest: config.answer_timeout + Duration::from_secs(5),
        });
        metrics.limit("in_flight", config.max_in_flight);
        metrics.limit("queued_bytes", config.max_queued_bytes);
        let watch = DurabilityWatch {
            outlet: outlet.clone(),
            reply: reply.clone(),
            instance: pending.instance().to_owned(),
            metrics: metrics.clone(),
        };
        let ingress = Self {
            said: Arc::default(),
            left: Arc::new(Left::new(config.max_in_flight)),
            campaigns,
            refusals: Refusals::new(outlet.clone(), &config, metrics.clone()),
            breaker,
            slots: Arc::new(Semaphore::new(config.max_in_flight)),
            room: Arc::new(Semaphore::new(kib(config.max_queued_bytes))),
            guesses: Guesses::new(config.unmatched_per_address),
            rate: config.rate_per_address.map(PerAddress::per_second),
            config,
            outlet,
            pending,
            reply,
            metrics,
        };
        (ingress, drain, watch)
    }

    /// What waits until the last click that was redirected is durable, or lost.
    #[must_use]
    pub fn left_behind(&self) -> Arc<Left> {
        self.left.clone()
    }

    async fn dispatch(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        let call = Call {
            request_id: RequestId::from_uuid(uuid::Uuid::now_v7()),
            received_at: postern_core::time::to_micros(jiff::Timestamp::now()),
            started: Instant::now(),
            address: address::of(peer.ip(), request.headers(), &self.config.trusted_proxies),
        };
        let span = tracing::debug_span!("request", request_id = %call.request_id);
        let Some(route) = Route::of(request.uri().path()) else {
            let answer = Answer::error(StatusCode::NOT_FOUND, "not_found", "No such path");
            return self.finish(call.request_id, "unknown", answer);
        };
        async {
            let answer = self.route(route, &call, request).await;
            tracing::debug!(route = route.name(), outcome = answer.outcome, "answered");
            let allow = answer.status == StatusCode::METHOD_NOT_ALLOWED;
            let mut response = self.finish(call.request_id, route.name(), answer);
            if allow {
                let methods = HeaderValue::from_static(route.methods());
                response.headers_mut().insert(ALLOW, methods);
            }
            if route == Route::Postback && self.config.always_200 {
                soften(&mut response);
            }
            response
        }
        .instrument(span)
        .await
    }

    async fn route(&self, route: Route, call: &Call, request: Request<Incoming>) -> Answer {
        let Ok(_slot) = self.slots.try_acquire() else {
            return self.overloaded("in_flight");
        };
        let Some(_room) = self.room_for(request.body()) else {
            return self.overloaded("queued_bytes");
        };
        self.metrics.in_flight.inc();
        let gauge = self.metrics.in_flight.clone();
        let _in_flight = OnDrop(move || gauge.dec());
        if let Some(rate) = &self.rate
            && route != Route::Clicks
            && !rate.admits(call.address)
        {
            self.metrics.overload.with_label_values(&["rate"]).inc();
            let message = "Too many requests from this address; try again later".to_owned();
            let status = StatusCode::TOO_MANY_REQUESTS;
            if route == Route::Postback {
                let refused = self.refuse(call, &request, status, "rate_limited", message);
                return Box::pin(refused).await;
            }
            return Answer::error(status, "rate_limited", &message);
        }
        // All but a postback that is taken is boxed: the future is moved around before it runs, and
        // is as large as its largest way.
        match (route, request.method()) {
            (Route::Postback, &Method::GET | &Method::POST) => {
                let answer = self.postback(call, request).await;
                self.metrics
                    .answer_seconds
                    .with_label_values(&[answer.outcome])
                    .observe(call.started.elapsed().as_secs_f64());
                answer
            }
            (Route::Check, &Method::GET | &Method::POST) => Box::pin(self.check(request)).await,
            (Route::Clicks, &Method::POST) => Box::pin(self.clicks(call, request)).await,
            (Route::Click, &Method::GET) => {
                let query = request.uri().query().unwrap_or_default();
                let answer = Box::pin(self.redirect(call, query)).await;
                let seconds = call.started.elapsed().as_secs_f64();
                self.metrics.redirect_seconds.observe(seconds);
                answer
            }
            (Route::Postback, method) => {
                let message = format!("Use GET or POST, not {method}");
                let status = StatusCode::METHOD_NOT_ALLOWED;
                let refused = self.refuse(call, &request, status, "method_not_allowed", message);
                Box::pin(refused).await
            }
            (Route::Check | Route::Clicks | Route::Click, _) => Answer::error(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                &format!("Use {}", route.methods()),
            ),
        }
    }

    /// Over a limit: it is turned down before anything is done for it.
    fn overloaded(&self, limit: &'static str) -> Answer {
        self.metrics.overload.with_label_values(&[limit]).inc();
        Answer::unavailable()
    }

    /// Room for as much as the body may become; none is needed where there is none.
    fn room_for(&self, body: &Incoming) -> Option<SemaphorePermit<'_>> {
        let most = self.config.max_body;
        let upper = body.size_hint().upper().map_or(most, |upper| {
            usize::try_from(upper).map_or(most, |upper| upper.min(most))
        });
        let room = u32::try_from(kib(upper)).unwrap_or(u32::MAX);
        self.room.try_acquire_many(room).ok()
    }

    fn finish(&self, request_id: RequestId, route: &str, answer: Answer) -> Response<Full<Bytes>> {
        self.metrics
            .requests
            .with_label_values(&[route, answer.outcome, answer.status.as_str()])
            .inc();
        let mut response = json(answer.status, answer.body);
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(location) = answer.location {
            headers.insert(LOCATION, location);
        }
        if let Ok(id) = HeaderValue::try_from(request_id.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        if answer.status == StatusCode::SERVICE_UNAVAILABLE
            || answer.status == StatusCode::TOO_MANY_REQUESTS
        {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl Handler for Ingress {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Full<Bytes>> {
        self.dispatch(request, peer).await
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        let request_id = RequestId::from_uuid(uuid::Uuid::now_v7());
        tracing::debug!(%request_id, ?refusal, "refused before it was understood");
        let answer = Answer::error(refusal.status(), refusal.code(), &refusal.message());
        self.finish(request_id, "unknown", answer)
    }
}

/// `http.always_200`: the body stays; 429 and 5xx keep their code, so that callers that retry
/// do.
fn soften(response: &mut Response<Full<Bytes>>) {
    let status = response.status();
    if status == StatusCode::ACCEPTED
        || (status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS)
    {
        *response.status_mut() = StatusCode::OK;
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
