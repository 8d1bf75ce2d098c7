//! A small installation and its callers, played by hand: every step does what the product would.

use super::bodies::{NOT_FOUND, duplicate_body, standard_body};
use crate::checker::evidence::{
    Campaign, Click, Conversion, Evidence, Key, Logged, Partition, Place, Postback, Said,
    Signature, Spoken, Statement, Step, Stored, Sum, Told, Version, Waiting,
};
use crate::checker::{Report, check, exact, sign};
use crate::history::{Asked, History, Reply, Sent};
use crate::http::Answer;
use crate::kcat::murmur2_partition;
use serde_json::Value;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 2;
/// 2025-11-26 14:32:10.25
pub(super) const START: i64 = 1_764_167_530_250_000;
/// Before [`START`], in which all plain clicks were made.
const MINUTE: i64 = 60_000_000;

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

/// A postback that is sent. Empty is not sent.
#[derive(Clone)]
pub(super) struct Call<'s> {
    pub(super) clickid: &'s str,
    pub(super) revenue: &'s str,
    pub(super) currency: &'s str,
    pub(super) external: &'s str,
    pub(super) event: &'s str,
    pub(super) word: &'s str,
    /// What the word means; empty for an unknown one.
    pub(super) status: &'s str,
    pub(super) secret: &'s str,
    pub(super) address: &'s str,
    /// When it is received; 0 for now.
    pub(super) at: i64,
}

impl Default for Call<'_> {
    fn default() -> Self {
        Self {
            clickid: "",
            revenue: "1",
            currency: "eur",
            external: "",
            event: "",
            word: "",
            status: "",
            secret: "",
            address: "192.0.2.7",
            at: 0,
        }
    }
}

fn sent(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
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

    /// Sets a campaign; the former secret is forgotten.
    pub(super) fn set(&mut self, campaign_id: i64, settings: &str, secret: &str) {
        let store = &mut self.evidence.store;
        let before = store.campaigns.iter();
        let version = before
            .filter(|one| one.campaign_id == campaign_id)
            .map(|one| one.version)
            .sum::<i64>()
            + 1;
        let settings: Value = serde_json::from_str(settings).unwrap();
        store.campaigns.retain(|one| one.campaign_id != campaign_id);
        store.campaigns.push(Campaign {
            campaign_id,
            version,
            settings: settings.clone(),
            secret: sent(secret),
        });
        store.versions.push(Version {
            campaign_id,
            version,
            settings,
            secret_set: !secret.is_empty(),
        });
    }

    /// The present version and dedupe policy of a campaign.
    fn policy(&self, campaign_id: i64) -> (i64, String) {
        let mut campaigns = self.evidence.store.campaigns.iter();
        let set = campaigns.find(|one| one.campaign_id == campaign_id);
        let dedupe = set.and_then(|one| one.settings["dedupe"].as_str());
        let version = set.map_or(0, |one| one.version);
        (version, dedupe.unwrap_or("click").to_owned())
    }

    /// A click that is announced, stored and counted.
    pub(super) fn click(&mut self, clickid: &str) {
        self.click_of(clickid, 18, START - MINUTE);
    }

    pub(super) fn click_of(&mut self, clickid: &str, campaign_id: i64, clicked_at: i64) {
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
            campaign_id,
            labels: ["7", "s", "p", "t"].map(str::to_owned),
            clicked_at: Some(clicked_at),
        };
        let key = key(campaign_id, clicked_at, None, None, partition);
        add(&mut self.evidence.store.click_totals, key.total(), 1, 0);
        add(&mut self.evidence.store.click_stats, key, 1, 0);
        self.evidence.store.clicks.push(click.clone());
        self.evidence.topics.clicks.push(click);
        let began = self.now();
        let ids = [&clickid.to_owned()];
        self.history.clicks(ids, campaign_id, None, began, true);
        let acknowledged = self.now();
        let mut recorded = self.history.recorded();
        recorded.clicks.last_mut().unwrap().acknowledged = Some(acknowledged);
    }

    /// Times that only go forward, whatever the machine does.
    fn now(&mut self) -> Instant {
        self.calls += 1;
        self.began + Duration::from_millis(1) * self.calls
    }

    fn postback(&mut self, clickid: &str, revenue: &str, told: How) -> String {
        let call = Call {
            clickid,
            revenue,
            ..Call::default()
        };
        self.send(&call, told)
    }

    /// A postback that is published, and logged as if its click weren't there; gives its request
    /// id.
    pub(super) fn send(&mut self, call: &Call<'_>, told: How) -> String {
        let clickid = call.clickid;
        let began = self.now();
        let request_id = format!("019ac0b0-2a90-7d2f-8f6b-{:012}", self.calls);
        let partition = i64::from(murmur2_partition(clickid, PARTITIONS));
        let received_at = match call.at {
            0 => START + i64::from(self.calls) * 1_000,
            at => at,
        };
        let row = self.row(partition);
        let place = Place {
            partition,
            offset: row.postbacks,
        };
        row.postbacks += 1;
        let micros = exact::micros(call.revenue).unwrap();
        let currency = sent(call.currency).unwrap_or("usd".to_owned());
        let currency = currency.to_uppercase();
        let query = format!("clickid={clickid}");
        let record = Postback {
            place,
            key: clickid.to_owned(),
            request_id: request_id.clone(),
            received_at,
            clickid: clickid.to_owned(),
            micros,
            currency: currency.clone(),
            currency_sent: !call.currency.is_empty(),
            external_id: sent(call.external),
            subids: vec![None; 5],
            event: sent(call.event),
            said: sent(call.word).map(|word| Said {
                word,
                status: sent(call.status),
            }),
            signature: sent(call.secret).map(|secret| Signature {
                sig: sign(&secret, &query),
                query,
            }),
            address: call.address.to_owned(),
            value: format!("{{\"request_id\":\"{request_id}\"}}"),
        };
        self.evidence.store.log.push(Logged {
            request_id: request_id.clone(),
            received_at,
            first: Step {
                outcome: "click_not_found".to_owned(),
                ..Step::default()
            },
            change: None,
            clickid: Some(clickid.to_owned()),
            micros: Some(micros),
            currency: Some(currency),
            external_id: record.external_id.clone(),
            event: record.event.clone(),
            status_word: sent(call.word),
            place: Some(place),
        });
        self.evidence.topics.postbacks.push(record);
        let sent = Sent {
            clickid: clickid.to_owned(),
            revenue: call.revenue.to_owned(),
            currency: call.currency.to_owned(),
            external_id: sent(call.external),
            ..Sent::default()
        };
        let asked = Asked {
            event: call.event.to_owned(),
            status: call.word.to_owned(),
            secret: call.secret.to_owned(),
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
        self.history.postback(sent, asked, began, reply);
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

    pub(super) fn record(&mut self, id: &str) -> &mut Postback {
        let records = &mut self.evidence.topics.postbacks;
        records
            .iter_mut()
            .rfind(|one| one.request_id == id)
            .unwrap()
    }

    pub(super) fn stated(&mut self, id: &str) -> &mut Statement {
        let statements = &mut self.evidence.store.statements;
        let mut found = statements.iter_mut();
        found.find(|one| one.spoken.id == id).unwrap()
    }

    pub(super) fn event(&mut self, status_id: &str) -> &mut Conversion {
        let events = &mut self.evidence.topics.events;
        let mut found = events.iter_mut();
        found.find(|one| one.status.id == status_id).unwrap()
    }

    pub(super) fn convert(&mut self, id: &str) -> Conversion {
        let currency = self.record(id).currency.clone();
        self.convert_as(id, "approved", &currency)
    }

    /// The conversion of a logged postback, with its event and its statistics.
    pub(super) fn convert_as(&mut self, id: &str, status: &str, currency: &str) -> Conversion {
        let postback = self.record(id).clone();
        let clicks = &self.evidence.store.clicks;
        let click = clicks.iter().rfind(|one| one.clickid == postback.clickid);
        let click = click.unwrap().clone();
        let (policy_version, dedupe) = self.policy(click.campaign_id);
        let first = Spoken {
            at: postback.received_at,
            id: id.to_owned(),
            status: status.to_owned(),
        };
        let conversion = Conversion {
            conversion_id: id.to_owned(),
            status: first.clone(),
            clickid: postback.clickid,
            event: postback.event.unwrap_or_default(),
            campaign_id: click.campaign_id,
            labels: click.labels,
            micros: postback.micros,
            currency: currency.to_owned(),
            currency_sent: postback.currency_sent,
            external_id: postback.external_id,
            subids: postback.subids,
            created_at: postback.received_at,
            clicked_at: click.clicked_at.unwrap(),
            policy_version,
            dedupe,
        };
        let partition = postback.place.partition;
        let sequence = self.number(partition);
        self.count(&conversion, status, partition, 1);
        self.evidence.topics.events.push(conversion.clone());
        self.evidence.store.conversions.push(Stored {
            partition,
            sequence,
            conversion: conversion.clone(),
            present: first,
        });
        conversion
    }

    fn number(&mut self, partition: i64) -> i64 {
        let row = self.row(partition);
        row.sequence += 1;
        row.published += 1;
        row.sequence
    }

    fn count(&mut self, conversion: &Conversion, status: &str, partition: i64, count: i64) {
        let key = key(
            conversion.campaign_id,
            conversion.created_at,
            Some(&conversion.currency),
            Some(status),
            partition,
        );
        let store = &mut self.evidence.store;
        let micros = conversion.micros;
        add(&mut store.conversion_totals, key.total(), count, micros);
        add(&mut store.conversion_stats, key, count, micros);
    }

    /// What a logged postback states of a conversion: a change with its event, or a confirmation.
    pub(super) fn state(&mut self, id: &str, first: &str, status: &str) {
        let record = self.record(id).clone();
        let stored = self.stored(first);
        let conversion = stored.conversion.clone();
        let before = std::mem::replace(
            &mut stored.present,
            Spoken {
                at: record.received_at,
                id: id.to_owned(),
                status: status.to_owned(),
            },
        );
        let spoken = stored.present.clone();
        let partition = record.place.partition;
        let changes = before.status != status;
        let sequence = changes.then(|| self.number(partition));
        if changes {
            self.count(&conversion, &before.status, partition, -1);
            self.count(&conversion, status, partition, 1);
            self.evidence.topics.events.push(Conversion {
                status: spoken.clone(),
                ..conversion.clone()
            });
        }
        let (policy_version, _) = self.policy(conversion.campaign_id);
        self.evidence.store.statements.push(Statement {
            conversion_id: first.to_owned(),
            spoken,
            policy_version,
            partition,
            sequence,
        });
    }

    /// What a postback comes to, by the present settings of its click's campaign.
    pub(super) fn step(&self, clickid: &str, outcome: &str, conversion: Option<&str>) -> Step {
        let mut clicks = self.evidence.store.clicks.iter();
        let click = clicks.rfind(|one| one.clickid == clickid).unwrap();
        Step {
            outcome: outcome.to_owned(),
            conversion_id: conversion.map(str::to_owned),
            campaign_id: Some(click.campaign_id),
            policy_version: self.policy(click.campaign_id).0,
            ..Step::default()
        }
    }

    /// Logs an outcome; gives its row.
    pub(super) fn log(&mut self, id: &str, outcome: &str, conversion: Option<&str>) -> &mut Step {
        let clickid = self.record(id).clickid.clone();
        let step = self.step(&clickid, outcome, conversion);
        let row = self.logged(id);
        row.first = step;
        &mut row.first
    }

    pub(super) fn standard(&mut self, clickid: &str, revenue: &str, told: How) -> String {
        let call = Call {
            clickid,
            revenue,
            ..Call::default()
        };
        self.standard_call(&call, told)
    }

    pub(super) fn standard_call(&mut self, call: &Call<'_>, told: How) -> String {
        let id = self.send(call, told);
        let currency = self.record(&id).currency.clone();
        self.converts(&id, "approved", &currency, told);
        id
    }

    /// A postback that was sent becomes a conversion.
    pub(super) fn converts(&mut self, id: &str, status: &str, currency: &str, told: How) {
        let conversion = self.convert_as(id, status, currency);
        self.log(id, "converted", Some(id));
        let body = standard_body(&conversion);
        self.tell(id, told, 200, "converted", &body);
    }

    pub(super) fn duplicate(&mut self, first: &str, revenue: &str, told: How) -> String {
        let clickid = self.stored(first).conversion.clickid.clone();
        let id = self.postback(&clickid, revenue, told);
        self.repeat(&id, first, told);
        id
    }

    /// A postback that was sent is a duplicate.
    pub(super) fn repeat(&mut self, id: &str, first: &str, told: How) {
        let body = duplicate_body(&self.stored(first).conversion);
        self.log(id, "duplicate", Some(first));
        self.tell(id, told, 200, "duplicate", &body);
    }

    pub(super) fn unknown(&mut self, clickid: &str, revenue: &str) -> String {
        let id = self.postback(clickid, revenue, How::Directly);
        self.wait(&id);
        id
    }

    /// A postback that was sent waits for its click.
    pub(super) fn wait(&mut self, id: &str) {
        let row = self.logged(id);
        row.first.why = Some("unmatched".to_owned());
        let clickid = row.clickid.clone().unwrap();
        let place = row.place.unwrap();
        self.evidence.store.unmatched.push(Waiting {
            request_id: id.to_owned(),
            clickid,
            place,
            postback: format!("{{ \"request_id\": \"{id}\" }}"),
        });
        self.row(place.partition).unmatched += 1;
        self.tell(id, How::Directly, 404, "click_not_found", NOT_FOUND);
    }

    /// The click of two waiting postbacks comes.
    pub(super) fn heal(&mut self, clickid: &str, first: &str, second: &str) {
        self.click(clickid);
        let conversion = self.convert(first);
        for (id, outcome) in [(first, "converted"), (second, "duplicate")] {
            let step = self.step(clickid, outcome, Some(first));
            self.healed(id, step);
        }
        self.status(first, "converted", &standard_body(&conversion));
        self.status(second, "duplicate", &duplicate_body(&conversion));
    }

    /// A waiting postback is decided.
    pub(super) fn healed(&mut self, id: &str, step: Step) {
        let row = self.logged(id);
        row.change = Some(step);
        let place = row.place.unwrap();
        let unmatched = &mut self.evidence.store.unmatched;
        unmatched.retain(|one| one.request_id != id);
        self.row(place.partition).unmatched -= 1;
    }

    pub(super) fn tell(&mut self, id: &str, told: How, status: u16, outcome: &str, body: &str) {
        if told == How::Directly {
            self.answer(id, |answer| {
                answer.status = status;
                body.clone_into(&mut answer.body);
            });
        }
        self.status(id, outcome, body);
    }

    pub(super) fn status(&mut self, id: &str, outcome: &str, body: &str) {
        let received_at = exact::printed(self.logged(id).received_at);
        let body = format!(
            r#"{{"status":"ok","request_id":"{id}","received_at":"{received_at}","outcome":"{outcome}","answer":{body}}}"#
        );
        let told = Told::Answer { status: 200, body };
        self.evidence.statuses.insert(id.to_owned(), told);
    }

    /// A refusal, which is in the log and nowhere else.
    pub(super) fn refuse(&mut self) -> String {
        let id = self.postback("", "1", How::Queued);
        self.answer(&id, |answer| {
            answer.status = 400;
            answer.body =
                r#"{"status":"error","error":"missing_clickid","message":"m"}"#.to_owned();
        });
        let record = self.evidence.topics.postbacks.pop().unwrap();
        self.row(record.place.partition).postbacks -= 1;
        let row = self.logged(&id);
        row.first.outcome = "refused".to_owned();
        row.first.why = Some("missing_clickid".to_owned());
        (row.clickid, row.place, row.micros, row.currency) = (None, None, None, None);
        id
    }

    pub(super) fn check(&self) -> Report {
        check(&self.history, &self.evidence)
    }
}

fn key(
    campaign_id: i64,
    at: i64,
    currency: Option<&str>,
    status: Option<&str>,
    partition: i64,
) -> Key {
    Key {
        campaign_id,
        bucket: exact::quarter(at),
        site_id: "7".to_owned(),
        source: "s".to_owned(),
        currency: currency.map(str::to_owned),
        status: status.map(str::to_owned),
        partition,
    }
}

fn add(sums: &mut Vec<Sum>, key: Key, count: i64, micros: i64) {
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
    sum.count += count;
    sum.whole += count * (micros / 1_000_000);
    sum.micros += count * (micros % 1_000_000);
}
