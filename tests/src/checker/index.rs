//! The maps that the rules share: the evidence by id.

use super::evidence::{Click, Conversion, Evidence, Logged, Postback, Stored};
use super::report::{Fault, Report};
use std::collections::HashMap;

/// The evidence, found by id, and what it must come to.
pub(super) struct Index<'a> {
    pub evidence: &'a Evidence,
    /// The first record of each request id.
    pub postbacks: HashMap<&'a str, &'a Postback>,
    pub log: HashMap<&'a str, &'a Logged>,
    pub conversions: HashMap<&'a str, &'a Stored>,
    /// Stored clicks by clickid.
    pub clicks: HashMap<&'a str, &'a Click>,
    /// What each postback on the topic must have become.
    pub expected: HashMap<&'a str, Expected<'a>>,
    /// The conversion of each dedupe key.
    pub by_key: HashMap<Key<'a>, &'a Stored>,
}

/// What a postback must have become, from the topics alone.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected<'a> {
    /// The first of its dedupe key.
    Converts,
    /// A later one, and the first one's request id.
    Duplicates(&'a str),
    /// Its click isn't there.
    Unknown,
    /// Not to be told: its click is misplaced.
    Open,
}

/// Clickid, and external id or blank where the campaign goes by it.
pub(super) type Key<'a> = (&'a str, &'a str);

impl<'a> Index<'a> {
    /// Indexes, and reports ids that stand for two things.
    pub fn new(evidence: &'a Evidence, report: &mut Report) -> Self {
        let mut index = Self {
            evidence,
            postbacks: HashMap::new(),
            log: HashMap::new(),
            conversions: HashMap::new(),
            clicks: HashMap::new(),
            expected: HashMap::new(),
            by_key: HashMap::new(),
        };
        for click in &evidence.store.clicks {
            index.clicks.insert(&click.clickid, click);
        }
        let mut in_order: Vec<&Postback> = evidence.topics.postbacks.iter().collect();
        in_order.sort_by_key(|postback| postback.place);
        for postback in &in_order {
            let id = postback.request_id.as_str();
            let first = *index.postbacks.entry(id).or_insert(postback);
            if first.value != postback.value || first.key != postback.key {
                let sentence = format!(
                    "a request id stands for two different records, at {:?} and {:?}",
                    first.place, postback.place
                );
                report.add(Fault::RequestTwice, &[id], sentence);
            }
        }
        for row in &evidence.store.log {
            if index.log.insert(&row.request_id, row).is_some() {
                let sentence = "a request id stands twice in the log";
                report.add(Fault::RequestTwice, &[&row.request_id], sentence);
            }
        }
        index.conversions(report);
        index.expect(&in_order, report);
        index
    }

    /// The dedupe key of what has this clickid and external id.
    pub fn key(&self, campaign_id: i64, clickid: &'a str, external: Option<&'a str>) -> Key<'a> {
        let by_external = self.evidence.store.by_external_id.contains(&campaign_id);
        (
            clickid,
            external.filter(|_| by_external).unwrap_or_default(),
        )
    }

    /// The dedupe key of a conversion.
    pub fn key_of(&self, conversion: &'a Conversion) -> Key<'a> {
        self.key(
            conversion.campaign_id,
            &conversion.clickid,
            conversion.external_id.as_deref(),
        )
    }

    /// The dedupe key of a postback, if its click is there.
    pub fn key_of_postback(&self, postback: &'a Postback) -> Option<Key<'a>> {
        let click = self.clicks.get(postback.clickid.as_str())?;
        let external = postback.external_id.as_deref();
        Some(self.key(click.campaign_id, &postback.clickid, external))
    }

    fn conversions(&mut self, report: &mut Report) {
        for stored in &self.evidence.store.conversions {
            let conversion = &stored.conversion;
            let id = conversion.conversion_id.as_str();
            let key = self.key_of(conversion);
            let other = self.by_key.insert(key, stored);
            if let Some(other) = other {
                let ids = [&conversion.clickid, id, &other.conversion.conversion_id];
                report.add(
                    Fault::TwoConversions,
                    &ids,
                    "two conversions of one dedupe key",
                );
            }
            if self.conversions.insert(id, stored).is_some() && other.is_none() {
                report.add(Fault::TwoConversions, &[id], "two conversions with one id");
            }
        }
    }

    /// The first postback of a key, in partition order, converts if its click is there; a
    /// postback that found no room among the waiting ones is out of it.
    fn expect(&mut self, in_order: &[&'a Postback], report: &mut Report) {
        let mut firsts: HashMap<Key<'a>, &'a str> = HashMap::new();
        for &postback in in_order {
            let id = postback.request_id.as_str();
            if self.expected.contains_key(id) {
                continue;
            }
            let expected = match self.clicks.get(postback.clickid.as_str()) {
                None => Expected::Unknown,
                Some(click) if click.place.partition != postback.place.partition => Expected::Open,
                Some(_) if self.found_no_room(id) => Expected::Unknown,
                Some(_) => match self.key_of_postback(postback) {
                    Some(key) => match firsts.get(&key) {
                        Some(first) => Expected::Duplicates(first),
                        None => {
                            firsts.insert(key, id);
                            Expected::Converts
                        }
                    },
                    None => Expected::Unknown,
                },
            };
            report.looked.misplaced += usize::from(expected == Expected::Open);
            self.expected.insert(id, expected);
        }
    }

    fn found_no_room(&self, id: &str) -> bool {
        let row = self.log.get(id);
        row.is_some_and(|row| row.reason.as_deref() == Some("unmatched_full"))
    }
}
