//! `GET /v1/postback/status`.

use crate::body;
use postern_tests::{Answer, Stack, http, on_both};
use std::time::SystemTime;

on_both!(shared: a_final_answer, a_refusal, unknown_and_malformed_ids);

async fn a_final_answer(stack: &Stack) {
    let clickid = stack.new_click().await;
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=1.20&subid0=%5BX%5D"))
        .await;
    assert_eq!(answer.status, 200);
    let id = answer.request_id();
    let status = stack.status(&id).await;
    // The answer is repeated to the letter, warnings included.
    assert_eq!(status.status, 200);
    let received_at = status.json()["received_at"].to_string();
    status.is(
        200,
        &format!(
            r#"{{"status":"ok","request_id":"{id}","received_at":{received_at},"outcome":"converted","answer":{}}}"#,
            answer.body
        ),
    );
    assert!(body::is_time(received_at.trim_matches('"')));

    let second = stack.postback(&format!("clickid={clickid}")).await;
    let status = stack.status(&second.request_id()).await.json();
    assert_eq!(status["outcome"], "duplicate");
    assert_eq!(status["answer"], second.json());
    // The first one's stays.
    let first = stack.status(&id).await.json();
    assert_eq!(first["outcome"], "converted");
}

async fn a_refusal(stack: &Stack) {
    for answer in refusals(stack).await {
        let status = stack.becomes(&answer.request_id(), "refused").await;
        // All but the hint, which is for the caller alone.
        let mut told = answer.json();
        told.as_object_mut().unwrap().remove("hint");
        assert_eq!(status["answer"], told);
    }
}

async fn refusals(stack: &Stack) -> Vec<Answer> {
    let long = "x".repeat(17 * 1024);
    let big = vec![b'x'; 1024 * 1024 + 1];
    vec![
        stack.postback("").await,
        stack.postback("clickid=a&revenue=1,5").await,
        stack.postback(&format!("clickid={long}")).await,
        stack.post("/v1/postback", "", &big).await,
        stack.post("/v1/postback", "application/json", b"[]").await,
        http::request(
            stack.ingress.http,
            "DELETE",
            "/v1/postback?clickid=a",
            &[],
            None,
        )
        .await,
    ]
}

async fn unknown_and_malformed_ids(stack: &Stack) {
    // Minted an hour ago, and two years ago.
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let millis = format!("{:012x}", now - 3_600_000);
    let hour = format!("{}-{}-7abc-8def-0123456789ab", &millis[..8], &millis[8..]);
    for id in [hour.as_str(), "018cc251-f400-7000-8000-000000000000"] {
        stack.status(id).await.is_error(404, "request_not_found");
    }
    // Minted just now it could still be on its way.
    let millis = format!("{now:012x}");
    let fresh = format!("{}-{}-7abc-8def-0123456789ab", &millis[..8], &millis[8..]);
    let answer = stack.status(&fresh).await;
    answer.is(
        200,
        &format!(r#"{{"status":"ok","request_id":"{fresh}","outcome":"pending"}}"#),
    );
    for id in ["", "abc", "018cc251-f400-7000-8000-00000000000", "%00"] {
        let answer = stack.status(id).await;
        assert_eq!(answer.status, 400, "{id}: {answer:?}");
    }
    let answer = http::get(stack.reports_address(), "/v1/postback/status").await;
    answer.is_error(400, "missing_request_id");
    let answer = http::request(
        stack.reports_address(),
        "POST",
        "/v1/postback/status",
        &[],
        Some(b""),
    )
    .await;
    answer.is_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET"));
}
