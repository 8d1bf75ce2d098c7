//! Migrations, and the topics that a store belongs to.

use crate::engine::Database;
use crate::world::start;
use postern_store::{Lookup, StoreError, Topics};

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
        assert_eq!(store.migrate().await.unwrap().len(), 1);
        assert_eq!(store.partitions(&[0]).await.unwrap(), []);
    }
}

pub async fn migrating_twice_and_two_at_once_is_harmless(database: &Database) {
    assert_eq!(database.store.migrate().await.unwrap(), []);
    if !database.is_postgres() {
        // A file of its own, beside the first.
        let url = format!("{}-2", database.url);
        let one = postern_store::open(&url, 1).unwrap();
        let two = postern_store::open(&url, 1).unwrap();
        let (first, second) = tokio::join!(one.migrate(), two.migrate());
        assert_eq!(first.unwrap().len() + second.unwrap().len(), 1);
        two.check_schema().await.unwrap();
        return;
    }
    for _ in 0..5 {
        unmigrate(database).await;
        let (one, two) = (database.again(), database.again());
        let (first, second) = tokio::join!(one.migrate(), two.migrate());
        let applied = [first.unwrap(), second.unwrap()].concat();
        assert_eq!(applied.len(), 1, "{applied:?}");
        assert_eq!(applied[0].number, 1);
        one.check_schema().await.unwrap();
    }
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
    store
        .record_topics(&topics(6, Some("A"), Some("B")))
        .await
        .unwrap();
    for (other, words) in [
        (topics(12, Some("A"), Some("B")), ["6 partitions", "12 now"]),
        (topics(6, Some("C"), Some("B")), ["clicks", "it is C now"]),
        (topics(6, None, Some("D")), ["postbacks", "it is D now"]),
    ] {
        let error = store.record_topics(&other).await.unwrap_err();
        assert!(matches!(&error, StoreError::Topics(_)), "{error:?}");
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
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
