//! What is read back.

use crate::engine::Database;
use crate::world::{Worker, at, click, clickid, origin, postback, request, with_txid};
use postern_core::campaign::{Campaign, Dedupe};
use postern_core::currency::Currency;
use postern_core::decision::{Known, Stored};
use postern_core::money::Revenue;
use postern_core::record::click::Click;
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::Origin;
use postern_core::record::verdict::Outcome;
use postern_core::request::Warning;
use postern_store::{Logged, LoggedState, Lookup, RefusedPostback, RejectsAdvance, StoreError};

/// Quotes, separators, arrays' and JSON's syntax, other scripts, replaced bytes.
fn ugly() -> String {
    "a'b\"c\\d{e,f}[g]%h;--\u{fffd}é😀\u{202e} \t\n\u{1}$1?NULL".to_owned()
}

fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

pub async fn every_field_comes_back(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 3).await;
    let id = "i'd\\{\"é😀,NULL";
    let longest = "é".repeat(127) + "x";
    let click = Click::from_parts(
        clickid(id),
        i64::MAX,
        [
            cut(&ugly().repeat(8), 255),
            ugly(),
            "null".to_owned(),
            String::new(),
        ],
        "9999-12-30T22:00:00.999999Z".parse().unwrap(),
    );
    let other = Click::from_parts(
        clickid(&longest),
        1,
        Default::default(),
        "1970-01-01T00:00:00Z".parse().unwrap(),
    );
    let mut first = postback(1, id, "9000000000000");
    first.revenue_raw = Some(ugly());
    first.currency = Currency::normalize("€'😀");
    first.currency_sent = true;
    first.external_id = Some("\u{fffd}'".repeat(256));
    first.subids = [
        Some(ugly()),
        None,
        Some(String::new()),
        Some("\\N".to_owned()),
        Some("x\"".repeat(512)),
    ];
    first.warnings = vec![
        Warning {
            code: "truncated".into(),
            parameter: "txid".into(),
            message: ugly(),
        },
        Warning {
            code: "b".into(),
            parameter: "revenue".into(),
            message: String::new(),
        },
    ];
    first.origin = Origin {
        method: "POST".to_owned(),
        raw_query: ugly(),
        raw_body: ugly().repeat(100),
        address: "2001:db8::1".to_owned(),
        user_agent: ugly(),
    };
    let mut second = postback(2, &longest, "0.000001");
    second.received_at = "1970-01-01T00:00:00.000001Z".parse().unwrap();
    let unknown = {
        let mut unknown = first.clone();
        unknown.request_id = request(3);
        unknown.clickid = clickid("unknown");
        unknown
    };
    let postbacks = [first.clone(), second.clone(), unknown.clone()];
    worker
        .batch(store, &[click.clone(), other.clone()], &postbacks)
        .await;

    let mut expected = Conversion::of(&first, &click, &Campaign::default());
    let rest = Conversion::of(&second, &other, &Campaign::default());
    let stored = store.conversions_after(3, 0, 10).await.unwrap();
    assert_eq!(stored, [(1, expected.clone()), (2, rest)]);

    let lookup = Lookup {
        request_ids: vec![request(1), request(2), request(3), request(4)],
        clickids: vec![clickid(id), clickid(&longest), clickid("none")],
        arrived: vec![clickid("unknown")],
        ..Lookup::default()
    };
    let view = store.load(&lookup).await.unwrap();
    assert_eq!(view.clicks.len(), 2);
    assert_eq!(view.clicks[&clickid(id)], click);
    assert_eq!(view.clicks[&clickid(&longest)], other);
    assert_eq!(view.conversions[&clickid(id)], [Stored::from(&expected)]);
    assert_eq!(view.known.len(), 3);
    let converted = Known {
        outcome: Outcome::Converted {
            campaign_id: i64::MAX,
            revenue: Revenue::MAX,
            currency: first.currency,
            created_at: first.received_at,
        },
        conversion_id: Some(request(1)),
        policy_version: 0,
    };
    assert_eq!(view.known[&request(1)], converted);
    assert_eq!(view.known[&request(3)].outcome, Outcome::ClickNotFound);
    assert_eq!(view.unmatched[&clickid("unknown")].len(), 1);
    assert_eq!(view.unmatched[&clickid("unknown")][0].postback, unknown);

    let logged = store.logged(request(1)).await.unwrap().unwrap();
    assert_eq!(
        logged,
        Logged {
            received_at: first.received_at,
            state: LoggedState::Decided {
                clickid: clickid(id),
                warnings: first.warnings.clone(),
                known: converted,
            },
        }
    );
    assert_eq!(store.logged(request(4)).await.unwrap(), None);
    let log = database
        .query(
            "SELECT revenue_raw, raw_query, raw_body, address, user_agent, method, external_id, \
             kafka_partition, kafka_offset FROM postback_log ORDER BY kafka_offset LIMIT 1",
        )
        .await;
    let origin = &first.origin;
    assert_eq!(
        log[0],
        [
            &ugly(),
            &origin.raw_query,
            &origin.raw_body,
            &origin.address,
            &origin.user_agent,
            "POST",
            first.external_id.as_ref().unwrap(),
            "3",
            "0",
        ]
    );

    // Goals and external ids tell conversions of one click apart.
    let (mut batch, _) = worker.prepare(store, &[], &[]).await;
    expected.conversion_id = request(10);
    expected.status_id = request(10);
    expected.event = ugly();
    batch.advances[0].next.sequence = 3;
    batch.writes.conversions = vec![(3, 3, expected.clone())];
    store.commit(&batch).await.unwrap();
    assert_eq!(
        store.conversions_after(3, 2, 10).await.unwrap(),
        [(3, expected)]
    );
}

/// The core replaces NUL. Where one comes through, no engine can hold it, ever.
pub async fn nul_in_text_is_no_passing_error(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let mut one = postback(1, "a", "1");
    one.subids[0] = Some("a\0b".to_owned());
    let result = worker.try_batch(store, &[click("a", 1)], &[one]).await;
    let error = result.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert_eq!(database.rows().await, 0);
}

pub async fn duplicates_echo_the_stored_conversion(database: &Database) {
    let store = database.store.as_ref();
    database.dedupe(18, Dedupe::Click, 4).await;
    let mut worker = Worker::new(store, 0).await;
    worker
        .batch(store, &[click("a", 18)], &[postback(1, "a", "1.23")])
        .await;
    let mut again = postback(2, "a", "9.99");
    again.currency = Currency::normalize("eur");
    let decided = worker.batch(store, &[], std::slice::from_ref(&again)).await;
    let known = Known {
        outcome: Outcome::Duplicate {
            campaign_id: 18,
            revenue: Revenue::parse("1.23").unwrap(),
            currency: Currency::USD,
        },
        conversion_id: Some(request(1)),
        policy_version: 4,
    };
    assert_eq!(decided.verdicts[0].outcome, known.outcome);
    let view = Worker::view(store, &[], std::slice::from_ref(&again)).await;
    assert_eq!(view.known[&request(2)], known);
    match store.logged(request(2)).await.unwrap().unwrap().state {
        LoggedState::Decided { known: logged, .. } => assert_eq!(logged, known),
        other => panic!("{other:?}"),
    }
    // Redelivered, it gets the same answer and writes nothing.
    let before = database.rows().await;
    let decided = worker.batch(store, &[], &[again]).await;
    assert_eq!(decided.verdicts[0].outcome, known.outcome);
    assert_eq!(database.rows().await, before);
}

pub async fn policies_come_with_clicks_conversions_and_campaigns(database: &Database) {
    let store = database.store.as_ref();
    let policies = [(1, Dedupe::Txid), (2, Dedupe::Click), (3, Dedupe::Event)];
    for (campaign, dedupe) in policies {
        database.dedupe(campaign, dedupe, campaign * 10).await;
    }
    let mut worker = Worker::new(store, 0).await;
    worker
        .batch(
            store,
            &[click("a", 1), click("b", 2), click("z", 99)],
            &[postback(1, "b", "1")],
        )
        .await;
    // The click of b expires; its conversion still brings the campaign.
    database
        .query("DELETE FROM clicks WHERE clickid = 'b'")
        .await;
    let lookup = Lookup {
        clickids: ["a", "b", "z"].map(clickid).into(),
        campaigns: vec![3, 4],
        ..Lookup::default()
    };
    let view = store.load(&lookup).await.unwrap();
    assert_eq!(view.campaigns.len(), 3);
    for (campaign, dedupe) in policies {
        let found = &view.campaigns[&campaign];
        let policy = (found.version, found.settings.dedupe);
        assert_eq!(policy, (campaign * 10, dedupe));
    }
}

pub async fn conversions_are_read_in_order(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let mut neighbour = Worker::new(store, 1).await;
    for batch in 0_u32..3 {
        let ids: Vec<_> = (0..10).map(|n| format!("{batch}-{n}")).collect();
        let clicks: Vec<_> = ids.iter().map(|id| click(id, 1)).collect();
        let postbacks: Vec<_> = (0_u128..)
            .zip(&ids)
            .map(|(n, id)| postback(u128::from(batch) * 10 + n, id, "1"))
            .collect();
        worker.batch(store, &clicks, &postbacks).await;
        let id = format!("n{batch}");
        let one = postback(1_000 + u128::from(batch), &id, "1");
        neighbour.batch(store, &[click(&id, 1)], &[one]).await;
    }
    let read = store.conversions_after(0, 4, 15).await.unwrap();
    let numbers: Vec<_> = read.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (5..20).collect::<Vec<_>>());
    assert!(
        (4..)
            .zip(&read)
            .all(|(n, (_, one))| one.conversion_id == request(n)),
        "in the order in which they were decided"
    );
    assert_eq!(store.conversions_after(0, 30, 5).await.unwrap(), []);
    assert_eq!(store.conversions_after(1, 0, 9).await.unwrap().len(), 3);
}

pub async fn conversions_of_a_click_keep_their_order(database: &Database) {
    let store = database.store.as_ref();
    database.dedupe(1, Dedupe::Txid, 1).await;
    let mut worker = Worker::new(store, 0).await;
    worker.batch(store, &[click("a", 1)], &[]).await;
    for (number, txid) in [(5, "z"), (3, "a"), (9, "m"), (1, "")] {
        let one = with_txid(postback(number, "a", "1"), txid);
        worker.batch(store, &[], &[one]).await;
    }
    let view = Worker::view(store, &[], &[postback(20, "a", "1")]).await;
    let keys: Vec<_> = view.conversions[&clickid("a")]
        .iter()
        .map(|one| (one.conversion_id, one.external_key.as_str()))
        .collect();
    assert_eq!(
        keys,
        [
            (request(5), "z"),
            (request(3), "a"),
            (request(9), "m"),
            (request(1), "")
        ]
    );
}

pub async fn large_lookups_work(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let ids: Vec<_> = (0..5_000).map(|n| format!("click-{n:05}")).collect();
    let clicks: Vec<_> = ids.iter().map(|id| click(id, 1)).collect();
    let postbacks: Vec<_> = (0_u128..)
        .zip(&ids)
        .map(|(n, id)| postback(n, id, "0.5"))
        .collect();
    worker.batch(store, &clicks, &postbacks).await;
    let view = Worker::view(store, &clicks, &postbacks).await;
    assert_eq!(view.clicks.len(), ids.len());
    assert_eq!(view.known.len(), ids.len());
    assert_eq!(view.conversions.len(), ids.len());
}

/// PostgreSQL only. Plans are kept: one that was made while the tables were empty, and known to be, must not read
/// all that comes into them later.
pub async fn lookups_go_by_key_however_empty_the_tables_were(database: &Database) {
    database.query("VACUUM ANALYZE").await;
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let name = |n: u128| format!("click-{n:05}");
    let all = 0..12_000_u128;
    for from in all.step_by(2_000) {
        let numbers = from..from + 2_000;
        let clicks: Vec<_> = numbers.clone().map(|n| click(&name(n), 1)).collect();
        let postbacks: Vec<_> = numbers.map(|n| postback(n, &name(n), "0.5")).collect();
        worker.batch(store, &clicks, &postbacks).await;
    }
    let read = "SELECT coalesce(sum(idx_blks_hit + idx_blks_read), 0)::bigint \
                FROM pg_statio_user_indexes";
    let settled = async || {
        // A session tells what it read a second later, and with its next statement.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        Worker::view(store, &[], &[]).await;
        store.partitions(&[0]).await.unwrap();
        database.query("SELECT pg_stat_clear_snapshot()").await;
        database.number(read).await
    };
    let before = settled().await;
    let keys = 100;
    let postbacks: Vec<_> = (0..keys).map(|n| postback(n, &name(n), "0.5")).collect();
    let view = Worker::view(store, &[], &postbacks).await;
    assert_eq!(view.known.len(), postbacks.len());
    let blocks = settled().await - before;
    // Two or three for each of five lookups; the whole of one index is some sixty.
    assert!(
        (500..=2_000).contains(&blocks),
        "{keys} lookups read {blocks} blocks of indexes"
    );
}

pub async fn refused_postbacks_are_logged_once(database: &Database) {
    let store = database.store.as_ref();
    let refused = |number, message: &str| RefusedPostback {
        request_id: request(number),
        received_at: at(1),
        reason: "invalid_revenue".to_owned(),
        message: message.to_owned(),
        origin: Origin {
            raw_query: ugly(),
            ..origin()
        },
    };
    let advance = |expected, next| RejectsAdvance {
        partition: 0,
        expected,
        next,
    };
    store
        .commit_rejects(
            &advance(None, 2),
            &[refused(1, "first"), refused(2, &ugly())],
        )
        .await
        .unwrap();
    store
        .commit_rejects(
            &advance(Some(2), 4),
            &[refused(1, "second"), refused(3, "")],
        )
        .await
        .unwrap();
    store
        .commit_rejects(&advance(Some(2), 9), &[refused(4, "fenced")])
        .await
        .unwrap_err();
    for (number, message) in [(1, "first"), (2, ugly().as_str()), (3, "")] {
        assert_eq!(
            store.logged(request(number)).await.unwrap(),
            Some(Logged {
                received_at: at(1),
                state: LoggedState::Refused {
                    reason: "invalid_revenue".to_owned(),
                    message: message.to_owned(),
                },
            })
        );
    }
    assert_eq!(store.logged(request(4)).await.unwrap(), None);
    // A refused one is no decided one.
    let view = Worker::view(store, &[], &[postback(1, "a", "1")]).await;
    assert!(view.known.is_empty());
    assert!(view.refused.contains(&request(1)));
}

pub async fn a_refused_postback_sent_again_is_logged_anew(database: &Database) {
    let store = database.store.as_ref();
    let mut worker = Worker::new(store, 0).await;
    let refused = RefusedPostback {
        request_id: request(1),
        received_at: at(1),
        reason: "invalid_revenue".to_owned(),
        message: String::new(),
        origin: origin(),
    };
    let advance = RejectsAdvance {
        partition: 0,
        expected: None,
        next: 1,
    };
    store.commit_rejects(&advance, &[refused]).await.unwrap();
    let mut again = postback(1, "a", "1");
    again.replayed = true;
    for _ in 0..2 {
        worker
            .batch(store, &[click("a", 5)], std::slice::from_ref(&again))
            .await;
    }
    let log = "SELECT outcome, clickid FROM postback_log";
    assert_eq!(database.query(log).await, [["converted", "a"]]);
    let conversions = "SELECT count(*) FROM conversions";
    assert_eq!(database.number(conversions).await, 1);
}
