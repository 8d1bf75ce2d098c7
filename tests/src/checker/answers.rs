//! What callers were told is true, and stays so.

use super::evidence::{Logged, Stored};
use super::exact;
use super::index::Index;
use super::outlook::End;
use super::report::{Fault, Report};
use super::said::{AnswerKind, Claim, Said};
use crate::history::{PostbackCall, Recorded, Reply, Sent};
use crate::http::Answer;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

/// A call with its answer understood, once for all rules; none where none came.
pub(super) type Understood<'a> = (&'a PostbackCall, Option<Said>);

/// Understands all answers.
pub(super) fn understand(recorded: &Recorded) -> Vec<Understood<'_>> {
    let calls = recorded.postbacks.iter();
    calls.map(|call| (call, call.said())).collect()
}

/// Every answer, held against what is there.
pub(super) fn answers(
    recorded: &Recorded,
    calls: &[Understood<'_>],
    index: &Index<'_>,
    report: &mut Report,
) {
    let mut acknowledged: HashMap<&str, Vec<(Instant, Option<usize>)>> = HashMap::new();
    for click in &recorded.clicks {
        if let Some(at) = click.acknowledged {
            let all = acknowledged.entry(&click.clickid).or_default();
            all.push((at, click.ingress));
        }
    }
    let mut turn = Turn {
        index,
        report,
        acknowledged,
        clock: (Instant::now(), SystemTime::now()),
        standard: HashMap::new(),
        seen: HashSet::new(),
    };
    for (call, said) in calls {
        if let (Reply::Answer(answer), Some(said)) = (&call.reply, said) {
            turn.call(call, answer, said);
        }
    }
}

/// Of a record, after it was appended.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

struct Turn<'a, 'r> {
    index: &'r Index<'a>,
    report: &'r mut Report,
    /// When, and by which ingress, each click was acknowledged.
    acknowledged: HashMap<&'r str, Vec<(Instant, Option<usize>)>>,
    /// What one clock said when the other did.
    clock: (Instant, SystemTime),
    /// The request id of the standard answer about each conversion.
    standard: HashMap<&'r str, &'r str>,
    seen: HashSet<&'r str>,
}

impl<'r> Turn<'_, 'r> {
    fn call(&mut self, call: &'r PostbackCall, answer: &Answer, said: &Said) {
        let clickid = call.sent.clickid.as_str();
        let Some(id) = call.request_id() else {
            let sentence = format!("an answer without a request id: {answer:?}");
            self.report.add(Fault::WrongForm, &[clickid], sentence);
            return;
        };
        if !self.seen.insert(id) {
            let sentence = "two requests were answered with one id";
            self.report
                .add(Fault::RequestTwice, &[id, clickid], sentence);
        }
        if !said.belongs_to(answer.status) {
            let sentence = format!("{} with the body {}", answer.status, answer.body);
            self.report.add(Fault::WrongForm, &[id, clickid], sentence);
        }
        match said {
            Said::Standard { claim, created_at } => self.standard(id, call, claim, created_at),
            Said::Duplicate(claim) => self.duplicate(id, call, claim),
            Said::Updated { claim, status } => self.updated(id, call, claim, status),
            Said::Queued {
                request_id,
                clickid,
            } => {
                if request_id != id || *clickid != call.sent.clickid {
                    let sentence = format!("queued speaks of {request_id} and {clickid:?}");
                    self.report.add(Fault::WrongForm, &[id], sentence);
                }
            }
            Said::ClickNotFound => self.not_found(id, call),
            // The log is held against these, and itself against the records.
            Said::ClickExpired | Said::Forbidden => {}
            Said::Refused(code) => self.refused(id, code),
            // Promises nothing; or was reported as of a wrong form.
            Said::InternalError | Said::Odd(_) => return,
        }
        if said.kind() != AnswerKind::Refused {
            self.durable(id, call, said.kind());
        }
    }

    /// It is on the topic as it was sent, and in the log.
    fn durable(&mut self, id: &str, call: &PostbackCall, kind: AnswerKind) {
        let clickid = call.sent.clickid.as_str();
        match self.index.postbacks.get(id) {
            None => {
                let sentence = format!("answered {kind:?}, and not on the topic");
                self.report
                    .add(Fault::PostbackLost, &[id, clickid], sentence);
            }
            Some(postback) => {
                let same = postback.clickid == call.sent.clickid
                    && exact::micros(nonempty(&call.sent.revenue, "0"))
                        .is_none_or(|sent| sent == postback.micros)
                    && currency(&call.sent) == postback.currency
                    && call.sent.external_id.as_deref().filter(|id| !id.is_empty())
                        == postback.external_id.as_deref()
                    && call.asked.event == postback.event.as_deref().unwrap_or_default()
                    && call.asked.status
                        == postback.said.as_ref().map_or("", |said| said.word.as_str())
                    && call.asked.secret.is_empty() == postback.signature.is_none();
                if !same {
                    let sentence = format!(
                        "sent was {:?} {:?}, on the topic is {}",
                        call.sent, call.asked, postback.value
                    );
                    self.report.add(Fault::NotAsSent, &[id, clickid], sentence);
                }
            }
        }
        match self.index.log.get(id) {
            // With a record, its lack was reported with that.
            None if !self.index.postbacks.contains_key(id) => {
                let sentence = format!("answered {kind:?}, and not in the log");
                self.report.add(Fault::NotLogged, &[id, clickid], sentence);
            }
            None => {}
            Some(row) => self.agrees(id, kind, row),
        }
    }

    /// A `click_not_found` may have become something else; nothing else may.
    fn agrees(&mut self, id: &str, kind: AnswerKind, row: &Logged) {
        let last = row.last().outcome.as_str();
        let agrees = match kind {
            AnswerKind::Standard => last == "converted",
            AnswerKind::Duplicate => last == "duplicate",
            AnswerKind::Updated => last == "updated",
            AnswerKind::ClickExpired => last == "click_expired",
            AnswerKind::Forbidden => last == "forbidden",
            AnswerKind::ClickNotFound => {
                row.first.outcome == "click_not_found"
                    || self.index.evidence.refilled && row.first.outcome != "refused"
            }
            _ => row.first.outcome != "refused",
        };
        if !agrees {
            let sentence = format!(
                "answered {kind:?}, logged {:?}, then {:?}",
                row.first.outcome, row.change
            );
            self.report.add(Fault::LogDiffers, &[id], sentence);
        }
    }

    fn standard(&mut self, id: &'r str, call: &PostbackCall, claim: &Claim, created_at: &str) {
        let clickid = call.sent.clickid.as_str();
        let about = match self.index.expected(id).map(|one| one.end) {
            Some(End::Duplicates(first) | End::Updates(first, _)) => first,
            _ => id,
        };
        if let Some(other) = self.standard.insert(about, id) {
            let sentence = "two standard answers for one conversion";
            self.report
                .add(Fault::TwoStandard, &[clickid, other, id], sentence);
        }
        match self.index.conversions.get(id) {
            None => {
                let sentence = "a standard answer, and no conversion with its id";
                self.report
                    .add(Fault::UntrueStandard, &[id, clickid], sentence);
            }
            Some(stored) => {
                let printed = exact::printed(stored.conversion.created_at);
                if claim.clickid != clickid || *claim != claim_of(stored) || created_at != printed {
                    let sentence = format!("told {claim:?} at {created_at}, stored is {stored:?}");
                    self.report
                        .add(Fault::UntrueStandard, &[id, clickid], sentence);
                }
            }
        }
    }

    fn duplicate(&mut self, id: &str, call: &PostbackCall, claim: &Claim) {
        let first = match self.index.expected(id).map(|one| one.end) {
            Some(End::Duplicates(first) | End::Updates(first, _)) => Some(first),
            Some(End::Open) | None => self.claimed(claim),
            Some(End::Converts) => Some(id),
            Some(End::Expired | End::Forbidden | End::Unknown) => None,
        };
        if let Some(why) = self.untrue(id, call, claim, first) {
            let clickid = call.sent.clickid.as_str();
            let sentence = format!("told {claim:?}, but {why}");
            self.report
                .add(Fault::UntrueDuplicate, &[id, clickid], sentence);
        }
    }

    fn updated(&mut self, id: &str, call: &PostbackCall, claim: &Claim, status: &str) {
        let clickid = call.sent.clickid.as_str();
        let Some(statement) = self.index.statements.get(id) else {
            let sentence = "an answer of a change, and no status is stored of it";
            self.report
                .add(Fault::UntrueUpdate, &[id, clickid], sentence);
            return;
        };
        let first = statement.conversion_id.as_str();
        let mut why = self.untrue(id, call, claim, Some(first));
        if statement.spoken.status != status || statement.sequence.is_none() {
            why = Some(format!("stored is {statement:?}"));
        }
        if let Some(why) = why {
            let sentence = format!("told {claim:?} and {status}, but {why}");
            self.report
                .add(Fault::UntrueUpdate, &[id, clickid], sentence);
        }
    }

    /// A conversion that is as claimed, where the records can't tell which one is meant.
    fn claimed(&self, claim: &Claim) -> Option<&'r str> {
        let mut stored = self.index.evidence.store.conversions.iter();
        let found = stored.find(|stored| claim_of(stored) == *claim)?;
        Some(&found.conversion.conversion_id)
    }

    /// What is wrong with a claim that an earlier conversion is meant.
    fn untrue(
        &self,
        id: &str,
        call: &PostbackCall,
        claim: &Claim,
        first: Option<&str>,
    ) -> Option<String> {
        match first.and_then(|first| self.index.conversions.get(first)) {
            None => Some("no conversion is stored".to_owned()),
            Some(stored) if stored.conversion.conversion_id == id => {
                Some("it is the conversion itself".to_owned())
            }
            Some(stored) if claim.clickid != call.sent.clickid || *claim != claim_of(stored) => {
                Some(format!("stored is {stored:?}"))
            }
            Some(_) => None,
        }
    }

    fn not_found(&mut self, id: &str, call: &PostbackCall) {
        let clickid = call.sent.clickid.as_str();
        let misplaced = match (self.index.clicks.get(clickid), self.index.postbacks.get(id)) {
            (Some(click), Some(postback)) => click.place.partition != postback.place.partition,
            _ => false,
        };
        let known = self.acknowledged.get(clickid).into_iter().flatten();
        let known = known.filter(|(at, ingress)| {
            // The ingress that took it knows, also while Kafka hasn't got it.
            *ingress == Some(call.sent.ingress) && *at <= call.began
                || self.in_kafka(clickid, *at) <= call.began
        });
        if let Some((at, _)) = known.min()
            && !misplaced
        {
            let sentence = format!(
                "click_not_found, and the click had been acknowledged {:?} before",
                call.began - *at
            );
            self.report
                .add(Fault::FalseNotFound, &[id, clickid], sentence);
        }
    }

    /// Since when Kafka had a click that was acknowledged at `at`: later than that where it was
    /// spooled.
    fn in_kafka(&self, clickid: &str, at: Instant) -> Instant {
        let place = self.index.clicks.get(clickid).map(|click| click.place);
        let appended = &self.index.evidence.topics.appended;
        let Some(appended) = place.and_then(|place| appended.get(&place)) else {
            return at;
        };
        let (now, wall) = self.clock;
        let appended = SystemTime::UNIX_EPOCH + Duration::from_millis(*appended);
        let ago = wall.duration_since(appended).unwrap_or_default();
        match now.checked_sub(ago) {
            Some(appended) if appended > at => appended + ACKNOWLEDGED_WITHIN,
            _ => at,
        }
    }

    fn refused(&mut self, id: &str, code: &str) {
        if self.index.conversions.contains_key(id) || self.index.postbacks.contains_key(id) {
            let sentence = format!("refused with {code}, and taken all the same");
            self.report.add(Fault::RefusedKept, &[id], sentence);
        }
        // Refusals are logged up to a cap.
        if let Some(row) = self.index.log.get(id)
            && (row.first.outcome != "refused" || row.first.why.as_deref() != Some(code))
        {
            let sentence = format!(
                "refused with {code}, logged {} {:?}",
                row.first.outcome, row.first.why
            );
            self.report.add(Fault::LogDiffers, &[id], sentence);
        }
    }
}

/// What an answer about a stored conversion must claim.
pub(super) fn claim_of(stored: &Stored) -> Claim {
    let conversion = &stored.conversion;
    Claim {
        clickid: conversion.clickid.clone(),
        campaign_id: conversion.campaign_id,
        micros: conversion.micros,
        currency: conversion.currency.clone(),
    }
}

fn nonempty<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

/// As the API page has it: upper case, three characters, USD where none was sent.
fn currency(sent: &Sent) -> String {
    let text = nonempty(&sent.currency, "USD").to_uppercase();
    text.chars().take(3).collect()
}
