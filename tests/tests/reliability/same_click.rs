//! Many callers report one click at the same time, through both ingresses: one conversion.

use crate::{check, full, on_fleets};
use postern_tests::checker::AnswerKind;
use postern_tests::fleet::Fleet;
use postern_tests::history::{History, Sent};
use postern_tests::stack::unique;
use postern_tests::traffic::Caller;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinSet;

on_fleets!(&[]; one_conversion_of_eight);

const CALLERS: usize = 64;
/// How often each click is reported.
const TIMES: usize = 8;

async fn one_conversion_of_eight(fleet: &mut Fleet) {
    let clicks = if full() { 500 } else { 120 };
    let history = History::new();
    let ingresses = fleet.ingresses();
    let clickids: Vec<String> = (0..clicks).map(|_| unique("same")).collect();
    let mut announcer = Caller::new(&ingresses, &history);
    assert!(announcer.clicks(0, &clickids, 18).await);

    // Neighbours in this order are the same click with another amount, currency and ingress.
    let order: Arc<Vec<Sent>> = Arc::new(
        (0..clicks * TIMES)
            .map(|number| Sent {
                clickid: clickids[number / TIMES].clone(),
                revenue: format!("{}.{:02}", number % TIMES + 1, number % 100),
                currency: ["USD", "EUR", "GBP"][number % 3].to_owned(),
                external_id: None,
                ingress: number % ingresses.len(),
            })
            .collect(),
    );
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut caller = Caller::new(&ingresses, &history);
        let (order, next) = (Arc::clone(&order), Arc::clone(&next));
        callers.spawn(async move {
            while let Some(sent) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                caller.postback(sent.clone()).await;
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }

    check(fleet, "same click", &history).await;
    let counts = history.counts();
    assert_eq!(counts.total(), clicks * TIMES);
    let of = |kind| counts.of(kind);
    let (standard, duplicate) = (of(AnswerKind::Standard), of(AnswerKind::Duplicate));
    let queued = of(AnswerKind::Queued);
    assert_eq!(standard + duplicate + queued, counts.total(), "{counts}");
    assert!(
        standard <= clicks && standard * 100 >= clicks * 99,
        "{counts}"
    );
    assert!(queued * 100 <= counts.total(), "{counts}");
}
