//! The log of postbacks: what to look at when somebody says "I sent it".

use postern_tests::stack::{unique, unique_campaign};
use postern_tests::{Answer, Stack, http, on_both, wait};
use serde_json::Value;

on_both!(shared:
    every_outcome_is_found,
    refused_ones_are_found_by_what_was_sent,
    a_late_click_tells_the_campaign,
    what_is_internal_is_shown_nowhere,
);

/// A GET of the reports with a token.
async fn read(stack: &Stack, token: &str, target: &str) -> Answer {
    let token = format!("Bearer {token}");
    let headers = [("authorization", token.as_str())];
    http::request(stack.reports_address(), "GET", target, &headers, None).await
}

/// The rows that a filter finds.
async fn log(stack: &Stack, token: &str, filter: &str) -> Vec<Value> {
    let answer = read(stack, token, &format!("/v1/postbacks?{filter}")).await;
    assert_eq!(answer.status, 200, "{filter}: {answer:?}");
    answer.json()["postbacks"].as_array().unwrap().clone()
}

/// The row of a postback; refused ones come into the log a moment later.
async fn row(stack: &Stack, token: &str, sent: &Answer) -> Value {
    let filter = format!("history=1&request_id={}", sent.request_id());
    wait::until(&format!("{filter} is in the log"), async || {
        log(stack, token, &filter).await.pop()
    })
    .await
}

async fn every_outcome_is_found(stack: &Stack) {
    let admin = stack.admin_token();
    let id = unique_campaign();
    stack.import(&format!(
        r#"{{"campaign_id":{id},"statuses":true,"attribution_window":3600,"networks":["192.0.2.0/24"],"network_check":"observe"}}"#
    ));
    let clickid = unique("log");
    stack.click(&clickid, id).await;
    let old = unique("log-old");
    let posted = stack
        .post_clicks(&format!(
            r#"{{"clickid":"{old}","campaign_id":{id},"clicked_at":"2025-01-01T00:00:00Z"}}"#
        ))
        .await;
    assert_eq!(posted.status, 200, "{posted:?}");
    let unknown = unique("log-unknown");
    let say = async |rest: &str| stack.postback(rest).await;
    let tail = "&txid=%7Btxid%7D&subid0=a%2Cb";
    let cases = [
        (
            "converted",
            say(&format!("clickid={clickid}&revenue=2.5&currency=eur{tail}")).await,
        ),
        (
            "duplicate",
            say(&format!("clickid={clickid}&revenue=9")).await,
        ),
        (
            "updated",
            say(&format!("clickid={clickid}&status=reversed")).await,
        ),
        (
            "click_expired",
            say(&format!("clickid={old}&revenue=1")).await,
        ),
        (
            "click_not_found",
            say(&format!("clickid={unknown}&revenue=1")).await,
        ),
    ];
    let first = cases[0].1.request_id();
    for (outcome, sent) in &cases {
        let row = row(stack, &admin, sent).await;
        assert_eq!(row["outcome"], *outcome, "{row}");
        assert_eq!(row["request_id"], sent.request_id().as_str());
        assert_eq!(
            (&row["method"], &row["address"]),
            (&"GET".into(), &"127.0.0.1".into())
        );
        assert!(
            row["raw_query"]
                .as_str()
                .unwrap()
                .starts_with("clickid=log-"),
            "{row}"
        );
        let known = *outcome != "click_not_found";
        assert_eq!(
            row["campaign_id"],
            if known { id.into() } else { Value::Null }
        );
        // All three are about one conversion.
        if ["converted", "duplicate", "updated"].contains(outcome) {
            assert_eq!(row["conversion_id"], first.as_str(), "{row}");
            assert_eq!(row["observed"], serde_json::json!(["address"]), "{row}");
        }
        // Each filter finds it, and nothing that doesn't fit.
        for filter in [
            format!(
                "outcome={outcome}&clickid={}",
                row["clickid"].as_str().unwrap()
            ),
            format!("raw_query={}", row["clickid"].as_str().unwrap()),
            format!(
                "from=2026-01-01&address=127.0.0.1&request_id={}",
                sent.request_id()
            ),
        ] {
            let found = log(stack, &admin, &filter).await;
            let ids: Vec<&Value> = found.iter().map(|row| &row["request_id"]).collect();
            assert!(ids.contains(&&row["request_id"]), "{filter}: {ids:?}");
            let fits = found.iter().all(|one| one["clickid"] == row["clickid"]);
            assert!(fits, "{filter}: {found:?}");
        }
        for filter in [
            "outcome=refused",
            "address=192.0.2.77",
            "to=2026-01-01",
            "raw_query=zzz",
        ] {
            let filter = format!("{filter}&request_id={}", sent.request_id());
            assert!(log(stack, &admin, &filter).await.is_empty(), "{filter}");
        }
    }
    let converted = row(stack, &admin, &cases[0].1).await;
    assert_eq!(converted["revenue"], 2.5);
    assert_eq!(converted["currency"], "EUR");
    assert_eq!(converted["warnings"][0]["code"], "unresolved_macro");
    assert_eq!(converted["history"], serde_json::json!([]));
    let warned = format!("warning=unresolved_macro&clickid={clickid}");
    assert_eq!(log(stack, &admin, &warned).await.len(), 1);
    let none = format!("warning=truncated&clickid={clickid}");
    assert!(log(stack, &admin, &none).await.is_empty());
    // The campaign's own, the newest first, in pages.
    let own = stack.said(&["token", "create", "--campaign", &id.to_string()]);
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let target = format!("/v1/postbacks?limit=1{cursor}");
        let page = read(stack, own.trim(), &target).await.json();
        seen.extend(page["postbacks"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let outcomes: Vec<&str> = seen
        .iter()
        .map(|row| row["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(
        outcomes,
        ["click_expired", "updated", "duplicate", "converted"]
    );
    let lines = read(stack, own.trim(), "/v1/postbacks?format=ndjson")
        .await
        .body;
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, seen);
    let csv = read(stack, own.trim(), "/v1/postbacks?format=csv").await;
    assert_eq!(
        csv.header("content-type"),
        Some("text/csv; charset=utf-8; header=present")
    );
    assert_eq!(csv.body.lines().count(), 5, "{csv:?}");
}

async fn refused_ones_are_found_by_what_was_sent(stack: &Stack) {
    let admin = stack.admin_token();
    let mark = unique("refused");
    let id = unique_campaign();
    stack.import(&format!(
        r#"{{"campaign_id":{id},"networks":["192.0.2.0/24"]}}"#
    ));
    let clickid = unique("log-forbidden");
    stack.click(&clickid, id).await;
    let forbidden = stack
        .postback(&format!("clickid={clickid}&subid1={mark}"))
        .await;
    forbidden.is_error(403, "forbidden");
    let forbidden = row(stack, &admin, &forbidden).await;
    assert_eq!(
        (&forbidden["outcome"], &forbidden["reason"]),
        (&"forbidden".into(), &"address".into())
    );
    assert_eq!(forbidden["campaign_id"], id);

    for (query, code) in [
        ("revenue=1", "missing_clickid"),
        ("clickid=a%01b", "invalid_clickid"),
        ("clickid=a&revenue=1%2C5", "invalid_revenue"),
        ("clickid=%7Bclickid%7D", "unresolved_macro"),
    ] {
        let sent = stack.postback(&format!("{query}&subid1={mark}")).await;
        let message = sent.is_error(400, code);
        let row = row(stack, &admin, &sent).await;
        assert_eq!(
            (&row["outcome"], &row["reason"]),
            (&"refused".into(), &code.into()),
            "{row}"
        );
        assert_eq!(row["message"], message.as_str());
        assert_eq!(row["raw_query"], format!("{query}&subid1={mark}").as_str());
        let found = log(stack, &admin, &format!("reason={code}&raw_query={mark}")).await;
        assert_eq!(found, [without_history(row)]);
    }
    let posted = stack
        .post("/v1/postback", "application/json", b"{\"clickid\":")
        .await;
    posted.is_error(400, "malformed_json");
    let posted = row(stack, &admin, &posted).await;
    assert_eq!(
        (&posted["method"], &posted["raw_body"]),
        (&"POST".into(), &"{\"clickid\":".into())
    );
    let headers = [("user-agent", "tracker/1.0"), ("x-odd", "1")];
    let target = format!("/v1/postback.php?clickid=a&subid1={}", unique("method"));
    let other = http::request(stack.ingress.http, "PUT", &target, &headers, None).await;
    let message = other.is_error(405, "method_not_allowed");
    let other = row(stack, &admin, &other).await;
    assert_eq!(
        (&other["method"], &other["user_agent"]),
        (&"PUT".into(), &"tracker/1.0".into())
    );
    assert_eq!(
        (&other["reason"], &other["message"]),
        (&"method_not_allowed".into(), &message.into())
    );
    let odd = read(stack, &admin, "/v1/postbacks?outcome=lost").await;
    odd.is_error(400, "invalid_parameters");
    // They belong to nobody's campaign.
    let own = stack.said(&["token", "create", "--campaign", &id.to_string()]);
    let seen = log(stack, own.trim(), &format!("raw_query={mark}")).await;
    assert_eq!(seen, [without_history(forbidden)]);
    assert_eq!(
        log(stack, &admin, &format!("raw_query={mark}")).await.len(),
        5
    );
}

fn without_history(mut row: Value) -> Value {
    row.as_object_mut().unwrap().remove("history");
    row
}

async fn a_late_click_tells_the_campaign(stack: &Stack) {
    let admin = stack.admin_token();
    let id = unique_campaign();
    let own = stack.said(&["token", "create", "--campaign", &id.to_string()]);
    let clickid = unique("log-late");
    let sent = stack
        .postback(&format!("clickid={clickid}&revenue=3"))
        .await;
    sent.is_error(404, "click_not_found");
    let filter = format!("clickid={clickid}&history=1");
    assert!(log(stack, own.trim(), &filter).await.is_empty());
    stack.click(&clickid, id).await;
    stack.becomes(&sent.request_id(), "converted").await;
    for (token, filter) in [(own.trim(), "history=1"), (&admin, &filter)] {
        let rows = log(stack, token, filter).await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(
            (&rows[0]["outcome"], &rows[0]["campaign_id"]),
            (&"converted".into(), &id.into())
        );
        let step = &rows[0]["history"][0];
        assert_eq!(
            (&step["outcome"], &step["cause"]),
            (&"converted".into(), &"late_click".into())
        );
        assert_eq!(step["conversion_id"], sent.request_id().as_str());
    }
}

async fn what_is_internal_is_shown_nowhere(stack: &Stack) {
    let admin = stack.admin_token();
    let (publisher, traffic) = (unique("publisher"), unique("trafficlog"));
    let (clickid, agent) = (unique("internal"), unique("useragent"));
    let posted = stack
        .post_clicks(&format!(
            r#"{{"clickid":"{clickid}","campaign_id":18,"publisher_id":"{publisher}","traffic_log_id":"{traffic}"}}"#
        ))
        .await;
    assert_eq!(posted.status, 200, "{posted:?}");
    let target = format!("/v1/postback.php?clickid={clickid}&revenue=1&unknown={agent}");
    let headers = [("user-agent", agent.as_str())];
    let sent = http::request(stack.ingress.http, "GET", &target, &headers, None).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let mut answers = vec![sent.clone(), stack.status(&sent.request_id()).await];
    answers.push(stack.campaign(&admin, 18, None).await);
    for format in ["json", "ndjson", "csv"] {
        let by = format!("format={format}&history=1&clickid={clickid}");
        let conversions = read(stack, &admin, &format!("/v1/conversions?{by}")).await;
        // Of a conversion neither query nor caller.
        assert!(conversions.body.contains(&clickid), "{conversions:?}");
        assert!(!conversions.body.contains(&agent), "{conversions:?}");
        assert!(!conversions.body.contains("127.0.0.1"), "{conversions:?}");
        answers.push(conversions);
        let log = read(stack, &admin, &format!("/v1/postbacks?{by}")).await;
        assert!(log.body.contains(&agent), "{log:?}");
        answers.push(log);
        let stats =
            format!("/v1/stats?format={format}&group_by=site,source,subid0&clickid={clickid}");
        answers.push(read(stack, &admin, &stats).await);
    }
    for answer in answers {
        for word in [&publisher, &traffic, "publisher_id", "traffic_log_id"] {
            assert!(!answer.body.contains(word), "{word} in {answer:?}");
        }
    }
}
