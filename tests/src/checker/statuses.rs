//! Statuses: every word that counts is kept, the last one holds.

use super::index::{Index, present};
use super::outlook::End;
use super::report::{Fault, Report};
use std::collections::HashMap;

/// The rows of later postbacks are those that the records come to.
pub(super) fn statements(index: &Index<'_>, report: &mut Report) {
    for statement in &index.evidence.store.statements {
        let id = statement.spoken.id.as_str();
        let ids = [id, statement.conversion_id.as_str()];
        let Some(postback) = index.postbacks.get(id) else {
            let sentence = "a status without its postback on the topic";
            report.add(Fault::StatusUnfounded, &ids, sentence);
            continue;
        };
        if !index.conversions.contains_key(ids[1]) {
            let sentence = "a status of a conversion that isn't stored";
            report.add(Fault::StatusUnfounded, &ids, sentence);
        }
        let Some(expected) = index.expected(id).filter(|one| one.end != End::Open) else {
            continue;
        };
        let Some(stated) = index.outlook.stated.get(id) else {
            let (fault, sentence) = match (expected.end, expected.why) {
                (End::Forbidden, _) => (Fault::ForgedTaken, "a forged postback stated a status"),
                (_, Some("superseded")) => (
                    Fault::WrongStatus,
                    "a status was stated that wasn't the latest",
                ),
                _ => (Fault::WrongStatus, "a status was stated that nobody said"),
            };
            report.add(fault, &ids, format!("{sentence}: {statement:?}"));
            continue;
        };
        if (ids[1], &statement.spoken) != (stated.conversion_id, &stated.spoken)
            || statement.partition != postback.place.partition
        {
            let sentence = format!("stored is {statement:?}, its records say {stated:?}");
            report.add(Fault::WrongStatus, &ids, sentence);
        }
        if statement.sequence.is_some() != stated.numbered {
            let sentence = "a status has a number if it changes something, and only then";
            report.add(Fault::Sequence, &ids, sentence);
        }
        if Some(statement.policy_version) != expected.version {
            let sentence = format!(
                "the status says version {}, the log {:?}",
                statement.policy_version, expected.version
            );
            report.add(Fault::PolicyVersion, &ids, sentence);
        }
    }
    for (id, stated) in &index.outlook.stated {
        if !index.statements.contains_key(id) {
            let sentence = format!("what was said is not kept: {stated:?}");
            report.add(Fault::WrongStatus, &[id, stated.conversion_id], sentence);
        }
    }
}

/// The present status of each conversion is the one that was said last.
pub(super) fn latest(index: &Index<'_>, report: &mut Report) {
    let by_rows = present(&index.evidence.store);
    for (id, stored) in &index.conversions {
        let said = index.outlook.present.get(id);
        // Where the records can't tell: what the rows come to.
        let wanted = said.or_else(|| by_rows.get(id).copied());
        if wanted.is_some_and(|wanted| *wanted != stored.present) {
            let sentence = format!("shown is {:?}, said last was {wanted:?}", stored.present);
            report.add(Fault::WrongStatus, &[id], sentence);
        }
    }
}

/// What a clickid's postbacks made has ascending numbers, in partition order.
pub(super) fn numbers(index: &Index<'_>, report: &mut Report) {
    let mut last: HashMap<&str, (i64, &str)> = HashMap::new();
    for (clickid, id) in &index.outlook.numbered {
        let conversion = index.conversions.get(id).map(|stored| stored.sequence);
        let statement = || index.statements.get(id)?.sequence;
        let Some(number) = conversion.or_else(statement) else {
            // Its lack is reported as such.
            continue;
        };
        if let Some((before, first)) = last.insert(clickid, (number, id))
            && number <= before
        {
            let sentence = format!("{number} was decided after {before}, in partition order");
            report.add(Fault::Sequence, &[clickid, id, first], sentence);
        }
    }
}
