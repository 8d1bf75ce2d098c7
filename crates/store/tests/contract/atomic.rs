//! All or nothing, wherever a commit breaks off, and whoever it has to wait for.

use crate::engine::{Database, connect};
use crate::world::{Worker, click, postback};
use postern_core::campaign::Campaign;
use postern_core::status::{Said, Status};
use postern_store::StoreError;
use std::sync::Arc;
use std::time::Duration;

/// What a commit writes, each as a trigger's event.
const WRITES: [&str; 12] = [
    "INSERT ON clicks",
    "INSERT ON click_stats",
    "INSERT ON click_totals",
    "INSERT ON conversions",
    "INSERT ON conversion_statuses",
    "INSERT ON conversion_stats",
    "INSERT ON conversion_totals",
    "INSERT ON postback_log",
    "INSERT ON postback_changes",
    "INSERT ON unmatched",
    "DELETE ON unmatched",
    "UPDATE ON partitions",
];

async fn contents(database: &Database) -> (i64, Vec<Vec<String>>) {
    let sums = "SELECT sum(clicks), sum(conversions), sum(reversed) FROM campaign_statistics";
    (database.rows().await, database.query(sums).await)
}

/// Each of a commit's statements is made to fail once, the one that moves the row among them.
pub async fn a_failure_anywhere_leaves_nothing(database: &Database) {
    let store = database.store.as_ref();
    let mut campaign = Campaign {
        campaign_id: 1,
        version: 1,
        ..Campaign::default()
    };
    campaign.settings.statuses = true;
    database.campaign(&campaign).await;
    let mut worker = Worker::new(store, 0).await;
    // Statistics that the next batch adds to, and a postback whose click it brings.
    worker
        .batch(
            store,
            &[click("first", 1)],
            &[postback(1, "first", "1"), postback(2, "late", "2")],
        )
        .await;
    let mut reversal = postback(5, "first", "1");
    reversal.status = Some(Said {
        word: "reversed".to_owned(),
        status: Some(Status::Reversed),
    });
    let (batch, _) = worker
        .prepare(
            store,
            &[click("late", 1), click("a", 1)],
            &[postback(3, "a", "3"), postback(4, "unknown", "4"), reversal],
        )
        .await;
    let before = contents(database).await;
    if database.is_postgres() {
        let function = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS \
                        $$ BEGIN RAISE EXCEPTION 'made to fail'; END $$";
        database.query(function).await;
    }
    for write in WRITES {
        let (create, drop) = if database.is_postgres() {
            let table = write.split(' ').next_back().unwrap();
            (
                format!("BEFORE {write} FOR EACH ROW EXECUTE FUNCTION fails()"),
                format!("DROP TRIGGER fails ON {table}"),
            )
        } else {
            (
                format!("BEFORE {write} BEGIN SELECT RAISE(ABORT, 'made to fail'); END"),
                "DROP TRIGGER fails".to_owned(),
            )
        };
        database
            .query(&format!("CREATE TRIGGER fails {create}"))
            .await;
        let error = store.commit(&batch).await.unwrap_err();
        assert!(
            !matches!(error, StoreError::Fenced { .. }),
            "{write}: {error:?}"
        );
        assert_eq!(contents(database).await, before, "{write}");
        let rows = store.partitions(&[0]).await.unwrap();
        assert_eq!(rows, [worker.state], "{write}");
        database.query(&drop).await;
    }
    store.commit(&batch).await.unwrap();
    worker.committed(&batch);
    assert_eq!(store.partitions(&[0]).await.unwrap(), [worker.state]);
    assert_eq!(worker.state.sequence, 4);
    assert_eq!(contents(database).await.1, [["3", "2", "1"]]);
}

/// A commit that waits for somebody else's must compare what that one left, not what was there
/// when it began.
pub async fn who_waited_compares_what_the_other_left(database: &Database) {
    const HOLD: &str = "UPDATE partitions SET version = version + 1 WHERE partition = 0";
    let worker = Worker::new(database.store.as_ref(), 0).await;
    let store = database.store.as_ref();
    let (batch, _) = worker
        .prepare(store, &[click("a", 1)], &[postback(1, "a", "1")])
        .await;
    let store = Arc::clone(&database.store);
    let commit = async move { store.commit(&batch).await };
    let outcome = if database.is_postgres() {
        let holder = connect(&database.url).await;
        holder
            .batch_execute(&format!("BEGIN; {HOLD}"))
            .await
            .unwrap();
        let waiting = tokio::spawn(commit);
        database.until_it_waits(&waiting).await;
        holder.batch_execute("COMMIT").await.unwrap();
        waiting.await.unwrap()
    } else {
        let path = database.url.strip_prefix("sqlite:").unwrap();
        let file = libsql::Builder::new_local(path).build().await.unwrap();
        let holder = file.connect().unwrap();
        holder.execute("BEGIN IMMEDIATE", ()).await.unwrap();
        holder.execute(HOLD, ()).await.unwrap();
        let waiting = tokio::spawn(commit);
        // Nothing tells that it waits. Where it comes too late to wait, nothing is lost but the
        // test's point.
        tokio::time::sleep(Duration::from_millis(200)).await;
        holder.execute("COMMIT", ()).await.unwrap();
        waiting.await.unwrap()
    };
    assert!(
        matches!(outcome, Err(StoreError::Fenced { partition: 0 })),
        "{outcome:?}"
    );
    assert_eq!(database.rows().await, 0);
}
