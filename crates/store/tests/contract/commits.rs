//! Commits: the fence, all or nothing, and the statistics.

use crate::engine::{Database, connect};
use crate::world::{Worker, at, click, clickid, postback, request, start, with_txid};
use postern_core::campaign::Dedupe;
use postern_core::record::click::Click;
use postern_core::record::postback::Postback;
use postern_store::postgres::{PostgresConfig, PostgresStore};
use postern_store::{Batch, RejectsAdvance, Store, StoreError};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

pub async fn partitions_are_created_once_and_read_in_order(database: &Database) {
    let store = &database.store;
    let rows = [start(3), start(1), start(2)];
    let created = store.create_partitions(&rows).await.unwrap();
    assert_eq!(created, [start(1), start(2), start(3)]);
    let mut other = start(2);
    other.clicks = 17;
    let mut fourth = start(4);
    fourth.postbacks = 5;
    let rows = store.create_partitions(&[fourth, other]).await.unwrap();
    assert_eq!(rows, [start(2), fourth], "the first row stays");
    let read = store.partitions(&[9, 4, 1]).await.unwrap();
    assert_eq!(read, [start(1), fourth], "what isn't there is left out");
    assert_eq!(store.partitions(&[]).await.unwrap(), []);
}

pub async fn a_commit_moves_the_row_and_counts(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 7).await;
    worker
        .batch(
            store,
            &[click("a", 1)],
            &[postback(1, "a", "1.5"), postback(2, "b", "1")],
        )
        .await;
    let row = store.partitions(&[7]).await.unwrap()[0];
    assert_eq!(row, worker.state);
    assert_eq!(
        (
            row.version,
            row.clicks,
            row.postbacks,
            row.sequence,
            row.unmatched
        ),
        (1, 1, 2, 1, 1)
    );
    // A batch that brings nothing moves the row all the same.
    let mut advance = Batch {
        advances: vec![postern_store::Advance {
            expected: row,
            next: row,
        }],
        ..Batch::default()
    };
    advance.advances[0].next.published = 1;
    store.commit(&advance).await.unwrap();
    let row = store.partitions(&[7]).await.unwrap()[0];
    assert_eq!((row.version, row.published), (2, 1));
}

pub async fn a_stale_writer_writes_nothing_at_all(database: &Database) {
    let store = database.store.as_ref();
    let mut owner = Worker::new(store, 0).await;
    let mut neighbour = Worker::new(store, 1).await;
    let mut batch = owner
        .prepare(
            store,
            &[click("a", 1)],
            &[postback(1, "a", "1"), postback(2, "x", "1")],
        )
        .await
        .0;
    // The batch covers partition 1 as well, which somebody else moves in the meantime.
    let (other, _) = neighbour.prepare(store, &[click("b", 1)], &[]).await;
    batch.advances.insert(0, other.advances[0]);
    neighbour.batch(store, &[], &[postback(3, "y", "1")]).await;
    let before = database.rows().await;
    for _ in 0..2 {
        match store.commit(&batch).await {
            Err(StoreError::Fenced { partition }) => assert_eq!(partition, 1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(database.rows().await, before);
    let rows = store.partitions(&[0, 1]).await.unwrap();
    assert_eq!(rows, [owner.state, neighbour.state]);

    // Every field is compared, and a row must be there.
    let advance = batch.advances[1];
    for change in 0..7 {
        let mut stale = advance;
        match change {
            0 => stale.expected.version += 1,
            1 => stale.expected.clicks += 1,
            2 => stale.expected.postbacks += 1,
            3 => stale.expected.sequence += 1,
            4 => stale.expected.published += 1,
            5 => stale.expected.unmatched += 1,
            _ => {
                stale.expected.partition = 5;
                stale.next.partition = 5;
            }
        }
        batch.advances = vec![stale];
        let error = store.commit(&batch).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Fenced { .. }),
            "{change}: {error:?}"
        );
    }
    assert_eq!(database.rows().await, before);
    batch.advances = vec![advance];
    store.commit(&batch).await.unwrap();
    owner.committed(&batch);
    assert_eq!(store.partitions(&[0]).await.unwrap(), [owner.state]);
}

pub async fn of_two_writers_one_wins(database: &Database) {
    let (one, two) = (database.again(), database.again());
    let mut worker = Worker::new(one.as_ref(), 0).await;
    for round in 0..20_u32 {
        let id = format!("c{round}");
        let number = u128::from(round) * 2;
        let (first, _) = worker
            .prepare(
                one.as_ref(),
                &[click(&id, 1)],
                &[postback(number, &id, "1")],
            )
            .await;
        let (second, _) = worker
            .prepare(
                two.as_ref(),
                &[click(&id, 2)],
                &[postback(number + 1, &id, "2")],
            )
            .await;
        let (a, b) = tokio::join!(one.commit(&first), two.commit(&second));
        let (won, lost) = match (a, b) {
            (Ok(()), Err(lost)) => (first, lost),
            (Err(lost), Ok(())) => (second, lost),
            other => panic!("round {round}: {other:?}"),
        };
        assert!(
            matches!(lost, StoreError::Fenced { partition: 0 }),
            "{lost:?}"
        );
        worker.committed(&won);
    }
    assert_eq!(
        database.number("SELECT count(*) FROM conversions").await,
        20
    );
    assert_eq!(
        database.number("SELECT count(*) FROM postback_log").await,
        20
    );
    assert_eq!(
        database.number("SELECT sum(clicks) FROM click_stats").await,
        20
    );
}

pub async fn a_batch_without_partitions_is_refused(database: &Database) {
    let store = database.store.as_ref();
    let worker = Worker::new(store, 0).await;
    let (batch, _) = worker.prepare(store, &[click("a", 1)], &[]).await;
    let mut none = batch.clone();
    none.advances.clear();
    let mut twice = batch.clone();
    twice.advances.push(batch.advances[0]);
    for odd in [none, twice] {
        let error = store.commit(&odd).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    }
    assert_eq!(database.rows().await, 0);
}

pub async fn a_refused_batch_leaves_nothing(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    worker
        .batch(store, &[click("a", 1)], &[postback(1, "a", "1")])
        .await;
    let before = database.rows().await;
    // A postback that is logged already, one that makes a second conversion of its click, and a
    // number that was given before: what the decision never asks for.
    let (mut batch, _) = worker
        .prepare(
            store,
            &[click("b", 1)],
            &[postback(2, "b", "1"), postback(3, "u", "1")],
        )
        .await;
    let good = batch.clone();
    batch.writes.log[1].postback.request_id = request(1);
    let logged_twice = batch;
    let mut second_conversion = good.clone();
    second_conversion.writes.conversions[0].2.clickid = clickid("a");
    let mut number_twice = good.clone();
    number_twice.writes.conversions[0].1 = 1;
    for bad in [logged_twice, second_conversion, number_twice] {
        let error = store.commit(&bad).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
        assert_eq!(database.rows().await, before);
        assert_eq!(store.partitions(&[0]).await.unwrap(), [worker.state]);
    }
    store.commit(&good).await.unwrap();
}

/// A foreign producer puts a click into two partitions; the second one was not seen by the
/// decision because both batches were read before either was written.
pub async fn a_click_counts_once(database: &Database) {
    let store = database.store.as_ref();
    let mut here = Worker::new(store, 0).await;
    let mut there = Worker::new(store, 1).await;
    let (one, _) = here
        .prepare(store, &[click("a", 1), click("b", 1), click("c", 1)], &[])
        .await;
    let (two, _) = there
        .prepare(store, &[click("c", 2), click("d", 2), click("b", 2)], &[])
        .await;
    store.commit(&one).await.unwrap();
    here.committed(&one);
    store.commit(&two).await.unwrap();
    there.committed(&two);
    assert_eq!(
        database
            .query("SELECT partition, campaign_id, clicks FROM click_stats ORDER BY partition")
            .await,
        [["0", "1", "3"], ["1", "2", "1"]]
    );
    assert_eq!(
        database
            .query("SELECT clickid, campaign_id, kafka_partition, kafka_offset FROM clicks ORDER BY clickid")
            .await,
        [
            ["a", "1", "0", "0"],
            ["b", "1", "0", "1"],
            ["c", "1", "0", "2"],
            ["d", "2", "1", "1"],
        ]
    );
}

fn click_at(id: &str, campaign: i64, site: &str, source: &str, seconds: i64) -> Click {
    let labels = [site, source, "", ""].map(str::to_owned);
    Click::from_parts(clickid(id), campaign, labels, at(seconds))
}

pub async fn statistics_are_the_sums_of_the_conversions(database: &Database) {
    let store = database.store.as_ref();
    database.dedupe(3, Dedupe::Txid, 1).await;
    let mut workers = [Worker::new(store, 0).await, Worker::new(store, 1).await];
    for batch in 0..6_i64 {
        let mut clicks = Vec::new();
        let mut postbacks: Vec<Postback> = Vec::new();
        for n in 0..40_i64 {
            let id = format!("{batch}-{n}");
            let site = ["s1", "s2", ""][usize::try_from(n % 3).unwrap()];
            let source = ["web", "app's"][usize::try_from(n % 2).unwrap()];
            clicks.push(click_at(&id, n % 4, site, source, n * 250));
            for copy in 0..2_i64 {
                let number = u128::try_from(batch * 1_000 + n * 2 + copy).unwrap();
                let mut one = postback(number, &id, &format!("{n}.{:06}", 999_999 - copy));
                one.received_at = at(n * 400 - 7 * copy);
                one.currency = postern_core::currency::Currency::normalize(
                    ["USD", "EUR"][usize::try_from(n % 2).unwrap()],
                );
                postbacks.push(with_txid(one, &copy.to_string()));
            }
        }
        let worker = &mut workers[usize::try_from(batch % 2).unwrap()];
        worker.batch(store, &clicks, &postbacks).await;
    }
    let bucket = |column: &str| {
        if database.is_postgres() {
            format!("date_bin('15 minutes', {column}, 'epoch'::timestamptz)")
        } else {
            format!("{column} - {column} % 900000000")
        }
    };
    let kept = database
        .query(
            "SELECT campaign_id, bucket, site_id, source, currency, partition, conversions, \
             revenue_whole, revenue_micros FROM conversion_stats ORDER BY 1, 2, 3, 4, 5, 6",
        )
        .await;
    let summed = database
        .query(&format!(
            "SELECT campaign_id, {} AS b, site_id, source, currency, kafka_partition, count(*), \
             sum(revenue_micros / 1000000), sum(revenue_micros % 1000000) FROM conversions \
             GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6",
            bucket("created_at")
        ))
        .await;
    assert_eq!(kept, summed);
    assert!(kept.len() > 20, "{}", kept.len());
    let kept = database
        .query(
            "SELECT campaign_id, bucket, site_id, source, partition, clicks FROM click_stats \
             ORDER BY 1, 2, 3, 4, 5",
        )
        .await;
    let counted = database
        .query(&format!(
            "SELECT campaign_id, {} AS b, site_id, source, kafka_partition, count(*) FROM clicks \
             GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5",
            bucket("clicked_at")
        ))
        .await;
    assert_eq!(kept, counted);
    totals_are_the_sums_of_sites_and_sources(database).await;
    assert_eq!(
        database
            .query("SELECT sum(clicks), sum(conversions) FROM campaign_statistics")
            .await,
        database
            .query("SELECT (SELECT count(*) FROM clicks), (SELECT count(*) FROM conversions)")
            .await
    );
}

pub async fn totals_are_the_sums_of_sites_and_sources(database: &Database) {
    let statuses = ["approved", "pending", "rejected", "reversed"];
    let rows = statuses.map(|status| {
        format!(
            "SELECT campaign_id, bucket, currency, '{status}' AS status, \
                    sum({status}) AS n, sum({status}_whole), sum({status}_micros) \
               FROM conversion_totals GROUP BY campaign_id, bucket, currency \
             HAVING sum({status}) <> 0"
        )
    });
    let kept = format!("{} ORDER BY 1, 2, 3, 4", rows.join(" UNION ALL "));
    let kept = database.query(&kept).await;
    let summed = database
        .query(
            "SELECT campaign_id, bucket, currency, status, sum(conversions), sum(revenue_whole), \
                    sum(revenue_micros) \
               FROM conversion_stats GROUP BY campaign_id, bucket, currency, status \
             HAVING sum(conversions) <> 0 ORDER BY 1, 2, 3, 4",
        )
        .await;
    assert_eq!(kept, summed);
    assert!(!kept.is_empty());
    let grouped = |table: &str| {
        format!(
            "SELECT campaign_id, bucket, sum(clicks) FROM {table} \
             GROUP BY campaign_id, bucket ORDER BY 1, 2"
        )
    };
    let kept = database.query(&grouped("click_totals")).await;
    assert_eq!(kept, database.query(&grouped("click_stats")).await);
}

pub async fn sums_beyond_64_bits_of_millionths_hold(database: &Database) {
    let store = database.store.as_ref();
    let mut workers = [Worker::new(store, 0).await, Worker::new(store, 1).await];
    for (batch, worker) in (0..4).zip([0, 1, 0, 1]) {
        let ids: Vec<_> = (0..500).map(|n| format!("{batch}-{n}")).collect();
        let clicks: Vec<_> = ids.iter().map(|id| click(id, 1)).collect();
        let postbacks: Vec<_> = (0_u128..)
            .zip(&ids)
            .map(|(n, id)| {
                let mut one = postback(batch * 1_000 + n, id, "8999999999999.999999");
                one.received_at = at(0);
                one
            })
            .collect();
        workers[worker].batch(store, &clicks, &postbacks).await;
    }
    // 2,000 times 8,999,999,999,999.999999
    if database.is_postgres() {
        let rows = database
            .query(
                "SELECT conversions, revenue::text FROM campaign_statistics WHERE conversions > 0",
            )
            .await;
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0][0], "2000");
        assert!(
            rows[0][1].trim_end_matches('0') == "17999999999999999.998",
            "{}",
            rows[0][1]
        );
    } else {
        assert_eq!(
            database
                .query(
                    "SELECT conversions, revenue_whole, revenue_micros FROM campaign_statistics \
                     WHERE conversions > 0",
                )
                .await,
            [["2000", "17999999999999999", "998000"]]
        );
    }
}

/// Given up at any moment, a commit took place or it didn't, and the next one isn't caught in
/// its transaction.
pub async fn a_commit_that_is_given_up_leaves_no_transaction(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let (mut took_place, mut did_not) = (0, 0);
    for round in 0..40_u32 {
        let id = format!("c{round}");
        let (batch, _) = worker
            .prepare(store, &[click(&id, 1)], &[postback(round.into(), &id, "1")])
            .await;
        let patience = match round {
            0..36 => Duration::from_micros(u64::from(round) * 60),
            _ => Duration::from_secs(10),
        };
        let in_time = tokio::time::timeout(patience, store.commit(&batch)).await;
        // What became of it shows under the row's lock: another commit of the same batch.
        match store.commit(&batch).await {
            Ok(()) => {
                did_not += 1;
                assert!(in_time.is_err());
            }
            Err(StoreError::Fenced { .. }) => took_place += 1,
            other => panic!("{other:?}"),
        }
        worker.committed(&batch);
        assert_eq!(store.partitions(&[0]).await.unwrap(), [worker.state]);
    }
    assert!(took_place > 0, "every commit was given up in time");
    // SQLite's run to their end once they began.
    assert!(
        did_not > 0 || !database.is_postgres(),
        "no commit was given up in time"
    );
    assert_eq!(
        database.number("SELECT count(*) FROM conversions").await,
        40
    );
    if database.is_postgres() {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' \
                    AND datname = current_database()";
        assert_eq!(database.number(open).await, 0);
    }
}

/// PostgreSQL only: somebody holds the row for longer than the lock timeout.
pub async fn a_held_row_times_out_as_unavailable(database: &Database) {
    let mut config = PostgresConfig::new(&database.url, 2);
    config.lock_timeout = Duration::from_millis(200);
    let store = PostgresStore::connect(config, None).unwrap();
    let worker = Worker::new(&store, 0).await;
    let (batch, _) = worker.prepare(&store, &[click("a", 1)], &[]).await;
    let holder = connect(&database.url).await;
    holder
        .batch_execute("BEGIN; SELECT 1 FROM partitions FOR UPDATE")
        .await
        .unwrap();
    let begin = Instant::now();
    let error = store.commit(&batch).await.unwrap_err();
    assert!(error.is_retriable(), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(8));
    holder.batch_execute("ROLLBACK").await.unwrap();
    store.commit(&batch).await.unwrap();
}

/// A commit that goes on beside the test.
fn committing(store: &Arc<dyn Store>, batch: &Batch) -> JoinHandle<Result<(), StoreError>> {
    let (store, batch) = (Arc::clone(store), batch.clone());
    tokio::spawn(async move { store.commit(&batch).await })
}

/// A worker of a store with one connection, which has all statements by then.
async fn under_way(database: &Database) -> (Arc<dyn Store>, Batch) {
    let config = PostgresConfig::new(&database.url, 1);
    let store: Arc<dyn Store> = Arc::new(PostgresStore::connect(config, None).unwrap());
    let mut worker = Worker::new(store.as_ref(), 0).await;
    let first = [click("first", 1)];
    worker.batch(store.as_ref(), &first, &[]).await;
    let (batch, _) = worker.prepare(store.as_ref(), &[click("a", 1)], &[]).await;
    (store, batch)
}

/// A real one: the commit holds its row and waits for a table, whose holder waits for the row.
pub async fn a_deadlock_leaves_nothing_and_passes(database: &Database) {
    let (store, batch) = under_way(database).await;
    let holder = connect(&database.url).await;
    // Who waited first notices first, and gives way.
    let hold = "SET deadlock_timeout = '1min'; BEGIN; LOCK TABLE clicks IN SHARE MODE";
    holder.batch_execute(hold).await.unwrap();
    let commit = committing(&store, &batch);
    database.until_it_waits(&commit).await;
    let row = "SELECT 1 FROM partitions WHERE partition = 0 FOR UPDATE";
    holder.batch_execute(row).await.unwrap();
    let error = commit.await.unwrap().unwrap_err();
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert!(error.is_retriable(), "{error:?}");
    assert!(format!("{error:?}").contains("40P01"), "{error:?}");
    assert_eq!(database.number("SELECT count(*) FROM clicks").await, 1);
    store.commit(&batch).await.unwrap();
}

/// Where an administrator made transactions stricter than they need to be: commits don't fail for
/// it. What fails all the same for such a reason, here made up by a trigger, passes.
pub async fn a_serialization_failure_leaves_nothing_and_passes(database: &Database) {
    let name = &database.query("SELECT current_database()").await[0][0];
    let strict = "SET default_transaction_isolation = 'serializable'";
    let strict = format!("ALTER DATABASE {name} {strict}");
    database.script(&strict).await;
    let (store, batch) = under_way(database).await;
    let lenient = "RESET default_transaction_isolation";
    let lenient = format!("ALTER DATABASE {name} {lenient}");
    database.script(&lenient).await;
    let fails = "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN RAISE EXCEPTION 'made to fail' USING ERRCODE = '40001'; END $$; \
                 CREATE TRIGGER fails BEFORE UPDATE ON partitions \
                 FOR EACH ROW EXECUTE FUNCTION fails()";
    database.script(fails).await;
    let error = store.commit(&batch).await.unwrap_err();
    database.script("DROP TRIGGER fails ON partitions").await;
    assert!(error.is_retriable(), "{error:?}");
    assert_eq!(database.number("SELECT count(*) FROM clicks").await, 1);
    let holder = connect(&database.url).await;
    let hold = "BEGIN; UPDATE partitions SET version = version WHERE partition = 0";
    holder.batch_execute(hold).await.unwrap();
    let commit = committing(&store, &batch);
    database.until_it_waits(&commit).await;
    holder.batch_execute("COMMIT").await.unwrap();
    commit.await.unwrap().unwrap();
    assert_eq!(database.number("SELECT count(*) FROM clicks").await, 2);
}

pub async fn rejects_move_once(database: &Database) {
    let store = &database.store;
    let advance = |expected, next| RejectsAdvance {
        partition: 2,
        expected,
        next,
    };
    assert_eq!(store.rejects_position(2).await.unwrap(), None);
    store.commit_rejects(&advance(None, 10), &[]).await.unwrap();
    assert_eq!(store.rejects_position(2).await.unwrap(), Some(10));
    for stale in [advance(None, 11), advance(Some(9), 11)] {
        let error = store.commit_rejects(&stale, &[]).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Fenced { partition: 2 }),
            "{error:?}"
        );
    }
    store
        .commit_rejects(&advance(Some(10), 11), &[])
        .await
        .unwrap();
    assert_eq!(store.rejects_position(2).await.unwrap(), Some(11));
    assert_eq!(store.rejects_position(3).await.unwrap(), None);
}
