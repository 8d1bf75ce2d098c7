//! What a campaign asks for: statuses, events, windows, callers, and changes of its policy.

use crate::body::{self, duplicate};
use postern_tests::stack::{unique, unique_campaign};
use postern_tests::{Answer, Stack, on_both};
use std::path::Path;
use std::process::Command;

on_both!(shared:
    statuses_follow_what_was_said_last,
    statuses_mean_nothing_where_nobody_asks,
    events_tell_conversions_apart,
    forged_calls_are_refused_or_watched,
    old_clicks_expire,
    currencies_default_to_the_campaigns,
    policies_change_without_paying_twice,
);

/// A campaign that no other scenario has, with these settings; an id to change them by.
fn campaign(stack: &Stack, settings: &str, secret: Option<&str>) -> i64 {
    let id = unique_campaign();
    set(stack, id, settings, secret);
    id
}

fn set(stack: &Stack, id: i64, settings: &str, secret: Option<&str>) {
    let mut campaign: serde_json::Value = serde_json::from_str(settings).unwrap();
    campaign["campaign_id"] = id.into();
    campaign["secret"] = secret.into();
    stack.import(&campaign.to_string());
}

async fn click(stack: &Stack, campaign: i64) -> String {
    let clickid = unique("ledger");
    stack.click(&clickid, campaign).await;
    clickid
}

fn updated(clickid: &str, campaign: i64, revenue: &str, currency: &str, status: &str) -> String {
    format!(
        r#"{{"status":"ok","note":"updated","message":"Status of the conversion was changed","clickid":"{clickid}","campaign_id":{campaign},"revenue":{revenue},"currency":"{currency}","conversion_status":"{status}"}}"#
    )
}

async fn statuses_follow_what_was_said_last(stack: &Stack) {
    let campaign = campaign(stack, r#"{"statuses":true}"#, None);
    let clickid = click(stack, campaign).await;
    let say = async |rest: &str| stack.postback(&format!("clickid={clickid}{rest}")).await;

    let first = say("&revenue=7.5&status=lead").await;
    body::converted(&first, &clickid, campaign, "7.5", "USD");
    // A reversal often comes without an amount.
    let approved = say("&type=SALE").await;
    approved.is(200, &updated(&clickid, campaign, "7.5", "USD", "approved"));
    let same = duplicate(&clickid, campaign, "7.5", "USD");
    say("&status=approved&revenue=9").await.is(200, &same);
    say("").await.is(200, &same);
    let reversed = say("&status=chargeback").await;
    reversed.is(200, &updated(&clickid, campaign, "7.5", "USD", "reversed"));
    // Nobody knows it: the campaign's default, which is approved.
    let odd = say("&status=whatever").await;
    odd.is(200, &updated(&clickid, campaign, "7.5", "USD", "approved"));

    let status = stack.outcome(&reversed.request_id()).await;
    assert_eq!(status["outcome"], "updated");
    assert_eq!(status["answer"], reversed.json());

    // Each change has its event, and so has the beginning.
    let wanted = [&first, &approved, &reversed, &odd].map(Answer::request_id);
    let mut told = Vec::new();
    while told.len() < wanted.len() {
        told = stack
            .records("postern.conversions", |record| record.key == clickid)
            .await;
        told.dedup_by_key(|record| record.json()["status_id"].to_string());
    }
    let mut seen: Vec<(String, String)> = told
        .iter()
        .map(|record| record.json())
        .map(|event| {
            assert_eq!(event["conversion_id"], wanted[0].as_str(), "{event}");
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            (text("status_id"), text("status"))
        })
        .collect();
    seen.sort();
    seen.dedup();
    let words = ["pending", "approved", "reversed", "approved"];
    let mut expected: Vec<_> = wanted.into_iter().zip(words.map(str::to_owned)).collect();
    expected.sort();
    assert_eq!(seen, expected);
    let unknown = stack
        .consumer_metric("postern_unknown_statuses_total")
        .await;
    assert!(unknown >= 1.0);
}

async fn statuses_mean_nothing_where_nobody_asks(stack: &Stack) {
    let clickid = stack.new_click().await;
    let query = format!("clickid={clickid}&status=rejected&event=lead&sig=00&goal[]=1&type[]=2");
    let answer = stack.postback(&query).await;
    body::converted(&answer, &clickid, 18, "0", "USD");
    let answer = stack
        .postback(&format!("clickid={clickid}&status=reversed&event=x"))
        .await;
    answer.is(200, &duplicate(&clickid, 18, "0", "USD"));
}

async fn events_tell_conversions_apart(stack: &Stack) {
    let campaign = campaign(stack, r#"{"dedupe":"event","statuses":true}"#, None);
    let clickid = click(stack, campaign).await;
    for (number, key) in [
        "event=lead",
        "goal=sale&txid=1",
        "event=sale&txid=2",
        "txid=1",
        "",
    ]
    .iter()
    .enumerate()
    {
        let first = format!("clickid={clickid}&revenue={number}&{key}");
        let answer = stack.postback(&first).await;
        body::converted(&answer, &clickid, campaign, &number.to_string(), "USD");
        let again = stack
            .postback(&format!("clickid={clickid}&revenue=9&{key}"))
            .await;
        again.is(
            200,
            &duplicate(&clickid, campaign, &number.to_string(), "USD"),
        );
    }
    // A status is that of the conversion with the same key.
    let query = format!("clickid={clickid}&event=sale&txid=2&status=reversed");
    let answer = stack.postback(&query).await;
    answer.is(200, &updated(&clickid, campaign, "2", "USD", "reversed"));
}

/// A query signed by one of the examples.
fn signed(secret: &str, parameters: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/signature/sign.sh");
    let output = Command::new("sh")
        .arg(script)
        .arg(secret)
        .args(parameters)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn forged_calls_are_refused_or_watched(stack: &Stack) {
    const SECRET: &str = "0123456789abcdef";
    let settings = |network: &str, mode: &str| {
        format!(
            r#"{{"networks":["{network}"],"network_check":"{mode}","signature_check":"{mode}"}}"#
        )
    };
    let campaign = campaign(stack, &settings("192.0.2.0/24", "enforce"), None);
    let clickid = click(stack, campaign).await;
    let plain = format!("clickid={clickid}&revenue=1.20");
    let answer = stack.postback(&plain).await;
    let message = answer.is_error(403, "forbidden");
    assert!(message.contains("address"), "{message}");
    let status = stack.outcome(&answer.request_id()).await;
    assert_eq!(status["outcome"], "forbidden");
    assert_eq!(status["answer"], answer.json());

    // We call from loopback, which the proxy's header can't change.
    set(
        stack,
        campaign,
        &settings("127.0.0.0/8", "enforce"),
        Some(SECRET),
    );
    let message = stack.postback(&plain).await.is_error(403, "forbidden");
    assert!(message.contains("sig parameter"), "{message}");
    let other = signed(
        "another-secret-0",
        &[&format!("clickid={clickid}"), "revenue=1.20"],
    );
    let message = stack.postback(&other).await.is_error(403, "forbidden");
    assert!(message.contains("signature"), "{message}");
    let right = signed(
        SECRET,
        &["revenue=1.20", "note=a b&c", &format!("clickid={clickid}")],
    );
    let forged = right.replace("1.20", "120");
    stack.postback(&forged).await.is_error(403, "forbidden");
    let answer = stack.postback(&right).await;
    body::converted(&answer, &clickid, campaign, "1.2", "USD");
    // A retry is signed alike. Forged, it learns nothing.
    let answer = stack.postback(&right).await;
    answer.is(200, &duplicate(&clickid, campaign, "1.2", "USD"));
    stack.postback(&plain).await.is_error(403, "forbidden");
    // In a body.
    let form = format!("clickid={clickid}&revenue=1.20&note=a%20b%26c");
    let sig = right.rsplit_once("sig=").unwrap().1;
    let answer = stack
        .post("/v1/postback", "", format!("{form}&sig={sig}").as_bytes())
        .await;
    answer.is(200, &duplicate(&clickid, campaign, "1.2", "USD"));

    // Watched, everything is taken.
    set(
        stack,
        campaign,
        &settings("192.0.2.0/24", "observe"),
        Some(SECRET),
    );
    let series = |check: &str| format!(r#"postern_postbacks_observed_total{{check="{check}"}}"#);
    let mut before = Vec::new();
    for check in ["address", "signature_missing"] {
        before.push((check, stack.consumer_metric(&series(check)).await));
    }
    let clickid = click(stack, campaign).await;
    let answer = stack.postback(&format!("clickid={clickid}")).await;
    body::converted(&answer, &clickid, campaign, "0", "USD");
    for (check, before) in before {
        let after = stack.consumer_metric(&series(check)).await;
        assert!(after >= before + 1.0, "{check}: {before} {after}");
    }
}

async fn old_clicks_expire(stack: &Stack) {
    let campaign = campaign(stack, r#"{"attribution_window":3600}"#, None);
    let old = unique("old");
    let click = format!(
        r#"{{"clickid":"{old}","campaign_id":{campaign},"clicked_at":"2025-01-01T00:00:00Z"}}"#
    );
    assert_eq!(stack.post_clicks(&click).await.status, 200);
    let answer = stack.postback(&format!("clickid={old}")).await;
    answer.is_error(410, "click_expired");
    let status = stack.outcome(&answer.request_id()).await;
    assert_eq!(status["outcome"], "click_expired");
    // A click of the future has no age.
    let early = unique("early");
    let click = format!(
        r#"{{"clickid":"{early}","campaign_id":{campaign},"clicked_at":"2100-01-01T00:00:00Z"}}"#
    );
    assert_eq!(stack.post_clicks(&click).await.status, 200);
    let answer = stack.postback(&format!("clickid={early}")).await;
    body::converted(&answer, &early, campaign, "0", "USD");
    // What converted is a duplicate however old it becomes.
    let settings = r#"{"attribution_window":1}"#;
    set(stack, campaign, settings, None);
    let answer = stack.postback(&format!("clickid={early}")).await;
    answer.is(200, &duplicate(&early, campaign, "0", "USD"));
}

async fn currencies_default_to_the_campaigns(stack: &Stack) {
    let campaign = campaign(stack, r#"{"default_currency":"EUR"}"#, None);
    for (sent, stored) in [("", "EUR"), ("&currency=", "EUR"), ("&currency=usd", "USD")] {
        let clickid = click(stack, campaign).await;
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue=1{sent}"))
            .await;
        body::converted(&answer, &clickid, campaign, "1", stored);
    }
}

/// Each transition and back, on a click that converted under the one before.
async fn policies_change_without_paying_twice(stack: &Stack) {
    for (before, after) in [("click", "txid"), ("txid", "event"), ("click", "event")] {
        let settings = |dedupe: &str| format!(r#"{{"dedupe":"{dedupe}"}}"#);
        let campaign = campaign(stack, &settings(before), None);
        let clickid = click(stack, campaign).await;
        let blank = click(stack, campaign).await;
        let sale = format!("clickid={clickid}&revenue=5&txid=1&event=lead");
        let same = duplicate(&clickid, campaign, "5", "USD");
        body::converted(&stack.postback(&sale).await, &clickid, campaign, "5", "USD");
        stack.postback(&format!("clickid={blank}&revenue=3")).await;
        for dedupe in [after, before] {
            set(stack, campaign, &settings(dedupe), None);
            let answer = stack.postback(&sale).await;
            answer.is(200, &same);
            // A conversion of which nobody asked for more may have been any.
            if before == "click" {
                let query = format!("clickid={blank}&txid=1&event=lead");
                let answer = stack.postback(&query).await;
                answer.is(200, &duplicate(&blank, campaign, "3", "USD"));
            }
        }
    }
}
