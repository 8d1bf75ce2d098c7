//! What was acknowledged is there: clicks and postbacks on their topics, in their partitions, and
//! in the store.

use super::evidence::Click;
use super::index::Index;
use super::report::{Fault, Report};
use crate::history::Recorded;
use crate::kcat::murmur2_partition;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Every acknowledged click is on the topic, every click of the topic in the store, as its first
/// record has it.
pub(super) fn clicks(recorded: &Recorded, index: &Index<'_>, report: &mut Report) {
    let mut records: HashMap<&str, Vec<&Click>> = HashMap::new();
    for click in &index.evidence.topics.clicks {
        records.entry(&click.clickid).or_default().push(click);
    }
    for call in &recorded.clicks {
        let id = call.clickid.as_str();
        if call.acknowledged.is_some() && !records.contains_key(id) {
            let sentence = "an acknowledged click is not on the topic";
            report.add(Fault::ClickLost, &[id], sentence);
        }
    }
    announced_once(recorded, index, report);
    for (id, mut of_click) in records {
        of_click.sort_by_key(|click| click.place);
        let Some(stored) = index.clicks.get(id) else {
            let sentence = format!(
                "a click of the topic is not stored, at {:?}",
                of_click[0].place
            );
            report.add(Fault::ClickLost, &[id], sentence);
            continue;
        };
        let first = of_click[0];
        // Between partitions there is no order.
        if of_click
            .iter()
            .any(|click| click.place.partition != first.place.partition)
        {
            continue;
        }
        let as_stored = Click {
            clicked_at: first.clicked_at.or(stored.clicked_at),
            ..first.clone()
        };
        if as_stored != **stored {
            let sentence =
                format!("the stored click is not the first one: {stored:?}, but {first:?}");
            report.add(Fault::ClickDiffers, &[id], sentence);
        }
    }
    let mut known: HashSet<&str> = HashSet::new();
    known.extend(
        index
            .evidence
            .topics
            .clicks
            .iter()
            .map(|click| click.clickid.as_str()),
    );
    for id in index.clicks.keys().filter(|id| !known.contains(*id)) {
        let sentence = "a stored click is not on the topic";
        report.add(Fault::ClickDiffers, &[id], sentence);
    }
}

/// A click that was announced once is stored with the campaign that was announced.
fn announced_once(recorded: &Recorded, index: &Index<'_>, report: &mut Report) {
    let mut campaigns: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for call in &recorded.clicks {
        campaigns
            .entry(&call.clickid)
            .and_modify(|known| *known = known.filter(|id| *id == call.campaign_id))
            .or_insert(Some(call.campaign_id));
    }
    for (id, campaign) in campaigns {
        let stored = index.clicks.get(id).map(|click| click.campaign_id);
        if let (Some(campaign), Some(stored)) = (campaign, stored)
            && campaign != stored
        {
            let sentence = format!("announced for campaign {campaign}, stored for {stored}");
            report.add(Fault::ClickDiffers, &[id], sentence);
        }
    }
}

/// Every record of the postbacks topic stands in its clickid's partition and is in the log, as it
/// is.
pub(super) fn postbacks(index: &Index<'_>, report: &mut Report) {
    let partitions = i32::try_from(index.evidence.store.topic_partitions).unwrap_or(0);
    for postback in &index.evidence.topics.postbacks {
        let id = postback.request_id.as_str();
        if postback.key != postback.clickid
            || (partitions > 0
                && postback.place.partition
                    != i64::from(murmur2_partition(&postback.clickid, partitions)))
        {
            let sentence = format!(
                "a postback is not in the partition of its clickid: {:?}, key {:?}",
                postback.place, postback.key
            );
            report.add(Fault::WrongPartition, &[id, &postback.clickid], sentence);
        }
    }
    for (id, postback) in &index.postbacks {
        let Some(row) = index.log.get(id) else {
            let sentence = format!(
                "a postback of the topic is not in the log, at {:?}",
                postback.place
            );
            report.add(Fault::NotLogged, &[id, &postback.clickid], sentence);
            continue;
        };
        let wrong = [
            ("received_at", row.received_at != postback.received_at),
            ("clickid", row.clickid.as_ref() != Some(&postback.clickid)),
            (
                "currency",
                row.currency.as_ref() != Some(&postback.currency),
            ),
            ("external_id", row.external_id != postback.external_id),
            ("event", row.event != postback.event),
            (
                "status_word",
                row.status_word.as_ref() != postback.said.as_ref().map(|said| &said.word),
            ),
            ("place", row.place != Some(postback.place)),
        ];
        let fields: Vec<&str> = wrong
            .iter()
            .filter(|(_, is)| *is)
            .map(|(name, _)| *name)
            .collect();
        if !fields.is_empty() {
            let sentence = format!(
                "the log is not what the record says in {}",
                fields.join(", ")
            );
            report.add(Fault::LogDiffers, &[id], sentence);
        }
        if row.micros != Some(postback.micros) {
            let sentence = format!(
                "the log has {:?} millionths, the record {}",
                row.micros, postback.micros
            );
            report.add(Fault::WrongRevenue, &[id], sentence);
        }
    }
    for (id, row) in &index.log {
        if row.first.outcome != "refused" && !index.postbacks.contains_key(id) {
            let sentence = "a decided postback of the log is not on the topic";
            report.add(Fault::PostbackLost, &[id], sentence);
        }
    }
}
