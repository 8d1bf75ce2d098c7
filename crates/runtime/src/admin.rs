//! The admin server of every role: `/metrics`, `/healthz` (the process is
//! alive) and `/readyz` (it can keep its promises, with the reasons if not).
//!
//! What ready means is decided by the components, each through its [`Check`].

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use prometheus::IntGaugeVec;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::http::{Handler, HttpLimits, ServerMetrics, error_body, json, serve};
use crate::metrics::{self, Metrics, MetricsError};

/// What a check is set to before its component has said anything.
const STARTING: &str = "starting";

/// The states of all components; clones share them.
#[derive(Debug, Clone)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<String, State>>>,
    gauge: IntGaugeVec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ok,
    Degraded(String),
    Failed(String),
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded(_) => "degraded",
            Self::Failed(_) => "failed",
        }
    }
}

/// One component's handle on its own check. Dropping it leaves the last state.
#[derive(Debug, Clone)]
pub struct Check {
    name: String,
    health: Health,
    essential: bool,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    checks: BTreeMap<String, CheckBody>,
}

#[derive(Debug, Serialize)]
struct CheckBody {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    degraded: bool,
}

impl Health {
    /// # Errors
    ///
    /// The registry has a health already.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let gauge = metrics.gauges(
            "check_state",
            "1 for the state that a readiness check is in.",
            &["check", "state"],
        )?;
        Ok(Self {
            checks: Arc::default(),
            gauge,
        })
    }

    /// Adds a check. It counts as failed until its component says otherwise,
    /// so that nothing is ready before everything has been heard. A name that
    /// exists is shared, with the state that it is in.
    pub fn check(&self, name: &str) -> Check {
        let check = Check {
            name: name.to_owned(),
            health: self.clone(),
            essential: true,
        };
        let known = self.lock().contains_key(name);
        if !known {
            check.set(State::Failed(STARTING.to_owned()));
        }
        check
    }

    /// No check is failed; degraded ones don't count.
    pub fn is_ready(&self) -> bool {
        self.readiness().ready
    }

    fn readiness(&self) -> Readiness {
        let checks: BTreeMap<_, _> = self
            .lock()
            .iter()
            .map(|(name, state)| (name.clone(), CheckBody::from(state)))
            .collect();
        Readiness {
            ready: checks.values().all(|check| check.ok),
            checks,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&State> for CheckBody {
    fn from(state: &State) -> Self {
        let reason = match state {
            State::Ok => None,
            State::Degraded(reason) | State::Failed(reason) => Some(reason.clone()),
        };
        Self {
            ok: !matches!(state, State::Failed(_)),
            reason,
            degraded: matches!(state, State::Degraded(_)),
        }
    }
}

impl Check {
    pub fn ok(&self) {
        self.set(State::Ok);
    }

    /// It works, but not as it should; the process stays ready.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.set(State::Degraded(reason.into()));
    }

    /// The process can't keep its promises without it; it is degraded where it can.
    pub fn failed(&self, reason: impl Into<String>) {
        self.set(if self.essential {
            State::Failed(reason.into())
        } else {
            State::Degraded(reason.into())
        });
    }

    /// This handle's failures degrade the process only. Until the component has been heard, it
    /// counts as failed all the same.
    #[must_use]
    pub fn inessential(self) -> Self {
        Self {
            essential: false,
            ..self
        }
    }

    /// Changes of the kind of state are logged; setting the same one again,
    /// with whatever reason, is not.
    fn set(&self, state: State) {
        let mut checks = self.health.lock();
        let before = checks.insert(self.name.clone(), state.clone());
        for name in ["ok", "degraded", "failed"] {
            self.health
                .gauge
                .with_label_values(&[self.name.as_str(), name])
                .set(i64::from(name == state.name()));
        }
        drop(checks);
        if before.as_ref().map(State::name) == Some(state.name()) {
            return;
        }
        let check = self.name.as_str();
        match &state {
            State::Ok => info!(check, "check is ok"),
            State::Degraded(reason) => warn!(check, reason, "check is degraded"),
            State::Failed(reason) if before.is_none() => info!(check, reason, "check added"),
            State::Failed(reason) => warn!(check, reason, "check failed"),
        }
    }
}

/// Serves until `shutdown`; see [`serve`]. Stop it last, so that metrics and
/// readiness can be read while the rest drains.
///
/// # Errors
///
/// Those of [`serve`].
pub async fn run(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    http: Option<ServerMetrics>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let limits = HttpLimits {
        max_connections: 64,
        header_timeout: Duration::from_secs(5),
        metrics: http,
        ..HttpLimits::default()
    };
    serve(listener, limits, Admin { metrics, health }, shutdown).await
}

struct Admin {
    metrics: Metrics,
    health: Health,
}

impl Handler for Admin {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<Incoming>, _: SocketAddr) -> Response<Full<Bytes>> {
        let mut response = self.answer(request.method(), request.uri().path());
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl Admin {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let route: fn(&Self) -> Response<Full<Bytes>> = match path {
            "/metrics" => Self::metrics,
            "/healthz" => |_| json(StatusCode::OK, r#"{"status":"ok"}"#),
            "/readyz" => Self::readiness,
            _ => {
                let body = error_body("not_found", "There is nothing at this path");
                return json(StatusCode::NOT_FOUND, body);
            }
        };
        if method != Method::GET && method != Method::HEAD {
            let body = error_body("method_not_allowed", "Use GET");
            let mut response = json(StatusCode::METHOD_NOT_ALLOWED, body);
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        route(self)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.encode() {
            Ok(text) => {
                let mut response = json(StatusCode::OK, text);
                let format = HeaderValue::from_static(metrics::TEXT_FORMAT);
                response.headers_mut().insert(CONTENT_TYPE, format);
                response
            }
            Err(error) => {
                error!(%error, "metrics can't be exported");
                let body = error_body("internal_error", "Unexpected server error");
                json(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let readiness = self.health.readiness();
        let status = if readiness.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        match serde_json::to_vec(&readiness) {
            Ok(body) => json(status, body),
            Err(error) => {
                error!(%error, "readiness can't be written");
                let body = error_body("internal_error", "Unexpected server error");
                json(StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn fetch(address: SocketAddr, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head[9..12].parse().unwrap(),
            head.to_owned(),
            body.to_owned(),
        )
    }

    #[tokio::test]
    async fn readiness_tells_its_reasons() {
        let metrics = Metrics::new("postern").unwrap();
        let health = Health::new(&metrics).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(run(
            listener,
            metrics,
            health.clone(),
            None,
            shutdown.clone(),
        ));

        let kafka = health.check("kafka");
        let store = health.check("store");
        let (status, _, body) = fetch(address, "GET /readyz").await;
        assert_eq!(status, 503);
        assert_eq!(
            body,
            r#"{"ready":false,"checks":{"kafka":{"ok":false,"reason":"starting","degraded":false},"store":{"ok":false,"reason":"starting","degraded":false}}}"#
        );

        kafka.degraded("spooling");
        store.ok();
        let (status, _, body) = fetch(address, "GET /readyz").await;
        assert_eq!(status, 200);
        assert_eq!(
            body,
            r#"{"ready":true,"checks":{"kafka":{"ok":true,"reason":"spooling","degraded":true},"store":{"ok":true,"degraded":false}}}"#
        );

        store.failed("connection refused");
        assert!(!health.is_ready());
        assert_eq!(health.check("store").name, "store");
        assert!(!health.is_ready(), "asking again changes nothing");
        let (status, head, text) = fetch(address, "GET /metrics").await;
        assert_eq!(status, 200);
        assert!(
            head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
        for line in [
            "postern_check_state{check=\"kafka\",state=\"degraded\"} 1\n",
            "postern_check_state{check=\"store\",state=\"failed\"} 1\n",
            "postern_check_state{check=\"store\",state=\"ok\"} 0\n",
        ] {
            assert!(text.contains(line), "{text}");
        }

        let (status, _, body) = fetch(address, "GET /healthz").await;
        assert_eq!((status, body.as_str()), (200, r#"{"status":"ok"}"#));
        let (status, _, body) = fetch(address, "HEAD /healthz").await;
        assert_eq!((status, body.as_str()), (200, ""));
        assert_eq!(fetch(address, "GET /").await.0, 404);
        let (status, head, _) = fetch(address, "POST /metrics").await;
        assert_eq!(status, 405);
        assert!(head.contains("allow: GET, HEAD"), "{head}");

        shutdown.cancel();
        served.await.unwrap().unwrap();
    }
}
