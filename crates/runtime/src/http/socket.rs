//! The socket as hyper sees it. Between the two it does what hyper does not:
//! it times out connections that are idle or slow with a head, gives hyper's
//! own empty error answers their JSON body, and lingers after an early refusal
//! so that the caller can read it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::Body;
use hyper::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::Refusal;

/// How long, and for how many bytes, a refused caller may go on sending.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 8 << 20;

/// After so long without a word between requests, hyper's part of a connection
/// is put away: long for callers in a burst, short for thousands that wait.
const REST: Duration = Duration::from_millis(100);

/// What a request line holds beside the URL, with some room for methods.
const AROUND_URI: usize = 32;

/// What the service, the socket and the server tell each other about the
/// connection. All run in its task; the atomics are for `Send`, not for races.
#[derive(Debug, Default)]
pub(super) struct Phase {
    /// Even between requests, odd while one is handled.
    turn: AtomicU64,
    /// The latest request came with a body, which may not have been read.
    body: AtomicBool,
    /// The latest answer is made while it is sent: what is written is not hyper's own.
    made: AtomicBool,
    /// The caller has said nothing for a while, between requests.
    quiet: AtomicBool,
    /// The system did not take all of what was written last.
    unsent: AtomicBool,
}

impl Phase {
    pub(super) fn begin(&self, body: bool) {
        self.body.store(body, Ordering::Relaxed);
        self.made.store(false, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, made: bool) {
        self.made.store(made, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing is under way in either direction.
    pub(super) fn rests(&self) -> bool {
        self.quiet.load(Ordering::Relaxed) && !self.unsent.load(Ordering::Relaxed)
    }
}

/// What the socket needs to know of the server.
pub(super) struct Rules {
    pub(super) header_timeout: Duration,
    pub(super) idle_timeout: Duration,
    pub(super) max_uri: usize,
    /// Words the answer that replaces hyper's for a status.
    pub(super) reword: Box<dyn Fn(Refused) -> Response<Full<Bytes>> + Send + Sync>,
    pub(super) on_timeout: Box<dyn Fn() + Send + Sync>,
}

/// What hyper refuses by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    BadRequest,
    UriTooLong,
    HeadersTooLarge,
}

pub(super) struct Socket {
    stream: TcpStream,
    rules: Arc<Rules>,
    phase: Arc<Phase>,
    /// A head has begun to arrive in this turn.
    head: Option<u64>,
    /// Bytes of its first line so far, and whether that is complete.
    line: (usize, bool),
    /// What the timer stands for: the turn, and whether a head had begun.
    armed: Option<(u64, bool)>,
    /// When that time is used up.
    until: Instant,
    timer: Pin<Box<Sleep>>,
    /// Read by hyper before it was put away, and not yet understood.
    early: Bytes,
    /// Runs while the caller takes nothing of what is written.
    stalled: Option<Pin<Box<Sleep>>>,
    /// An answer of ours on its way out, in place of hyper's.
    out: Bytes,
    refused: bool,
    half_closed: bool,
    lingered: usize,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, rules: Arc<Rules>, phase: Arc<Phase>) -> Self {
        let until = Instant::now() + rules.idle_timeout;
        Self {
            stream,
            rules,
            phase,
            head: None,
            line: (0, false),
            armed: Some((0, false)),
            until,
            timer: Box::pin(tokio::time::sleep_until(until)),
            early: Bytes::new(),
            stalled: None,
            out: Bytes::new(),
            refused: false,
            half_closed: false,
            lingered: 0,
        }
    }

    /// Whether a request was answered before.
    pub(super) fn answered(&self) -> bool {
        self.turn() > 0
    }

    /// hyper was put away, with bytes that it had read.
    pub(super) fn rest(&mut self, early: &[u8]) {
        // A line's end behind a body begins no head.
        let begins = early.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        let early = begins.map_or(&[][..], |begins| &early[begins..]);
        // Copied: also where it is empty, what hyper gives would keep its buffer.
        self.early = Bytes::copy_from_slice(early);
    }

    /// Waits until there is something to read, which may be the end. False once
    /// the caller has used up its time.
    pub(super) async fn wait(&mut self) -> bool {
        poll_fn(|cx| {
            // Looked at: a new socket is said to be readable though nothing is there.
            let mut byte = [0];
            let mut byte = ReadBuf::new(&mut byte);
            if !self.early.is_empty() || self.stream.poll_peek(cx, &mut byte).is_ready() {
                return Poll::Ready(true);
            }
            ready!(self.timer.as_mut().poll(cx));
            (self.rules.on_timeout)();
            Poll::Ready(false)
        })
        .await
    }

    fn turn(&self) -> u64 {
        self.phase.turn.load(Ordering::Relaxed)
    }

    fn received(&mut self, bytes: &[u8]) {
        self.phase.quiet.store(false, Ordering::Relaxed);
        let turn = self.turn();
        if turn % 2 == 1 {
            return;
        }
        if self.head != Some(turn) {
            self.head = Some(turn);
            self.line = (0, false);
        }
        if !self.line.1 {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            self.line.0 += end.unwrap_or(bytes.len());
            self.line.1 = end.is_some();
        }
    }

    /// Nothing to read: has the caller used up its time?
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let turn = self.turn();
        if turn % 2 == 1 {
            // The handler has its own limits.
            return Poll::Pending;
        }
        let in_head = self.head == Some(turn);
        if self.armed != Some((turn, in_head)) {
            self.armed = Some((turn, in_head));
            let timeout = if in_head {
                self.rules.header_timeout
            } else {
                self.rules.idle_timeout
            };
            let now = Instant::now();
            self.until = now + timeout;
            let rest = if in_head { timeout } else { REST };
            self.timer.as_mut().reset(self.until.min(now + rest));
        }
        ready!(self.timer.as_mut().poll(cx));
        if self.timer.deadline() < self.until {
            self.phase.quiet.store(true, Ordering::Relaxed);
            self.timer.as_mut().reset(self.until);
            return self.timer.as_mut().poll(cx);
        }
        Poll::Ready(())
    }

    /// Writes, and gives up on a caller that takes nothing for too long: hyper
    /// does not read, and so sees no timeout, while it has something to write.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(result) => {
                self.stalled = None;
                self.phase.unsent.store(false, Ordering::Relaxed);
                Poll::Ready(result)
            }
            Poll::Pending => {
                self.phase.unsent.store(true, Ordering::Relaxed);
                let timeout = self.rules.idle_timeout;
                let stalled = self
                    .stalled
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
                ready!(stalled.as_mut().poll(cx));
                (self.rules.on_timeout)();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let out = self.out.clone();
            let written = ready!(self.poll_send(cx, &out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn reword(&self, cx: &mut Context<'_>, status: StatusCode) -> Option<Vec<u8>> {
        let refused = match status {
            // A head that is too large because of its first line has a URL that is too long.
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
                if self.line.0 > self.rules.max_uri + AROUND_URI =>
            {
                Refused::UriTooLong
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Refused::HeadersTooLarge,
            StatusCode::URI_TOO_LONG => Refused::UriTooLong,
            StatusCode::BAD_REQUEST => Refused::BadRequest,
            _ => return None,
        };
        render((self.rules.reword)(refused), cx)
    }

    /// Reads and drops what the caller still sends, so that closing does not
    /// reset the connection under the answer. Bounded in time and bytes.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 8192];
        while self.lingered < LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.lingered += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.timer.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let early = this
                .early
                .split_to(this.early.len().min(buffer.remaining()));
            buffer.put_slice(&early);
            this.received(&early);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                let received = &buffer.filled()[before..];
                if !received.is_empty() {
                    this.received(received);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(this.poll_timeout(cx));
                (this.rules.on_timeout)();
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        // What is stored may look like an error head of hyper's.
        if !this.phase.made.load(Ordering::Relaxed)
            && let Some((start, status)) = empty_error(bytes)
            && let Some(answer) = this.reword(cx, status)
        {
            let mut out = BytesMut::from(&bytes[..start]);
            out.extend_from_slice(&answer);
            this.out = out.freeze();
            this.refused = true;
            // Taken over whole; what the system does not take now, flush will send.
            return match this.poll_out(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Ready(Ok(bytes.len())),
            };
        }
        this.poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.phase.quiet.store(false, Ordering::Relaxed);
        ready!(this.poll_out(cx))?;
        if !this.half_closed {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.half_closed = true;
            this.timer.as_mut().reset(Instant::now() + LINGER);
        }
        if this.refused || this.phase.body.load(Ordering::Relaxed) {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }

    // Not vectored: answers are small, and an error head then always comes in
    // one piece with what precedes it.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

/// Finds an error head of hyper's at the end of what it writes: where it
/// begins and its status. Only hyper answers an error without a body; every
/// answer of a handler has one. Answers before it, to earlier requests of the
/// pipeline, may stand in the same write.
fn empty_error(bytes: &[u8]) -> Option<(usize, StatusCode)> {
    let heads = bytes.strip_suffix(b"\r\n\r\n")?;
    let start = heads
        .windows(VERSION.len())
        .rposition(|window| window == VERSION)?;
    let head = std::str::from_utf8(&heads[start..]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.get(9..12)?;
    let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
    let mut empty = false;
    for line in lines {
        // A blank line would mean that the head ended before, and this is its body.
        if line.is_empty() {
            return None;
        }
        empty = empty || line.eq_ignore_ascii_case("content-length: 0");
    }
    (empty && status.is_client_error()).then_some((start, status))
}

const VERSION: &[u8] = b"HTTP/1.";

/// An answer as bytes. None if its body isn't there yet, which does not happen.
fn render(response: Response<Full<Bytes>>, cx: &mut Context<'_>) -> Option<Vec<u8>> {
    let (head, mut body) = response.into_parts();
    let body = match Pin::new(&mut body).poll_frame(cx) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok()?,
        Poll::Ready(None) => Bytes::new(),
        Poll::Ready(Some(Err(_))) | Poll::Pending => return None,
    };
    let mut bytes = Vec::with_capacity(256 + body.len());
    bytes.extend_from_slice(b"HTTP/1.1 ");
    bytes.extend_from_slice(head.status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(
        head.status
            .canonical_reason()
            .unwrap_or_default()
            .as_bytes(),
    );
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let end = format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    bytes.extend_from_slice(end.as_bytes());
    bytes.extend_from_slice(&body);
    Some(bytes)
}

impl Refused {
    pub(super) fn with_limits(self, limits: &super::HttpLimits) -> Refusal {
        match self {
            Self::BadRequest => Refusal::BadRequest,
            Self::UriTooLong => Refusal::UriTooLong {
                limit: limits.max_uri,
            },
            Self::HeadersTooLarge => Refusal::HeadersTooLarge {
                bytes: limits.max_head,
                headers: limits.max_headers,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn only_an_empty_error_head_at_the_end_is_hypers() {
        let error = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        let found = empty_error(error.as_bytes()).unwrap();
        assert_eq!(found, (0, StatusCode::BAD_REQUEST));

        let before = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        let both = format!("{before}{error}");
        let found = empty_error(both.as_bytes()).unwrap();
        assert_eq!(found, (before.len(), StatusCode::BAD_REQUEST));

        for other in [
            "",
            "\r\n\r\n",
            before,
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\n\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\nHTTP\r\n\r\n",
        ] {
            assert!(empty_error(other.as_bytes()).is_none(), "{other:?}");
        }
    }
}
