//! `/v1/postback/check`, `postern parse`, and the hints of refusals: what is told, and that nothing
//! comes of looking.

use crate::{bad_input, body};
use postern_tests::process::{self, settings};
use postern_tests::stack::unique;
use postern_tests::{Answer, Postern, Stack, http, on_both, run, wait};
use std::process::Output;

on_both!(shared:
    tells_what_is_understood,
    refuses_as_the_postback_does,
    nothing_is_stored,
    hints_in_real_refusals,
    parse_says_what_check_says,
);

const CID: &str = r#"{"status":"error","error":"missing_clickid","message":"clickid parameter is required","hint":"you sent \"cid\"; did you mean \"clickid\"?"}"#;

async fn check(stack: &Stack, query: &str) -> Answer {
    let answer = stack.get(&format!("/v1/postback/check?{query}")).await;
    body::has_common_headers(&answer);
    answer
}

async fn tells_what_is_understood(stack: &Stack) {
    let (full, plain) = (
        r#"{"status":"ok","clickid":"a","revenue":8999999999999.123456,"currency":"EUR","currency_sent":true,"external_id":"T 1","event":"lead","conversion_status":{"word":"SALE","status":"approved"},"subid0":null,"subid1":"x&y","subid2":null,"subid3":null,"subid4":"","signed":true,"ignored":["foo"]}"#,
        r#"{"status":"ok","clickid":"a","revenue":0,"currency":"USD","currency_sent":false,"external_id":null,"event":null,"conversion_status":null,"subid0":null,"subid1":null,"subid2":null,"subid3":null,"subid4":null,"signed":false,"ignored":[]}"#,
    );
    let query = "clickid=a&payout=8999999999999.123456&currency=euro&txid=T+1&goal=lead&type=SALE\
                 &subid1=x%26y&subid4=&sig=0&foo=1";
    check(stack, query).await.is(200, full);
    check(stack, "click_id=a").await.is(200, plain);
    // In a body as in a query; the body wins.
    let target = "/v1/postback/check?clickid=b";
    let form = stack.post(target, "", b"clickid=a").await;
    form.is(200, plain);
    let json = br#"{"clickid":"a","revenue":0.0}"#;
    let answer = stack.post(target, "application/json", json).await;
    answer.is(200, plain);

    let odd = check(stack, "clickid=a&txid={tx}&amount=5&event={e}").await;
    let json = odd.json();
    assert_eq!((odd.status, &json["external_id"]), (200, &().into()));
    assert_eq!(json["warnings"][0]["code"], "unresolved_macro");
    assert_eq!(json["ignored"], serde_json::json!(["amount"]));
    let hints = json["hints"].as_array().unwrap();
    assert_eq!(hints.len(), 3, "{json}");
    assert_eq!(hints[0], "you sent \"amount\"; did you mean \"revenue\"?");
}

/// Status and body are the postback's, whatever `http.always_200` makes of that one.
async fn refuses_as_the_postback_does(stack: &Stack) {
    check(stack, "").await.is(400, body::MISSING_CLICKID);
    check(stack, "cid=a").await.is(400, CID);
    for query in [
        "clickid=a&revenue=1,5",
        "clickid=a%00",
        "clickid=$%7BX%7D",
        &*format!("clickid=a{}", "&a".repeat(4200)),
    ] {
        let postback = stack.postback(query).await;
        assert_eq!(postback.status, 400, "{query}: {postback:?}");
        check(stack, query).await.is(400, &postback.body);
    }
    let long = format!("clickid=a&subid0={}", "x".repeat(17 * 1024));
    check(stack, &long).await.is_error(414, "uri_too_long");
    let target = "/v1/postback/check";
    let big = vec![b'x'; 1024 * 1024 + 1];
    let answer = stack.post(target, "", &big).await;
    answer.is_error(413, "body_too_large");
    let answer = stack.post(target, "application/json", b"[]").await;
    answer.is_error(400, "malformed_json");
    let answer = http::request(stack.ingress.http, "PUT", target, &[], None).await;
    answer.is_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, POST"));

    let soft = stack.variant(&[("HTTP__ALWAYS_200", "true")]).await;
    check(&soft, "cid=a").await.is(400, CID);
    soft.postback("cid=a").await.is(200, CID);
}

/// Not on a topic, so in no table; the status knows of none of them.
async fn nothing_is_stored(stack: &Stack) {
    let clickid = stack.new_click().await;
    let good = check(stack, &format!("clickid={clickid}&revenue=5")).await;
    assert_eq!(good.status, 200);
    let bad = check(stack, &format!("cid={clickid}")).await;
    assert_eq!(bad.status, 400);
    let put = format!("/v1/postback/check?clickid={clickid}");
    let put = http::request(stack.ingress.http, "PUT", &put, &[], None).await;
    assert_eq!(put.status, 405);
    let ids = [good, bad, put].map(|answer| answer.request_id());
    for id in &ids {
        wait::until(&format!("{id} is unknown"), async || {
            let answer = stack.status(id).await;
            if answer.status == 200 {
                // It is young; never anything else.
                assert_eq!(answer.json()["outcome"], "pending", "{answer:?}");
                return None;
            }
            answer.is_error(404, "request_not_found");
            Some(())
        })
        .await;
    }
    // What was refused afterwards is there, and so is the conversion, which is no duplicate.
    let later = unique("later");
    let refused = stack.postback(&format!("foo={later}")).await;
    stack.becomes(&refused.request_id(), "refused").await;
    let rejects = stack
        .records("postern.rejects", |record| {
            record.value.contains(&later) || record.value.contains(&clickid)
        })
        .await;
    let keys: Vec<_> = rejects.iter().map(|record| &*record.key).collect();
    assert_eq!(keys, [refused.request_id()]);
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=7"))
        .await;
    body::converted(&answer, &clickid, 18, "7", "USD");
    let postbacks = stack
        .records("postern.postbacks", |record| record.key == clickid)
        .await;
    assert_eq!(postbacks.len(), 1);
}

async fn hints_in_real_refusals(stack: &Stack) {
    stack.postback("cid=a").await.is(400, CID);
    let answer = stack.post("/v1/postback", "", b"cid=a").await;
    answer.is(400, CID);
    for (query, hint) in [
        (
            "clickid=a&revenue=1.000,50",
            "send revenue \"1.000,50\" as 1000.50",
        ),
        ("clickid[]=a", "send clickid as one plain value"),
        (
            "clickid=%7Bclickid%7D&revenue=1",
            "did not replace the macro \"{clickid}\"",
        ),
    ] {
        let answer = stack.postback(query).await;
        let told = answer.json()["hint"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(told.contains(hint), "{answer:?}");
        assert!(answer.body.ends_with("\"}"), "{answer:?}");
        // The log keeps the refusal; the hint was for its caller.
        let status = stack.becomes(&answer.request_id(), "refused").await;
        assert_eq!(status["answer"]["message"], answer.json()["message"]);
        assert!(status["answer"].get("hint").is_none(), "{status}");
    }
    // Where nobody can guess, the body is the API page's; and a good one has no hints.
    for query in ["", "revenue=1", "foo=1"] {
        let answer = stack.postback(query).await;
        answer.is(400, body::MISSING_CLICKID);
    }
    let clickid = stack.new_click().await;
    let answer = stack.postback(&format!("clickid={clickid}&amount=1")).await;
    body::converted(&answer, &clickid, 18, "0", "USD");
}

fn parsed(output: &Output) -> String {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(said.starts_with("{\n  \"status\": "), "{said}");
    // What was added for the eye is line breaks, the blanks behind them, and one behind a colon.
    let lines = said.lines().map(str::trim_start);
    lines.collect::<String>().replace("\": ", "\":")
}

async fn parse_says_what_check_says(stack: &Stack) {
    for query in [
        "clickid=a&revenue=8999999999999.123456&subid0=%5BX%5D&foo=1&type=sale",
        "clickid=a&amount=5&txid=%C3%A9",
        "cid=a",
        "",
        "clickid=a&revenue=1,5",
    ] {
        let expected = check(stack, query).await;
        for text in [
            query.to_owned(),
            format!("https://postbacks.example/v1/postback.php?{query}"),
        ] {
            let output = stack.command(&["parse", &text]);
            assert_eq!(parsed(&output), expected.body, "{text}");
            let code = if expected.status == 200 { 0 } else { 1 };
            assert_eq!(output.status.code(), Some(code), "{text}");
        }
    }
}

/// By the rules of the configuration, with nothing running.
#[test]
fn parse_needs_nothing_but_the_rules() {
    let plain = process::run(
        &["parse", "clickid=a&revenue=2.5USD&status=won"],
        &settings(&[]),
    );
    assert_eq!(plain.status.code(), Some(1));
    let error = String::from_utf8_lossy(&plain.stderr);
    assert_eq!(
        error,
        "postern: this postback would be refused: invalid_revenue\n"
    );
    let rules = settings(&[
        ("REVENUE__INVALID", "php"),
        ("STATUS__WORDS__WON", "approved"),
    ]);
    let output = process::run(&["parse", "clickid=a&revenue=2.5USD&status=won"], &rules);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["revenue"].to_string(), "2.5");
    assert_eq!(json["conversion_status"]["status"], "approved");
    assert_eq!(json["warnings"][0]["code"], "invalid_revenue");
    assert_eq!(
        json["hints"][0],
        "send revenue \"2.5USD\" as 2.5 with currency=USD"
    );
    // A configuration that can't be used is told here too.
    let output = process::run(
        &["parse", "clickid=a"],
        &settings(&[("REVENUE__INVALID", "x")]),
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("revenue.invalid"));
}

#[test]
fn check_needs_no_kafka() {
    run::plain(async || {
        let kafka = bad_input::nobody().await;
        let ingress = settings(&[("KAFKA__BROKERS", &kafka.to_string())]);
        let mut ingress = Postern::start("ingress", &ingress).await;
        let answer = http::get(ingress.http, "/v1/postback/check?clickid=a&revenue=1").await;
        assert_eq!(
            (answer.status, &*answer.json()["status"].to_string()),
            (200, "\"ok\"")
        );
        let answer = http::get(ingress.http, "/v1/postback/check?cid=a").await;
        answer.is(400, CID);
        assert!(ingress.stop().await.success());
    });
}
