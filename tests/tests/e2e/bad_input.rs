//! Requests that can't be served, each told what is wrong with it.

use crate::body;
use postern_tests::http::{self, Connection};
use postern_tests::process::settings;
use postern_tests::{Postern, Stack, on_both};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

on_both!(shared: paths_and_methods, too_large, malformed, slow_callers);

async fn paths_and_methods(stack: &Stack) {
    for path in [
        "/",
        "/v1/postback.phpx",
        "/v1/postbac",
        "/V1/postback",
        "/v1/postback/",
    ] {
        stack.get(path).await.is_error(404, "not_found");
    }
    for method in ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"] {
        let mut connection = Connection::open(stack.ingress.http).await.unwrap();
        let target = "/v1/postback.php?clickid=a";
        if method == "HEAD" {
            // Its answer has no body, whatever its length says.
            let head = format!("HEAD {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            connection.send(head.as_bytes()).await.unwrap();
            continue;
        }
        let answer = connection.request(method, target, &[], None).await.unwrap();
        let message = answer.is_error(405, "method_not_allowed");
        assert!(message.contains(method), "{message}");
        assert_eq!(answer.header("allow"), Some("GET, POST"));
        body::has_common_headers(&answer);
    }
    let answer = stack.get("/v1/clicks").await;
    answer.is_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
}

async fn too_large(stack: &Stack) {
    let clickid = stack.new_click().await;
    let target = |length: usize| {
        let start = format!("/v1/postback?clickid={clickid}&subid0=");
        let fill = "x".repeat(length - start.len());
        start + &fill
    };
    let answer = stack.get(&target(16 * 1024)).await;
    assert_eq!(answer.status, 200, "16 KiB are allowed: {answer:?}");
    for length in [16 * 1024 + 1, 30 * 1024, 62 * 1024, 200 * 1024] {
        let answer = stack.get(&target(length)).await;
        answer.is_error(414, "uri_too_long");
        body::has_common_headers(&answer);
    }

    const LIMIT: usize = 1024 * 1024;
    let clickid = stack.new_click().await;
    let mut form = format!("clickid={clickid}&other=").into_bytes();
    form.resize(LIMIT, b'x');
    let answer = stack.post("/v1/postback", "", &form).await;
    assert_eq!(answer.status, 200, "1 MiB is allowed: {answer:?}");
    form.push(b'x');
    let answer = stack.post("/v1/postback", "", &form).await;
    answer.is_error(413, "body_too_large");
    body::has_common_headers(&answer);
    // One that doesn't say its length beforehand.
    let mut chunked =
        b"POST /v1/postback HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..17 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.extend_from_slice(&[b'x'; 0x10000]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let mut connection = Connection::open(stack.ingress.http).await.unwrap();
    let _ = connection.send(&chunked).await;
    connection
        .answer()
        .await
        .unwrap()
        .is_error(413, "body_too_large");

    let value = "x".repeat(70 * 1024);
    for headers in [vec![("x-a", value.as_str())], vec![("x-b", "1"); 150]] {
        let target = "/v1/postback?clickid=a";
        let answer = http::request(stack.ingress.http, "GET", target, &headers, None).await;
        answer.is_error(431, "headers_too_large");
        body::has_common_headers(&answer);
    }
}

async fn malformed(stack: &Stack) {
    let post = async |body: &str| {
        let answer = stack
            .post(
                "/v1/postback",
                "application/json; charset=utf-8",
                body.as_bytes(),
            )
            .await;
        answer.is_error(400, "malformed_json")
    };
    for (body, position) in [
        ("{\"clickid\":\"a\",\n \"revenue\": }", "line 2 column 13"),
        ("{", "line 1 column 1"),
        ("[1]", "line 1 column"),
        ("{\"clickid\":\"\\ud800\"}", "line 1 column 12"),
    ] {
        let message = post(body).await;
        assert!(message.contains(position), "{body}: {message}");
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = http::raw(stack.ingress.http, bytes).await;
        answer.is_error(400, "bad_request");
        body::has_common_headers(&answer);
    }
    for (query, code) in [
        ("clickid=a%00b", "invalid_clickid"),
        ("clickid=%ff", "invalid_clickid"),
        (&*format!("clickid={}", "c".repeat(256)), "invalid_clickid"),
        ("clickid=$%7BX%7D", "unresolved_macro"),
        ("clickid=a&payout=%23%23SUM%23%23", "unresolved_macro"),
        (
            &*format!("clickid=a{}", "&a".repeat(4200)),
            "too_many_parameters",
        ),
    ] {
        let answer = stack.postback(query).await;
        answer.is_error(400, code);
        body::has_common_headers(&answer);
    }
    // The connection outlives refusals, and pipelined requests are answered in their order.
    let mut connection = Connection::open(stack.ingress.http).await.unwrap();
    let bad = "GET /v1/postback HTTP/1.1\r\nhost: a\r\n\r\n";
    let lost = "GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n";
    connection
        .send(format!("{bad}{lost}{bad}").as_bytes())
        .await
        .unwrap();
    for status in [400, 404, 400] {
        assert_eq!(connection.answer().await.unwrap().status, status);
    }
}

async fn slow_callers(stack: &Stack) {
    let stack = stack
        .variant(&[
            ("HTTP__HEADER_TIMEOUT", "300ms"),
            ("HTTP__BODY_TIMEOUT", "300ms"),
            ("HTTP__IDLE_TIMEOUT", "600ms"),
        ])
        .await;
    let host = stack.ingress.http;
    let start = Instant::now();
    // Nothing, half a head, half a head on a connection that was good before.
    let mut silent = Connection::open(host).await.unwrap();
    let mut half = Connection::open(host).await.unwrap();
    half.send(b"GET /v1/postback?clickid=a HTTP/1.1\r\nho")
        .await
        .unwrap();
    let mut used = Connection::open(host).await.unwrap();
    used.request("GET", "/v1/postback", &[], None)
        .await
        .unwrap();
    used.send(b"GET /v1").await.unwrap();
    for (name, connection) in [
        ("silent", &mut silent),
        ("half", &mut half),
        ("used", &mut used),
    ] {
        assert!(connection.is_closed().await, "{name}");
    }
    // Half a body is answered.
    let mut body = Connection::open(host).await.unwrap();
    body.send(b"POST /v1/postback HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nclickid=")
        .await
        .unwrap();
    body.answer()
        .await
        .unwrap()
        .is_error(408, "request_timeout");
    assert!(start.elapsed() < Duration::from_secs(10));
    // Others are served meanwhile and afterwards.
    let clickid = stack.new_click().await;
    assert_eq!(
        stack.postback(&format!("clickid={clickid}")).await.status,
        200
    );
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// An ingress without Kafka stays up, says so, and claims nothing.
pub async fn without_kafka() {
    let kafka = nobody().await;
    let mut ingress = Postern::start(
        "ingress",
        &settings(&[
            ("KAFKA__BROKERS", &kafka.to_string()),
            ("ANSWER__TIMEOUT", "300ms"),
            ("SPOOL__MAX_BYTES", "0"),
        ]),
    )
    .await;
    for _ in 0..3 {
        let target = "/v1/postback.php?clickid=a&revenue=1";
        let answer = http::get(ingress.http, target).await;
        answer.is(503, body::INTERNAL_ERROR);
        body::has_common_headers(&answer);
    }
    // What needs no Kafka is answered as ever.
    let answer = http::get(ingress.http, "/v1/postback.php").await;
    answer.is(400, body::MISSING_CLICKID);
    let (status, readiness) = ingress.readiness().await;
    assert_eq!(status, 503);
    assert_eq!(readiness["checks"]["kafka"]["ok"], false, "{readiness}");
    assert_eq!(http::get(ingress.admin, "/healthz").await.status, 200);
    assert!(ingress.runs());
    assert!(ingress.stop().await.success());
}
