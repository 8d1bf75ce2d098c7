//! The checker's own test: a clean history is clean, and each planted fault is found.

mod bodies;
mod campaigns;
mod clean;
mod details;
mod scene;

use super::Fault;
use super::evidence::{Step, Told};
use bodies::{NOT_FOUND, duplicate_body, standard_body};
use clean::{Ids, clean};
use scene::{Call, How, Scene};
use std::time::Duration;

/// Plants a fault into the clean scene; it must be found, as what it is.
#[track_caller]
fn finds(fault: Fault, plant: impl FnOnce(&mut Scene, &Ids)) {
    let (mut scene, ids) = clean();
    plant(&mut scene, &ids);
    let report = scene.check();
    assert!(report.has(fault), "{fault:?} was not found in\n{report}");
    let text = report.to_string();
    assert!(text.contains(&format!("{fault:?}: ")), "{text}");
}

#[test]
fn what_is_clean_is_clean() {
    let (scene, _) = clean();
    let report = scene.check();
    report.assert_clean();
    assert_eq!(report.answers.total(), 12);
    assert_eq!(report.looked.conversions, 5);
    assert_eq!(report.looked.misplaced, 0);
}

#[test]
fn a_resend_of_the_same_record_is_no_fault() {
    let (mut scene, ids) = clean();
    let records = &mut scene.evidence.topics.postbacks;
    let again = records.iter().find(|one| one.request_id == ids.standard);
    let mut again = again.unwrap().clone();
    again.place.offset += 100;
    records.push(again);
    // So is an event that is told twice.
    let event = scene.evidence.topics.events[0].clone();
    scene.evidence.topics.events.push(event);
    scene.check().assert_clean();
}

#[test]
fn one_conversion_per_external_id_where_the_campaign_says_so() {
    let mut scene = Scene::new();
    scene.set(18, r#"{"dedupe":"txid"}"#, "");
    scene.click("a");
    for external in ["x", "", "y"] {
        let call = Call {
            clickid: "a",
            external,
            ..Call::default()
        };
        scene.standard_call(&call, How::Directly);
    }
    scene.check().assert_clean();
    let settings = serde_json::json!({"dedupe": "click"});
    scene.evidence.store.campaigns[0].settings = settings.clone();
    scene.evidence.store.versions[0].settings = settings;
    let report = scene.check();
    assert!(report.has(Fault::TwoConversions) && report.has(Fault::TwoStandard));
}

/// Nobody promised anything of a click that a foreign producer put into another partition.
#[test]
fn a_misplaced_click_is_left_out() {
    let mut scene = Scene::new();
    scene.unknown("a", "1");
    scene.click("a");
    let evidence = &mut scene.evidence;
    let place = &mut evidence.store.clicks[0].place;
    place.partition = 1 - place.partition;
    evidence.topics.clicks[0].place = *place;
    evidence.store.click_stats[0].key.partition = place.partition;
    let report = scene.check();
    report.assert_clean();
    assert_eq!(report.looked.misplaced, 1);
}

mod losses {
    use super::*;

    #[test]
    fn of_a_postback() {
        finds(Fault::PostbackLost, |scene, ids| {
            let records = &mut scene.evidence.topics.postbacks;
            records.retain(|one| one.request_id != ids.duplicate);
        });
        finds(Fault::NotLogged, |scene, ids| {
            let log = &mut scene.evidence.store.log;
            log.retain(|row| row.request_id != ids.duplicate);
        });
        // Everywhere: nothing is left but the promise.
        finds(Fault::PostbackLost, |scene, ids| {
            let records = &mut scene.evidence.topics.postbacks;
            records.retain(|one| one.request_id != ids.unknown);
            let store = &mut scene.evidence.store;
            store.log.retain(|row| row.request_id != ids.unknown);
            store.unmatched.clear();
            store
                .partitions
                .iter_mut()
                .for_each(|row| row.unmatched = 0);
        });
    }

    #[test]
    fn of_a_click() {
        finds(Fault::ClickLost, |scene, _| {
            scene.evidence.topics.clicks.remove(0);
        });
        finds(Fault::ClickLost, |scene, _| {
            scene.evidence.store.clicks.remove(0);
        });
    }

    #[test]
    fn of_a_conversion() {
        for place in 0..5 {
            finds(Fault::ConversionMissing, |scene, _| {
                scene.evidence.store.conversions.remove(place);
            });
        }
        finds(Fault::Sequence, |scene, _| {
            scene.evidence.store.conversions.remove(0);
        });
        finds(Fault::ConversionStatistics, |scene, _| {
            scene.evidence.store.conversions.remove(0);
        });
    }

    #[test]
    fn of_an_event() {
        finds(Fault::EventMissing, |scene, _| {
            scene.evidence.topics.events.remove(2);
        });
    }

    #[test]
    fn of_an_outcome() {
        finds(Fault::Unresolved, |scene, ids| {
            let body = format!(
                r#"{{"status":"ok","request_id":"{}","outcome":"pending"}}"#,
                ids.queued
            );
            let told = Told::Answer { status: 200, body };
            scene.evidence.statuses.insert(ids.queued.clone(), told);
        });
        finds(Fault::Unresolved, |scene, ids| {
            let told = Told::Answer {
                status: 404,
                body: r#"{"status":"error","error":"request_not_found","message":"m"}"#.to_owned(),
            };
            scene.evidence.statuses.insert(ids.queued.clone(), told);
        });
        finds(Fault::Unresolved, |scene, ids| {
            scene.evidence.statuses.remove(&ids.queued);
        });
        finds(Fault::Unmatched, |scene, ids| {
            let unmatched = &mut scene.evidence.store.unmatched;
            unmatched.retain(|row| row.request_id != ids.unknown);
        });
        finds(Fault::Unsettled, |scene, _| {
            let rows = &scene.evidence.store.partitions;
            let ends = [[(0, 100)].into(), [(1, 0)].into()];
            scene.evidence.unsettled = super::super::collect::behind(rows, &ends);
            assert_eq!(scene.evidence.unsettled.len(), 1);
        });
    }
}

mod doubles {
    use super::*;

    #[test]
    fn two_conversions_of_one_key() {
        finds(Fault::TwoConversions, |scene, ids| {
            scene.convert(&ids.duplicate);
        });
        finds(Fault::NotTheFirst, |scene, ids| {
            scene.convert(&ids.duplicate);
        });
    }

    #[test]
    fn a_later_postback_in_the_place_of_the_first() {
        finds(Fault::NotTheFirst, |scene, ids| {
            let later = ids.duplicate.clone();
            let records = scene.evidence.topics.postbacks.clone();
            let record = records.iter().find(|one| one.request_id == later).unwrap();
            let conversion = &mut scene.stored(&ids.standard).conversion;
            conversion.conversion_id = later;
            conversion.created_at = record.received_at;
            conversion.micros = record.micros;
        });
    }

    #[test]
    fn of_statistics() {
        finds(Fault::ConversionStatistics, |scene, _| {
            scene.evidence.store.conversion_stats[0].count += 1;
        });
        finds(Fault::ConversionStatistics, |scene, _| {
            scene.evidence.store.conversion_stats[0].micros += 1;
        });
        finds(Fault::ConversionStatistics, |scene, _| {
            scene.evidence.store.conversion_stats[0].key.partition += 7;
        });
        finds(Fault::ClickStatistics, |scene, _| {
            scene.evidence.store.click_stats[0].count += 1;
        });
        finds(Fault::Totals, |scene, _| {
            scene.evidence.store.conversion_totals[0].micros += 1;
        });
        finds(Fault::Totals, |scene, _| {
            scene.evidence.store.click_totals[0].count += 1;
        });
    }

    #[test]
    fn of_numbers() {
        // A gap, and a repetition with the right count.
        finds(Fault::Sequence, |scene, ids| {
            scene.stored(&ids.late).sequence += 1;
        });
        finds(Fault::Sequence, |scene, ids| {
            scene.stored(&ids.standard).sequence += 1;
        });
        finds(Fault::Sequence, |scene, _| {
            scene.evidence.store.partitions[0].sequence += 1;
        });
        finds(Fault::Unmatched, |scene, _| {
            scene.evidence.store.partitions[0].unmatched += 1;
        });
    }

    #[test]
    fn of_an_id() {
        finds(Fault::RequestTwice, |scene, ids| {
            let records = &mut scene.evidence.topics.postbacks;
            let other = records.iter().find(|one| one.request_id == ids.standard);
            let mut other = other.unwrap().clone();
            other.place.offset += 100;
            other.value.push(' ');
            records.push(other);
        });
        finds(Fault::RequestTwice, |scene, ids| {
            let row = scene.logged(&ids.standard).clone();
            scene.evidence.store.log.push(row);
        });
        finds(Fault::RequestTwice, |scene, ids| {
            scene.answer(&ids.duplicate, |answer| {
                answer.headers[0].1.clone_from(&ids.standard);
            });
        });
    }

    #[test]
    fn an_outcome_that_changes() {
        finds(Fault::LogDiffers, |scene, ids| {
            let step = scene.step("a", "duplicate", Some(&ids.standard));
            scene.logged(&ids.standard).change = Some(step);
        });
    }
}

mod lies {
    use super::*;

    #[test]
    fn a_second_standard_answer() {
        finds(Fault::TwoStandard, |scene, ids| {
            let body = standard_body(&scene.stored(&ids.standard).conversion);
            scene.answer(&ids.duplicate, |answer| answer.body = body);
        });
        finds(Fault::UntrueStandard, |scene, ids| {
            let body = standard_body(&scene.stored(&ids.standard).conversion);
            scene.answer(&ids.duplicate, |answer| answer.body = body);
        });
    }

    #[test]
    fn a_duplicate_that_echoes_what_was_sent() {
        finds(Fault::UntrueDuplicate, |scene, ids| {
            let mut conversion = scene.stored(&ids.standard).conversion.clone();
            conversion.micros = 7_500_000;
            let body = duplicate_body(&conversion);
            scene.answer(&ids.duplicate, |answer| answer.body = body);
        });
        finds(Fault::UntrueDuplicate, |scene, ids| {
            let body = duplicate_body(&scene.stored(&ids.standard).conversion);
            scene.answer(&ids.standard, |answer| answer.body = body);
        });
        finds(Fault::UntrueDuplicate, |scene, ids| {
            let body = duplicate_body(&scene.stored(&ids.standard).conversion);
            scene.answer(&ids.unknown, |answer| {
                answer.status = 200;
                answer.body = body.replace("\"a\"", "\"none\"");
            });
        });
    }

    #[test]
    fn a_false_click_not_found() {
        finds(Fault::FalseNotFound, |scene, ids| {
            scene.answer(&ids.duplicate, |answer| {
                answer.status = 404;
                NOT_FOUND.clone_into(&mut answer.body);
            });
        });
        // Also where the log tells the same story.
        finds(Fault::FalseNotFound, |scene, ids| {
            let mut recorded = scene.history.recorded();
            let began = recorded.clicks[0].acknowledged;
            let click = recorded.clicks.iter_mut().find(|one| one.clickid == "late");
            click.unwrap().acknowledged = began;
            assert!(ids.late < ids.refused);
        });
    }

    #[test]
    fn an_answer_with_a_code_that_is_not_its_own() {
        finds(Fault::WrongForm, |scene, ids| {
            scene.answer(&ids.queued, |answer| answer.status = 200);
        });
        finds(Fault::WrongForm, |scene, ids| {
            scene.answer(&ids.unknown, |answer| answer.status = 200);
        });
        finds(Fault::WrongForm, |scene, ids| {
            scene.answer(&ids.queued, |answer| answer.headers.clear());
        });
        finds(Fault::WrongForm, |scene, ids| {
            scene.answer(&ids.queued, |answer| answer.body = "{}".to_owned());
        });
    }

    #[test]
    fn an_answer_about_another_conversion() {
        for (from, to) in [
            ("\"campaign_id\":18", "\"campaign_id\":19"),
            ("1.200000", "1.200001"),
            ("EUR", "USD"),
            ("14:32:10", "14:32:11"),
            ("\"a\"", "\"b\""),
        ] {
            finds(Fault::UntrueStandard, |scene, ids| {
                scene.answer(&ids.standard, |answer| {
                    assert!(answer.body.contains(from), "{answer:?}");
                    answer.body = answer.body.replace(from, to);
                });
            });
        }
    }

    #[test]
    fn an_answer_that_the_log_does_not_know() {
        finds(Fault::LogDiffers, |scene, ids| {
            scene.logged(&ids.duplicate).first = Step {
                outcome: "click_not_found".to_owned(),
                ..Step::default()
            };
        });
        finds(Fault::StatusDiffers, |scene, ids| {
            let Some(Told::Answer { body, .. }) = scene.evidence.statuses.get_mut(&ids.late) else {
                panic!("a status of {}", ids.late);
            };
            *body = body.replace("5.000000", "5.000001");
        });
        finds(Fault::RefusedKept, |scene, ids| {
            let body = r#"{"status":"error","error":"invalid_revenue","message":"m"}"#;
            scene.answer(&ids.standard, |answer| {
                answer.status = 400;
                body.clone_into(&mut answer.body);
            });
        });
        finds(Fault::LogDiffers, |scene, ids| {
            scene.logged(&ids.refused).first.outcome = "converted".to_owned();
        });
    }

    #[test]
    fn about_money_and_times() {
        finds(Fault::WrongRevenue, |scene, ids| {
            scene.stored(&ids.late).conversion.micros += 1;
        });
        finds(Fault::WrongRevenue, |scene, ids| {
            scene.logged(&ids.standard).micros = Some(1_200_001);
        });
        finds(Fault::WrongTime, |scene, ids| {
            scene.stored(&ids.late).conversion.created_at += 1;
        });
        finds(Fault::ConversionDiffers, |scene, ids| {
            scene.stored(&ids.late).conversion.clicked_at += 1;
        });
        finds(Fault::ConversionDiffers, |scene, ids| {
            scene.stored(&ids.late).conversion.campaign_id += 1;
        });
        finds(Fault::NotAsSent, |scene, _| {
            scene.evidence.topics.postbacks[0].micros += 1;
        });
        finds(Fault::EventDiffers, |scene, _| {
            scene.evidence.topics.events[0].micros += 1;
        });
        finds(Fault::EventDiffers, |scene, _| {
            scene.evidence.topics.events[0].conversion_id.push('0');
        });
    }

    #[test]
    fn about_clicks_and_places() {
        finds(Fault::ClickDiffers, |scene, _| {
            let mut earlier = scene.evidence.topics.clicks[0].clone();
            earlier.campaign_id = 5;
            earlier.place.offset -= 1;
            scene.evidence.topics.clicks.push(earlier);
        });
        finds(Fault::ClickDiffers, |scene, _| {
            scene.history.recorded().clicks[0].campaign_id = 5;
        });
        finds(Fault::WrongPartition, |scene, ids| {
            let records = &mut scene.evidence.topics.postbacks;
            let record = records.iter_mut().find(|one| one.request_id == ids.unknown);
            let place = &mut record.unwrap().place;
            place.partition = 1 - place.partition;
        });
    }
}

/// Many of everything: the check stays linear, and a flood of breaches readable.
#[test]
fn a_large_history() {
    const CLICKS: usize = 6_000;
    let mut scene = Scene::new();
    for number in 0..CLICKS {
        let clickid = format!("a-{number}");
        scene.click(&clickid);
        let told = [How::Directly, How::Queued, How::NotAtAll][number % 3];
        let first = scene.standard(&clickid, "1.25", told);
        scene.duplicate(&first, "7.5", How::Directly);
        scene.duplicate(&first, "8", How::Queued);
    }
    let began = std::time::Instant::now();
    scene.check().assert_clean();
    assert!(began.elapsed() < Duration::from_secs(20));
    scene.evidence.store.log.clear();
    scene.evidence.topics.events.clear();
    let report = scene.check();
    assert_eq!(report.totals()[&Fault::NotLogged], CLICKS * 3);
    assert_eq!(report.totals()[&Fault::EventMissing], CLICKS);
    assert!(report.to_string().lines().count() < 25, "{report}");
}
