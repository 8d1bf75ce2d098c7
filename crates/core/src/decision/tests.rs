//! Each rule by itself; `histories` holds all of them together against the model.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod campaigns;
mod domain;
mod histories;
mod history;
mod memory;
mod model;
mod replay;

use self::history::{CLICK, EVENT, GUARDED, PLAIN, TXID};
use self::memory::{Store, placed_clicks, placed_postbacks};
use super::*;
use crate::currency::Currency;
use crate::money::Revenue;
use crate::record::postback::Origin;
use crate::request::Fields;
use jiff::Timestamp;
use std::slice::from_ref;

fn store() -> Store {
    Store::new(history::settings().iter().map(domain::campaign))
}

fn clickid(name: &str) -> ClickId {
    ClickId::parse(name.as_bytes()).unwrap()
}

fn request_id(number: u32) -> RequestId {
    RequestId::from_uuid(uuid::Uuid::from_u128(u128::from(number)))
}

/// Minutes apart, so that quarters differ too.
fn at(minute: u32) -> Timestamp {
    Timestamp::from_second(1_764_165_600 + i64::from(minute) * 60).unwrap()
}

fn click(name: &str, campaign_id: i64, minute: u32) -> Click {
    let labels = ["7", "popunder", "p", "t"].map(str::to_owned);
    Click::from_parts(clickid(name), campaign_id, labels, at(minute))
}

fn postback(number: u32, name: &str, revenue: &str, txid: Option<&str>) -> Postback {
    let fields = Fields {
        clickid: clickid(name),
        revenue: Revenue::parse(revenue).unwrap(),
        revenue_raw: None,
        currency: Currency::normalize(if number.is_multiple_of(2) {
            "USD"
        } else {
            "EUR"
        }),
        currency_sent: true,
        external_id: txid.map(str::to_owned),
        subids: [Some(number.to_string()), None, None, None, None],
        event: None,
        status: None,
        signature: None,
        warnings: Vec::new(),
    };
    Postback::new(request_id(number), at(number), fields, Origin::default())
}

fn words(store: &Store) -> Vec<&'static str> {
    store.verdicts.iter().map(|v| v.outcome.word()).collect()
}

/// The numbers of the postbacks that became conversions, in the order in which they did.
fn converted(store: &Store) -> Vec<u128> {
    let ids = store.conversions.iter().map(|one| one.conversion_id);
    ids.map(|id| id.as_uuid().as_u128()).collect()
}

#[test]
fn a_conversion_is_a_function_of_click_and_postback() {
    let mut store = store();
    let (click, postback) = (click("a", TXID, 0), postback(2, "a", "1.230", Some("t")));
    store.batch(from_ref(&click), from_ref(&postback));
    assert_eq!(
        store.conversions,
        [Conversion::of(&postback, &click, &store.campaigns[&TXID])],
        "with the version of the campaign's settings"
    );
    assert_eq!(store.conversions[0].conversion_id, postback.request_id);
    assert_eq!(store.conversions[0].created_at, postback.received_at);
    let known = store.known(postback.request_id).unwrap();
    assert_eq!(known.conversion_id, Some(postback.request_id));
    assert_eq!(known.policy_version, 7);
    assert_eq!(
        store.verdicts[0].outcome,
        Outcome::Converted {
            campaign_id: TXID,
            revenue: postback.revenue,
            currency: postback.currency,
            created_at: postback.received_at,
        }
    );
}

#[test]
fn the_first_click_wins_and_one_that_differs_is_told() {
    for split in [false, true] {
        let mut store = store();
        let (first, other) = (click("a", CLICK, 0), click("a", TXID, 1));
        if split {
            store.batch(from_ref(&first), &[]);
            store.batch(&[first.clone(), other.clone()], &[]);
        } else {
            store.batch(&[first.clone(), first.clone(), other.clone()], &[]);
        }
        assert_eq!(store.clicks[&first.clickid], first);
        let offsets: Vec<i64> = store.conflicts.iter().map(|one| one.offset).collect();
        assert_eq!(offsets, [2], "the same click once more is no conflict");
        assert_eq!(store.conflicts[0].click, other);
        store.batch(&[], &[postback(2, "a", "1", None)]);
        assert_eq!(store.conversions[0].campaign_id, CLICK);
    }
}

#[test]
fn by_click_any_conversion_makes_a_duplicate_that_echoes_the_first() {
    for campaign in [PLAIN, CLICK] {
        let mut store = store();
        store.batch(
            &[click("a", campaign, 0)],
            &[
                postback(2, "a", "1.23", Some("x")),
                postback(3, "a", "9.99", Some("y")),
            ],
        );
        store.batch(&[], &[postback(4, "a", "5", None)]);
        assert_eq!(words(&store), ["converted", "duplicate", "duplicate"]);
        assert_eq!(converted(&store), [2]);
        for number in [3, 4] {
            let known = store.known(request_id(number)).unwrap();
            assert_eq!(known.conversion_id, Some(request_id(2)));
            assert_eq!(
                known.outcome,
                Outcome::Duplicate {
                    campaign_id: campaign,
                    revenue: Revenue::parse("1.23").unwrap(),
                    currency: Currency::USD,
                }
            );
        }
    }
}

#[test]
fn by_txid_the_same_external_id_makes_a_duplicate_and_blank_is_one_of_them() {
    let mut store = store();
    store.batch(
        &[click("a", TXID, 0)],
        &[
            postback(2, "a", "1", Some("x")),
            postback(3, "a", "2", Some("y")),
            postback(4, "a", "3", None),
            postback(5, "a", "4", Some("x")),
        ],
    );
    store.batch(
        &[],
        &[
            postback(6, "a", "5", Some("y")),
            postback(7, "a", "6", None),
            postback(8, "a", "7", Some("X")),
        ],
    );
    assert_eq!(converted(&store), [2, 3, 4, 8]);
    for (number, original) in [(5, 2), (6, 3), (7, 4)] {
        let known = store.known(request_id(number)).unwrap();
        assert_eq!(known.outcome.word(), "duplicate");
        assert_eq!(
            known.conversion_id,
            Some(request_id(original)),
            "of {number}"
        );
        assert_eq!(known.policy_version, 7);
    }
}

#[test]
fn where_a_campaign_went_from_txid_to_click_the_same_or_the_first_conversion_is_echoed() {
    let mut store = store();
    store.batch(
        &[click("a", TXID, 0)],
        &[
            postback(2, "a", "1", Some("x")),
            postback(3, "a", "2", Some("y")),
        ],
    );
    let settings = history::Settings {
        version: 8,
        ..history::unset(TXID)
    };
    store.set(domain::campaign(&settings));
    store.batch(
        &[],
        &[
            postback(4, "a", "3", Some("z")),
            postback(5, "a", "3", Some("y")),
        ],
    );
    assert_eq!(converted(&store), [2, 3]);
    for (number, original) in [(4, 2), (5, 3)] {
        let known = store.known(request_id(number)).unwrap();
        assert_eq!(known.conversion_id, Some(request_id(original)));
        assert_eq!(known.policy_version, 8);
    }
}

#[test]
fn conversions_are_looked_up_before_clicks() {
    let mut store = store();
    store.batch(
        &[click("a", CLICK, 0), click("b", TXID, 0)],
        &[
            postback(2, "a", "1", None),
            postback(3, "b", "1", Some("x")),
        ],
    );
    store.clicks.clear(); // expired
    store.batch(
        &[],
        &[
            postback(4, "a", "2", Some("new")),
            postback(5, "b", "2", Some("x")),
            postback(6, "b", "2", Some("new")),
        ],
    );
    assert_eq!(
        words(&store)[2..],
        ["duplicate", "duplicate", "click_not_found"]
    );
    assert_eq!(store.known(request_id(4)).unwrap().policy_version, 4);
}

#[test]
fn a_late_click_decides_what_waited_in_partition_order() {
    let mut store = store();
    store.batch(
        &[],
        &[
            postback(9, "a", "1", None),
            postback(4, "b", "1", None),
            postback(2, "a", "2", None),
        ],
    );
    assert_eq!(words(&store), ["click_not_found"; 3]);
    assert!(
        store
            .log
            .iter()
            .all(|entry| entry.reason == Some("unmatched"))
    );
    store.batch(&[click("a", CLICK, 5)], &[postback(3, "a", "3", None)]);
    assert_eq!(
        converted(&store),
        [9],
        "the lowest offset, not the lowest id"
    );
    assert_eq!(store.conversions[0].created_at, at(9), "when it came");
    let steps: Vec<_> = store
        .changes
        .iter()
        .map(|change| {
            (
                change.request_id,
                change.known.outcome.word(),
                change.reason,
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            (request_id(9), "converted", "late_click"),
            (request_id(2), "duplicate", "late_click"),
        ]
    );
    assert_eq!(
        words(&store)[3..],
        ["duplicate"],
        "only the new one is told"
    );
    assert_eq!(store.state().unmatched, 1, "b still waits");
}

#[test]
fn a_late_click_leaves_what_waits_in_another_partition_to_its_owner() {
    let mut state = store().state();
    let mut view = View::default();
    view.unmatched.insert(
        clickid("a"),
        vec![Unmatched {
            partition: state.partition + 1,
            offset: 0,
            postback: postback(2, "a", "1", None),
        }],
    );
    let clicks = placed_clicks(&state, &[click("a", CLICK, 0)]);
    let decided = decide(
        &mut state,
        clicks,
        Vec::new(),
        &mut view,
        &Limits::default(),
    );
    assert_eq!(decided.writes.clicks.len(), 1, "stored all the same");
    assert_eq!(decided.writes.conversions, []);
    assert_eq!(decided.writes.unmatched_removed, []);
    assert_eq!(state.unmatched, 0);
}

#[test]
fn what_waits_is_limited_per_click_and_per_partition() {
    for split in [1, 2, 7] {
        let mut store = store();
        store.limits = Limits {
            unmatched_per_click: 2,
            unmatched_per_partition: 3,
        };
        let postbacks = ["a", "a", "a", "b", "b", "c", "a"];
        let postbacks: Vec<_> = (0..)
            .zip(postbacks)
            .map(|(number, name)| postback(number, name, "1", None))
            .collect();
        for some in postbacks.chunks(split) {
            store.batch(&[], some);
        }
        let reasons: Vec<_> = store.log.iter().map(|e| e.reason.unwrap()).collect();
        let (kept, full) = ("unmatched", "unmatched_full");
        assert_eq!(reasons, [kept, kept, full, kept, full, full, full]);
        assert_eq!(store.dropped, 4);
        assert_eq!(words(&store), ["click_not_found"; 7]);
        store.batch(&[click("a", TXID, 0), click("c", TXID, 0)], &[]);
        assert_eq!(
            converted(&store),
            [0],
            "1 is a duplicate, 2, 5 and 6 are not found"
        );
        store.batch(&[], &[postback(8, "d", "1", None)]);
        assert_eq!(store.log[7].reason, Some(kept), "there is room again");
        let mut guessed = postback(9, "e", "1", None);
        guessed.may_wait = false;
        store.batch(&[], &[guessed]);
        assert_eq!(store.log[8].reason, Some(full), "whatever room there is");
    }
}

#[test]
fn a_known_request_changes_nothing_and_repeats_its_answer() {
    for split in [false, true] {
        let mut store = store();
        let clicks = [click("a", CLICK, 0)];
        let first = [
            postback(2, "a", "1", None),
            postback(3, "a", "2", None),
            postback(4, "b", "3", None),
        ];
        if split {
            store.batch(&clicks, &first);
            let before = store.clone();
            store.batch(&[], &first);
            assert_eq!(store.outcomes(), before.outcomes());
        } else {
            store.batch(&clicks, &[first.clone(), first.clone()].concat());
        }
        assert_eq!(store.verdicts[..3], store.verdicts[3..]);
        assert_eq!(
            words(&store)[..3],
            ["converted", "duplicate", "click_not_found"]
        );
        assert_eq!(store.log.len(), 3);
        assert_eq!(converted(&store), [2]);
        assert_eq!(store.state().unmatched, 1);

        store.batch(&[click("b", CLICK, 1)], &[first[2].clone()]);
        assert_eq!(
            words(&store)[6..],
            ["converted"],
            "after a late click the answer is what it would be now"
        );
        assert_eq!(store.conversions.len(), 2);
        assert_eq!(store.log.len(), 3);
    }
}

#[test]
fn unresolved_names_each_click_that_needs_a_barrier_once() {
    let mut store = store();
    store.batch(
        &[click("known", PLAIN, 0), click("gone", CLICK, 0)],
        &[
            postback(2, "gone", "1", None),
            postback(3, "waits", "1", None),
        ],
    );
    store.clicks.remove("gone");
    let clicks = placed_clicks(&store.state(), &[click("fresh", PLAIN, 0)]);
    let ask = |store: &Store, postbacks: &[Postback]| {
        let postbacks = placed_postbacks(&store.state(), postbacks);
        unresolved(&store.view(&clicks, &postbacks), &clicks, &postbacks)
    };
    let postbacks = [
        postback(3, "waits", "1", None),
        postback(4, "known", "1", None),
        postback(5, "gone", "1", None),
        postback(6, "fresh", "1", None),
        postback(7, "b", "1", None),
        postback(8, "waits", "1", None),
        postback(9, "b", "1", None),
        postback(10, "a", "1", None),
    ];
    assert_eq!(
        ask(&store, &postbacks),
        ["b", "waits", "a"].map(clickid),
        "3 was decided before"
    );
}

/// A conversion alone doesn't settle it: under `txid` the next one may need the click.
#[test]
fn an_expired_click_with_conversions_needs_a_barrier_for_a_new_txid() {
    let mut store = store();
    store.batch(&[click("a", TXID, 0)], &[postback(2, "a", "1", Some("x"))]);
    store.clicks.clear();
    let ask = |postback: Postback| {
        let postbacks = placed_postbacks(&store.state(), &[postback]);
        unresolved(&store.view(&[], &postbacks), &[], &postbacks)
    };
    assert_eq!(ask(postback(3, "a", "1", Some("x"))), []);
    assert_eq!(ask(postback(4, "a", "1", Some("y"))), [clickid("a")]);
}
