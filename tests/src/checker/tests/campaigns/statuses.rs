//! Faults of statuses, their numbers, sums and events, and of currencies.

use super::{Ids, finds, says};
use crate::checker::Fault;
use crate::checker::evidence::{Spoken, Statement};
use crate::checker::tests::bodies::duplicate_body;
use crate::checker::tests::scene::{How, Scene};

/// The statement of a postback that makes none.
fn plant(scene: &mut Scene, id: &str, first: &str, status: &str) {
    let record = scene.record(id).clone();
    scene.evidence.store.statements.push(Statement {
        conversion_id: first.to_owned(),
        spoken: Spoken {
            at: record.received_at,
            id: id.to_owned(),
            status: status.to_owned(),
        },
        policy_version: 1,
        partition: record.place.partition,
        sequence: None,
    });
}

#[test]
fn that_are_not_the_latest_said() {
    // The view, and what the postback brought.
    says(Fault::WrongStatus, "said last", |scene, ids| {
        scene.stored(&ids.sale).present.status = "approved".to_owned();
    });
    says(Fault::WrongStatus, "said last", |scene, ids| {
        scene.stored(&ids.sale).present.id.clone_from(&ids.approves);
    });
    says(Fault::WrongStatus, "wasn't the latest", |scene, ids| {
        plant(scene, &ids.held_up, &ids.sale, "rejected");
    });
    finds(Fault::WrongStatus, |scene, ids| {
        let (id, first) = (ids.held_up.clone(), ids.sale.clone());
        scene.updates(&id, &first, "rejected", How::Directly);
    });
    // The reversal was the one that was held up.
    finds(Fault::WrongStatus, |scene, ids| {
        let at = scene.record(&ids.reverses).received_at;
        scene.record(&ids.approves).received_at = at + 1;
    });
    // Of one moment, the greater request id holds.
    says(Fault::WrongStatus, "is not kept", |scene, ids| {
        let at = scene.record(&ids.confirms).received_at;
        scene.record(&ids.held_up).received_at = at;
    });
    let (mut scene, ids) = super::clean();
    let at = scene.record(&ids.confirms).received_at;
    scene.record(&ids.held_up).received_at = at - 1;
    assert!(!scene.check().has(Fault::WrongStatus));
}

/// Of one moment: the later record with the lesser id says nothing new.
#[test]
fn of_one_moment() {
    says(
        Fault::LogDiffers,
        "not Some(\"superseded\")",
        |scene, ids| {
            let first = scene.record(&ids.confirms).clone();
            let second = scene.record(&ids.held_up);
            second.received_at = first.received_at;
            let place = std::mem::replace(&mut second.place, first.place);
            scene.record(&ids.confirms).place = place;
        },
    );
    let (mut scene, ids) = super::clean();
    let at = scene.stated(&ids.confirms).spoken.at;
    scene.stated(&ids.reverses).spoken.at = at;
    assert!(!scene.check().has(Fault::ConversionStatistics));
}

#[test]
fn that_are_not_kept_as_they_were_said() {
    says(Fault::WrongStatus, "its records say", |scene, ids| {
        scene.stated(&ids.approves).spoken.status = "rejected".to_owned();
    });
    says(Fault::WrongStatus, "its records say", |scene, ids| {
        scene.stated(&ids.approves).spoken.at += 1;
    });
    says(Fault::WrongStatus, "its records say", |scene, ids| {
        scene
            .stated(&ids.approves)
            .conversion_id
            .clone_from(&ids.lead);
    });
    // A confirmation is kept too: one that was held up may lie before it.
    says(Fault::WrongStatus, "is not kept", |scene, ids| {
        let statements = &mut scene.evidence.store.statements;
        statements.retain(|one| one.spoken.id != ids.confirms);
    });
    says(Fault::WrongStatus, "nobody said", |scene, ids| {
        plant(scene, &ids.guarded, &ids.guarded, "approved");
    });
    says(Fault::ForgedTaken, "stated a status", |scene, ids| {
        plant(scene, &ids.wrong, &ids.guarded, "reversed");
    });
    finds(Fault::WrongStatus, |scene, ids| {
        let again = scene.stated(&ids.confirms).clone();
        scene.evidence.store.statements.push(again);
    });
    says(Fault::WrongStatus, "it came with", |scene, ids| {
        scene.stored(&ids.sale).conversion.status.status = "approved".to_owned();
    });
    // Its word meant something else.
    finds(Fault::WrongStatus, |scene, ids| {
        let said = &mut scene.record(&ids.approves).said;
        said.as_mut().unwrap().status = Some("rejected".to_owned());
    });
    says(Fault::LogDiffers, "status_word", |scene, ids| {
        scene.logged(&ids.approves).status_word = Some("ok".to_owned());
    });
    says(Fault::LogDiffers, "in event", |scene, ids| {
        scene.logged(&ids.approves).event = None;
    });
    says(Fault::LogDiffers, "says why", |scene, ids| {
        scene.logged(&ids.held_up).first.why = None;
    });
    says(Fault::PolicyVersion, "the status says", |scene, ids| {
        scene.stated(&ids.approves).policy_version = 0;
    });
}

#[test]
fn without_a_postback_or_a_conversion() {
    says(Fault::StatusUnfounded, "on the topic", |scene, ids| {
        let records = &mut scene.evidence.topics.postbacks;
        records.retain(|one| one.request_id != ids.reverses);
    });
    says(Fault::StatusUnfounded, "isn't stored", |scene, ids| {
        let conversions = &mut scene.evidence.store.conversions;
        conversions.retain(|one| one.conversion.conversion_id != ids.sale);
    });
}

#[test]
fn numbers() {
    says(Fault::Sequence, "only then", |scene, ids| {
        scene.stated(&ids.confirms).sequence = Some(99);
    });
    says(Fault::Sequence, "only then", |scene, ids| {
        scene.stated(&ids.approves).sequence = None;
    });
    // A gap in one row, a repetition in both.
    says(Fault::Sequence, "should be stands", |scene, ids| {
        let number = scene.stored(&ids.sale).sequence;
        scene.stated(&ids.approves).sequence = Some(number);
    });
    // Without gaps, and not in their order.
    says(Fault::Sequence, "decided after", |scene, ids| {
        let one = scene.stated(&ids.approves).sequence;
        let other = scene.stated(&ids.reverses).sequence;
        scene.stated(&ids.approves).sequence = other;
        scene.stated(&ids.reverses).sequence = one;
    });
    says(Fault::Sequence, "the sequence is", |scene, ids| {
        let statements = &mut scene.evidence.store.statements;
        statements.retain(|one| one.spoken.id != ids.late_change);
    });
}

#[test]
fn sums() {
    // Counted where it was before.
    finds(Fault::ConversionStatistics, |scene, ids| {
        let partition = scene.stated(&ids.reverses).partition;
        let stats = &mut scene.evidence.store.conversion_stats;
        let of = |status: &str| {
            let status = Some(status.to_owned());
            move |sum: &crate::checker::evidence::Sum| {
                sum.key.status == status && sum.key.partition == partition
            }
        };
        let reversed = stats.iter().position(of("reversed")).unwrap();
        let (count, whole) = (stats[reversed].count, stats[reversed].whole);
        stats[reversed].key.status = Some("approved".to_owned());
        assert!(count > 0 && whole > 0);
    });
    finds(Fault::ConversionStatistics, |scene, _| {
        let stats = &mut scene.evidence.store.conversion_stats;
        let pending = stats
            .iter_mut()
            .find(|sum| sum.key.status.as_deref() == Some("pending") && sum.count > 0);
        pending.unwrap().count -= 1;
    });
}

#[test]
fn events() {
    for id in [
        (|ids| &ids.approves) as fn(&Ids) -> &String,
        |ids| &ids.reverses,
        |ids| &ids.late_change,
        |ids| &ids.sale,
    ] {
        finds(Fault::EventMissing, |scene, ids| {
            let events = &mut scene.evidence.topics.events;
            events.retain(|one| one.status.id != *id(ids));
        });
        finds(Fault::EventDiffers, |scene, ids| {
            scene.event(id(ids)).status.status = "rejected".to_owned();
        });
        finds(Fault::EventDiffers, |scene, ids| {
            scene.event(id(ids)).status.at += 1;
        });
        finds(Fault::EventDiffers, |scene, ids| {
            scene.event(id(ids)).status.id.clone_from(&ids.confirms);
        });
        finds(Fault::EventDiffers, |scene, ids| {
            scene.event(id(ids)).dedupe = "txid".to_owned();
        });
    }
    // It comes at least once.
    let (mut scene, ids) = super::clean();
    let again = scene.event(&ids.reverses).clone();
    scene.evidence.topics.events.push(again);
    scene.check().assert_clean();
    says(Fault::EventDiffers, "has no number", |scene, ids| {
        let mut event = scene.event(&ids.approves).clone();
        event.status.id.clone_from(&ids.confirms);
        scene.evidence.topics.events.push(event);
    });
}

#[test]
fn currencies() {
    for currency in ["USD", "EUR"] {
        finds(Fault::WrongCurrency, |scene, ids| {
            scene.stored(&ids.sale).conversion.currency = currency.to_owned();
        });
    }
    // The default is not for those that say one.
    finds(Fault::WrongCurrency, |scene, ids| {
        scene.stored(&ids.lead).conversion.currency = "CHF".to_owned();
    });
}

#[test]
fn answers() {
    for (from, to) in [("approved", "pending"), ("CHF", "USD"), ("1.000000", "2.0")] {
        finds(Fault::UntrueUpdate, |scene, ids| {
            scene.answer(&ids.approves, |answer| {
                assert!(answer.body.contains(from), "{answer:?}");
                answer.body = answer.body.replace(from, to);
            });
        });
        finds(Fault::StatusDiffers, |scene, ids| {
            let body = super::updated_body(&scene.stored(&ids.sale).conversion, "approved");
            scene.status(&ids.approves, "updated", &body.replace(from, to));
        });
    }
    // Nothing of it is stored, or it only confirmed.
    finds(Fault::UntrueUpdate, |scene, ids| {
        let body = super::updated_body(&scene.stored(&ids.sale).conversion, "rejected");
        scene.answer(&ids.held_up, |answer| answer.body = body);
    });
    finds(Fault::UntrueUpdate, |scene, ids| {
        let body = super::updated_body(&scene.stored(&ids.sale).conversion, "approved");
        scene.answer(&ids.confirms, |answer| answer.body = body);
    });
    finds(Fault::LogDiffers, |scene, ids| {
        let body = duplicate_body(&scene.stored(&ids.sale).conversion);
        scene.answer(&ids.approves, |answer| answer.body = body);
    });
    finds(Fault::WrongForm, |scene, ids| {
        scene.answer(&ids.approves, |answer| answer.status = 202);
    });
    // What was sent is what stands on the topic.
    finds(Fault::NotAsSent, |scene, ids| {
        scene.record(&ids.approves).event = Some("lead".to_owned());
    });
    finds(Fault::NotAsSent, |scene, ids| {
        scene.record(&ids.approves).said = None;
    });
    finds(Fault::NotAsSent, |scene, ids| {
        scene.record(&ids.guarded).signature = None;
    });
    // The heal of a waiting postback speaks of the same.
    says(Fault::WrongStatus, "come to", |scene, ids| {
        let step = scene.step("e2", "duplicate", Some(&ids.late));
        scene.logged(&ids.late_change).change = Some(step);
    });
}
