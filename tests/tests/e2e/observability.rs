//! Metrics and logs, as an operator has them.

use postern_tests::stack::unique;
use postern_tests::{Kind, Postern, Stack, http, on_both, wait};
use serde_json::Value;
use std::collections::BTreeSet;

on_both!(shared: metrics, request_ids_in_the_log, admin_endpoints);

const INGRESS: &[&str] = &[
    "postern_http_requests_total",
    "postern_answer_seconds",
    "postern_publish_seconds",
    "postern_requests_in_flight",
    "postern_verdict_breaker_open",
    "postern_clicks_posted_total",
    "postern_http_connections_open",
    "postern_check_state",
];
const CONSUMER: &[&str] = &[
    "postern_postbacks_decided_total",
    "postern_clicks_stored_total",
    "postern_clicks_misplaced_total",
    "postern_consumer_lag_records",
    "postern_batch_records",
    "postern_batch_seconds",
    "postern_barriers_total",
    "postern_partitions_owned",
    "postern_refused_logged_total",
    "postern_check_state",
];
const REPORTS: &[&str] = &["postern_reports_requests_total", "postern_check_state"];

/// Families in the text format, each series of which belongs to one, with a number.
fn families(text: &str) -> BTreeSet<String> {
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned()), "twice: {line}");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(!value.is_nan(), "{line}");
            let name = series.split('{').next().unwrap();
            let known = ["", "_bucket", "_sum", "_count"].iter().any(|end| {
                name.strip_suffix(end)
                    .is_some_and(|name| families.contains(name))
            });
            assert!(known, "no TYPE before {line}");
        }
    }
    families
}

async fn metrics(stack: &Stack) {
    let clickid = stack.new_click().await;
    let series =
        r#"postern_http_requests_total{outcome="converted",route="postback",status="200"}"#;
    let before = stack.ingress.metric(series).await.unwrap_or(0.0);
    for query in [
        format!("clickid={clickid}"),
        "".into(),
        format!("clickid={}", unique("no")),
    ] {
        stack.postback(&query).await;
    }
    assert!(stack.ingress.metric(series).await.unwrap() >= before + 1.0);
    let processes: [(&Postern, &[&str]); 3] = [
        (&stack.ingress, INGRESS),
        (stack.consumer.as_ref().unwrap_or(&stack.ingress), CONSUMER),
        (stack.reports.as_ref().unwrap_or(&stack.ingress), REPORTS),
    ];
    stack.status("x").await;
    for (process, names) in processes {
        wait::until("lag is measured and a refusal logged", async || {
            let answer = http::get(process.admin, "/metrics").await;
            assert!(
                answer
                    .header("content-type")
                    .unwrap()
                    .starts_with("text/plain; version=0.0.4")
            );
            let families = families(&answer.body);
            names
                .iter()
                .all(|name| families.contains(*name))
                .then_some(())
        })
        .await;
    }
}

/// At debug every line about a request has its id, from every process that saw it.
async fn request_ids_in_the_log(stack: &Stack) {
    let clickid = stack.new_click().await;
    let mut ids = Vec::new();
    for query in [format!("clickid={clickid}"), "revenue=1".to_owned()] {
        ids.push(stack.postback(&query).await.request_id());
    }
    ids.push(stack.post_clicks("nonsense").await.request_id());
    let long = "x".repeat(200 * 1024);
    ids.push(
        stack
            .get(&format!("/v1/postback?a={long}"))
            .await
            .request_id(),
    );
    for id in ids {
        wait::until("the request is in the log", async || {
            let log = stack.ingress.log();
            let line = log.lines().find(|line| line.contains(&id))?;
            let json: Value = serde_json::from_str(line).ok()?;
            assert_eq!(json["level"], "DEBUG", "{line}");
            let found = [&json["request_id"], &json["span"]["request_id"]];
            assert!(found.contains(&&Value::from(id.clone())), "{line}");
            Some(())
        })
        .await;
    }
    // Nothing of the token is in the log.
    assert!(!stack.ingress.log().contains(postern_tests::stack::TOKEN));
}

async fn admin_endpoints(stack: &Stack) {
    let answer = http::get(stack.ingress.admin, "/healthz").await;
    answer.is(200, r#"{"status":"ok"}"#);
    let (status, readiness) = stack.ingress.readiness().await;
    assert_eq!((status, &readiness["ready"]), (200, &true.into()));
    let expected: &[&str] = match stack.kind {
        Kind::Embedded => &["kafka", "store", "consumer"],
        Kind::Real => &["kafka", "topics", "verdicts"],
    };
    for check in expected {
        assert_eq!(readiness["checks"][check]["ok"], true, "{readiness}");
    }
    http::get(stack.ingress.admin, "/x")
        .await
        .is_error(404, "not_found");
}
