//! Postbacks that come before their click.

use crate::body::{self, duplicate};
use postern_tests::process::settings;
use postern_tests::stack::unique;
use postern_tests::{Kind, Postern, Stack, on_both, real, run};

on_both!(shared: one_waits, several_wait);
on_both!(alone &[
    ("FAILPOINTS", "consumer.barrier=1*sleep(1500);kafka.fetched.postern.clicks=return(700)"),
    ("CONSUMER__MAX_BATCH", "1"),
    ("ANSWER__TIMEOUT", "10s"),
]; a_click_while_a_barrier_is_awaited);

async fn one_waits(stack: &Stack) {
    let clickid = unique("late");
    let early = stack
        .postback(&format!("clickid={clickid}&revenue=2.50&currency=EUR"))
        .await;
    early.is(404, body::CLICK_NOT_FOUND);
    let before = stack.outcome(&early.request_id()).await;
    assert_eq!(before["outcome"], "click_not_found", "{before}");
    assert_eq!(before["answer"].to_string(), sorted(body::CLICK_NOT_FOUND));

    stack.click(&clickid, 18).await;
    let after = stack.becomes(&early.request_id(), "converted").await;
    // The time is that at which the postback came.
    assert_eq!(after["received_at"], before["received_at"]);
    assert_eq!(after["answer"]["created_at"], before["received_at"]);
    assert_eq!(after["answer"]["revenue"].to_string(), "2.5");
    assert_eq!(after["answer"]["currency"], "EUR");
    assert_eq!(after["answer"]["campaign_id"], 18);

    let second = stack
        .postback(&format!("clickid={clickid}&revenue=9"))
        .await;
    second.is(200, &duplicate(&clickid, 18, "2.5", "EUR"));
}

/// A barrier proves nothing of a postback that is read while it is awaited: its click may stand behind it.
async fn a_click_while_a_barrier_is_awaited(stack: &mut Stack) {
    let stack = &*stack;
    let clickid = unique("meanwhile");
    let query = format!("clickid={clickid}&revenue=1");
    let early = stack.postback(&query);
    let later = async {
        // The barrier is written by now, and its consumer looks away.
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        stack.click(&clickid, 18).await;
        stack.postback(&query).await
    };
    let (early, later) = tokio::join!(early, later);
    early.is(404, body::CLICK_NOT_FOUND);
    later.is(200, &duplicate(&clickid, 18, "1", "USD"));
}

/// The first that came is the one that converts.
async fn several_wait(stack: &Stack) {
    let clickid = unique("late");
    let mut waiting = Vec::new();
    for revenue in 1..=3 {
        let answer = stack
            .postback(&format!("clickid={clickid}&revenue={revenue}"))
            .await;
        answer.is(404, body::CLICK_NOT_FOUND);
        waiting.push(answer.request_id());
    }
    stack.click(&clickid, 7).await;
    let first = stack.becomes(&waiting[0], "converted").await;
    assert_eq!(first["answer"]["revenue"].to_string(), "1");
    for request_id in &waiting[1..] {
        let later = stack.becomes(request_id, "duplicate").await;
        assert_eq!(later["answer"]["revenue"].to_string(), "1", "{later}");
        assert_eq!(later["answer"]["campaign_id"], 7, "{later}");
    }
    let answer = stack
        .postback(&format!("clickid={clickid}&revenue=9"))
        .await;
    answer.is(200, &duplicate(&clickid, 7, "1", "USD"));
}

/// A postback that is read before its click, although it came after it, is not called unknown:
/// a backlog of clicks of which one batch comes with each fetch, and postbacks for the last.
#[test]
fn a_backlog_of_clicks() {
    if real::missing(true).is_some() {
        return;
    }
    run::alone(Kind::Real, &settings(&[]), async |stack: &mut Stack| {
        let quick = stack.variant(&[("ANSWER__MODE", "accepted")]).await;
        let consumer = stack.consumer.as_mut().unwrap();
        assert!(consumer.stop().await.success());
        let mut last = Vec::new();
        for _ in 0..60 {
            last = crate::shutdown::clicks(&quick, 40).await;
        }
        let mut ids = Vec::new();
        for clickid in &last {
            let answer = quick.postback(&format!("clickid={clickid}")).await;
            assert_eq!(answer.status, 202, "{answer:?}");
            ids.push(answer.request_id());
        }
        let mut all = stack.settings.clone();
        all.extend(settings(&[(
            "KAFKA__OPTIONS__max.partition.fetch.bytes",
            "1000",
        )]));
        let mut consumer = Postern::start("consumer", &all).await;
        consumer.ready().await;
        stack.consumer = Some(consumer);
        for id in &ids {
            let status = stack.outcome(id).await;
            assert_eq!(status["outcome"], "converted", "{status}");
        }
        // Nor was one for a while.
        for outcome in ["click_not_found", "converted_late"] {
            let series = format!(r#"postern_postbacks_decided_total{{outcome="{outcome}"}}"#);
            assert!(stack.consumer_metric(&series).await < 1.0, "{outcome}");
        }
        assert!(stack.consumer_metric("postern_barriers_total").await > 0.0);
    });
}

fn sorted(body: &str) -> String {
    serde_json::from_str::<serde_json::Value>(body)
        .unwrap()
        .to_string()
}
