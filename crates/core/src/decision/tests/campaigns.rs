//! What a campaign asks for, rule by rule: who may speak, how old a click may be, statuses, and
//! changes of the dedupe policy.

use super::history::Settings;
use super::*;
use crate::record::verdict::Forbidden;
use crate::status::Status;

/// A postback in plain values: of click `a`, inside, signed, at the minute of its number.
fn plain(request: u32) -> history::Postback {
    history::Postback {
        request,
        name: "a".to_owned(),
        micros: 1_000_000,
        currency: "",
        txid: "",
        event: "",
        status: "",
        inside: true,
        signed: Some(true),
        minute: request,
    }
}

fn keyed(request: u32, txid: &'static str, event: &'static str) -> history::Postback {
    history::Postback {
        txid,
        event,
        ..plain(request)
    }
}

fn stating(request: u32, status: &'static str) -> history::Postback {
    history::Postback {
        status,
        ..plain(request)
    }
}

/// A store with click `a` of a campaign with these settings, clicked at minute 0.
fn with(settings: Settings) -> Store {
    let campaign = settings.campaign;
    let mut store = Store::new([domain::campaign(&settings)]);
    let click = history::Click {
        name: "a".to_owned(),
        campaign,
        minute: 0,
    };
    store.batch(&[domain::click(&click)], &[]);
    store
}

fn send(store: &mut Store, postbacks: &[history::Postback]) {
    let postbacks: Vec<_> = postbacks.iter().map(domain::postback).collect();
    store.batch(&[], &postbacks);
}

fn set(store: &mut Store, version: i64, dedupe: &'static str) {
    let campaign = *store.campaigns.keys().next().unwrap();
    let settings = Settings {
        version,
        dedupe,
        ..history::unset(campaign)
    };
    store.set(domain::campaign(&settings));
}

/// The latest outcome's reason, if it is forbidden.
fn forbidden(store: &Store) -> Option<Forbidden> {
    match store.verdicts.last().unwrap().outcome {
        Outcome::Forbidden { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn who_may_not_speak_makes_nothing_and_learns_nothing() {
    let guarded = Settings {
        inside: true,
        signed: true,
        ..history::unset(GUARDED)
    };
    let mut store = with(guarded);
    let forged = [
        (false, Some(true), Forbidden::Address),
        (true, None, Forbidden::SignatureMissing),
        (true, Some(false), Forbidden::SignatureWrong),
        (false, Some(false), Forbidden::Address),
    ];
    for round in 0..2 {
        for (index, (inside, signed, reason)) in (1..).zip(forged) {
            let forged = history::Postback {
                inside,
                signed,
                ..plain(round * 10 + index)
            };
            send(&mut store, &[forged]);
            assert_eq!(forbidden(&store), Some(reason));
            let entry = store.log.last().unwrap();
            assert_eq!(entry.reason, Some(reason.word()));
            assert_eq!(entry.known.conversion_id, None);
        }
        assert_eq!(store.conversions.len(), usize::from(round > 0));
        // The second time around something is stored, and nobody is told of it.
        send(&mut store, &[plain(round * 10 + 9)]);
    }
    assert_eq!(words(&store)[4], "converted");
    assert_eq!(words(&store)[9], "duplicate");
}

#[test]
fn a_forged_postback_changes_no_status_and_needs_no_click() {
    let guarded = Settings {
        signed: true,
        statuses: Some("approved"),
        ..history::unset(GUARDED)
    };
    let mut store = with(guarded);
    send(&mut store, &[plain(1)]);
    let reversal = history::Postback {
        signed: None,
        ..stating(2, "reversed")
    };
    store.clicks.clear(); // expired
    send(&mut store, &[reversal]);
    assert_eq!(forbidden(&store), Some(Forbidden::SignatureMissing));
    assert_eq!(store.statuses, []);
    send(&mut store, &[stating(3, "reversed")]);
    assert_eq!(words(&store), ["converted", "forbidden", "updated"]);
}

#[test]
fn who_only_watches_takes_everything_and_says_what_was_wrong() {
    let watching = Settings {
        inside: true,
        signed: true,
        watches_callers: true,
        window: Some(5),
        watches_window: true,
        ..history::unset(GUARDED)
    };
    let mut store = with(watching);
    let odd = history::Postback {
        inside: false,
        signed: None,
        ..plain(6)
    };
    send(&mut store, &[odd, plain(7)]);
    assert_eq!(words(&store), ["converted", "duplicate"]);
    let observed = ["address", "signature_missing", "click_expired"];
    assert_eq!(store.log[0].observed, observed);
    assert_eq!(store.log[1].observed, [""; 0]);
}

#[test]
fn a_click_expires_after_its_window_and_not_at_its_end() {
    let window = |watches_window| Settings {
        window: Some(30),
        watches_window,
        ..history::unset(EVENT)
    };
    for (minute, word) in [(30, "converted"), (31, "click_expired")] {
        let mut store = with(window(false));
        let one = history::Postback { minute, ..plain(1) };
        send(&mut store, &[one]);
        assert_eq!(words(&store), [word], "at minute {minute}");
    }
    // What is stored comes before the click's age.
    let mut store = with(window(false));
    send(&mut store, &[plain(1)]);
    send(&mut store, &[plain(50)]);
    assert_eq!(words(&store), ["converted", "duplicate"]);
    // A postback that was received before its click has no age.
    let mut store = Store::new([domain::campaign(&window(false))]);
    send(&mut store, &[plain(1)]);
    let late = history::Click {
        name: "a".to_owned(),
        campaign: EVENT,
        minute: 59,
    };
    store.batch(&[domain::click(&late)], &[]);
    assert_eq!(converted(&store).len(), 1);
}

#[test]
fn the_latest_status_by_its_receipt_holds() {
    let statuses = Settings {
        statuses: Some("pending"),
        ..history::unset(EVENT)
    };
    let mut store = with(statuses);
    send(
        &mut store,
        &[stating(10, "pending"), stating(20, "approved")],
    );
    // Held up on its way: it undoes nothing.
    send(&mut store, &[stating(15, "rejected")]);
    assert_eq!(store.log[2].reason, Some("superseded"));
    // A status that is confirmed holds from then on.
    send(&mut store, &[stating(30, "approved")]);
    send(&mut store, &[stating(25, "reversed")]);
    send(&mut store, &[stating(40, "reversed"), plain(41)]);
    assert_eq!(
        words(&store),
        [
            "converted",
            "updated",
            "duplicate",
            "duplicate",
            "duplicate",
            "updated",
            "duplicate"
        ]
    );
    let said: Vec<_> = store
        .statuses
        .iter()
        .map(|change| (change.stored.status, change.sequence))
        .collect();
    assert_eq!(
        said,
        [
            (Status::Approved, Some(2)),
            (Status::Approved, None),
            (Status::Reversed, Some(3))
        ]
    );
    assert_eq!(store.conversions[0].status, Status::Pending, "as it came");
    assert_eq!(store.stored(&store.conversions[0]).status, Status::Reversed);
    let last = store.verdicts[5].outcome.clone();
    assert!(matches!(
        last,
        Outcome::Updated {
            status: Status::Reversed,
            ..
        }
    ));
}

#[test]
fn a_redelivered_status_changes_nothing() {
    let statuses = Settings {
        statuses: Some("approved"),
        ..history::unset(EVENT)
    };
    let mut store = with(statuses);
    let records = [plain(1), stating(2, "pending"), stating(3, "approved")];
    send(&mut store, &records);
    let before = (store.statuses.clone(), store.state().sequence);
    send(&mut store, &records);
    assert_eq!((store.statuses.clone(), store.state().sequence), before);
    let words = words(&store);
    assert_eq!(words[..3], words[3..]);
}

#[test]
fn statuses_mean_nothing_where_they_are_off_and_unknown_ones_are_the_default() {
    let mut store = with(history::unset(CLICK));
    send(
        &mut store,
        &[stating(1, "rejected"), stating(2, "reversed")],
    );
    assert_eq!(words(&store), ["converted", "duplicate"]);
    assert_eq!(store.conversions[0].status, Status::Approved);
    assert_eq!(store.statuses, []);
    let statuses = Settings {
        statuses: Some("pending"),
        ..history::unset(EVENT)
    };
    let mut store = with(statuses);
    let prepared = store.prepare(&[(
        memory::HERE,
        vec![],
        vec![domain::postback(&stating(1, "odd"))],
    )]);
    let unknown = &prepared[0].1.unknown_statuses;
    assert_eq!((unknown.len(), unknown[0].word.as_str()), (1, "odd"));
    store.commit(prepared);
    assert_eq!(store.conversions[0].status, Status::Pending);
}

#[test]
fn a_currency_that_was_not_sent_is_the_campaigns() {
    let mut store = with(Settings {
        dedupe: "txid",
        currency: "EUR",
        ..history::unset(TXID)
    });
    let sent = history::Postback {
        currency: "JPY",
        ..keyed(2, "x", "")
    };
    send(&mut store, &[plain(1), sent]);
    let currencies: Vec<_> = store.conversions.iter().map(|one| &one.currency).collect();
    assert_eq!(
        currencies,
        [&Currency::normalize("EUR"), &Currency::normalize("JPY")]
    );
}

#[test]
fn by_event_each_event_and_external_id_is_one() {
    let mut store = with(Settings {
        dedupe: "event",
        ..history::unset(EVENT)
    });
    let records = [
        keyed(1, "x", "lead"),
        keyed(2, "x", "sale"),
        keyed(3, "y", "lead"),
        keyed(4, "", "lead"),
        keyed(5, "x", ""),
        keyed(6, "", ""),
    ];
    send(&mut store, &records);
    assert_eq!(store.conversions.len(), 6, "blank is a value of its own");
    let again: Vec<_> = records
        .iter()
        .map(|one| history::Postback {
            request: one.request + 10,
            ..one.clone()
        })
        .collect();
    send(&mut store, &again);
    assert_eq!(words(&store)[6..], ["duplicate"; 6]);
}

/// A policy, what converts under it, and what of it comes again under another.
#[test]
fn a_change_of_the_policy_never_pays_twice() {
    for (before, after) in [
        ("click", "txid"),
        ("txid", "event"),
        ("click", "event"),
        ("event", "txid"),
        ("txid", "click"),
        ("event", "click"),
    ] {
        let name = format!("{before} to {after}");
        let mut store = with(history::unset(EVENT));
        set(&mut store, 1, before);
        send(&mut store, &[keyed(1, "x", "lead")]);
        set(&mut store, 2, after);
        // The very same sale, and what the new policy doesn't tell apart from it.
        send(&mut store, &[keyed(2, "x", "lead")]);
        assert_eq!(words(&store), ["converted", "duplicate"], "{name}");
        // Another one by the new policy: that was not paid.
        send(&mut store, &[keyed(3, "y", "sale")]);
        let expected = if after == "click" {
            "duplicate"
        } else {
            "converted"
        };
        assert_eq!(words(&store)[2], expected, "{name}");
        // And back: nothing that was paid is paid again.
        set(&mut store, 3, before);
        send(&mut store, &[keyed(4, "x", "lead"), keyed(5, "y", "sale")]);
        let paid = if expected == "converted" || before == "click" {
            "duplicate"
        } else {
            "converted"
        };
        assert_eq!(words(&store)[3..], ["duplicate", paid], "{name} and back");
    }
}

/// A conversion that didn't name what the new policy asks for may have been any: whoever
/// changes the policy tells the advertiser to name it from now on, and his retries do.
#[test]
fn what_was_not_asked_for_may_have_been_anything() {
    let mut store = with(history::unset(EVENT));
    set(&mut store, 1, "click");
    send(&mut store, &[plain(1)]);
    set(&mut store, 2, "txid");
    send(&mut store, &[keyed(2, "x", "")]);
    set(&mut store, 3, "event");
    send(&mut store, &[keyed(3, "x", "lead")]);
    assert_eq!(words(&store), ["converted", "duplicate", "duplicate"]);

    let mut store = with(history::unset(EVENT));
    set(&mut store, 1, "txid");
    send(&mut store, &[keyed(1, "x", ""), plain(2)]);
    set(&mut store, 2, "event");
    let retries = [
        keyed(3, "x", "lead"),
        keyed(4, "", "lead"),
        keyed(5, "y", "lead"),
    ];
    send(&mut store, &retries);
    let expected = [
        "converted",
        "converted",
        "duplicate",
        "duplicate",
        "converted",
    ];
    assert_eq!(words(&store), expected);
}
