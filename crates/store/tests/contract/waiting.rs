//! Postbacks that wait for their click, and what becomes of them.

use crate::engine::Database;
use crate::world::{Worker, at, click, clickid, postback, request, with_txid};
use postern_core::campaign::Dedupe;
use postern_core::currency::Currency;
use postern_core::decision::{Change, Known};
use postern_core::money::Revenue;
use postern_core::record::verdict::Outcome;
use postern_store::{LoggedState, Lookup};

pub async fn a_late_click_changes_what_is_known(database: &Database) {
    let store = database.store.as_ref();
    database.dedupe(5, Dedupe::Click, 2).await;
    let mut worker = Worker::new(store, 0).await;
    let (one, two) = (postback(1, "a", "1"), postback(2, "a", "2"));
    worker.batch(store, &[], std::slice::from_ref(&one)).await;
    worker.batch(store, &[], std::slice::from_ref(&two)).await;
    assert_eq!(worker.state.unmatched, 2);
    worker.batch(store, &[click("a", 5)], &[]).await;
    assert_eq!(worker.state.unmatched, 0);

    let view = Worker::view(store, &[], &[one.clone(), two.clone()]).await;
    let known = |outcome| Known {
        outcome,
        conversion_id: Some(request(1)),
        policy_version: 2,
    };
    let revenue = Revenue::parse("1").unwrap();
    let converted = known(Outcome::Converted {
        campaign_id: 5,
        revenue,
        currency: Currency::USD,
        created_at: one.received_at,
    });
    let duplicate = known(Outcome::Duplicate {
        campaign_id: 5,
        revenue,
        currency: Currency::USD,
    });
    assert_eq!(view.known[&request(1)], converted);
    assert_eq!(view.known[&request(2)], duplicate);
    assert!(view.unmatched_counts.is_empty());
    assert_eq!(database.number("SELECT count(*) FROM unmatched").await, 0);
    // The log shows both steps.
    assert_eq!(
        database
            .query(
                "SELECT l.outcome, l.reason, c.step, c.outcome, c.reason FROM postback_log l \
                 JOIN postback_changes c ON c.request_id = l.request_id ORDER BY l.kafka_offset"
            )
            .await,
        [
            [
                "click_not_found",
                "unmatched",
                "1",
                "converted",
                "late_click"
            ],
            [
                "click_not_found",
                "unmatched",
                "1",
                "duplicate",
                "late_click"
            ],
        ]
    );
    match store.logged(request(1)).await.unwrap().unwrap().state {
        LoggedState::Decided { known, .. } => assert_eq!(known, converted),
        other => panic!("{other:?}"),
    }
    // The click came; what it made counts in the statistics.
    assert_eq!(
        database
            .query("SELECT sum(conversions), sum(clicks) FROM campaign_statistics")
            .await,
        [["1", "1"]]
    );
}

pub async fn the_latest_of_several_changes_holds(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    worker.batch(store, &[], &[postback(1, "a", "1")]).await;
    let change = |policy_version| Change {
        request_id: request(1),
        received_at: at(1),
        known: Known {
            outcome: Outcome::ClickNotFound,
            conversion_id: None,
            policy_version,
        },
        reason: "test",
        detail: None,
        observed: Vec::new(),
    };
    for changes in [vec![change(7)], vec![change(8), change(9)]] {
        let (mut batch, _) = worker.prepare(store, &[], &[]).await;
        batch.writes.changes = changes;
        store.commit(&batch).await.unwrap();
        worker.committed(&batch);
    }
    assert_eq!(
        database
            .query("SELECT step, policy_version FROM postback_changes ORDER BY step")
            .await,
        [["1", "7"], ["2", "8"], ["3", "9"]]
    );
    let view = Worker::view(store, &[], &[postback(1, "a", "1")]).await;
    assert_eq!(view.known[&request(1)].policy_version, 9);
}

pub async fn unmatched_postbacks_are_found_and_counted(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let waiting = [
        postback(1, "a", "1"),
        postback(2, "b", "1"),
        postback(3, "a", "2"),
        with_txid(postback(4, "a", "3"), "x"),
    ];
    worker.batch(store, &[], &waiting).await;
    let lookup = Lookup {
        arrived: vec![clickid("a"), clickid("none")],
        waiting: vec![clickid("a"), clickid("b"), clickid("none")],
        ..Lookup::default()
    };
    let view = store.load(&lookup).await.unwrap();
    let found: Vec<_> = view.unmatched[&clickid("a")]
        .iter()
        .map(|one| (one.partition, one.offset, one.postback.clone()))
        .collect();
    let expected: Vec<_> = [0, 2, 3]
        .map(|offset: u8| (0, i64::from(offset), waiting[usize::from(offset)].clone()))
        .into();
    assert_eq!(found, expected);
    assert_eq!(view.unmatched.len(), 1);
    assert_eq!(view.unmatched_counts.len(), 2);
    assert_eq!(view.unmatched_counts[&clickid("a")], 3);
    assert_eq!(view.unmatched_counts[&clickid("b")], 1);

    // Added and removed by one batch: it is gone.
    let (mut batch, _) = worker.prepare(store, &[], &[postback(5, "c", "1")]).await;
    batch.writes.unmatched_removed = vec![request(5), request(2)];
    store.commit(&batch).await.unwrap();
    let view = store.load(&lookup).await.unwrap();
    assert_eq!(view.unmatched_counts.len(), 1);
    assert_eq!(database.number("SELECT count(*) FROM unmatched").await, 3);
}
