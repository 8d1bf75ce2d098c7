//! One moment at a time: what happens when a process fails exactly there.

use postern_tests::stack::unique;
use postern_tests::{Stack, kcat::To, on_both, wait};
use std::time::Duration;

on_both!(alone &[("FAILPOINTS", "store.locked=return(lost)")]; no_standard_answer_without_a_commit);
on_both!(alone &[("FAILPOINTS", "ingress.sent=sleep(300)")]; a_verdict_faster_than_the_acknowledgement);
on_both!(alone &[];
    a_commit_whose_end_is_not_seen,
    events_that_were_not_sent,
    a_reject_stands_before_its_position_moves,
    one_record_that_the_store_refuses,
);

/// The same processes, with something at a failpoint of the one that consumes.
async fn consume_with(stack: &mut Stack, failpoints: &str) {
    let mut settings = stack.settings.clone();
    settings.insert("FAILPOINTS".to_owned(), failpoints.to_owned());
    restart(stack, &settings).await;
}

async fn restart(stack: &mut Stack, settings: &postern_tests::process::Settings) {
    let consuming = stack.consuming();
    if consuming.runs() {
        // In order, so that nobody waits for the end of its session.
        assert!(consuming.stop().await.success());
    }
    consuming.start_again(settings).await;
    consuming.ready().await;
}

async fn consume_again(stack: &mut Stack) {
    let settings = stack.settings.clone();
    restart(stack, &settings).await;
}

async fn dead(stack: &mut Stack) {
    stack.consuming().ended(Duration::from_secs(20)).await;
}

/// As long as nothing is committed, `queued` is all that may be said.
async fn no_standard_answer_without_a_commit(stack: &mut Stack) {
    let clickid = stack.new_click().await;
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=1"))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    // Kafka had it all the time.
    let spooled = r#"postern_spool_appended_total{topic="postbacks"}"#;
    assert!(stack.ingress.metric(spooled).await.unwrap_or(0.0) == 0.0);
    assert!(stack.ingress.metric("postern_publish_seconds_count").await > Some(0.0));
    stack.settings.remove("FAILPOINTS");
    consume_again(stack).await;
    stack.becomes(&answer.request_id(), "converted").await;
}

/// The verdict is there before the ingress waits for it, and isn't missed.
async fn a_verdict_faster_than_the_acknowledgement(stack: &mut Stack) {
    for _ in 0..3 {
        let clickid = stack.new_click().await;
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue=1"))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// The store committed, and the consumer didn't hear of it: the row tells, and the caller gets the
/// answer that is true.
async fn a_commit_whose_end_is_not_seen(stack: &mut Stack) {
    let clickid = stack.new_click().await;
    let warm = stack.new_click().await;
    stack.postback(&format!("clickid={warm}")).await;
    consume_with(stack, "store.committed=1*return(lost)").await;
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=1"))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json().get("note").is_none(), "{answer:?}");
    let again = stack
        .postback(&format!("clickid={clickid}&revenue=2"))
        .await;
    assert_eq!(again.json()["note"], "duplicate");
}

/// The consumer dies between the commit and the event: the next owner sends it.
async fn events_that_were_not_sent(stack: &mut Stack) {
    let clickid = stack.new_click().await;
    let warm = stack.new_click().await;
    stack.postback(&format!("clickid={warm}")).await;
    consume_with(stack, "consumer.told=1*return(kill)").await;
    // Its answer may be lost with the process.
    let asked = postern_tests::http::Connection::open(stack.ingress.http).await;
    let target = format!("/v1/postback?clickid={clickid}&revenue=1");
    let _ = asked.unwrap().request("GET", &target, &[], None).await;
    dead(stack).await;
    consume_again(stack).await;
    let events = stack
        .records("postern.conversions", |record| record.key == clickid)
        .await;
    assert_eq!(events.len(), 1);
}

/// A record that can't be processed stands in the rejects before anything moves past it.
async fn a_reject_stands_before_its_position_moves(stack: &mut Stack) {
    let key = unique("poison");
    consume_with(stack, "consumer.rejects=1*return(kill)").await;
    stack.produce("postern.postbacks", To::Murmur2, &key, b"{\"v\":1}");
    dead(stack).await;
    consume_again(stack).await;
    let rejects = stack
        .records("postern.rejects", |record| {
            record.json()["record"]["key"] == key.as_str()
        })
        .await;
    assert!(!rejects.is_empty());
}

/// The store refuses a batch for one of its records: that one goes to the rejects, the others
/// take effect.
async fn one_record_that_the_store_refuses(stack: &mut Stack) {
    const STORED: &str = "postern_clicks_stored_total";
    let before = stack.consumer_metric(STORED).await;
    let mut clickids = Vec::new();
    for _ in 0..6 {
        clickids.push(stack.new_click().await);
    }
    wait::until("the clicks are stored", async || {
        (stack.consumer_metric(STORED).await >= before + 6.0).then_some(())
    })
    .await;
    // The batch, the same with its request ids looked up, and then the first record by itself.
    consume_with(stack, "store.refuses=3*return(refused)").await;
    let mut asked = tokio::task::JoinSet::new();
    for clickid in clickids {
        let (host, target) = (
            stack.ingress.http,
            format!("/v1/postback?clickid={clickid}"),
        );
        asked.spawn(async move { postern_tests::http::get(host, &target).await });
    }
    let answers = asked.join_all().await;
    let mut outcomes = Vec::new();
    for answer in &answers {
        let outcome = wait::until("an outcome", async || {
            let status = stack.status(&answer.request_id()).await.json();
            (status["outcome"] != "pending").then_some(status)
        })
        .await;
        outcomes.push(outcome["outcome"].as_str().unwrap().to_owned());
    }
    outcomes.sort();
    let expected = ["converted"; 5].into_iter().chain(["refused"]);
    assert!(outcomes.iter().eq(expected), "{outcomes:?}");
    let refused = stack
        .records("postern.rejects", |record| {
            record.json()["reason"] == "refused_by_store"
        })
        .await;
    assert!(answers.iter().any(|answer| {
        let id = answer.request_id();
        refused.iter().any(|record| record.key == id)
    }));
}
