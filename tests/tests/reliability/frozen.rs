//! A consumer that freezes at the worst moment, and comes back.

use crate::on_fleets;
use postern_tests::fleet::{Fleet, Who};
use postern_tests::history::{History, Sent};
use postern_tests::stack::unique;
use postern_tests::traffic::Caller;
use postern_tests::{Kind, wait};
use std::time::Duration;

on_fleets!(&[]; frozen_inside_its_transaction);

/// A consumer is frozen while it holds its partitions' rows locked. The rows are free before the
/// partitions have a new owner, which goes on without waiting; when the frozen one comes back,
/// its commit fails, and nothing that it says is untrue.
async fn frozen_inside_its_transaction(fleet: &mut Fleet) {
    let history = History::new();
    let mut caller = Caller::new(&fleet.ingresses(), &history);
    let clickids: Vec<String> = (0..40).map(|_| unique("frozen")).collect();
    assert!(caller.clicks(0, &clickids, 18).await);
    let sent = |clickid: &String, ingress| Sent {
        clickid: clickid.clone(),
        revenue: "1.25".to_owned(),
        ingress,
        ..Sent::default()
    };
    for clickid in &clickids[..8] {
        caller.postback(sent(clickid, 0)).await;
    }
    let mut settings = fleet.stack.settings.clone();
    let action = "store.locked=1*return(stop)".to_owned();
    settings.insert(postern_tests::process::FAILPOINTS.to_owned(), action);
    let frozen = fleet.process(Who::Consumer(0));
    assert!(frozen.stop().await.success());
    frozen.start_again(&settings).await;
    let embedded = fleet.stack.kind == Kind::Embedded;
    if !embedded {
        fleet.ready().await;
    }
    // Postbacks of all partitions: one of them meets the consumer that freezes.
    let mut callers = tokio::task::JoinSet::new();
    for clickid in &clickids[8..24] {
        let mut caller = Caller::new(&fleet.ingresses(), &history);
        let sent = sent(clickid, 1);
        callers.spawn(async move { caller.postback(sent).await });
    }
    wait::until("the consumer freezes", async || {
        fleet
            .process(Who::Consumer(0))
            .log()
            .contains("\"told\":\"stop\"")
            .then_some(())
    })
    .await;
    if !embedded {
        // The session ends after 6 s, the lock after 3.
        wait::until(
            "the other consumer goes on with all partitions",
            async || {
                for clickid in &clickids[24..] {
                    let answer = caller.postback(sent(clickid, 1)).await;
                    if answer.is_none_or(|answer| answer.status != 200) {
                        return None;
                    }
                }
                Some(())
            },
        )
        .await;
    } else {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    fleet.process(Who::Consumer(0)).signal("CONT");
    callers.join_all().await;
    fleet.ready().await;
    for clickid in &clickids {
        caller.postback(sent(clickid, 0)).await;
    }
    crate::check(fleet, "frozen inside its transaction", &history).await;
}
