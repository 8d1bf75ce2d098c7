//! A store of vectors: it takes `Writes` as an engine would and gives back the view of a batch.
//! What an engine holds by constraints is asserted here.

use super::*;
use crate::record::conversion::Conversion;
use std::collections::{BTreeMap, HashMap};

/// The partition of [`Store::batch`].
pub(super) const HERE: i32 = 1;

/// What each partition of a batch comes to, and where it then stands.
pub(super) type Prepared = Vec<(PartitionState, Decided)>;

#[derive(Clone)]
pub(super) struct Store {
    pub states: BTreeMap<i32, PartitionState>,
    pub campaigns: HashMap<i64, Arc<Campaign>>,
    pub limits: Limits,
    pub clicks: HashMap<ClickId, Click>,
    /// Partition and offset of each click.
    pub places: HashMap<ClickId, (i32, i64)>,
    /// In the order in which they were stored.
    pub conversions: Vec<Conversion>,
    /// Partition of each conversion, and its number there.
    pub numbers: Vec<(i32, i64)>,
    pub statuses: Vec<StatusChange>,
    pub log: Vec<LogEntry>,
    pub changes: Vec<Change>,
    pub unmatched: Vec<Unmatched>,
    /// Every verdict ever given, in order.
    pub verdicts: Vec<Verdict>,
    pub conflicts: Vec<PlacedClick>,
    pub dropped: u64,
}

impl Store {
    pub fn new(campaigns: impl IntoIterator<Item = Campaign>) -> Self {
        let mut store = Self {
            states: BTreeMap::new(),
            campaigns: HashMap::new(),
            limits: Limits::default(),
            clicks: HashMap::new(),
            places: HashMap::new(),
            conversions: Vec::new(),
            numbers: Vec::new(),
            statuses: Vec::new(),
            log: Vec::new(),
            changes: Vec::new(),
            unmatched: Vec::new(),
            verdicts: Vec::new(),
            conflicts: Vec::new(),
            dropped: 0,
        };
        for campaign in campaigns {
            store.set(campaign);
        }
        store
    }

    /// Somebody sets a campaign.
    pub fn set(&mut self, campaign: Campaign) {
        self.campaigns
            .insert(campaign.campaign_id, Arc::new(campaign));
    }

    /// A conversion with its present status.
    pub fn stored(&self, conversion: &Conversion) -> Stored {
        let said = self.statuses.iter().map(|change| &change.stored);
        said.filter(|one| one.conversion_id == conversion.conversion_id)
            .cloned()
            .chain([Stored::from(conversion)])
            .max_by_key(|one| (one.status_at, one.status_id))
            .unwrap()
    }

    /// Where [`HERE`] stands.
    pub fn state(&self) -> PartitionState {
        self.state_of(HERE)
    }

    pub fn state_of(&self, partition: i32) -> PartitionState {
        self.states
            .get(&partition)
            .copied()
            .unwrap_or(PartitionState {
                partition,
                version: 0,
                clicks: 0,
                postbacks: 0,
                sequence: 0,
                published: 0,
                unmatched: 0,
            })
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
        let replayed = postbacks.iter().filter(|one| one.postback.replayed);
        let arrived = clicks.iter().map(|one| &one.click.clickid);
        let arrived: HashSet<&ClickId> = arrived
            .chain(replayed.map(|one| &one.postback.clickid))
            .collect();
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
                    .push(self.stored(conversion));
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
        view.campaigns = self
            .campaigns
            .iter()
            .filter(|(campaign, _)| campaigns.contains(campaign))
            .map(|(id, campaign)| (*id, campaign.clone()))
            .collect();
        view
    }

    /// Loads, decides, commits. The records follow those of the batch before.
    pub fn batch(&mut self, clicks: &[Click], postbacks: &[Postback]) {
        let prepared = self.prepare(&[(HERE, clicks.to_vec(), postbacks.to_vec())]);
        self.commit(prepared);
    }

    /// Loads and decides several partitions' records, which share a view.
    pub fn prepare(&self, parts: &[(i32, Vec<Click>, Vec<Postback>)]) -> Prepared {
        let placed = parts.iter().map(|(partition, clicks, postbacks)| {
            let state = self.state_of(*partition);
            let clicks = placed_clicks(&state, clicks);
            (state, clicks, placed_postbacks(&state, postbacks))
        });
        let placed: Vec<_> = placed.collect();
        let clicks: Vec<_> = placed.iter().flat_map(|one| one.1.clone()).collect();
        let postbacks: Vec<_> = placed.iter().flat_map(|one| one.2.clone()).collect();
        let mut view = self.view(&clicks, &postbacks);
        let mut prepared = Vec::new();
        for (state, clicks, postbacks) in placed {
            let (clicks_end, postbacks_end) = (
                state.clicks + count(clicks.len()),
                state.postbacks + count(postbacks.len()),
            );
            let asked: Vec<RequestId> = postbacks.iter().map(|p| p.postback.request_id).collect();
            let mut next = state;
            let decided = decide(&mut next, clicks, postbacks, &mut view, &self.limits);
            let answered: Vec<RequestId> = decided.verdicts.iter().map(|v| v.request_id).collect();
            assert_eq!(answered, asked, "one verdict per postback, in order");
            assert_eq!((next.clicks, next.postbacks), (clicks_end, postbacks_end));
            next.version += 1;
            prepared.push((next, decided));
        }
        prepared
    }

    pub fn commit(&mut self, prepared: Prepared) {
        for (next, decided) in prepared {
            self.commit_partition(next, decided);
        }
    }

    fn commit_partition(&mut self, next: PartitionState, decided: Decided) {
        let (partition, mut sequence) = (next.partition, self.state_of(next.partition).sequence);
        let writes = decided.writes;
        for placed in writes.clicks {
            assert_eq!(placed.partition, partition);
            let clickid = placed.click.clickid.clone();
            assert!(
                !self.clicks.contains_key(&clickid),
                "a click was stored twice"
            );
            self.places
                .insert(clickid.clone(), (partition, placed.offset));
            self.clicks.insert(clickid, placed.click);
        }
        let numbers = writes.conversions.iter().map(|(_, number, _)| *number);
        let changed = writes.statuses.iter().filter_map(|change| change.sequence);
        let mut numbers: Vec<i64> = numbers.chain(changed).collect();
        numbers.sort_unstable();
        for number in numbers {
            sequence += 1;
            assert_eq!(number, sequence, "a gap in the numbers");
        }
        for (of, number, conversion) in writes.conversions {
            assert_eq!(of, partition);
            let key = |one: &Conversion| {
                let external = one.external_key().to_owned();
                (one.clickid.clone(), one.event.clone(), external)
            };
            assert!(
                self.conversions
                    .iter()
                    .all(|one| key(one) != key(&conversion)
                        && one.conversion_id != conversion.conversion_id),
                "stored twice: {conversion:?}"
            );
            self.numbers.push((partition, number));
            self.conversions.push(conversion);
        }
        for change in writes.statuses {
            assert_eq!(change.partition, partition);
            let is_it = |one: &&Conversion| one.conversion_id == change.stored.conversion_id;
            let conversion = self.conversions.iter().find(is_it).unwrap();
            let before = self.stored(conversion);
            assert_eq!(before.status, change.before);
            assert_eq!(
                change.sequence.is_some(),
                change.stored.status != before.status
            );
            let moment = |one: &Stored| (one.status_at, one.status_id);
            assert!(
                moment(&change.stored) > moment(&before),
                "undone by an older one"
            );
            self.statuses.push(change);
        }
        for entry in writes.log {
            assert_eq!(self.known(entry.postback.request_id), None, "logged twice");
            assert_eq!(entry.partition, partition);
            self.log.push(entry);
        }
        self.unmatched.extend(writes.unmatched_added);
        for change in writes.changes {
            let before = self.known(change.request_id).unwrap();
            match change.reason {
                "late_click" => assert_eq!(before.outcome, Outcome::ClickNotFound),
                "replay" => assert_ne!(before.outcome.word(), "converted"),
                other => panic!("{other}"),
            }
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
        let here = self.unmatched.iter();
        let here = here.filter(|one| one.partition == partition).count();
        assert_eq!(next.unmatched, count(here));
        assert_eq!(next.sequence, sequence);
        self.states.insert(partition, next);
        self.verdicts.extend(decided.verdicts);
        self.conflicts.extend(decided.conflicting_clicks);
        self.dropped += decided.unmatched_dropped.iter().sum::<u64>();
    }

    /// What became of each logged postback in the end.
    pub fn outcomes(&self) -> BTreeMap<RequestId, Known> {
        let ids = self.log.iter().map(|entry| entry.postback.request_id);
        ids.map(|id| (id, self.known(id).unwrap())).collect()
    }
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
