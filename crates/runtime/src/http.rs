//! The HTTP/1.1 server that the roles share: limits on connections, heads,
//! bodies and waits, keep-alive and pipelining, refusals in JSON, and a drain
//! that answers what is in flight.
//!
//! What is asked and answered is the [`Handler`]'s business.

pub mod address;
mod body;
mod outgoing;
mod server;
mod socket;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use serde::Serialize;

use crate::metrics::{Metrics, MetricsError};

pub use body::{BodyError, read_body};
pub use outgoing::{BodyFailure, Chunks, NextChunk, Outgoing};
pub use server::serve;

/// Answers requests. One value serves all connections of a server.
pub trait Handler: Send + Sync + 'static {
    /// What it answers with.
    type Body: Into<Outgoing>;

    /// Answers one request. It is run to its end even when the caller has
    /// stopped sending; it is dropped when the connection breaks or the
    /// server's drain is cut off. A panic in it is answered as [`Refusal::Panic`].
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Words an answer to a request that never reached [`Handler::handle`].
    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        refusal.response()
    }
}

/// A request that the server itself turns down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not HTTP/1.1.
    BadRequest,
    UriTooLong {
        limit: usize,
    },
    HeadersTooLarge {
        bytes: usize,
        headers: usize,
    },
    /// The handler panicked; the panic is in the log.
    Panic,
    /// All connections are taken.
    Busy,
}

impl Refusal {
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::UriTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The `error` field of the body.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UriTooLong { .. } => "uri_too_long",
            Self::HeadersTooLarge { .. } => "headers_too_large",
            Self::Panic | Self::Busy => "internal_error",
        }
    }

    /// The `message` field of the body.
    pub fn message(self) -> String {
        match self {
            Self::BadRequest => "The request is not valid HTTP/1.1".to_owned(),
            Self::UriTooLong { limit } => format!("The URL is longer than {limit} bytes"),
            Self::HeadersTooLarge { bytes, headers } => {
                format!("The request has more than {headers} headers or {bytes} bytes of them")
            }
            Self::Panic | Self::Busy => "Unexpected server error".to_owned(),
        }
    }

    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = json(self.status(), error_body(self.code(), &self.message()));
        if self == Self::Busy {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// What a server allows. Everything a caller can make grow has a limit here.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections at a time. When all are taken, a further one is told so
    /// ([`Refusal::Busy`]) and closed; an eighth of them at a time, and who
    /// comes then waits in the system's queue.
    pub max_connections: usize,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Between two requests on a connection, and before the first. It also
    /// ends connections of callers that do not read their answers.
    pub idle_timeout: Duration,
    /// Bytes of a request's target.
    pub max_uri: usize,
    /// Bytes of a request's head: request line and headers. At least 8 KiB.
    pub max_head: usize,
    pub max_headers: usize,
    pub metrics: Option<ServerMetrics>,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            max_uri: 16 * 1024,
            max_head: 64 * 1024,
            max_headers: 100,
            metrics: None,
        }
    }
}

/// The metrics of all HTTP servers of a process, by server.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    open: IntGaugeVec,
    most: IntGaugeVec,
    accepted: IntCounterVec,
    full: IntCounterVec,
    accept_errors: IntCounterVec,
    refused: IntCounterVec,
    timed_out: IntCounterVec,
}

impl HttpMetrics {
    pub fn register(metrics: &Metrics) -> Result<Self, MetricsError> {
        let counters = |name: &str, help: &str| metrics.counters(name, help, &["server"]);
        Ok(Self {
            open: metrics.gauges("http_connections_open", "Open connections.", &["server"])?,
            most: metrics.gauges(
                "http_connections_max",
                "Connections that a server may have open at a time.",
                &["server"],
            )?,
            accepted: counters("http_connections_total", "Accepted connections.")?,
            full: counters(
                "http_connections_full_total",
                "Connections that were answered 503 because all were taken.",
            )?,
            accept_errors: counters(
                "http_accept_errors_total",
                "Connections that the system could not hand over.",
            )?,
            refused: counters(
                "http_refused_total",
                "Requests refused by the server: not HTTP/1.1, or over a limit.",
            )?,
            timed_out: counters(
                "http_timed_out_total",
                "Connections closed because the caller was slow or idle.",
            )?,
        })
    }

    /// The metrics of one server, such as `ingress`.
    pub fn server(&self, name: &str) -> ServerMetrics {
        let name = &[name];
        ServerMetrics {
            open: self.open.with_label_values(name),
            most: self.most.with_label_values(name),
            accepted: self.accepted.with_label_values(name),
            full: self.full.with_label_values(name),
            accept_errors: self.accept_errors.with_label_values(name),
            refused: self.refused.with_label_values(name),
            timed_out: self.timed_out.with_label_values(name),
        }
    }
}

/// See [`HttpMetrics`].
#[derive(Debug, Clone)]
pub struct ServerMetrics {
    open: IntGauge,
    most: IntGauge,
    accepted: IntCounter,
    full: IntCounter,
    accept_errors: IntCounter,
    refused: IntCounter,
    timed_out: IntCounter,
}

/// The token of an `Authorization: Bearer` header.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Compares secrets without telling by its duration where the first difference is.
#[must_use]
pub fn same(given: &[u8], expected: &[u8]) -> bool {
    given.len() == expected.len()
        && given
            .iter()
            .zip(expected)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

/// An answer with a JSON body.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The body of every error: `{"status":"error","error":code,"message":message}`.
pub fn error_body(code: &str, message: &str) -> Bytes {
    #[derive(Serialize)]
    struct ErrorBody<'a> {
        status: &'static str,
        error: &'a str,
        message: &'a str,
    }
    let body = ErrorBody {
        status: "error",
        error: code,
        message,
    };
    // Three strings always serialize; the fallback is the same shape.
    serde_json::to_vec(&body).map_or_else(
        |_| Bytes::from_static(br#"{"status":"error","error":"internal_error","message":""}"#),
        Bytes::from,
    )
}

#[cfg(test)]
mod tests;
