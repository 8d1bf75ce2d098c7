//! What is old enough goes, and nothing else.

use crate::engine::Database;
use crate::world::{Worker, at, click, postback, request};
use jiff::Timestamp;
use postern_core::campaign::Campaign;
use postern_core::decision::Writes;
use postern_store::{Advance, Aging, Batch, Expiring};

async fn count(database: &Database, table: &str) -> i64 {
    database
        .number(&format!("SELECT count(*) FROM {table}"))
        .await
}

pub async fn old_rows_go_the_oldest_first(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let mut clicks = Vec::new();
    let mut postbacks = Vec::new();
    for number in 0..10_u32 {
        let seconds = i64::from(number);
        let id = format!("c{number}");
        let mut one = click(&id, 1);
        one.clicked_at = at(seconds);
        clicks.push(one);
        let mut one = postback(u128::from(number), &id, "1");
        one.received_at = at(100 + seconds);
        postbacks.push(one);
    }
    worker.batch(store, &clicks, &postbacks).await;
    assert_eq!(store.oldest(Aging::Clicks).await.unwrap(), Some(at(0)));
    assert_eq!(store.oldest(Aging::Log).await.unwrap(), Some(at(100)));

    // Three of the five that are old enough, then the rest, then none.
    let mut removed = Vec::new();
    for _ in 0..3 {
        removed.push(store.expire(Expiring::Clicks, at(5), 3).await.unwrap());
    }
    assert_eq!(removed, [3, 2, 0]);
    assert_eq!(count(database, "clicks").await, 5);
    assert_eq!(store.oldest(Aging::Clicks).await.unwrap(), Some(at(5)));
    assert_eq!(store.expire(Expiring::Log, at(104), 100).await.unwrap(), 4);
    assert_eq!(count(database, "postback_log").await, 6);
    // What was made of them stays, and is still known.
    assert_eq!(count(database, "conversions").await, 10);
    let sums = "SELECT CAST(sum(clicks) + sum(conversions) AS bigint) FROM campaign_statistics";
    assert_eq!(database.number(sums).await, 20);
    let again = postback(50, "c0", "9");
    let outcomes = worker.batch(store, &[], &[again]).await;
    assert_eq!(outcomes.verdicts[0].outcome.word(), "duplicate");
}

pub async fn the_log_takes_its_later_steps_along(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let mut late = postback(1, "a", "1");
    late.received_at = at(10);
    let mut newer = postback(2, "b", "1");
    newer.received_at = at(20);
    worker.batch(store, &[], &[late, newer]).await;
    worker
        .batch(store, &[click("a", 1), click("b", 1)], &[])
        .await;
    assert_eq!(count(database, "postback_changes").await, 2);
    assert_eq!(store.expire(Expiring::Log, at(15), 100).await.unwrap(), 1);
    assert_eq!(count(database, "postback_changes").await, 1);
    assert_eq!(count(database, "postback_log").await, 1);
    assert_eq!(store.logged(request(1)).await.unwrap(), None);
    assert!(store.logged(request(2)).await.unwrap().is_some());
}

pub async fn who_waited_too_long_is_named_and_counted(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let mut other = Worker::new(store, 1).await;
    let wait = |number, name: &str, seconds| {
        let mut postback = postback(number, name, "1");
        postback.received_at = at(seconds);
        postback
    };
    let here = [wait(1, "a", 10), wait(2, "b", 11), wait(3, "c", 30)];
    worker.batch(store, &[], &here).await;
    other.batch(store, &[], &[wait(4, "d", 5)]).await;
    let old = store.unmatched_before(0, at(20), 100).await.unwrap();
    assert_eq!(old, [request(1), request(2)]);
    assert_eq!(store.unmatched_before(0, at(20), 1).await.unwrap().len(), 1);

    let mut next = worker.state;
    next.unmatched -= 2;
    let batch = Batch {
        advances: vec![Advance {
            expected: worker.state,
            next,
        }],
        writes: Writes {
            unmatched_removed: old,
            ..Writes::default()
        },
        slot: 0,
    };
    store.commit(&batch).await.unwrap();
    worker.committed(&batch);
    assert_eq!(count(database, "unmatched").await, 2);
    assert_eq!(worker.state.unmatched, 1);
    // Its click comes too late for the one, not for the other.
    worker
        .batch(store, &[click("a", 1), click("c", 1)], &[])
        .await;
    assert_eq!(count(database, "conversions").await, 1);
}

pub async fn the_longest_window_counts(database: &Database) {
    let store = database.store.as_ref();
    assert_eq!(store.longest_window().await.unwrap(), 0);
    for (campaign_id, window) in [(1, Some(60)), (2, Some(86_400)), (3, None)] {
        let mut campaign = Campaign {
            campaign_id,
            version: 1,
            ..Campaign::default()
        };
        campaign.settings.attribution_window = window;
        database.campaign(&campaign).await;
    }
    assert_eq!(store.longest_window().await.unwrap(), 86_400);
    assert_eq!(store.oldest(Aging::Log).await.unwrap(), None::<Timestamp>);
}
