//! Accepting connections and serving each one until it or the server ends.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::socket::{Phase, Rules, Socket};
use super::{Handler, HttpLimits, Outgoing, Refusal};
use crate::panics::caught;

/// Wait after the system refused a connection for want of something, such as
/// file descriptors, which only time brings back.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Least time between two log lines about the same trouble.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Longest life of a connection that is one too many.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(2);

/// hyper's lower bound of its buffer.
const LEAST_BUFFER: usize = 8192;

/// Serves until `shutdown`, then stops accepting, lets every connection finish
/// the request that it is handling, and returns when all are closed. The
/// caller bounds that time by dropping the future, which cuts them off.
///
/// # Errors
///
/// None at present: what goes wrong with one connection ends that connection,
/// and what goes wrong with accepting is tried again.
pub async fn serve<S: Handler>(
    listener: TcpListener,
    limits: HttpLimits,
    service: S,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let server = Server::new(limits, service);
    // Dropped with this future, and then aborts the connections in it.
    let mut connections = JoinSet::new();
    let mut full_log = Pace::default();
    let mut error_log = Pace::default();
    loop {
        // Shutdown comes first, so that a busy listener can't put it off.
        let door = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&server.doors).acquire_owned() => match permit {
                Ok(permit) => permit,
                // The semaphore is never closed.
                Err(_) => break,
            },
        };
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                server.count(|m| m.accepted.inc());
                let shutdown = shutdown.clone();
                if let Ok(permit) = Arc::clone(&server.permits).try_acquire_owned() {
                    let server = Arc::clone(&server);
                    connections.spawn(server.connection(stream, peer, permit, shutdown));
                } else {
                    server.count(|m| m.full.inc());
                    if full_log.due() {
                        let connections = server.limits.max_connections;
                        warn!(
                            connections,
                            "all connections are taken, refusing further ones"
                        );
                    }
                    let server = Arc::clone(&server);
                    connections.spawn(server.turn_away(stream, peer, door, shutdown));
                }
            }
            Err(error) if concerns_one_connection(&error) => {
                server.count(|m| m.accept_errors.inc());
                debug!(%error, "connection was gone before it was accepted");
            }
            Err(error) => {
                server.count(|m| m.accept_errors.inc());
                if error_log.due() {
                    warn!(%error, "can't accept connections, trying on");
                }
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_BACKOFF) => {}
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Lets a log line through now and then.
#[derive(Default)]
struct Pace(Option<Instant>);

impl Pace {
    fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= LOG_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}

struct Server<S> {
    limits: HttpLimits,
    service: Arc<S>,
    permits: Arc<Semaphore>,
    /// Beside them: who has just come, or is being turned away.
    doors: Arc<Semaphore>,
    rules: Arc<Rules>,
    http: http1::Builder,
}

impl<S: Handler> Server<S> {
    fn new(limits: HttpLimits, service: S) -> Arc<Self> {
        let service = Arc::new(service);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            // The socket's timers tell idle from slow; hyper's does not.
            .header_read_timeout(None)
            .max_buf_size(limits.max_head.max(LEAST_BUFFER))
            .max_header_size(limits.max_head)
            // Callers that fire and close their side still get their request handled.
            .half_close(true)
            // Every answer leaves at once. Holding answers back while further
            // requests are buffered would make a finished one wait for the
            // handling of the next, or for the rest of a head that never comes.
            .pipeline_flush(false);
        if limits.max_headers != HttpLimits::default().max_headers {
            // Setting it costs an allocation per request; hyper's default is ours.
            http.max_headers(limits.max_headers);
        }
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(limits.max_connections)),
            doors: Arc::new(Semaphore::new(limits.max_connections.div_ceil(8))),
            rules: Arc::new(rules(&limits, Arc::clone(&service))),
            http,
            limits,
            service,
        })
    }

    fn count(&self, update: impl FnOnce(&super::ServerMetrics)) {
        if let Some(metrics) = &self.limits.metrics {
            update(metrics);
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
        shutdown: CancellationToken,
    ) {
        let _open = Open::new(&self.limits, permit);
        self.converse(stream, peer, shutdown, |request| self.answer(request, peer))
            .await;
    }

    /// Answers the first request of a connection that is one too many.
    async fn turn_away(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        _door: OwnedSemaphorePermit,
        shutdown: CancellationToken,
    ) {
        let refuse = |_: Request<Incoming>| async {
            let mut response = self.service.refuse(Refusal::Busy);
            let headers = response.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
            response.map(Outgoing::from)
        };
        let refused = self.converse(stream, peer, shutdown, refuse);
        // Who says nothing is not waited for as long as others are.
        let _ = tokio::time::timeout(TURNED_AWAY_WITHIN, refused).await;
    }

    async fn converse<F, Fut>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        shutdown: CancellationToken,
        answer: F,
    ) where
        F: Fn(Request<Incoming>) -> Fut,
        Fut: Future<Output = Response<Outgoing>>,
    {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "connection was gone at once");
            return;
        }
        let phase = Arc::new(Phase::default());
        let mut socket = Socket::new(stream, Arc::clone(&self.rules), Arc::clone(&phase));
        let handle = |request: Request<Incoming>| {
            let (answer, phase) = (&answer, &phase);
            // In a box of its own, or each idle connection keeps room for it.
            Box::pin(async move {
                phase.begin(!request.body().is_end_stream());
                let response = answer(request).await;
                phase.end(!response.body().is_whole());
                Ok::<_, Infallible>(response)
            })
        };
        // hyper, with its buffers of 16 KiB, is there only while the caller has
        // something to say or to be told.
        loop {
            let answered = socket.answered();
            tokio::select! {
                biased;
                awake = socket.wait() => if !awake {
                    debug!(%peer, "connection was idle for too long");
                    return;
                },
                () = shutdown.cancelled() => if answered {
                    return;
                },
            }
            let mut connection = self
                .http
                .serve_connection(TokioIo::new(socket), service_fn(&handle));
            let quiet = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if phase.rests() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            });
            // The connection comes first: once shut down, it alone is polled.
            let ended = tokio::select! {
                biased;
                ended = quiet => ended,
                () = shutdown.cancelled() => {
                    Pin::new(&mut connection).graceful_shutdown();
                    Some((&mut connection).await)
                }
            };
            match ended {
                Some(Ok(())) => return,
                Some(Err(error)) => {
                    debug!(%peer, %error, "connection ended with an error");
                    return;
                }
                None => {
                    let parts = connection.into_parts();
                    socket = parts.io.into_inner();
                    socket.rest(&parts.read_buf);
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Outgoing> {
        let limit = self.limits.max_uri;
        if target_len(request.uri()) > limit {
            self.count(|m| m.refused.inc());
            let refused = self.service.refuse(Refusal::UriTooLong { limit });
            return refused.map(Outgoing::from);
        }
        match caught(pin!(self.service.handle(request, peer))).await {
            Ok(response) => response.map(Into::into),
            Err(panic) => {
                error!(%peer, %panic, "request handler panicked");
                self.service.refuse(Refusal::Panic).map(Outgoing::from)
            }
        }
    }
}

fn rules<S: Handler>(limits: &HttpLimits, service: Arc<S>) -> Rules {
    let (metrics, timeouts) = (limits.metrics.clone(), limits.metrics.clone());
    if let Some(metrics) = &metrics {
        let most = i64::try_from(limits.max_connections).unwrap_or(i64::MAX);
        metrics.most.set(most);
    }
    let worded = limits.clone();
    Rules {
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        max_uri: limits.max_uri,
        reword: Box::new(move |refused| {
            if let Some(metrics) = &metrics {
                metrics.refused.inc();
            }
            service.refuse(refused.with_limits(&worded))
        }),
        on_timeout: Box::new(move || {
            if let Some(metrics) = &timeouts {
                metrics.timed_out.inc();
            }
        }),
    }
}

/// Bytes of the target as it was sent, up to a character.
fn target_len(uri: &Uri) -> usize {
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |host| host.as_str().len());
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + 3);
    path + authority + scheme
}

/// Holds a connection's permit and its place in the gauge.
struct Open {
    gauge: Option<prometheus::IntGauge>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(limits: &HttpLimits, permit: OwnedSemaphorePermit) -> Self {
        let gauge = limits.metrics.as_ref().map(|metrics| metrics.open.clone());
        if let Some(gauge) = &gauge {
            gauge.inc();
        }
        Self {
            gauge,
            _permit: permit,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(gauge) = &self.gauge {
            gauge.dec();
        }
    }
}
