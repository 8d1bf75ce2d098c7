//! What the status endpoint says is what the log says.

use super::answers::{Understood, claim_of};
use super::evidence::Told;
use super::exact;
use super::index::Index;
use super::report::{Fault, Report};
use super::said::{Said, Status};

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
    let step = row.last();
    let outcome = step.outcome.as_str();
    if told.request_id != id || told.outcome != outcome {
        return Some(format!("the log says {outcome}"));
    }
    if told.received_at.as_deref() != Some(exact::printed(row.received_at).as_str()) {
        return Some(format!(
            "it was received at {}",
            exact::printed(row.received_at)
        ));
    }
    let id = step.conversion_id.as_deref();
    let stored = id.and_then(|id| index.conversions.get(id));
    let right = match (outcome, &told.answer, stored) {
        ("converted", Some(Said::Standard { claim, created_at }), Some(stored)) => {
            *claim == claim_of(stored)
                && *created_at == exact::printed(stored.conversion.created_at)
        }
        ("duplicate", Some(Said::Duplicate(claim)), Some(stored)) => *claim == claim_of(stored),
        ("updated", Some(Said::Updated { claim, status }), Some(stored)) => {
            *claim == claim_of(stored) && step.status.as_ref() == Some(status)
        }
        ("click_not_found", Some(Said::ClickNotFound), None)
        | ("click_expired", Some(Said::ClickExpired), None)
        | ("forbidden", Some(Said::Forbidden), None) => true,
        ("refused", Some(Said::Refused(code)), None) => step.why.as_ref() == Some(code),
        _ => false,
    };
    (!right).then(|| format!("stored is {stored:?}"))
}
