//! A small installation and its callers, played by hand: every step does what the product would.

use crate::checker::evidence::{
    Click, Conversion, Evidence, Key, Logged, Partition, Place, Postback, Stored, Sum, Told,
    Waiting,
};
use crate::checker::{Report, check, exact};
use crate::history::{History, Reply, Sent};
use crate::http::Answer;
use crate::kcat::murmur2_partition;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 2;
/// 2025-11-26 14:32:10.25
const START: i64 = 1_764_167_530_250_000;

/// The scene.
pub(super) struct Scene {
    pub(super) history: History,
    pub(super) evidence: Evidence,
    began: Instant,
    calls: u32,
}

/// How a postback ends.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum How {
    Directly,
    Queued,
    NotAtAll,
}

impl Scene {
    pub(super) fn new() -> Self {
        let mut evidence = Evidence::default();
        evidence.store.topic_partitions = i64::from(PARTITIONS);
        evidence.store.partitions = (0..i64::from(PARTITIONS))
            .map(|partition| Partition {
                partition,
                ..Partition::default()
            })
            .collect();
        Self {
            history: History::new(),
            evidence,
            began: Instant::now(),
            calls: 0,
        }
    }

    fn row(&mut self, partition: i64) -> &mut Partition {
        let rows = &mut self.evidence.store.partitions;
        rows.iter_mut()
            .find(|row| row.partition == partition)
            .unwrap()
    }

    /// A click that is announced, stored and counted.
    pub(super) fn click(&mut self, clickid: &str) {
        let partition = i64::from(murmur2_partition(clickid, PARTITIONS));
        let row = self.row(partition);
        let place = Place {
            partition,
            offset: row.clicks,
        };
        row.clicks += 1;
        let click = Click {
            place,
            clickid: clickid.to_owned(),
            campaign_id: 18,
            labels: ["7", "s", "p", "t"].map(str::to_owned),
            clicked_at: Some(START - 60_000_000),
        };
        let key = (
            18,
            exact::quarter(START - 60_000_000),
            "7".to_owned(),
            "s".to_owned(),
            None,
            partition,
        );
        add(&mut self.evidence.store.click_stats, key, 0);
        self.evidence.store.clicks.push(click.clone());
        self.evidence.topics.clicks.push(click);
        let began = self.now();
        self.history.clicks([&clickid.to_owned()], 18, began, true);
        let acknowledged = self.now();
        let mut recorded = self.history.recorded();
        recorded.clicks.last_mut().unwrap().acknowledged = Some(acknowledged);
    }

    /// Times that only go forward, whatever the machine does.
    fn now(&mut self) -> Instant {
        self.calls += 1;
        self.began + Duration::from_millis(1) * self.calls
    }

    /// A postback that is published and logged; gives its request id.
    fn postback(&mut self, clickid: &str, revenue: &str, told: How) -> String {
        let began = self.now();
        let request_id = format!("019ac0b0-2a90-7d2f-8f6b-{:012}", self.calls);
        let partition = i64::from(murmur2_partition(clickid, PARTITIONS));
        let received_at = START + i64::from(self.calls) * 1_000;
        let row = self.row(partition);
        let place = Place {
            partition,
            offset: row.postbacks,
        };
        row.postbacks += 1;
        let micros = exact::micros(revenue).unwrap();
        self.evidence.topics.postbacks.push(Postback {
            place,
            key: clickid.to_owned(),
            request_id: request_id.clone(),
            received_at,
            clickid: clickid.to_owned(),
            micros,
            currency: "EUR".to_owned(),
            currency_sent: true,
            external_id: None,
            subids: vec![None; 5],
            value: format!("{{\"request_id\":\"{request_id}\"}}"),
        });
        self.evidence.store.log.push(Logged {
            request_id: request_id.clone(),
            received_at,
            outcome: "click_not_found".to_owned(),
            reason: None,
            conversion_id: None,
            change: None,
            clickid: Some(clickid.to_owned()),
            micros: Some(micros),
            currency: Some("EUR".to_owned()),
            external_id: None,
            place: Some(place),
        });
        let sent = Sent {
            clickid: clickid.to_owned(),
            revenue: revenue.to_owned(),
            currency: "eur".to_owned(),
            ..Sent::default()
        };
        let reply = match told {
            How::NotAtAll => Reply::None("lost".to_owned()),
            _ => Reply::Answer(Answer {
                status: 202,
                headers: vec![("X-Request-Id".to_owned(), request_id.clone())],
                body: format!(
                    r#"{{"status":"ok","note":"queued","message":"m","request_id":"{request_id}","clickid":"{clickid}"}}"#
                ),
            }),
        };
        self.history.postback(sent, began, reply);
        let ended = self.now();
        self.history.recorded().postbacks.last_mut().unwrap().ended = ended;
        request_id
    }

    pub(super) fn logged(&mut self, id: &str) -> &mut Logged {
        let log = &mut self.evidence.store.log;
        log.iter_mut().rfind(|row| row.request_id == id).unwrap()
    }

    pub(super) fn stored(&mut self, id: &str) -> &mut Stored {
        let stored = &mut self.evidence.store.conversions;
        stored
            .iter_mut()
            .rfind(|one| one.conversion.conversion_id == id)
            .unwrap()
    }

    pub(super) fn answer(&self, id: &str, change: impl FnOnce(&mut Answer)) {
        let mut recorded = self.history.recorded();
        let call = recorded
            .postbacks
            .iter_mut()
            .rfind(|call| call.request_id() == Some(id));
        let Reply::Answer(answer) = &mut call.unwrap().reply else {
            panic!("{id} has no answer");
        };
        change(answer);
    }

    /// The conversion of a logged postback, with its event and its statistics.
    pub(super) fn convert(&mut self, id: &str) -> Conversion {
        let records = &self.evidence.topics.postbacks;
        let postback = records.iter().rfind(|one| one.request_id == id).unwrap();
        let conversion = Conversion {
            conversion_id: id.to_owned(),
            clickid: postback.clickid.clone(),
            event: String::new(),
            campaign_id: 18,
            labels: ["7", "s", "p", "t"].map(str::to_owned),
            micros: postback.micros,
            currency: "EUR".to_owned(),
            currency_sent: true,
            external_id: None,
            subids: vec![None; 5],
            created_at: postback.received_at,
            clicked_at: START - 60_000_000,
            policy_version: 0,
        };
        let partition = postback.place.partition;
        let row = self.row(partition);
        row.sequence += 1;
        row.published += 1;
        let sequence = row.sequence;
        let key = (
            18,
            exact::quarter(conversion.created_at),
            "7".to_owned(),
            "s".to_owned(),
            Some("EUR".to_owned()),
            partition,
        );
        let stats = &mut self.evidence.store.conversion_stats;
        add(stats, key, conversion.micros);
        self.evidence.topics.events.push(conversion.clone());
        self.evidence.store.conversions.push(Stored {
            partition,
            sequence,
            conversion: conversion.clone(),
        });
        conversion
    }

    pub(super) fn standard(&mut self, clickid: &str, revenue: &str, told: How) -> String {
        let id = self.postback(clickid, revenue, told);
        let conversion = self.convert(&id);
        let row = self.logged(&id);
        row.outcome = "converted".to_owned();
        row.conversion_id = Some(id.clone());
        let body = standard_body(&conversion);
        self.tell(&id, told, 200, "converted", &body);
        id
    }

    pub(super) fn duplicate(&mut self, first: &str, revenue: &str, told: How) -> String {
        let conversion = self.stored(first).conversion.clone();
        let id = self.postback(&conversion.clickid, revenue, told);
        let row = self.logged(&id);
        row.outcome = "duplicate".to_owned();
        row.conversion_id = Some(first.to_owned());
        let body = duplicate_body(&conversion);
        self.tell(&id, told, 200, "duplicate", &body);
        id
    }

    fn unknown(&mut self, clickid: &str, revenue: &str) -> String {
        let id = self.postback(clickid, revenue, How::Directly);
        let row = self.logged(&id);
        row.reason = Some("unmatched".to_owned());
        let place = row.place.unwrap();
        self.evidence.store.unmatched.push(Waiting {
            request_id: id.clone(),
            clickid: clickid.to_owned(),
            place,
            postback: format!("{{ \"request_id\": \"{id}\" }}"),
        });
        self.row(place.partition).unmatched += 1;
        self.tell(&id, How::Directly, 404, "click_not_found", NOT_FOUND);
        id
    }

    /// The click of two waiting postbacks comes.
    fn heal(&mut self, clickid: &str, first: &str, second: &str) {
        self.click(clickid);
        let conversion = self.convert(first);
        for (id, outcome) in [(first, "converted"), (second, "duplicate")] {
            let row = self.logged(id);
            row.change = Some((outcome.to_owned(), Some(first.to_owned())));
            let place = row.place.unwrap();
            self.evidence
                .store
                .unmatched
                .retain(|one| one.request_id != id);
            self.row(place.partition).unmatched -= 1;
        }
        self.status(first, "converted", &standard_body(&conversion));
        self.status(second, "duplicate", &duplicate_body(&conversion));
    }

    fn tell(&mut self, id: &str, told: How, status: u16, outcome: &str, body: &str) {
        if told == How::Directly {
            self.answer(id, |answer| {
                answer.status = status;
                body.clone_into(&mut answer.body);
            });
        }
        self.status(id, outcome, body);
    }

    fn status(&mut self, id: &str, outcome: &str, body: &str) {
        let received_at = exact::printed(self.logged(id).received_at);
        let body = format!(
            r#"{{"status":"ok","request_id":"{id}","received_at":"{received_at}","outcome":"{outcome}","answer":{body}}}"#
        );
        let told = Told::Answer { status: 200, body };
        self.evidence.statuses.insert(id.to_owned(), told);
    }

    /// A refusal, which is in the log and nowhere else.
    fn refuse(&mut self) -> String {
        let id = self.postback("", "1", How::Queued);
        self.answer(&id, |answer| {
            answer.status = 400;
            answer.body =
                r#"{"status":"error","error":"missing_clickid","message":"m"}"#.to_owned();
        });
        let record = self.evidence.topics.postbacks.pop().unwrap();
        self.row(record.place.partition).postbacks -= 1;
        let row = self.logged(&id);
        row.outcome = "refused".to_owned();
        row.reason = Some("missing_clickid".to_owned());
        (row.clickid, row.place, row.micros, row.currency) = (None, None, None, None);
        id
    }

    pub(super) fn check(&self) -> Report {
        check(&self.history, &self.evidence)
    }
}

pub(super) const NOT_FOUND: &str = r#"{"status":"error","error":"click_not_found","message":"m"}"#;

pub(super) fn standard_body(conversion: &Conversion) -> String {
    let created_at = exact::printed(conversion.created_at);
    let claim = claim_body(conversion);
    format!(r#"{{"status":"ok",{claim},"created_at":"{created_at}"}}"#)
}

pub(super) fn duplicate_body(conversion: &Conversion) -> String {
    let claim = claim_body(conversion);
    format!(r#"{{"status":"ok","note":"duplicate","message":"m",{claim}}}"#)
}

fn claim_body(conversion: &Conversion) -> String {
    let (whole, rest) = (conversion.micros / 1_000_000, conversion.micros % 1_000_000);
    format!(
        r#""clickid":"{}","campaign_id":{},"revenue":{whole}.{rest:06},"currency":"{}""#,
        conversion.clickid, conversion.campaign_id, conversion.currency
    )
}

fn add(sums: &mut Vec<Sum>, key: Key, micros: i64) {
    let place = sums.iter().position(|sum| sum.key == key);
    let place = place.unwrap_or_else(|| {
        sums.push(Sum {
            key,
            count: 0,
            whole: 0,
            micros: 0,
        });
        sums.len() - 1
    });
    let sum = &mut sums[place];
    sum.count += 1;
    sum.whole += micros / 1_000_000;
    sum.micros += micros % 1_000_000;
}

/// Ids that the faults are planted at.
pub(super) struct Ids {
    pub(super) standard: String,
    pub(super) duplicate: String,
    pub(super) queued: String,
    pub(super) unknown: String,
    pub(super) late: String,
    pub(super) refused: String,
}

/// One of everything.
pub(super) fn clean() -> (Scene, Ids) {
    let mut scene = Scene::new();
    for clickid in ["a", "b", "c", "d"] {
        scene.click(clickid);
    }
    let standard = scene.standard("a", "1.20", How::Directly);
    let duplicate = scene.duplicate(&standard, "7.5", How::Directly);
    let queued = scene.standard("b", "0.999999", How::Queued);
    scene.duplicate(&queued, "3", How::Queued);
    let lost = scene.standard("c", "2", How::NotAtAll);
    scene.duplicate(&lost, "4", How::Directly);
    let unknown = scene.unknown("none", "1");
    let late = scene.unknown("late", "5");
    let later = scene.unknown("late", "6");
    scene.heal("late", &late, &later);
    scene.duplicate(&late, "8", How::Directly);
    scene.standard("d", "0.000001", How::Directly);
    let refused = scene.refuse();
    let ids = Ids {
        standard,
        duplicate,
        queued,
        unknown,
        late,
        refused,
    };
    (scene, ids)
}
