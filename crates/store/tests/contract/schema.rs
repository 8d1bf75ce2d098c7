//! Migrations, and the topics that a store belongs to.

use crate::engine::Database;
use crate::world::{clickid, request, start};
use postern_core::campaign::Dedupe;
use postern_core::status::Status;
use postern_store::{Lookup, StoreError, StoreOptions, Topics};

/// How many there are.
const MIGRATIONS: usize = 3;

fn topics(partitions: i32, clicks: Option<&str>, postbacks: Option<&str>) -> Topics {
    Topics {
        partitions,
        clicks_id: clicks.map(str::to_owned),
        postbacks_id: postbacks.map(str::to_owned),
    }
}

async fn unmigrate(database: &Database) {
    let drop = if database.is_postgres() {
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    } else {
        "DROP TABLE schema_migrations"
    };
    database.query(drop).await;
}

pub async fn without_a_schema_everything_says_so(database: &Database) {
    database.store.check_schema().await.unwrap();
    unmigrate(database).await;
    let store = database.again();
    store.ping().await.unwrap();
    let error = store.check_schema().await.unwrap_err();
    assert!(matches!(&error, StoreError::Schema(_)), "{error:?}");
    assert!(error.to_string().contains("postern migrate"), "{error}");
    if database.is_postgres() {
        let errors = [
            store.create_partitions(&[start(0)]).await.unwrap_err(),
            store.partitions(&[0]).await.unwrap_err(),
            store.rejects_position(0).await.unwrap_err(),
            store
                .load(&Lookup {
                    campaigns: vec![1],
                    ..Lookup::default()
                })
                .await
                .unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(&error, StoreError::Schema(_)), "{error:?}");
        }
        // The pool recovers by itself.
        assert_eq!(store.migrate().await.unwrap().len(), MIGRATIONS);
        assert_eq!(store.partitions(&[0]).await.unwrap(), []);
    }
}

pub async fn migrating_twice_and_two_at_once_is_harmless(database: &Database) {
    assert_eq!(database.store.migrate().await.unwrap(), []);
    if !database.is_postgres() {
        // A file of its own, beside the first.
        let url = format!("{}-2", database.url);
        let one = postern_store::open(&url, StoreOptions::default()).unwrap();
        let two = postern_store::open(&url, StoreOptions::default()).unwrap();
        let (first, second) = tokio::join!(one.migrate(), two.migrate());
        assert_eq!(first.unwrap().len() + second.unwrap().len(), MIGRATIONS);
        two.check_schema().await.unwrap();
        return;
    }
    for _ in 0..5 {
        unmigrate(database).await;
        let (one, two) = (database.again(), database.again());
        let (first, second) = tokio::join!(one.migrate(), two.migrate());
        let applied = [first.unwrap(), second.unwrap()].concat();
        let mut numbers: Vec<_> = applied.iter().map(|one| one.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        one.check_schema().await.unwrap();
    }
}

/// What an installation holds that was there before campaigns could be set.
pub async fn rows_of_the_first_schema_are_taken_over(database: &Database) {
    let first = if database.is_postgres() {
        database
            .script("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            .await;
        include_str!("../../migrations/postgres/0001_main_path.sql")
    } else {
        let views = [
            "current_conversions",
            "campaign_statistics",
            "campaign_settings",
        ];
        for view in views {
            database.query(&format!("DROP VIEW {view}")).await;
        }
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table'";
        for row in database.query(tables).await {
            database.query(&format!("DROP TABLE {}", row[0])).await;
        }
        include_str!("../../migrations/sqlite/0001_main_path.sql")
    };
    database.script(first).await;
    let time = if database.is_postgres() {
        "'2025-11-26 14:32:10Z'"
    } else {
        "1764167530000000"
    };
    let no = if database.is_postgres() { "false" } else { "0" };
    let ids = [1, 2].map(|number| request(number).to_string());
    let applied = if database.is_postgres() {
        "timestamptz"
    } else {
        "text"
    };
    database
        .script(&format!(
            "CREATE TABLE schema_migrations (number integer PRIMARY KEY, name text NOT NULL, \
                 applied_at {applied} NOT NULL DEFAULT CURRENT_TIMESTAMP); \
             INSERT INTO schema_migrations (number, name) VALUES (1, 'main_path'); \
             INSERT INTO campaigns (campaign_id, name, dedupe, version) VALUES (7, 'x', 'txid', 3); \
             INSERT INTO conversions (conversion_id, clickid, event, campaign_id, site_id, source, \
                 publisher_id, traffic_log_id, revenue_micros, currency, currency_sent, \
                 created_at, clicked_at, policy_version, kafka_partition, sequence) \
             VALUES ('{id}', 'a', '', 7, 's', 'q', '', '', 1500000, 'USD', {no}, {time}, {time}, \
                 3, 0, 1); \
             INSERT INTO conversion_stats VALUES (7, {time}, 's', 'q', 'USD', 0, 1, 1, 500000); \
             INSERT INTO postback_log (request_id, received_at, outcome, reason, clickid, \
                 conversion_id, policy_version, method, raw_query, raw_body, address, user_agent) \
             VALUES ('{id}', {time}, 'converted', NULL, 'a', '{id}', 3, 'GET', '', '', '', ''), \
                 ('{late}', {time}, 'click_not_found', 'unmatched', 'a', NULL, 0, 'GET', '', '', \
                  '', ''); \
             INSERT INTO postback_changes VALUES ('{late}', 1, 'duplicate', 'late_click', '{id}', 3)",
            id = ids[0],
            late = ids[1],
        ))
        .await;
    let applied = database.store.migrate().await.unwrap();
    assert_eq!(applied.len(), MIGRATIONS - 1);
    let campaign = database.store.campaign(7).await.unwrap().unwrap();
    assert_eq!(
        (campaign.version, campaign.settings.dedupe),
        (3, Dedupe::Txid)
    );
    let versions = database.store.campaign_versions(7).await.unwrap();
    assert_eq!((versions.len(), versions[0].version), (1, 3));
    let lookup = Lookup {
        request_ids: vec![request(1), request(2)],
        clickids: vec![clickid("a")],
        ..Lookup::default()
    };
    let view = database.store.load(&lookup).await.unwrap();
    let stored = &view.conversions["a"][0];
    assert_eq!(
        (stored.dedupe, stored.status),
        (Dedupe::Txid, Status::Approved)
    );
    assert_eq!(stored.status_id, request(1));
    assert_eq!(view.known[&request(1)].outcome.word(), "converted");
    assert_eq!(view.known[&request(2)].outcome.word(), "duplicate");
    let sql = "SELECT sum(conversions), sum(pending) FROM campaign_statistics";
    assert_eq!(database.query(sql).await, [["1", "0"]]);
    let sql = "SELECT campaign_id, currency, slot, approved, approved_whole, approved_micros, \
               pending FROM conversion_totals";
    let totals = [["7", "USD", "0", "1", "1", "500000", "0"]];
    assert_eq!(database.query(sql).await, totals);
    let sql = "SELECT count(*) FROM postback_changes c JOIN postback_log l \
               ON l.request_id = c.request_id AND l.received_at = c.received_at";
    assert_eq!(database.number(sql).await, 1);
}

pub async fn a_newer_schema_is_refused(database: &Database) {
    database
        .query("INSERT INTO schema_migrations (number, name) VALUES (1000, 'later')")
        .await;
    for error in [
        database.store.check_schema().await.unwrap_err(),
        database.store.migrate().await.unwrap_err(),
    ] {
        assert!(matches!(&error, StoreError::Schema(_)), "{error:?}");
        assert!(error.to_string().contains("1000"), "{error}");
    }
}

pub async fn topics_are_recorded_once(database: &Database) {
    let store = &database.store;
    let first = topics(6, Some("A"), Some("B"));
    assert!(!store.check_topics(&first).await.unwrap(), "none yet");
    store
        .record_topics(&topics(6, None, Some("B")))
        .await
        .unwrap();
    // An id that wasn't known is filled in, one that isn't told now is no difference.
    store
        .record_topics(&topics(6, Some("A"), None))
        .await
        .unwrap();
    store.record_topics(&topics(6, None, None)).await.unwrap();
    assert!(store.check_topics(&topics(6, None, None)).await.unwrap());
    store
        .record_topics(&topics(6, Some("A"), Some("B")))
        .await
        .unwrap();
    for (other, words) in [
        (topics(12, Some("A"), Some("B")), ["6 partitions", "12 now"]),
        (topics(6, Some("C"), Some("B")), ["clicks", "it is C now"]),
        (topics(6, None, Some("D")), ["postbacks", "it is D now"]),
    ] {
        for error in [
            store.record_topics(&other).await.unwrap_err(),
            store.check_topics(&other).await.unwrap_err(),
        ] {
            assert!(matches!(&error, StoreError::Topics(_)), "{error:?}");
            for word in words {
                assert!(error.to_string().contains(word), "{error}");
            }
        }
    }
    assert_eq!(
        database
            .query("SELECT partitions, clicks_id, postbacks_id FROM topics")
            .await,
        [["6", "A", "B"]]
    );
}

pub async fn of_two_at_once_one_records_the_topics(database: &Database) {
    let (one, two) = (database.again(), database.again());
    for round in 0..10 {
        database.query("DELETE FROM topics").await;
        let (a, b) = (topics(4, Some("A"), None), topics(8, None, Some("B")));
        let (first, second) = tokio::join!(one.record_topics(&a), two.record_topics(&b));
        assert!(
            first.is_ok() != second.is_ok(),
            "round {round}: {first:?} {second:?}"
        );
        let loser = first.err().or(second.err()).unwrap();
        assert!(matches!(loser, StoreError::Topics(_)), "{loser:?}");
    }
}
