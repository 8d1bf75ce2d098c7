//! One partition with which something is wrong holds up no other one.

use postern_tests::stack::unique;
use postern_tests::{Stack, on_both, wait};

/// Its event is never taken.
const REFUSED: &str = "event-is-refused";

on_both!(alone &[("FAILPOINTS", "consumer.unread=return(0)")]; a_barrier_that_is_not_read_back);
on_both!(alone &[("FAILPOINTS", "consumer.event=return(event-is-refused)")]; events_that_are_not_taken);

/// The consumer once more, with nothing at any failpoint.
async fn mend(stack: &mut Stack) {
    stack.settings.remove("FAILPOINTS");
    let settings = stack.settings.clone();
    let consuming = stack.consuming();
    assert!(consuming.stop().await.success());
    consuming.start_again(&settings).await;
    consuming.ready().await;
}

/// A partition of clicks can't be read to its end: its postbacks wait, those of others don't.
async fn a_barrier_that_is_not_read_back(stack: &mut Stack) {
    let unknown = stack.id_in_partition(0);
    let stuck = stack.postback(&format!("clickid={unknown}")).await;
    assert_eq!(stuck.status, 202, "{stuck:?}");
    let clickid = stack.id_in_partition(1);
    stack.click(&clickid, 18).await;
    let beside = stack.postback(&format!("clickid={clickid}")).await;
    // At once, or after it was seen that there is nothing to wait for.
    stack.becomes(&beside.request_id(), "converted").await;
    let stopped = r#"postern_partition_stopped{partition="0"}"#;
    wait::until("the partition is said to be stopped", async || {
        (stack.consumer_metric(stopped).await > 0.0).then_some(())
    })
    .await;
    let status = stack.status(&stuck.request_id()).await.json();
    assert_eq!(status["outcome"], "pending", "{status}");
    mend(stack).await;
    stack.becomes(&stuck.request_id(), "click_not_found").await;
}

/// A conversion's event isn't taken: it waits, and nothing else does.
async fn events_that_are_not_taken(stack: &mut Stack) {
    stack.click(REFUSED, 18).await;
    let answer = stack.postback(&format!("clickid={REFUSED}")).await;
    stack.becomes(&answer.request_id(), "converted").await;
    let mut others = Vec::new();
    for _ in 0..8 {
        let clickid = unique("other");
        stack.click(&clickid, 18).await;
        let answer = stack.postback(&format!("clickid={clickid}")).await;
        stack.becomes(&answer.request_id(), "converted").await;
        others.push(clickid);
    }
    wait::until("it is said", async || {
        let (_, reasons) = stack.consuming().readiness().await;
        reasons.to_string().contains("are not taken").then_some(())
    })
    .await;
    mend(stack).await;
    others.push(REFUSED.to_owned());
    for clickid in others {
        let events = stack
            .records("postern.conversions", |record| record.key == clickid)
            .await;
        assert!(!events.is_empty(), "{clickid}");
    }
}
