//! Faults of who may speak, of windows, of uniqueness and of versions.

use super::{CHANGING, ELSEWHERE, GUARDED, Ids, WATCHED, finds, says};
use crate::checker::Fault;
use crate::checker::tests::bodies::{NOT_FOUND, error_body};
use crate::checker::tests::scene::{Call, How, Scene};

/// A refused postback is converted, and everything tells so.
fn take(scene: &mut Scene, id: &str) {
    let clickid = scene.record(id).clickid.clone();
    let conversions = &scene.evidence.store.conversions;
    let first = conversions
        .iter()
        .find(|one| one.conversion.clickid == clickid);
    match first.map(|one| one.conversion.conversion_id.clone()) {
        None => scene.converts(id, "approved", "EUR", How::Directly),
        Some(first) => scene.repeat(id, &first, How::Directly),
    }
}

#[test]
fn forged_postbacks_that_are_taken() {
    for plant in [
        (|ids| &ids.address) as fn(&Ids) -> &String,
        |ids| &ids.missing,
        |ids| &ids.wrong,
    ] {
        // As a duplicate: what is stored is told to somebody who may not know it.
        finds(Fault::ForgedTaken, |scene, ids| take(scene, plant(ids)));
        // As a conversion.
        says(Fault::ForgedTaken, "in spite of", |scene, ids| {
            let id = plant(ids).clone();
            scene.converts(&id, "approved", "EUR", How::Directly);
        });
    }
    // The address is outside because the network is another one.
    finds(Fault::ForgedTaken, |scene, ids| {
        scene.record(&ids.guarded).address = "192.0.3.1".to_owned();
    });
    finds(Fault::ForgedTaken, |scene, ids| {
        scene.record(&ids.guarded).address = "unknown".to_owned();
    });
    finds(Fault::ForgedTaken, |scene, ids| {
        let signature = &mut scene.record(&ids.guarded).signature;
        signature.as_mut().unwrap().query.push('1');
    });
    // An empty query verifies nothing.
    finds(Fault::ForgedTaken, |scene, ids| {
        let signature = &mut scene.record(&ids.guarded).signature;
        let signature = signature.as_mut().unwrap();
        signature.query.clear();
        signature.sig = crate::checker::sign(super::SECRET, "");
    });
}

#[test]
fn a_signature_in_upper_case_is_right() {
    let (mut scene, ids) = super::clean();
    let signature = &mut scene.record(&ids.guarded).signature;
    let sig = &mut signature.as_mut().unwrap().sig;
    *sig = sig.to_uppercase();
    scene.check().assert_clean();
}

#[test]
fn refusals_without_a_reason() {
    finds(Fault::WronglyRefused, |scene, ids| {
        scene.record(&ids.address).address = "192.0.2.1".to_owned();
    });
    finds(Fault::WronglyRefused, |scene, ids| {
        let right = scene.record(&ids.guarded).signature.clone();
        scene.record(&ids.wrong).signature = right;
    });
    finds(Fault::WronglyRefused, |scene, ids| {
        scene.record(&ids.expired).received_at -= 2 * super::HOUR;
    });
    // The settings were others then.
    finds(Fault::WronglyRefused, |scene, ids| {
        scene.logged(&ids.address).first.policy_version = 0;
    });
    // Observed is not enforced.
    finds(Fault::WronglyRefused, |scene, ids| {
        let step = scene.log(&ids.watched, "forbidden", None);
        step.why = Some("address".to_owned());
    });
    // A retry of what was paid is a duplicate, however late.
    finds(Fault::WronglyRefused, |scene, _| {
        let calls = &scene.evidence.topics.postbacks;
        let mut retries = calls.iter().filter(|one| one.clickid == "f1");
        let retry = retries.next_back().unwrap().request_id.clone();
        scene.log(&retry, "click_expired", None);
        let body = error_body("click_expired");
        scene.tell(&retry, How::Directly, 410, "click_expired", &body);
    });
}

#[test]
fn another_reason_or_campaign() {
    says(Fault::LogDiffers, "says why", |scene, ids| {
        scene.logged(&ids.missing).first.why = Some("signature_wrong".to_owned());
    });
    says(Fault::LogDiffers, "says campaign", |scene, ids| {
        scene.logged(&ids.missing).first.campaign_id = Some(18);
    });
}

#[test]
fn expired_postbacks_that_convert() {
    finds(Fault::ExpiredTaken, |scene, ids| take(scene, &ids.expired));
    says(
        Fault::ExpiredTaken,
        "after the attribution",
        |scene, ids| {
            let id = ids.expired.clone();
            scene.converts(&id, "approved", "EUR", How::Directly);
        },
    );
    // One second more than the window, and the window itself.
    finds(Fault::ExpiredTaken, |scene, ids| {
        let clicked = scene.stored(&ids.guarded).conversion.clicked_at;
        scene.record(&ids.guarded).received_at = clicked + super::HOUR + 1;
    });
    let (mut scene, ids) = super::clean();
    let clicked = scene.stored(&ids.guarded).conversion.clicked_at;
    scene.record(&ids.guarded).received_at = clicked + super::HOUR;
    assert!(!scene.check().has(Fault::ExpiredTaken));
}

#[test]
fn words_of_what_was_observed() {
    for words in [None, Some("address"), Some("click_expired,address")] {
        finds(Fault::WrongObserved, |scene, ids| {
            scene.logged(&ids.watched).first.observed = words.map(str::to_owned);
        });
    }
    finds(Fault::WrongObserved, |scene, ids| {
        scene.logged(&ids.guarded).first.observed = Some("address".to_owned());
    });
}

#[test]
fn answers_of_refusals() {
    finds(Fault::LogDiffers, |scene, ids| {
        scene.answer(&ids.guarded, |answer| {
            (answer.status, answer.body) = (403, error_body("forbidden"));
        });
    });
    finds(Fault::LogDiffers, |scene, ids| {
        scene.answer(&ids.address, |answer| {
            (answer.status, answer.body) = (410, error_body("click_expired"));
        });
    });
    finds(Fault::FalseNotFound, |scene, ids| {
        scene.answer(&ids.expired, |answer| {
            (answer.status, answer.body) = (404, NOT_FOUND.to_owned());
        });
    });
    finds(Fault::WrongForm, |scene, ids| {
        scene.answer(&ids.expired, |answer| answer.status = 404);
    });
    finds(Fault::WrongForm, |scene, ids| {
        scene.answer(&ids.address, |answer| answer.status = 400);
    });
    for (kind, told) in [
        ("forbidden", "click_expired"),
        ("click_expired", "forbidden"),
    ] {
        finds(Fault::StatusDiffers, |scene, ids| {
            let id = match kind {
                "forbidden" => &ids.address,
                _ => &ids.expired,
            };
            scene.status(id, kind, &error_body(told));
        });
    }
    // A record is promised for both.
    finds(Fault::PostbackLost, |scene, ids| {
        let records = &mut scene.evidence.topics.postbacks;
        records.retain(|one| one.request_id != ids.address);
    });
}

#[test]
fn conversions_that_are_one_under_their_policy() {
    finds(Fault::TwoConversions, |scene, ids| {
        // It had no event, and nobody asked for one: under `event` it may have been any.
        scene.set(CHANGING, r#"{"dedupe":"event"}"#, "");
        let call = Call {
            clickid: "h2",
            external: "x",
            event: "sale",
            ..Call::default()
        };
        assert_eq!(scene.stored(&ids.by_txid).conversion.event, "");
        scene.standard_call(&call, How::Directly);
    });
    finds(Fault::TwoConversions, |scene, ids| {
        scene.set(CHANGING, r#"{"dedupe":"txid"}"#, "");
        let call = Call {
            clickid: "h1",
            external: "z",
            ..Call::default()
        };
        assert_eq!(scene.stored(&ids.by_click).conversion.dedupe, "click");
        scene.standard_call(&call, How::Directly);
    });
    // Under `event` an event of its own is none of these.
    let (mut scene, _) = super::clean();
    scene.set(CHANGING, r#"{"dedupe":"event"}"#, "");
    let call = Call {
        clickid: "h2",
        external: "y",
        event: "sale",
        ..Call::default()
    };
    scene.standard_call(&call, How::Directly);
    scene.check().assert_clean();
    // The answer of the first one in the place of the exact one.
    finds(Fault::LogDiffers, |scene, ids| {
        let records = &scene.evidence.topics.postbacks;
        let exact = records
            .iter()
            .rfind(|one| one.event.as_deref() == Some("lead"));
        let exact = exact.unwrap().request_id.clone();
        let first = ids.by_txid.clone();
        scene.repeat(&exact, &first, How::Directly);
    });
}

#[test]
fn versions() {
    says(Fault::PolicyVersion, "never was", |scene, ids| {
        scene.logged(&ids.guarded).first.policy_version = 7;
    });
    says(Fault::PolicyVersion, "never was", |scene, _| {
        let versions = &mut scene.evidence.store.versions;
        versions.retain(|one| (one.campaign_id, one.version) != (CHANGING, 1));
    });
    // The settings are the same, and the partition was further already.
    says(Fault::PolicyVersion, " after ", |scene, _| {
        let log = &mut scene.evidence.store.log;
        let rows = log.iter_mut();
        let mut rows = rows.filter(|row| row.clickid.as_deref() == Some("h2"));
        rows.next_back().unwrap().first.policy_version = 1;
    });
    says(Fault::PolicyVersion, "the log", |scene, ids| {
        scene.stored(&ids.by_txid).conversion.policy_version = 2;
    });
    says(Fault::PolicyVersion, "dedupe policy", |scene, ids| {
        scene.stored(&ids.by_txid).conversion.dedupe = "click".to_owned();
    });
    says(Fault::PolicyVersion, "no campaign", |scene, ids| {
        scene.logged(&ids.late).first.policy_version = 1;
    });
    says(Fault::PolicyVersion, "not what is set", |scene, _| {
        let campaigns = scene.evidence.store.campaigns.iter_mut();
        let mut watched = campaigns.filter(|one| one.campaign_id == WATCHED);
        watched.next().unwrap().settings = serde_json::json!({"statuses": false});
    });
}

#[test]
fn the_secret_of_a_campaign() {
    // Without one nothing is signed wrongly.
    finds(Fault::WronglyRefused, |scene, ids| {
        let store = &mut scene.evidence.store;
        let campaigns = store.campaigns.iter_mut();
        for campaign in campaigns.filter(|one| one.campaign_id == GUARDED) {
            campaign.secret = None;
        }
        let versions = store.versions.iter_mut();
        for version in versions.filter(|one| one.campaign_id == GUARDED) {
            version.secret_set = false;
        }
        assert_eq!(scene.record(&ids.address).address, ELSEWHERE);
    });
}
