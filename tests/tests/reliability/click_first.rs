//! A click that was acknowledged is never unknown, however quickly its postback follows.

use crate::{check, full, on_fleets, say};
use postern_tests::checker::AnswerKind;
use postern_tests::fleet::Fleet;
use postern_tests::history::{History, Sent};
use postern_tests::stack::unique;
use postern_tests::traffic::Caller;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

on_fleets!(&[]; at_once);
on_fleets!(&[("FAILPOINTS", "kafka.fetched.postern.clicks=return(300)")]; at_once_with_slow_clicks);

/// So many pairs of a click and its postback are on their way at a time.
const CALLERS: usize = 8;

async fn at_once(fleet: &mut Fleet) {
    let history = run(fleet, "click first", if full() { 5000 } else { 600 }).await;
    let unknown = history.latency(Some(AnswerKind::ClickNotFound), 99.0);
    say(&format!(
        "unknown clicks are answered within {unknown:.1?} (p99)"
    ));
    // A loaded machine makes it longer, and this is no benchmark: the full run tells.
    if full() {
        assert!(unknown < Duration::from_millis(100), "p99 {unknown:?}");
    }
}

/// The consumer reads clicks 300 ms after Kafka has them: postbacks overtake their clicks.
async fn at_once_with_slow_clicks(fleet: &mut Fleet) {
    run(
        fleet,
        "click first, slow clicks",
        if full() { 5000 } else { 200 },
    )
    .await;
}

/// Each click is announced through one ingress and reported through the other; every fifth is
/// followed by an unknown one.
async fn run(fleet: &mut Fleet, name: &str, pairs: usize) -> History {
    let history = History::new();
    let ingresses = fleet.ingresses();
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut announcer = Caller::new(&ingresses, &history);
        let mut caller = Caller::new(&ingresses, &history);
        let next = Arc::clone(&next);
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= pairs {
                    return;
                }
                let sent = |clickid| Sent {
                    clickid,
                    revenue: format!("{}.5", number % 90),
                    ingress: number + 1,
                    ..Sent::default()
                };
                let clickid = unique("first");
                let ids = std::slice::from_ref(&clickid);
                assert!(announcer.clicks(number, ids, 18).await);
                caller.postback(sent(clickid)).await;
                if number.is_multiple_of(5) {
                    caller.postback(sent(unique("unknown"))).await;
                }
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }

    check(fleet, name, &history).await;
    let counts = history.counts();
    let unknown = pairs.div_ceil(5);
    assert_eq!(counts.total(), pairs + unknown);
    // The checker has seen that none of these had a click.
    assert_eq!(counts.of(AnswerKind::ClickNotFound), unknown, "{counts}");
    let standard = counts.of(AnswerKind::Standard);
    assert!(standard * 100 >= pairs * 99, "{counts}");
    history
}
