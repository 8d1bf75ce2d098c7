//! Faults that more than one rule finds: each rule by the words that it says it with.

use super::clean::{Ids, clean};
use super::scene::Scene;
use crate::checker::Fault;
use crate::checker::evidence::{Sum, Told, Waiting};

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
fn of_topics_and_log() {
    says(Fault::ClickDiffers, "not on the topic", |scene, _| {
        scene.evidence.topics.clicks.remove(0);
    });
    says(Fault::LogDiffers, "in currency", |scene, ids| {
        scene.logged(&ids.standard).currency = Some("USD".to_owned());
    });
    // The caller got no answer: only the log tells of it.
    says(Fault::PostbackLost, "of the log", |scene, _| {
        let records = &mut scene.evidence.topics.postbacks;
        records.retain(|one| one.clickid != "c");
    });
    says(Fault::LogDiffers, "was decided again", |scene, ids| {
        let step = scene.step("a", "converted", Some(&ids.standard));
        scene.logged(&ids.standard).change = Some(step);
    });
    says(Fault::LogDiffers, "the log has come to", |scene, ids| {
        scene.logged(&ids.duplicate).first.conversion_id = Some(ids.queued.clone());
    });
    says(Fault::LogDiffers, "answered Duplicate", |scene, ids| {
        scene.logged(&ids.duplicate).first.outcome = "converted".to_owned();
    });
    says(Fault::NotLogged, "answered ClickNotFound", |scene, ids| {
        let records = &mut scene.evidence.topics.postbacks;
        records.retain(|one| one.request_id != ids.unknown);
        let log = &mut scene.evidence.store.log;
        log.retain(|row| row.request_id != ids.unknown);
    });
}

#[test]
fn of_conversions() {
    says(Fault::TwoConversions, "with one id", |scene, ids| {
        let mut stored = scene.stored(&ids.standard).clone();
        stored.conversion.clickid = "another".to_owned();
        scene.evidence.store.conversions.push(stored);
    });
    says(
        Fault::ConversionDiffers,
        "without its postback",
        |scene, ids| {
            let records = &mut scene.evidence.topics.postbacks;
            records.retain(|one| one.request_id != ids.standard);
        },
    );
    says(Fault::NotTheFirst, "found no room", |scene, ids| {
        scene.logged(&ids.late).first.why = Some("unmatched_full".to_owned());
    });
}

#[test]
fn of_waiting_postbacks() {
    says(Fault::Unmatched, "doesn't call unmatched", |scene, ids| {
        let place = scene.logged(&ids.late).place.unwrap();
        scene.evidence.store.unmatched.push(Waiting {
            request_id: ids.late.clone(),
            clickid: "late".to_owned(),
            place,
            postback: String::new(),
        });
    });
    says(Fault::Unmatched, "what its record says", |scene, _| {
        scene.evidence.store.unmatched[0].postback = "{}".to_owned();
    });
    says(Fault::Unmatched, "that doesn't wait", |scene, _| {
        scene.evidence.store.unmatched.clear();
    });
}

#[test]
fn of_sums() {
    says(Fault::ConversionStatistics, "stands twice", |scene, _| {
        let sums = &mut scene.evidence.store.conversion_stats;
        sums.push(sums[0].clone());
    });
    says(Fault::ClickStatistics, "nothing is stored", |scene, _| {
        let sums = &mut scene.evidence.store.click_stats;
        let mut key = sums[0].key.clone();
        key.campaign_id = 99;
        sums.push(Sum {
            key,
            ..sums[0].clone()
        });
    });
    says(Fault::Sequence, "without a row", |scene, _| {
        scene.evidence.store.partitions.clear();
    });
}

#[test]
fn of_answers() {
    says(Fault::WrongForm, "queued speaks of", |scene, ids| {
        scene.answer(&ids.queued, |answer| {
            answer.body = answer.body.replace(&ids.queued, &ids.standard);
        });
    });
    says(Fault::Unresolved, "gave no answer", |scene, ids| {
        let told = Told::Nothing("refused".to_owned());
        scene.evidence.statuses.insert(ids.queued.clone(), told);
    });
}
