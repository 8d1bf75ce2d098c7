//! What a caller is told, and that it is true.

use crate::body::{self, converted, duplicate};
use postern_tests::stack::unique;
use postern_tests::{Kind, Stack, http, on_both, run};
use tokio::task::JoinSet;

on_both!(shared:
    standard_and_duplicate,
    one_conversion_of_many_at_once,
    unknown_and_missing,
    revenue_is_printed_exactly,
    currencies,
    bodies_and_aliases,
    warnings_come_last,
    headers_are_on_every_answer,
    always_200,
    accepted_mode,
);

async fn standard_and_duplicate(stack: &Stack) {
    let clickid = unique("std");
    stack.click(&clickid, 42).await;
    let first = stack
        .postback(&format!(
            "clickid={clickid}&revenue=1.20&currency=EUR&txid=t1"
        ))
        .await;
    converted(&first, &clickid, 42, "1.2", "EUR");
    let second = stack
        .postback(&format!("clickid={clickid}&revenue=7&currency=GBP&txid=t2"))
        .await;
    // Campaign, revenue and currency are those of the stored conversion.
    second.is(200, &duplicate(&clickid, 42, "1.2", "EUR"));
    assert_ne!(first.request_id(), second.request_id());
    // Another click leaves what is stored as it is.
    stack.click(&clickid, 43).await;
    let third = stack.postback(&format!("clickid={clickid}")).await;
    third.is(200, &duplicate(&clickid, 42, "1.2", "EUR"));
}

/// Of many postbacks at one time, through two ingress instances where there can be two, one is
/// the conversion.
async fn one_conversion_of_many_at_once(stack: &Stack) {
    let other = match stack.kind {
        Kind::Embedded => None,
        Kind::Real => Some(stack.variant(&[]).await),
    };
    for _ in 0..5 {
        let clickid = stack.new_click().await;
        let mut callers = JoinSet::new();
        for number in 0..24 {
            let host = match &other {
                Some(other) if number % 2 == 0 => other.ingress.http,
                _ => stack.ingress.http,
            };
            let target = format!("/v1/postback.php?clickid={clickid}&revenue={}", number + 1);
            callers.spawn(async move { http::get(host, &target).await });
        }
        let answers = callers.join_all().await;
        let standard: Vec<_> = answers
            .iter()
            .filter(|answer| answer.json()["note"].is_null())
            .collect();
        assert_eq!(standard.len(), 1, "{standard:?}");
        let revenue = standard[0].json()["revenue"].to_string();
        for answer in &answers {
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.json()["revenue"].to_string(), revenue, "{answer:?}");
        }
    }
}

async fn unknown_and_missing(stack: &Stack) {
    let clickid = unique("unknown");
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=1"))
        .await;
    answer.is(404, body::CLICK_NOT_FOUND);
    for query in [
        "",
        "revenue=1",
        "clickid=",
        "clickid=%20&revenue=1",
        "clickid[]=a",
    ] {
        let answer = stack.postback(query).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert_eq!(answer.json()["error"], "missing_clickid", "{query}");
    }
    stack
        .postback("revenue=1")
        .await
        .is(400, body::MISSING_CLICKID);
}

async fn revenue_is_printed_exactly(stack: &Stack) {
    for (sent, printed) in [
        ("1.20", "1.2"),
        ("0.30000000000000004", "0.3"),
        ("1e3", "1000"),
        ("", "0"),
        ("%2B.5", "0.5"),
        ("0.0000005", "0"),
        ("0.0000015", "0.000002"),
        ("9000000000000", "9000000000000"),
        ("8999999999999.999999", "8999999999999.999999"),
    ] {
        let clickid = stack.new_click().await;
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue={sent}"))
            .await;
        converted(&answer, &clickid, 18, printed, "USD");
        // From the store it comes back the same.
        let again = stack.postback(&format!("clickid={clickid}")).await;
        again.is(200, &duplicate(&clickid, 18, printed, "USD"));
    }
    for sent in ["1,20", "-1", "NaN", "0x10", "$5", "9000000000001", "1_000"] {
        let answer = stack
            .postback(&format!("clickid=never&revenue={sent}"))
            .await;
        let message = answer.is_error(400, "invalid_revenue");
        assert!(message.contains(sent), "{message}");
    }
}

async fn currencies(stack: &Stack) {
    for (query, printed) in [
        ("", "USD"),
        ("&currency=", "USD"),
        ("&currency=eurx", "EUR"),
        ("&currency=gbp", "GBP"),
    ] {
        let clickid = stack.new_click().await;
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue=2{query}"))
            .await;
        converted(&answer, &clickid, 18, "2", printed);
    }
}

async fn bodies_and_aliases(stack: &Stack) {
    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";
    let post = async |target: &str, kind: &str, body: &str| {
        stack.post(target, kind, body.as_bytes()).await
    };
    let id = stack.new_click().await;
    let answer = post("/v1/postback", FORM, &format!("click_id={id}&payout=1.25")).await;
    converted(&answer, &id, 18, "1.25", "USD");

    let id = stack.new_click().await;
    let body = format!(r#"{{"clickid":"{id}","cost":0.30,"currency":"eur","txid":7}}"#);
    let answer = post("/v1/postback.php", JSON, &body).await;
    converted(&answer, &id, 18, "0.3", "EUR");

    // The body's parameter wins over the query's, and the first filled name over later ones.
    let id = stack.new_click().await;
    let target = format!("/v1/postback.php?clickid={id}&revenue=9&payout=8");
    let answer = post(&target, FORM, "revenue=&cost=7&payout=3").await;
    converted(&answer, &id, 18, "3", "USD");

    // What a body is shows without a content type too.
    let id = stack.new_click().await;
    let answer = post("/v1/postback", "", &format!(r#"{{"clickid":"{id}"}}"#)).await;
    converted(&answer, &id, 18, "0", "USD");

    // A repeated parameter: the last one; blanks around a clickid are not part of it.
    let id = stack.new_click().await;
    let answer = stack
        .postback(&format!("clickid=x&clickid=+{id}%20&revenue=1&revenue=2"))
        .await;
    converted(&answer, &id, 18, "2", "USD");
}

async fn warnings_come_last(stack: &Stack) {
    let clickid = stack.new_click().await;
    let long = "s".repeat(1025);
    let answer = stack
        .postback(&format!(
            "clickid={clickid}&revenue=1&txid=%7Btxid%7D&subid1={long}"
        ))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    let warnings = json["warnings"].as_array().unwrap();
    let found: Vec<_> = warnings
        .iter()
        .map(|w| {
            (
                w["code"].as_str().unwrap(),
                w["parameter"].as_str().unwrap(),
            )
        })
        .collect();
    assert!(found.contains(&("unresolved_macro", "txid")), "{found:?}");
    assert!(found.contains(&("truncated", "subid1")), "{found:?}");
    assert!(answer.body.contains(r#"","warnings":[{"#) && answer.body.ends_with("}]}"));

    let id = unique("unknown");
    let answer = stack.postback(&format!("clickid={id}&subid0=[X]")).await;
    let start = body::CLICK_NOT_FOUND.trim_end_matches('}');
    assert_eq!(answer.status, 404);
    assert!(
        answer.body.starts_with(&format!(r#"{start},"warnings":["#)),
        "{answer:?}"
    );

    let message = stack
        .postback("clickid=%7Bclickid%7D")
        .await
        .is_error(400, "unresolved_macro");
    assert!(message.contains("clickid"), "{message}");
}

async fn headers_are_on_every_answer(stack: &Stack) {
    let clickid = stack.new_click().await;
    for target in [
        format!("/v1/postback.php?clickid={clickid}"),
        format!("/v1/postback?clickid={clickid}"),
        format!("/v1/postback?clickid={}", unique("unknown")),
        "/v1/postback".to_owned(),
        "/nowhere".to_owned(),
        "/v1/clicks".to_owned(),
    ] {
        body::has_common_headers(&stack.get(&target).await);
    }
    body::has_common_headers(&stack.post_clicks("{").await);
    let status = stack.status("x").await;
    assert_eq!(status.header("cache-control"), Some("no-store"));
}

async fn always_200(stack: &Stack) {
    let stack = stack.variant(&[("HTTP__ALWAYS_200", "true")]).await;
    let clickid = stack.new_click().await;
    let answer = stack.postback(&format!("clickid={clickid}")).await;
    converted(&answer, &clickid, 18, "0", "USD");
    let id = unique("unknown");
    let answer = stack.postback(&format!("clickid={id}")).await;
    answer.is(200, body::CLICK_NOT_FOUND);
    stack.postback("").await.is(200, body::MISSING_CLICKID);
    let answer = stack.post("/v1/postback", "application/json", b"{").await;
    answer.is_error(200, "malformed_json");
    // For callers of the postback API; the ad server gets the codes as they are.
    let answer = stack.get("/v1/clicks").await;
    answer.is_error(405, "method_not_allowed");
}

async fn accepted_mode(stack: &Stack) {
    let stack = stack.variant(&[("ANSWER__MODE", "accepted")]).await;
    let clickid = stack.new_click().await;
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=1.5"))
        .await;
    let request_id = answer.request_id();
    answer.is(
        202,
        &format!(
            r#"{{"status":"ok","note":"queued","message":"Postback is stored, its outcome follows: GET /v1/postback/status?request_id=","request_id":"{request_id}","clickid":"{clickid}"}}"#
        ),
    );
    let outcome = stack.outcome(&request_id).await;
    assert_eq!(outcome["outcome"], "converted", "{outcome}");
    assert_eq!(outcome["answer"]["revenue"].to_string(), "1.5");
    // What can't be understood is refused all the same.
    stack.postback("").await.is(400, body::MISSING_CLICKID);
}

/// With Kafka unreachable: no answer that claims success, no detail.
#[test]
fn internal_error_where_kafka_is_unreachable() {
    run::plain(async || crate::bad_input::without_kafka().await);
}
