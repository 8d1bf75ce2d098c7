//! `postern replay`: what wasn't converted is decided again, with its own id and time.

use postern_tests::process::{run, settings};
use postern_tests::stack::{unique, unique_campaign};
use postern_tests::{Kind, Stack, http, on_both};
use serde_json::Value;

on_both!(shared: taken_ones, refused_ones, what_cannot_be_replayed);

/// What it says, and whether it was content.
fn replay(stack: &Stack, topic: &str, told: &[(&str, &str)], more: &[&str]) -> (String, bool) {
    let mut all = stack.command_settings();
    all.insert("KAFKA__BROKERS".to_owned(), stack.bootstrap.clone());
    all.insert("KAFKA__ALLOW_SINGLE_REPLICA".to_owned(), "true".to_owned());
    if stack.kind == Kind::Embedded {
        for key in ["KAFKA__PARTITIONS", "KAFKA__VERDICT_PARTITIONS"] {
            all.insert(key.to_owned(), "1".to_owned());
        }
    }
    all.extend(settings(told));
    let arguments = [&["replay", "--topic", topic, "--from", "1h"], more].concat();
    let output = run(&arguments, &all);
    let content = output.status.success();
    // Logs stand beside the errors.
    let text = if content {
        output.stdout
    } else {
        output.stderr
    };
    (String::from_utf8(text).unwrap(), content)
}

/// The same; it must succeed.
fn said(stack: &Stack, topic: &str, told: &[(&str, &str)], more: &[&str]) -> String {
    let (text, content) = replay(stack, topic, told, more);
    assert!(content, "{text}");
    text
}

async fn found(stack: &Stack, token: &str, path: &str, clickid: &str) -> Value {
    let target = format!("/v1/{path}?clickid={clickid}&history=1&token={token}");
    http::get(stack.reports_address(), &target).await.json()
}

async fn taken_ones(stack: &Stack) {
    let token = stack.admin_token();
    let campaign = unique_campaign();
    stack.import(&format!(
        r#"{{"campaign_id":{campaign},"secret":"0123456789abcdef","dedupe":"txid"}}"#
    ));
    let clickid = unique("click");
    stack.click(&clickid, campaign).await;
    let refused = stack
        .postback(&format!("clickid={clickid}&revenue=2.5&txid=a"))
        .await;
    stack.becomes(&refused.request_id(), "forbidden").await;
    let filter = format!("clickid={clickid}");
    let filters = ["--filter", filter.as_str()];
    let id = refused.request_id();
    let text = said(stack, "postbacks", &[], &filters);
    assert_eq!(
        text,
        format!("{id}\t{clickid}\tforbidden\tforbidden\n1 forbidden stay so\n")
    );

    stack.import(&format!(
        r#"{{"campaign_id":{campaign},"secret":null,"dedupe":"txid"}}"#
    ));
    let dry = said(
        stack,
        "postbacks",
        &[],
        &[&filters[..], &["--dry-run"]].concat(),
    );
    assert!(
        dry.ends_with("\n1 forbidden would become converted\n"),
        "{dry}"
    );
    let outcome = stack.outcome(&id).await;
    assert_eq!(outcome["outcome"], "forbidden", "a dry run changes nothing");
    let text = said(stack, "postbacks", &[], &filters);
    let line = format!("{id}\t{clickid}\tforbidden\tconverted\n1 forbidden became converted\n");
    assert_eq!(text, line);

    let conversions = found(stack, &token, "conversions", &clickid).await;
    let conversion = &conversions["conversions"][0];
    assert_eq!(conversion["conversion_id"], id.as_str());
    assert_eq!(conversion["revenue"].to_string(), "2.5");
    let log = found(stack, &token, "postbacks", &clickid).await;
    let row = &log["postbacks"][0];
    assert_eq!(row["received_at"], conversion["created_at"], "its own time");
    assert_eq!(row["outcome"], "converted");
    assert_eq!(row["history"][0]["cause"], "replay");
    assert_eq!(row["history"].as_array().map(Vec::len), Some(1));

    // What converted stays, as often as it is asked for.
    let text = said(stack, "postbacks", &[], &filters);
    assert_eq!(text, "1 stay: they converted\n");
    let log = found(stack, &token, "postbacks", &clickid).await;
    assert_eq!(
        log["postbacks"][0]["history"].as_array().map(Vec::len),
        Some(1)
    );
    let conversions = found(stack, &token, "conversions", &clickid).await;
    assert_eq!(conversions["conversions"].as_array().map(Vec::len), Some(1));
}

async fn refused_ones(stack: &Stack) {
    let token = stack.admin_token();
    let clickid = stack.new_click().await;
    let mut ids = Vec::new();
    let query = format!("clickid={clickid}&revenue=abc");
    let answer = stack.postback(&query).await;
    answer.is_error(400, "invalid_revenue");
    ids.push(answer.request_id());
    let body = format!(r#"{{"clickid":"{clickid}","revenue":"abc","txid":"json"}}"#);
    let answer = stack
        .post("/v1/postback", "application/json", body.as_bytes())
        .await;
    answer.is_error(400, "invalid_revenue");
    ids.push(answer.request_id());
    for id in &ids {
        stack.becomes(id, "refused").await;
    }
    let filter = format!("request_id={}", ids[0]);
    let filters = ["--filter", filter.as_str()];
    let text = said(stack, "rejects", &[], &filters);
    assert_eq!(text, "1 stay refused: invalid_revenue\n");

    // The rules have changed.
    let zero = [("REVENUE__INVALID", "zero")];
    let dry = said(
        stack,
        "rejects",
        &zero,
        &[&filters[..], &["--dry-run"]].concat(),
    );
    let expected = "1 refused would become converted\n";
    assert!(dry.ends_with(expected), "{dry}");
    assert_eq!(stack.outcome(&ids[0]).await["outcome"], "refused");
    let text = said(stack, "rejects", &zero, &filters);
    assert!(
        text.starts_with(&format!("{}\t{clickid}\trefused\tconverted\n", ids[0])),
        "{text}"
    );
    let conversions = found(stack, &token, "conversions", &clickid).await;
    let conversion = &conversions["conversions"][0];
    assert_eq!(conversion["conversion_id"], ids[0].as_str());
    assert_eq!(conversion["revenue"].to_string(), "0");
    let filter = format!("request_id={}", ids[1]);
    let text = said(stack, "rejects", &zero, &["--filter", &filter]);
    assert!(text.ends_with("1 refused became duplicate\n"), "{text}");
    let outcome = stack.outcome(&ids[1]).await;
    assert_eq!(outcome["answer"]["note"], "duplicate", "{outcome}");
}

async fn what_cannot_be_replayed(stack: &Stack) {
    for (more, what) in [
        (&["--filter", "colour=red"][..], "--filter colour: must be"),
        (&["--filter", "campaign_id=x"], "--filter campaign_id=x"),
        (&["--to", "2h"], "--from must be before --to"),
        (&["--to", "soon"], "--to: must be a time ago"),
    ] {
        let (text, content) = replay(stack, "postbacks", &[], more);
        assert!(!content && text.contains(what), "{text}");
    }
    let nothing = ["--filter", "clickid=nobody-has-this"];
    let text = said(stack, "postbacks", &[], &nothing);
    assert_eq!(text, "nothing was received then that the filters take\n");
}
