#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod rest;

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;

/// A test fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// `/made` and `/broken` make their bodies while they are sent, the second breaks off; `/wait`
/// answers when a permit comes, `/panic` panics, `/big` has a body
/// that no socket buffer holds; everything else is echoed.
#[derive(Clone)]
struct Echo {
    gate: Arc<Semaphore>,
    /// One permit for every request at the gate.
    waiting: Arc<Semaphore>,
}

impl Handler for Echo {
    type Body = Outgoing;

    async fn handle(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Outgoing> {
        match request.uri().path() {
            "/made" => Response::new(Outgoing::made(Pieces::of(3, None))),
            "/broken" => Response::new(Outgoing::made(Pieces::of(3, Some(1)))),
            _ => self.echo(request, peer).await.map(Outgoing::from),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Full<Bytes>> {
        let mut response = refusal.response();
        response
            .headers_mut()
            .insert("x-refused", HeaderValue::from_static("yes"));
        response
    }
}

/// Pieces that look, with the line end of their chunk, like an error head of hyper's.
struct Pieces {
    left: usize,
    broken_at: Option<usize>,
}

const PIECE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n";

impl Pieces {
    fn of(left: usize, broken_at: Option<usize>) -> Self {
        Self { left, broken_at }
    }
}

impl Chunks for Pieces {
    fn next(mut self: Box<Self>) -> NextChunk {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if self.broken_at == Some(self.left) {
                return Err("broken".into());
            }
            if self.left == 0 {
                return Ok(None);
            }
            self.left -= 1;
            Ok(Some((
                Bytes::from_static(PIECE.as_bytes()),
                self as Box<dyn Chunks>,
            )))
        })
    }
}

impl Echo {
    async fn echo(&self, request: Request<Incoming>, _: SocketAddr) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/panic" => panic!("oh"),
            "/big" => return json(StatusCode::OK, vec![b' '; 64 << 20]),
            "/wait" => {
                self.waiting.add_permits(1);
                self.gate.acquire().await.unwrap().forget();
            }
            _ => {}
        }
        match read_body(request.into_body(), 1000, Duration::from_millis(200)).await {
            Ok(body) => {
                let body = String::from_utf8_lossy(&body);
                json(
                    StatusCode::OK,
                    format!("{{\"path\":\"{path}\",\"body\":\"{body}\"}}"),
                )
            }
            Err(error) => json(error.status(), error_body(error.code(), &error.to_string())),
        }
    }
}

struct TestServer {
    address: SocketAddr,
    echo: Echo,
    metrics: Metrics,
    shutdown: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

async fn server(limits: HttpLimits) -> TestServer {
    let metrics = Metrics::new("test").unwrap();
    let limits = HttpLimits {
        metrics: Some(HttpMetrics::register(&metrics).unwrap().server("echo")),
        ..limits
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = Echo {
        gate: Arc::new(Semaphore::new(0)),
        waiting: Arc::new(Semaphore::new(0)),
    };
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(serve(listener, limits, echo.clone(), shutdown.clone()));
    TestServer {
        address,
        echo,
        metrics,
        shutdown,
        served,
    }
}

impl TestServer {
    fn metric(&self, name: &str) -> i64 {
        let text = String::from_utf8(self.metrics.encode().unwrap()).unwrap();
        let name = format!("test_http_{name}{{server=\"echo\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&name))
            .unwrap()
            .parse()
            .unwrap()
    }

    async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.address).await.unwrap(),
            buffer: Vec::new(),
        }
    }

    /// Sends bytes on a new connection and returns the one answer to them.
    async fn once(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.answer().await.unwrap()
    }
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next answer; None when the connection was closed instead.
    async fn answer(&mut self) -> Option<Answer> {
        let answer = tokio::time::timeout(PATIENCE, self.read_answer()).await;
        answer.expect("the server neither answered nor closed")
    }

    async fn read_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
                let length: usize = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if self.buffer.len() >= end + 4 + length {
                    let body = self.buffer[end + 4..end + 4 + length].to_vec();
                    self.buffer.drain(..end + 4 + length);
                    return Some(Answer {
                        status: head[9..12].parse().unwrap(),
                        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                        head,
                    });
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn closed(&mut self) -> bool {
        self.answer().await.is_none()
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn short() -> HttpLimits {
    HttpLimits {
        header_timeout: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(300),
        ..HttpLimits::default()
    }
}

fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.body["status"], "error", "{answer:?}");
    assert_eq!(answer.body["error"], code, "{answer:?}");
    assert!(answer.body["message"].as_str().unwrap().len() > 5);
    assert!(answer.head.contains("content-type: application/json"));
}

#[tokio::test]
async fn connections_are_kept_alive() {
    let server = server(HttpLimits::default()).await;
    let mut client = server.connect().await;
    for path in ["/a", "/b"] {
        client.send(get(path)).await;
        assert_eq!(client.answer().await.unwrap().body["path"], path);
    }
    client
        .send("POST /c HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
        .await;
    assert_eq!(client.answer().await.unwrap().body["body"], "hi");
    assert_eq!(server.metric("connections_total"), 1);
    assert_eq!(server.metric("connections_open"), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = server(HttpLimits::default()).await;
    let mut client = server.connect().await;
    client.send(get("/a") + &get("/b") + &get("/c")).await;
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.answer().await.unwrap().body["path"], path);
    }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_what_is_pipelined_behind_it() {
    let server = server(HttpLimits::default()).await;
    let mut client = server.connect().await;
    client.send(get("/a") + &get("/wait") + "GET /ha").await;
    assert_eq!(client.answer().await.unwrap().body["path"], "/a");
    server.echo.gate.add_permits(1);
    assert_eq!(client.answer().await.unwrap().body["path"], "/wait");
    client.send("lf HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().body["path"], "/half");
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_closed() {
    let slow_heads = server(HttpLimits {
        idle_timeout: Duration::from_secs(75),
        ..short()
    })
    .await;
    let started = std::time::Instant::now();
    let mut slow = slow_heads.connect().await;
    slow.send("GET /a HTTP/1.1\r\nho").await;
    assert!(slow.closed().await);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(150), "{took:?}");

    let server = server(short()).await;
    let mut silent = server.connect().await;
    assert!(silent.closed().await);
    let mut idle = server.connect().await;
    idle.send(get("/a")).await;
    assert!(idle.answer().await.is_some());
    assert!(idle.closed().await);
    assert_eq!(server.metric("timed_out_total"), 2);
}

#[tokio::test]
async fn a_handler_may_take_longer_than_the_idle_timeout() {
    let server = server(short()).await;
    let mut client = server.connect().await;
    client.send(get("/wait")).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.echo.gate.add_permits(1);
    assert_eq!(client.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_cut_off() {
    let server = server(short()).await;
    let mut client = server.connect().await;
    client.send(get("/big")).await;
    while server.metric("timed_out_total") == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(client);
}

#[tokio::test]
async fn a_body_is_made_while_it_is_sent_and_breaks_off_where_it_cant_be() {
    let server = server(short()).await;
    for (path, whole) in [("/made", true), ("/broken", false)] {
        let mut client = server.connect().await;
        client.send(get(path)).await;
        client.stream.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        client.stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
        assert!(text.contains("transfer-encoding: chunked"), "{text}");
        assert_eq!(
            text.matches(PIECE).count(),
            if whole { 3 } else { 2 },
            "{text}"
        );
        assert_eq!(text.ends_with("\r\n0\r\n\r\n"), whole, "{text}");
    }
}

#[tokio::test]
async fn bodies_have_a_size_and_a_time() {
    let server = server(HttpLimits::default()).await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\n";
    // By its own account, before it is sent.
    let answer = server
        .once(format!("{head}content-length: 1001\r\n\r\n"))
        .await;
    assert_error(&answer, 413, "body_too_large");
    // While it comes in.
    let chunks = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let answer = server.once(format!("{chunks}{chunk}{chunk}")).await;
    assert_error(&answer, 413, "body_too_large");
    let answer = server
        .once(format!("{chunks}{chunk}5\r\nxxxxx\r\n0\r\n\r\n"))
        .await;
    assert_eq!(answer.body["body"].as_str().unwrap().len(), 517);
    // Never complete.
    let answer = server
        .once(format!("{head}content-length: 10\r\n\r\nabc"))
        .await;
    assert_error(&answer, 408, "request_timeout");
    // Not a body at all.
    let answer = server.once(format!("{chunks}what\r\n")).await;
    assert_error(&answer, 400, "bad_request");
}

#[tokio::test]
async fn a_refused_body_does_not_reset_the_connection_under_the_answer() {
    let server = server(HttpLimits::default()).await;
    let client = server.connect().await;
    let (mut read, mut write) = client.stream.into_split();
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000\r\n\r\n";
    let sending = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await?;
        write.write_all(&vec![b'x'; 4_000_000]).await
    });
    sending.await.unwrap().unwrap();
    let mut answer = String::new();
    read.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn heads_over_their_limits_are_refused_in_json() {
    let server = server(HttpLimits::default()).await;
    let fits = format!("/{}", "a".repeat(16 * 1024 - 1));
    assert_eq!(server.once(get(&fits)).await.status, 200);
    for length in [16 * 1024 + 1, 60_000, 65_530, 70_000, 1_000_000] {
        let answer = server
            .once(get(&format!("/{}", "a".repeat(length - 1))))
            .await;
        assert_error(&answer, 414, "uri_too_long");
        assert!(answer.head.contains("x-refused: yes"), "{length}");
    }
    for (name, headers) in [
        ("large", format!("x: {}\r\n", "a".repeat(66_000))),
        ("never ends", format!("x: {}", "a".repeat(200_000))),
        ("many", "x: 1\r\n".repeat(100)),
    ] {
        let answer = server
            .once(format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n"))
            .await;
        assert_error(&answer, 431, "headers_too_large");
        assert!(answer.head.contains("x-refused: yes"), "{name}");
    }
    let many = "x: 1\r\n".repeat(98);
    let answer = server
        .once(format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"))
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(server.metric("refused_total"), 8);
}

#[tokio::test]
async fn what_is_no_http_is_refused_in_json() {
    let server = server(HttpLimits::default()).await;
    for bytes in [
        "hello\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(bytes).await;
        let answer = client.answer().await.unwrap();
        assert_error(&answer, 400, "bad_request");
        assert!(answer.head.contains("connection: close"), "{bytes}");
        assert!(answer.head.contains("x-refused: yes"), "{bytes}");
        assert!(client.closed().await);
    }
}

#[tokio::test]
async fn a_bad_head_behind_good_ones_loses_no_answer() {
    let server = server(HttpLimits::default()).await;
    let mut client = server.connect().await;
    client
        .send(get("/a") + &get("/b") + "rubbish\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.unwrap().body["path"], "/a");
    assert_eq!(client.answer().await.unwrap().body["path"], "/b");
    assert_error(&client.answer().await.unwrap(), 400, "bad_request");
    assert!(client.closed().await);
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let server = server(HttpLimits::default()).await;
    let mut client = server.connect().await;
    client.send(get("/panic")).await;
    assert_error(&client.answer().await.unwrap(), 500, "internal_error");
    client.send(get("/a")).await;
    assert_eq!(client.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_caller_that_closes_its_side_is_still_answered() {
    let server = server(HttpLimits::default()).await;
    let mut client = server.connect().await;
    client.send(get("/wait")).await;
    client.stream.shutdown().await.unwrap();
    server.echo.waiting.acquire().await.unwrap().forget();
    server.echo.gate.add_permits(1);
    assert_eq!(client.answer().await.unwrap().status, 200);
    assert!(client.closed().await);
}

#[tokio::test]
async fn with_all_connections_taken_the_next_one_is_turned_away() {
    let server = server(HttpLimits {
        max_connections: 2,
        ..HttpLimits::default()
    })
    .await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    for client in [&mut first, &mut second] {
        client.send(get("/a")).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
    }
    let mut third = server.connect().await;
    third.send(get("/c")).await;
    let refused = third.answer().await.unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 1"), "{}", refused.head);
    assert!(third.closed().await);
    assert_eq!(server.metric("connections_open"), 2);
    assert_eq!(server.metric("connections_full_total"), 1);
    // One who says nothing holds the only place for those who are too many, for a while.
    let mut silent = server.connect().await;
    let mut fourth = server.connect().await;
    fourth.send(get("/d")).await;
    let early = tokio::time::timeout(Duration::from_millis(100), fourth.answer()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    assert!(silent.closed().await);
    assert_eq!(fourth.answer().await.unwrap().body["path"], "/d");
}

#[tokio::test]
async fn shutdown_answers_what_is_in_flight() {
    let server = server(HttpLimits::default()).await;
    let mut busy = server.connect().await;
    busy.send(get("/wait")).await;
    let mut idle = server.connect().await;
    idle.send(get("/a")).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    server.echo.waiting.acquire().await.unwrap().forget();
    server.shutdown.cancel();
    assert!(idle.closed().await, "an idle connection is closed at once");
    assert!(!server.served.is_finished(), "the drain waits");
    server.echo.gate.add_permits(1);
    let answer = busy.answer().await.unwrap();
    assert_eq!(answer.body["path"], "/wait");
    assert!(answer.head.contains("connection: close"));
    assert!(busy.closed().await);
    assert!(TcpStream::connect(server.address).await.is_err());
    let metrics = server.metrics.clone();
    server.served.await.unwrap().unwrap();
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    assert!(
        text.contains("http_connections_open{server=\"echo\"} 0\n"),
        "{text}"
    );
}

#[tokio::test]
async fn a_drain_that_is_cut_off_closes_its_connections() {
    let server = server(HttpLimits::default()).await;
    let mut busy = server.connect().await;
    busy.send(get("/wait")).await;
    server.echo.waiting.acquire().await.unwrap().forget();
    server.shutdown.cancel();
    server.served.abort();
    assert!(busy.closed().await);
}

#[test]
fn secrets_are_compared_whole() {
    assert!(same(b"abc", b"abc"));
    assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"", b"a"));
}

#[test]
fn error_bodies_have_their_fields_in_order() {
    let body = error_body("missing_clickid", "clickid \"parameter\" is required");
    assert_eq!(
        body,
        r#"{"status":"error","error":"missing_clickid","message":"clickid \"parameter\" is required"}"#
    );
}
