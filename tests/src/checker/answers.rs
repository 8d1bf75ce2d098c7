//! What callers were told is true, and stays so.

use super::evidence::{Logged, Stored, Told};
use super::exact;
use super::index::{Index, Key};
use super::report::{Fault, Report};
use super::said::{AnswerKind, Claim, Said, Status};
use crate::history::{PostbackCall, Recorded, Reply, Sent};
use crate::http::Answer;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

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
    let mut acknowledged: HashMap<&str, Instant> = HashMap::new();
    for click in &recorded.clicks {
        if let Some(at) = click.acknowledged {
            let first = acknowledged.entry(&click.clickid).or_insert(at);
            *first = at.min(*first);
        }
    }
    let mut turn = Turn {
        index,
        report,
        acknowledged,
        standard: HashMap::new(),
        seen: HashSet::new(),
    };
    for (call, said) in calls {
        if let (Reply::Answer(answer), Some(said)) = (&call.reply, said) {
            turn.call(call, answer, said);
        }
    }
}

struct Turn<'a, 'r> {
    index: &'r Index<'a>,
    report: &'r mut Report,
    /// When each click was first acknowledged.
    acknowledged: HashMap<&'r str, Instant>,
    /// The request id of the standard answer of each dedupe key.
    standard: HashMap<Key<'a>, &'r str>,
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
                        == postback.external_id.as_deref();
                if !same {
                    let sentence = format!(
                        "sent was {:?}, on the topic is {}",
                        call.sent, postback.value
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
        let agrees = match kind {
            AnswerKind::Standard => row.last().0 == "converted",
            AnswerKind::Duplicate => row.last().0 == "duplicate",
            AnswerKind::ClickNotFound => row.outcome == "click_not_found",
            _ => row.outcome != "refused",
        };
        if !agrees {
            let sentence = format!(
                "answered {kind:?}, logged {:?}, then {:?}",
                row.outcome, row.change
            );
            self.report.add(Fault::LogDiffers, &[id], sentence);
        }
    }

    fn standard(&mut self, id: &'r str, call: &PostbackCall, claim: &Claim, created_at: &str) {
        let clickid = call.sent.clickid.as_str();
        let key = self
            .index
            .postbacks
            .get(id)
            .and_then(|postback| self.index.key_of_postback(postback));
        if let Some(key) = key
            && let Some(other) = self.standard.insert(key, id)
        {
            let sentence = "two standard answers for one dedupe key";
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
        let clickid = call.sent.clickid.as_str();
        let key = self.index.clicks.get(clickid).map(|click| {
            let external = call.sent.external_id.as_deref();
            self.index.key(click.campaign_id, &click.clickid, external)
        });
        // Borrowed from the call and not from the evidence, hence looked up by value.
        let stored = key.and_then(|(_, external)| self.index.by_key.get(&(clickid, external)));
        let why = match stored {
            None => "no conversion is stored".to_owned(),
            Some(stored) if stored.conversion.conversion_id == id => {
                "it is the conversion itself".to_owned()
            }
            Some(stored) if claim.clickid != clickid || *claim != claim_of(stored) => {
                format!("stored is {stored:?}")
            }
            Some(_) => return,
        };
        let sentence = format!("told {claim:?}, but {why}");
        self.report
            .add(Fault::UntrueDuplicate, &[id, clickid], sentence);
    }

    fn not_found(&mut self, id: &str, call: &PostbackCall) {
        let clickid = call.sent.clickid.as_str();
        let misplaced = match (self.index.clicks.get(clickid), self.index.postbacks.get(id)) {
            (Some(click), Some(postback)) => click.place.partition != postback.place.partition,
            _ => false,
        };
        if let Some(at) = self.acknowledged.get(clickid)
            && *at <= call.began
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

    fn refused(&mut self, id: &str, code: &str) {
        if self.index.conversions.contains_key(id) || self.index.postbacks.contains_key(id) {
            let sentence = format!("refused with {code}, and taken all the same");
            self.report.add(Fault::RefusedKept, &[id], sentence);
        }
        // Refusals are logged up to a cap.
        if let Some(row) = self.index.log.get(id)
            && (row.outcome != "refused" || row.reason.as_deref() != Some(code))
        {
            let sentence = format!(
                "refused with {code}, logged {} {:?}",
                row.outcome, row.reason
            );
            self.report.add(Fault::LogDiffers, &[id], sentence);
        }
    }
}

/// What an answer about a stored conversion must claim.
fn claim_of(stored: &Stored) -> Claim {
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

/// Every queued postback has its outcome, and what status says is what the log says.
pub(super) fn statuses(calls: &[Understood<'_>], index: &Index<'_>, report: &mut Report) {
    for (call, said) in calls {
        if !matches!(said, Some(Said::Queued { .. })) {
            continue;
        }
        let Some(id) = call.request_id() else {
            continue;
        };
        if !index.evidence.statuses.contains_key(id) {
            let sentence = "status was not asked about a queued postback";
            report.add(Fault::Unresolved, &[id], sentence);
        }
    }
    for (id, told) in &index.evidence.statuses {
        let (status, body) = match told {
            Told::Answer { status, body } => (*status, body),
            Told::Nothing(why) => {
                report.add(
                    Fault::Unresolved,
                    &[id],
                    format!("status gave no answer: {why}"),
                );
                continue;
            }
        };
        match Status::of(body) {
            Some(told) if status == 200 && told.outcome != "pending" => {
                if let Some(why) = differs(id, &told, index) {
                    report.add(Fault::StatusDiffers, &[id], format!("{why}: {body}"));
                }
            }
            _ => {
                let sentence = format!("status says {status}, {body}");
                report.add(Fault::Unresolved, &[id], sentence);
            }
        }
    }
}

/// What a status says that the log and the store don't.
fn differs(id: &str, told: &Status, index: &Index<'_>) -> Option<String> {
    let Some(row) = index.log.get(id) else {
        return Some("it is not in the log".to_owned());
    };
    let (outcome, conversion_id) = row.last();
    if told.request_id != id || told.outcome != outcome {
        return Some(format!("the log says {outcome}"));
    }
    if told.received_at.as_deref() != Some(exact::printed(row.received_at).as_str()) {
        return Some(format!(
            "it was received at {}",
            exact::printed(row.received_at)
        ));
    }
    let stored = conversion_id.and_then(|id| index.conversions.get(id));
    let right = match (outcome, &told.answer, stored) {
        ("converted", Some(Said::Standard { claim, created_at }), Some(stored)) => {
            *claim == claim_of(stored)
                && *created_at == exact::printed(stored.conversion.created_at)
        }
        ("duplicate", Some(Said::Duplicate(claim)), Some(stored)) => *claim == claim_of(stored),
        ("click_not_found", Some(Said::ClickNotFound), None) => true,
        ("refused", Some(Said::Refused(code)), None) => row.reason.as_ref() == Some(code),
        _ => false,
    };
    (!right).then(|| format!("stored is {stored:?}"))
}
