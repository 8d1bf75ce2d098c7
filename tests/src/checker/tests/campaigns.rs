//! Campaigns that ask for something: a clean scene of all that they can ask for, and each fault
//! planted into it.

mod policies;
mod statuses;

use super::bodies::{error_body, standard_body, updated_body};
use super::scene::{Call, How, START, Scene};
use crate::checker::Fault;

const SECRET: &str = "0123456789abcdef";
const HOUR: i64 = 3_600_000_000;
/// Outside of every network that a campaign here names.
const ELSEWHERE: &str = "198.51.100.1";

/// Events and statuses, with another currency and another first status.
const LEDGER: i64 = 20;
/// Forgery and windows are refused.
const GUARDED: i64 = 21;
/// The same, watched only.
const WATCHED: i64 = 22;
/// Its dedupe policy changes.
const CHANGING: i64 = 23;

/// Ids that the faults are planted at, by what they are.
struct Ids {
    lead: String,
    sale: String,
    /// Changed the sale to approved.
    approves: String,
    /// Said approved again.
    confirms: String,
    /// Came later, was received earlier.
    held_up: String,
    /// Changed the sale to reversed.
    reverses: String,
    /// Waited, and became a conversion that `late_change` changed.
    late: String,
    late_change: String,
    address: String,
    missing: String,
    wrong: String,
    guarded: String,
    expired: String,
    watched: String,
    by_click: String,
    by_txid: String,
}

#[track_caller]
fn finds(fault: Fault, plant: impl FnOnce(&mut Scene, &Ids)) {
    says(fault, "", plant);
}

#[track_caller]
fn says(fault: Fault, words: &str, plant: impl FnOnce(&mut Scene, &Ids)) {
    let (mut scene, ids) = clean();
    plant(&mut scene, &ids);
    let report = scene.check();
    let mut found = report.violations.iter();
    assert!(
        found.any(|one| one.fault == fault && one.sentence.contains(words)),
        "no {fault:?} that says {words:?} in\n{report}"
    );
}

#[test]
fn what_is_clean_is_clean() {
    let (scene, _) = clean();
    let report = scene.check();
    report.assert_clean();
    assert_eq!(report.looked.statements, 6);
    assert_eq!(report.looked.conversions, 9);
}

/// The log is believed about what it was.
#[test]
fn a_secret_that_was_taken_away_makes_no_faults() {
    let (mut scene, _) = clean();
    let mut campaigns = scene.evidence.store.campaigns.iter_mut();
    let guarded = campaigns.find(|one| one.campaign_id == GUARDED);
    let guarded = guarded.unwrap();
    (guarded.version, guarded.secret) = (2, None);
    scene.check().assert_clean();
}

fn clean() -> (Scene, Ids) {
    let mut scene = Scene::new();
    scene.set(
        LEDGER,
        r#"{"dedupe":"event","statuses":true,"default_status":"pending","default_currency":"CHF"}"#,
        "",
    );
    let guard = |mode: &str| {
        format!(
            r#"{{"networks":["192.0.2.0/24","2001:db8::/32","203.0.113.9"],"network_check":"{mode}",
                "attribution_window":3600,"window_check":"{mode}","signature_check":"{mode}"}}"#
        )
    };
    scene.set(GUARDED, &guard("enforce"), SECRET);
    scene.set(WATCHED, &guard("observe"), SECRET);
    let [lead, sale, approves, confirms, held_up, reverses] = ledger(&mut scene);
    let [late, late_change] = healed(&mut scene);
    let [address, missing, wrong, guarded, expired] = guarded(&mut scene);
    let watched = watched(&mut scene);
    let [by_click, by_txid] = changing(&mut scene);
    let ids = Ids {
        lead,
        sale,
        approves,
        confirms,
        held_up,
        reverses,
        late,
        late_change,
        address,
        missing,
        wrong,
        guarded,
        expired,
        watched,
        by_click,
        by_txid,
    };
    (scene, ids)
}

impl Scene {
    /// A postback that was sent changes a status.
    fn updates(&mut self, id: &str, first: &str, status: &str, told: How) {
        self.state(id, first, status);
        let body = updated_body(&self.stored(first).conversion, status);
        self.log(id, "updated", Some(first)).status = Some(status.to_owned());
        self.tell(id, told, 200, "updated", &body);
    }

    /// A postback that is refused by its campaign.
    fn forbidden(&mut self, call: &Call<'_>, why: &str) -> String {
        let id = self.send(call, How::Directly);
        self.log(&id, "forbidden", None).why = Some(why.to_owned());
        let body = error_body("forbidden");
        self.tell(&id, How::Directly, 403, "forbidden", &body);
        id
    }
}

/// Two conversions of a click, and the life of the second one.
fn ledger(scene: &mut Scene) -> [String; 6] {
    scene.click_of("e1", LEDGER, START);
    let lead = Call {
        clickid: "e1",
        event: "lead",
        word: "LEAD",
        status: "pending",
        ..Call::default()
    };
    let sale = Call {
        clickid: "e1",
        event: "sale",
        currency: "",
        ..Call::default()
    };
    let say = |word: &'static str, status: &'static str| Call {
        word,
        status,
        ..sale.clone()
    };
    let first = scene.send(&lead, How::Directly);
    scene.converts(&first, "pending", "EUR", How::Directly);
    // Neither status nor currency: the campaign's.
    let second = scene.send(&sale, How::Directly);
    scene.converts(&second, "pending", "CHF", How::Directly);

    let approves = scene.send(&say("SALE", "approved"), How::Directly);
    scene.updates(&approves, &second, "approved", How::Directly);
    let confirms = scene.send(&say("ok", "approved"), How::Directly);
    scene.state(&confirms, &second, "approved");
    scene.repeat(&confirms, &second, How::Directly);
    let call = Call {
        at: scene.record(&second).received_at + 1,
        ..say("trash", "rejected")
    };
    let held_up = scene.send(&call, How::Directly);
    scene.repeat(&held_up, &second, How::Directly);
    scene.logged(&held_up).first.why = Some("superseded".to_owned());
    let reverses = scene.send(&say("refund", "reversed"), How::Queued);
    scene.updates(&reverses, &second, "reversed", How::Queued);
    // A word that nobody knows is the default; a retry without one says nothing.
    let call = Call {
        word: "whatever",
        status: "",
        ..lead.clone()
    };
    let odd = scene.send(&call, How::Directly);
    scene.state(&odd, &first, "pending");
    scene.repeat(&odd, &first, How::Directly);
    let retry = scene.send(&sale, How::NotAtAll);
    scene.repeat(&retry, &second, How::NotAtAll);
    // None is an event of its own.
    let none = Call {
        event: "",
        ..say("1", "approved")
    };
    let third = scene.send(&none, How::Directly);
    scene.converts(&third, "approved", "CHF", How::Directly);
    let none = Call {
        word: "chargeback",
        status: "reversed",
        ..none
    };
    let change = scene.send(&none, How::Directly);
    scene.updates(&change, &third, "reversed", How::Directly);
    [first, second, approves, confirms, held_up, reverses]
}

/// Two postbacks wait for their click.
fn healed(scene: &mut Scene) -> [String; 2] {
    let call = |word, status| Call {
        clickid: "e2",
        word,
        status,
        ..Call::default()
    };
    let first = scene.send(&call("hold", "pending"), How::Directly);
    scene.wait(&first);
    let second = scene.send(&call("paid", "approved"), How::Directly);
    scene.wait(&second);
    scene.click_of("e2", LEDGER, START);
    let conversion = scene.convert_as(&first, "pending", "EUR");
    let step = scene.step("e2", "converted", Some(&first));
    scene.healed(&first, step);
    scene.state(&second, &first, "approved");
    let mut step = scene.step("e2", "updated", Some(&first));
    step.status = Some("approved".to_owned());
    scene.healed(&second, step);
    let body = standard_body(&conversion);
    scene.status(&first, "converted", &body);
    let body = updated_body(&conversion, "approved");
    scene.status(&second, "updated", &body);
    [first, second]
}

fn guarded(scene: &mut Scene) -> [String; 5] {
    scene.click_of("f1", GUARDED, START);
    scene.click_of("f2", GUARDED, START - 2 * HOUR);
    let right = Call {
        clickid: "f1",
        secret: SECRET,
        ..Call::default()
    };
    let away = Call {
        address: ELSEWHERE,
        ..right.clone()
    };
    let address = scene.forbidden(&away, "address");
    let unsigned = Call {
        secret: "",
        ..right.clone()
    };
    let missing = scene.forbidden(&unsigned, "signature_missing");
    let other = Call {
        secret: "another-secret-00",
        ..right.clone()
    };
    let wrong = scene.forbidden(&other, "signature_wrong");
    let mapped = Call {
        address: "::ffff:192.0.2.200",
        ..right.clone()
    };
    let guarded = scene.standard_call(&mapped, How::Directly);
    // What is stored is nobody's business, and an old click no reason for a retry.
    scene.forbidden(&away, "address");
    // A word means nothing where statuses are off.
    let retry = Call {
        address: "203.0.113.9",
        word: "refund",
        status: "reversed",
        at: START + 2 * HOUR,
        ..right.clone()
    };
    let retry = scene.send(&retry, How::Directly);
    scene.repeat(&retry, &guarded, How::Directly);
    let old = Call {
        clickid: "f2",
        address: "2001:db8::7",
        ..right
    };
    let expired = scene.send(&old, How::Directly);
    scene.log(&expired, "click_expired", None);
    let body = error_body("click_expired");
    scene.tell(&expired, How::Directly, 410, "click_expired", &body);
    [address, missing, wrong, guarded, expired]
}

fn watched(scene: &mut Scene) -> String {
    scene.click_of("g1", WATCHED, START - 2 * HOUR);
    let call = Call {
        clickid: "g1",
        address: ELSEWHERE,
        ..Call::default()
    };
    let watched = scene.standard_call(&call, How::Directly);
    let all = "address,signature_missing,click_expired";
    scene.logged(&watched).first.observed = Some(all.to_owned());
    // The window is not looked at where a conversion is there.
    let again = scene.send(&call, How::Directly);
    scene.repeat(&again, &watched, How::Directly);
    scene.logged(&again).first.observed = Some("address,signature_missing".to_owned());
    watched
}

/// From `click` to `txid` to `event` and back: nothing is paid twice.
fn changing(scene: &mut Scene) -> [String; 2] {
    let call = |clickid, external, event| Call {
        clickid,
        external,
        event,
        ..Call::default()
    };
    for clickid in ["h1", "h2"] {
        scene.click_of(clickid, CHANGING, START);
    }
    // Nobody set it yet.
    let by_click = scene.standard_call(&call("h1", "", ""), How::Directly);
    scene.set(CHANGING, r#"{"dedupe":"txid"}"#, "");
    let later = scene.send(&call("h1", "x", ""), How::Directly);
    scene.repeat(&later, &by_click, How::Directly);
    let by_txid = scene.standard_call(&call("h2", "x", ""), How::Directly);
    let other = scene.standard_call(&call("h2", "y", "lead"), How::Directly);
    scene.set(CHANGING, r#"{"dedupe":"event"}"#, "");
    // Neither was asked for its event: the one without may have been any.
    let later = scene.send(&call("h2", "x", "sale"), How::Directly);
    scene.repeat(&later, &by_txid, How::Directly);
    let exact = scene.send(&call("h2", "y", "lead"), How::Directly);
    scene.repeat(&exact, &other, How::Directly);
    scene.set(CHANGING, r#"{"dedupe":"click"}"#, "");
    let exact = scene.send(&call("h2", "y", "lead"), How::Directly);
    scene.repeat(&exact, &other, How::Directly);
    let any = scene.send(&call("h2", "z", "sale"), How::Directly);
    scene.repeat(&any, &by_txid, How::Directly);
    [by_click, by_txid]
}
