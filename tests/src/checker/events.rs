//! Conversion events: what is numbered in a partition is told of, as it was at that number.

use super::evidence::{Conversion, Spoken};
use super::index::Index;
use super::report::{Fault, Report};
use std::collections::HashSet;

/// Each conversion and each change of a status was told at least once, as it was then, and
/// nothing else was.
pub(super) fn events(index: &Index<'_>, report: &mut Report) {
    let mut told: HashSet<(&str, &str)> = HashSet::new();
    for event in &index.evidence.topics.events {
        let (id, status_id) = (event.conversion_id.as_str(), event.status.id.as_str());
        told.insert((id, status_id));
        let Some(stored) = index.conversions.get(id) else {
            let sentence = "an event without a conversion";
            report.add(Fault::EventDiffers, &[id, &event.clickid], sentence);
            continue;
        };
        let Some(spoken) = numbered(index, id, status_id) else {
            let sentence = format!(
                "an event of a status that has no number: {:?}",
                event.status
            );
            report.add(Fault::EventDiffers, &[id, status_id], sentence);
            continue;
        };
        let wanted = Conversion {
            status: spoken.clone(),
            ..stored.conversion.clone()
        };
        if *event != wanted {
            let sentence = format!("the event {event:?} is not its conversion {wanted:?}");
            report.add(Fault::EventDiffers, &[id, status_id], sentence);
        }
    }
    for (id, stored) in &index.conversions {
        if !told.contains(&(*id, *id)) {
            let (number, partition) = (stored.sequence, stored.partition);
            let sentence = format!("number {number} of partition {partition} has no event");
            report.add(Fault::EventMissing, &[id], sentence);
        }
    }
    for statement in &index.evidence.store.statements {
        let ids = [
            statement.conversion_id.as_str(),
            statement.spoken.id.as_str(),
        ];
        if let Some(number) = statement.sequence
            && !told.contains(&(ids[0], ids[1]))
        {
            let sentence = format!(
                "number {number} of partition {}, the status {}, has no event",
                statement.partition, statement.spoken.status
            );
            report.add(Fault::EventMissing, &ids, sentence);
        }
    }
}

/// What was said of a conversion by that postback, where it has a number.
fn numbered<'a>(index: &Index<'a>, id: &str, status_id: &str) -> Option<&'a Spoken> {
    if id == status_id {
        return Some(&index.conversions.get(id)?.conversion.status);
    }
    let statement = index.statements.get(status_id)?;
    let numbered = statement.sequence.is_some() && statement.conversion_id == id;
    numbered.then_some(&statement.spoken)
}
