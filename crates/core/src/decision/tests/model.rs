//! A store of vectors: it takes `Writes` as an engine would and gives back the view of a batch.
//! What an engine holds by constraints is asserted here.

use super::*;
use crate::record::conversion::Conversion;
use crate::time::bucket;
use std::collections::{BTreeMap, HashMap};

/// Statistics of one campaign, quarter, site, source and currency.
pub(super) type Cell = (i64, Timestamp, String, String, String);

#[derive(Clone)]
pub(super) struct Store {
    pub state: PartitionState,
    pub policies: HashMap<i64, Policy>,
    pub limits: Limits,
    pub clicks: HashMap<ClickId, Click>,
    /// In the order of their numbers.
    pub conversions: Vec<Conversion>,
    pub log: Vec<LogEntry>,
    pub changes: Vec<Change>,
    pub unmatched: Vec<Unmatched>,
    /// Every verdict ever given, in order.
    pub verdicts: Vec<Verdict>,
    pub conflicts: Vec<PlacedClick>,
    pub dropped: u64,
}

impl Store {
    pub fn new(policies: &[(i64, Policy)]) -> Self {
        Self {
            state: PartitionState {
                partition: 3,
                version: 0,
                clicks: 0,
                postbacks: 0,
                sequence: 0,
                published: 0,
                unmatched: 0,
            },
            policies: policies.iter().copied().collect(),
            limits: Limits::default(),
            clicks: HashMap::new(),
            conversions: Vec::new(),
            log: Vec::new(),
            changes: Vec::new(),
            unmatched: Vec::new(),
            verdicts: Vec::new(),
            conflicts: Vec::new(),
            dropped: 0,
        }
    }

    /// What is known of a postback after its last step.
    pub fn known(&self, id: RequestId) -> Option<Known> {
        let changed = self.changes.iter().rev();
        let changed = changed.filter(|change| change.request_id == id);
        let logged = self.log.iter();
        let logged = logged.filter(|entry| entry.postback.request_id == id);
        changed
            .map(|change| &change.known)
            .chain(logged.map(|entry| &entry.known))
            .next()
            .cloned()
    }

    /// No more than a store loads: what the batch names.
    pub fn view(&self, clicks: &[PlacedClick], postbacks: &[PlacedPostback]) -> View {
        let arrived: HashSet<&ClickId> = clicks.iter().map(|one| &one.click.clickid).collect();
        let named: HashSet<&ClickId> = postbacks.iter().map(|one| &one.postback.clickid).collect();
        let mut view = View::default();
        let mut campaigns: HashSet<i64> = clicks.iter().map(|one| one.click.campaign_id).collect();
        for placed in postbacks {
            let id = placed.postback.request_id;
            if let Some(known) = self.known(id) {
                view.known.insert(id, known);
            }
        }
        for clickid in arrived.union(&named).copied() {
            if let Some(click) = self.clicks.get(clickid) {
                campaigns.insert(click.campaign_id);
                view.clicks.insert(clickid.clone(), click.clone());
            }
            for conversion in self.conversions.iter().filter(|c| c.clickid == *clickid) {
                campaigns.insert(conversion.campaign_id);
                view.conversions
                    .entry(clickid.clone())
                    .or_default()
                    .push(Stored::from(conversion));
            }
        }
        for waiting in &self.unmatched {
            let clickid = &waiting.postback.clickid;
            if arrived.contains(clickid) {
                view.unmatched
                    .entry(clickid.clone())
                    .or_default()
                    .push(waiting.clone());
            } else if named.contains(clickid) {
                *view.unmatched_counts.entry(clickid.clone()).or_default() += 1;
            }
        }
        // Whatever order an engine returns them in.
        view.unmatched.values_mut().for_each(|list| list.reverse());
        view.policies = self
            .policies
            .iter()
            .filter(|(campaign, _)| campaigns.contains(campaign))
            .map(|(campaign, policy)| (*campaign, *policy))
            .collect();
        view
    }

    /// Loads, decides, commits. The records follow those of the batch before.
    pub fn batch(&mut self, clicks: &[Click], postbacks: &[Postback]) {
        let clicks = placed_clicks(&self.state, clicks);
        let postbacks = placed_postbacks(&self.state, postbacks);
        let (clicks_end, postbacks_end) = (
            self.state.clicks + count(clicks.len()),
            self.state.postbacks + count(postbacks.len()),
        );
        let mut view = self.view(&clicks, &postbacks);
        let asked: Vec<RequestId> = postbacks.iter().map(|p| p.postback.request_id).collect();
        let mut next = self.state;
        let decided = decide(&mut next, clicks, postbacks, &mut view, &self.limits);
        let answered: Vec<RequestId> = decided.verdicts.iter().map(|v| v.request_id).collect();
        assert_eq!(answered, asked, "one verdict per postback, in order");
        assert_eq!((next.clicks, next.postbacks), (clicks_end, postbacks_end));
        self.commit(next, decided);
    }

    fn commit(&mut self, next: PartitionState, decided: Decided) {
        let writes = decided.writes;
        for placed in writes.clicks {
            let click = placed.click;
            let before = self.clicks.insert(click.clickid.clone(), click);
            assert_eq!(before, None, "a click was stored twice");
        }
        for (partition, number, conversion) in writes.conversions {
            assert_eq!(partition, self.state.partition);
            assert_eq!(
                number,
                count(self.conversions.len()) + 1,
                "a gap in the numbers"
            );
            let key = |one: &Conversion| (one.clickid.clone(), one.external_key().to_owned());
            assert!(
                self.conversions
                    .iter()
                    .all(|one| key(one) != key(&conversion)
                        && one.conversion_id != conversion.conversion_id),
                "stored twice: {conversion:?}"
            );
            self.conversions.push(conversion);
        }
        for entry in writes.log {
            assert_eq!(self.known(entry.postback.request_id), None, "logged twice");
            self.log.push(entry);
        }
        self.unmatched.extend(writes.unmatched_added);
        for change in writes.changes {
            let before = self.known(change.request_id).unwrap();
            assert_eq!(before.outcome, Outcome::ClickNotFound);
            self.changes.push(change);
        }
        for id in writes.unmatched_removed {
            let before = self.unmatched.len();
            self.unmatched.retain(|one| one.postback.request_id != id);
            assert_eq!(
                self.unmatched.len(),
                before - 1,
                "removed what wasn't there"
            );
        }
        assert_eq!(next.unmatched, count(self.unmatched.len()));
        assert_eq!(next.sequence, count(self.conversions.len()));
        self.state = next;
        self.verdicts.extend(decided.verdicts);
        self.conflicts.extend(decided.conflicting_clicks);
        self.dropped += decided.unmatched_dropped;
    }

    /// Conversions by id.
    pub fn converted(&self) -> BTreeMap<RequestId, Conversion> {
        let by_id = |one: &Conversion| (one.conversion_id, one.clone());
        self.conversions.iter().map(by_id).collect()
    }

    /// What became of each logged postback in the end.
    pub fn outcomes(&self) -> BTreeMap<RequestId, Known> {
        let ids = self.log.iter().map(|entry| entry.postback.request_id);
        ids.map(|id| (id, self.known(id).unwrap())).collect()
    }

    /// Clicks, conversions and millionths.
    pub fn statistics(&self) -> BTreeMap<Cell, (u64, u64, i64)> {
        statistics(self.clicks.values(), self.conversions.iter())
    }
}

pub(super) fn statistics<'a>(
    clicks: impl Iterator<Item = &'a Click>,
    conversions: impl Iterator<Item = &'a Conversion>,
) -> BTreeMap<Cell, (u64, u64, i64)> {
    let mut cells: BTreeMap<Cell, (u64, u64, i64)> = BTreeMap::new();
    for one in clicks {
        let (site, source) = (one.site_id.clone(), one.source.clone());
        let at = bucket(one.clicked_at);
        let cell = (one.campaign_id, at, site, source, String::new());
        cells.entry(cell).or_default().0 += 1;
    }
    for one in conversions {
        let (site, source) = (one.site_id.clone(), one.source.clone());
        let at = bucket(one.created_at);
        let cell = (one.campaign_id, at, site, source, one.currency.to_string());
        let sum = cells.entry(cell).or_default();
        sum.1 += 1;
        sum.2 += one.revenue.micros();
    }
    cells
}

pub(super) fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap()
}

pub(super) fn placed_clicks(state: &PartitionState, clicks: &[Click]) -> Vec<PlacedClick> {
    (state.clicks..)
        .zip(clicks)
        .map(|(offset, click)| PlacedClick {
            partition: state.partition,
            offset,
            click: click.clone(),
        })
        .collect()
}

pub(super) fn placed_postbacks(
    state: &PartitionState,
    postbacks: &[Postback],
) -> Vec<PlacedPostback> {
    (state.postbacks..)
        .zip(postbacks)
        .map(|(offset, postback)| PlacedPostback {
            offset,
            postback: postback.clone(),
        })
        .collect()
}
