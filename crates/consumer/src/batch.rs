//! A batch: records, read and sorted by partition.

use jiff::Timestamp;
use postern_core::decision::{PlacedClick, PlacedPostback};
use postern_core::ids::{ClickId, RequestId};
use postern_core::record::DecodeError;
use postern_core::record::HEADER_REPLY_TO;
use postern_core::record::click::ClickRecord;
use postern_core::record::postback::{Postback, ReplyTo};
use postern_core::record::reject::{Reject, Source};
use postern_kafka::{CLICKS, POSTBACKS, Record};
use postern_store::Lookup;
use std::collections::{BTreeMap, HashMap, HashSet};

/// One partition's part of a batch.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) clicks: Vec<PlacedClick>,
    pub(crate) postbacks: Vec<PlacedPostback>,
    /// The offset after the last record read, of whatever kind it was.
    pub(crate) clicks_next: Option<i64>,
    pub(crate) postbacks_next: Option<i64>,
    /// When the last of them was appended, of clicks and of postbacks.
    pub(crate) appended: [Option<Timestamp>; 2],
    /// A later release's record stands here: nothing after it may be read.
    pub(crate) newer: Option<String>,
}

/// A batch.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) parts: BTreeMap<i32, Part>,
    pub(crate) replies: HashMap<RequestId, ReplyTo>,
    /// Records that can't be processed, on their way to the rejects.
    pub(crate) poison: Vec<Reject>,
    pub(crate) records: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0 && self.parts.values().all(|part| part.newer.is_none())
    }

    /// Whether a later release's record was met in this partition.
    pub(crate) fn is_halted(&self, partition: i32) -> bool {
        self.parts
            .get(&partition)
            .is_some_and(|part| part.newer.is_some())
    }

    /// Takes a record in.
    pub(crate) fn add(&mut self, record: &Record) {
        let part = self.parts.entry(record.partition).or_default();
        if part.newer.is_some() {
            return;
        }
        let read = if record.topic == CLICKS {
            add_click(part, record)
        } else {
            add_postback(part, &mut self.replies, record)
        };
        match read {
            Ok(()) => {}
            Err(DecodeError::Malformed(why)) => self.poison.push(poison(record, why)),
            Err(newer @ DecodeError::NewerVersion { .. }) => {
                part.newer = Some(format!(
                    "{} partition {} offset {}: {newer}; upgrade this consumer",
                    record.topic, record.partition, record.offset
                ));
                return;
            }
        }
        let next = if record.topic == CLICKS {
            &mut part.clicks_next
        } else {
            &mut part.postbacks_next
        };
        *next = Some(record.offset + 1);
        part.appended[usize::from(record.topic != CLICKS)] = Some(record.appended_at);
        self.records += 1;
    }

    /// Joins records that were read after these.
    pub(crate) fn absorb(&mut self, later: Self) {
        for (partition, mut part) in later.parts {
            let here = self.parts.entry(partition).or_default();
            here.clicks.append(&mut part.clicks);
            here.postbacks.append(&mut part.postbacks);
            here.clicks_next = part.clicks_next.or(here.clicks_next);
            here.postbacks_next = part.postbacks_next.or(here.postbacks_next);
            for (here, later) in here.appended.iter_mut().zip(part.appended) {
                *here = later.or(*here);
            }
            here.newer = here.newer.take().or(part.newer);
        }
        self.replies.extend(later.replies);
        self.poison.extend(later.poison);
        self.records += later.records;
    }

    /// Takes the clicks out, with the rejects that must be published before their position
    /// moves.
    pub(crate) fn take_clicks(&mut self) -> Self {
        let mut clicks = Self {
            poison: std::mem::take(&mut self.poison),
            ..Self::default()
        };
        for (partition, part) in &mut self.parts {
            let taken = Part {
                clicks: std::mem::take(&mut part.clicks),
                clicks_next: part.clicks_next.take(),
                appended: [part.appended[0].take(), None],
                ..Part::default()
            };
            clicks.records += taken.clicks.len();
            self.records -= taken.clicks.len().min(self.records);
            clicks.parts.insert(*partition, taken);
        }
        clicks
    }

    /// What the decision needs to know. `waiting` says whether any postback waits for a click,
    /// `known` whether ids may be known of postbacks that don't say so.
    pub(crate) fn lookup(&self, waiting: bool, known: bool) -> Lookup {
        let mut lookup = Lookup::default();
        let mut clickids = HashSet::new();
        let mut fresh = HashSet::new();
        let mut campaigns = HashSet::new();
        for part in self.parts.values() {
            for placed in &part.clicks {
                campaigns.insert(placed.click.campaign_id);
                match waiting {
                    true => clickids.insert(&placed.click.clickid),
                    false => fresh.insert(&placed.click.clickid),
                };
            }
            if waiting {
                let arrived = part.clicks.iter().map(|placed| &placed.click.clickid);
                lookup.arrived.extend(arrived.cloned());
                for placed in &part.postbacks {
                    let named = placed.postback.clickid.clone();
                    match placed.postback.replayed {
                        true => lookup.arrived.push(named),
                        false => lookup.waiting.push(named),
                    }
                }
            }
            for placed in &part.postbacks {
                if known || placed.postback.replayed {
                    lookup.request_ids.push(placed.postback.request_id);
                }
                clickids.insert(&placed.postback.clickid);
            }
        }
        lookup.waiting = distinct(lookup.waiting, &lookup.arrived);
        lookup.arrived = distinct(lookup.arrived, &[]);
        lookup.fresh = fresh.difference(&clickids).copied().cloned().collect();
        lookup.clickids = clickids.into_iter().cloned().collect();
        lookup.campaigns = campaigns.into_iter().collect();
        lookup
    }
}

/// Each once, and none of `without`.
fn distinct(ids: Vec<ClickId>, without: &[ClickId]) -> Vec<ClickId> {
    let without: HashSet<&ClickId> = without.iter().collect();
    let mut seen = HashSet::new();
    ids.into_iter()
        .filter(|id| !without.contains(id))
        .filter(|id| seen.insert(id.clone()))
        .collect()
}

fn add_click(part: &mut Part, record: &Record) -> Result<(), DecodeError> {
    match ClickRecord::decode(&record.value, record.appended_at)? {
        ClickRecord::Barrier => {}
        ClickRecord::Click(click) => part.clicks.push(PlacedClick {
            partition: record.partition,
            offset: record.offset,
            click,
        }),
    }
    Ok(())
}

fn add_postback(
    part: &mut Part,
    replies: &mut HashMap<RequestId, ReplyTo>,
    record: &Record,
) -> Result<(), DecodeError> {
    let postback = Postback::decode(&record.value)?;
    if let Some(reply) = record.header(HEADER_REPLY_TO).and_then(ReplyTo::parse) {
        replies.insert(postback.request_id, reply);
    }
    part.postbacks.push(PlacedPostback {
        offset: record.offset,
        postback,
    });
    Ok(())
}

fn source(record: &Record) -> Source {
    Source::new(
        &record.topic,
        record.partition,
        record.offset,
        &record.key,
        &record.value,
    )
}

fn poison(record: &Record, why: String) -> Reject {
    Reject::record(record.appended_at, "malformed_record", why, source(record))
}

/// A record that the store refuses for its content. What exactly it refuses stays in the log of
/// the process.
pub(crate) fn refused_by_store(record: &Record) -> Reject {
    let reason = "refused_by_store";
    let message = "the store can't hold this record".to_owned();
    let postback = (record.topic == POSTBACKS)
        .then(|| Postback::decode(&record.value).ok())
        .flatten();
    match postback {
        Some(postback) => Reject::taken(reason, message, postback, source(record)),
        None => Reject::record(record.appended_at, reason, message, source(record)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn record(topic: &str, offset: i64, value: &[u8]) -> Record {
        Record {
            topic: topic.to_owned(),
            partition: 3,
            offset,
            key: b"k".to_vec(),
            value: value.to_vec(),
            headers: Vec::new(),
            appended_at: "2025-11-26T14:32:10Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_poison_record_is_passed_and_kept() {
        let mut batch = Batch::default();
        batch.add(&record(CLICKS, 7, br#"{"clickid":"a","campaign_id":1}"#));
        batch.add(&record(CLICKS, 8, b"\xff\x00"));
        batch.add(&record(POSTBACKS, 4, b"{}"));
        let part = &batch.parts[&3];
        assert_eq!((part.clicks_next, part.postbacks_next), (Some(9), Some(5)));
        assert_eq!(part.clicks.len(), 1);
        assert_eq!(batch.poison.len(), 2);
        let kept = batch.poison[0].record.as_ref().unwrap();
        assert_eq!(kept.value_hex.as_deref(), Some("ff00"));
        assert_ne!(batch.poison[0].request_id, batch.poison[1].request_id);
    }

    #[test]
    fn nothing_after_a_newer_record_is_read() {
        let mut batch = Batch::default();
        batch.add(&record(CLICKS, 7, br#"{"v":9,"what":"ever"}"#));
        batch.add(&record(CLICKS, 8, br#"{"clickid":"a","campaign_id":1}"#));
        batch.add(&record(POSTBACKS, 1, b"{}"));
        let part = &batch.parts[&3];
        assert_eq!((part.clicks_next, part.postbacks_next), (None, None));
        assert!(part.newer.as_ref().unwrap().contains("newer"));
        assert!(batch.poison.is_empty() && part.clicks.is_empty());
        assert!(!batch.is_empty() && batch.is_halted(3));
    }

    #[test]
    fn clicks_leave_with_the_rejects_that_guard_their_position() {
        let mut batch = Batch::default();
        batch.add(&record(CLICKS, 7, b"poison"));
        batch.add(&record(CLICKS, 8, br#"{"clickid":"a","campaign_id":1}"#));
        batch.add(&record(POSTBACKS, 1, b"{}"));
        let clicks = batch.take_clicks();
        assert_eq!(clicks.parts[&3].clicks_next, Some(9));
        assert_eq!(clicks.poison.len(), 2);
        assert_eq!(batch.parts[&3].clicks_next, None);
        assert_eq!(batch.parts[&3].postbacks_next, Some(2));
        assert!(batch.poison.is_empty());
    }
}
