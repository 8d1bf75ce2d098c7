//! Past a limit a request is turned down at once, and what was taken goes on.

use crate::body;
use postern_tests::http::{self, Connection};
use postern_tests::stack::unique;
use postern_tests::{Stack, on_both, wait};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

on_both!(alone &[("HTTP__MAX_CONNECTIONS", "4")]; a_connection_too_many);
on_both!(alone &[("HTTP__RATE_PER_ADDRESS", "5"), ("HTTP__ALWAYS_200", "true")]; an_address_over_its_rate);
on_both!(alone &[("HTTP__MAX_BODY", "64KiB"), ("HTTP__MAX_QUEUED_BYTES", "64KiB")]; bodies_have_room);
on_both!(alone &[("UNMATCHED__PER_ADDRESS", "3")]; who_makes_clicks_up_takes_nobodys_room);
on_both!(alone &[]; idle_connections_cost_little);

async fn get(connection: &mut Connection, target: &str) -> std::io::Result<http::Answer> {
    connection.request("GET", target, &[], None).await
}

async fn a_connection_too_many(stack: &mut Stack) {
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut connection = Connection::open(stack.ingress.http).await.unwrap();
        let answer = get(&mut connection, "/v1/postback").await.unwrap();
        assert_eq!(answer.status, 400);
        open.push(connection);
    }
    let mut fifth = Connection::open(stack.ingress.http).await.unwrap();
    let refused = get(&mut fifth, "/v1/postback?clickid=a").await.unwrap();
    refused.is(503, body::INTERNAL_ERROR);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("connection"), Some("close"));
    let answer = get(&mut open[0], "/v1/postback").await.unwrap();
    assert_eq!(answer.status, 400, "those who were there go on");
    open.pop();
    wait::until("there is a place again", async || {
        let mut next = Connection::open(stack.ingress.http).await.ok()?;
        let answer = get(&mut next, "/v1/postback").await.ok()?;
        (answer.status == 400).then_some(())
    })
    .await;
}

async fn an_address_over_its_rate(stack: &mut Stack) {
    let clickid = unique("rate");
    let mut refused = None;
    for _ in 0..200 {
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        if answer.status == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("200 postbacks within a second or two");
    refused.is_error(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    stack.becomes(&refused.request_id(), "refused").await;
    let limit = r#"postern_overload_refusals_total{limit="rate"}"#;
    assert!(stack.ingress.metric(limit).await > Some(0.0));
    // The ad server has a token, and no such limit.
    for _ in 0..20 {
        stack.new_click().await;
    }
}

async fn bodies_have_room(stack: &mut Stack) {
    let clickid = unique("room");
    // One who announces a body and takes his time.
    let mut slow = TcpStream::connect(stack.ingress.http).await.unwrap();
    let head = "POST /v1/postback HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\nclickid=";
    slow.write_all(head.as_bytes()).await.unwrap();
    wait::until("he is being read", async || {
        let in_flight = stack.ingress.metric("postern_requests_in_flight").await;
        (in_flight == Some(1.0)).then_some(())
    })
    .await;
    let large = format!("clickid={clickid}&subid0={}", "s".repeat(10_000));
    let form = "application/x-www-form-urlencoded";
    let refused = wait::until("there is no room", async || {
        let answer = stack.post("/v1/postback", form, large.as_bytes()).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    let small = stack.postback(&format!("clickid={clickid}")).await;
    assert_ne!(small.status, 503, "no body takes no room");
    drop(slow);
    wait::until("there is room again", async || {
        let answer = stack.post("/v1/postback", form, large.as_bytes()).await;
        (answer.status != 503).then_some(())
    })
    .await;
}

async fn who_makes_clicks_up_takes_nobodys_room(stack: &mut Stack) {
    let mut told = Vec::new();
    for _ in 0..5 {
        let clickid = unique("made-up");
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        // Where the verdict is late, nobody was told anything yet.
        assert_eq!(answer.status, 404, "{answer:?}");
        told.push((clickid, answer.request_id()));
    }
    for (clickid, _) in &told {
        stack.click(clickid, 18).await;
    }
    for (_, request_id) in &told[..3] {
        stack.becomes(request_id, "converted").await;
    }
    for (_, request_id) in &told[3..] {
        let status = stack.status(request_id).await.json();
        assert_eq!(status["outcome"], "click_not_found", "{status}");
    }
    let (clickid, _) = &told[4];
    let target = format!("/v1/postback?clickid={clickid}");
    let answer = http::get(stack.ingress.http, &target).await;
    assert_eq!(
        answer.status, 200,
        "now that its click is known: {answer:?}"
    );
}

/// Once it was answered and is quiet, a connection costs less than half of what hyper's buffers
/// alone would take: those who come later use the buffers of those who wait.
async fn idle_connections_cost_little(stack: &mut Stack) {
    const RESIDENT: &str = "process_resident_memory_bytes";
    const TARGET: &str = "/v1/postback/check?clickid=idle";
    const EACH: usize = 50;
    let mut open = Vec::new();
    let mut before = 0.0;
    for lot in 0..20 {
        // What the first ones bring about isn't counted.
        if lot == 4 {
            before = stack.ingress.metric(RESIDENT).await.unwrap();
        }
        for _ in 0..EACH {
            let mut connection = Connection::open(stack.ingress.http).await.unwrap();
            let answer = get(&mut connection, TARGET).await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            open.push(connection);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let after = stack.ingress.metric(RESIDENT).await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let each = (after - before) / (16 * EACH) as f64 / 1024.0;
    assert!(each < 8.0, "{each:.1} KiB for each connection");
    for connection in &mut open {
        let answer = get(connection, TARGET).await.unwrap();
        assert_eq!(answer.status, 200, "it goes on");
    }
}
