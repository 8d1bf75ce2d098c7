//! What the documents promise, said once more and without the decision: a store that is told
//! records one by one. Small enough to be seen to be right; speed is no concern.
//!
//! It speaks in plain values, as the histories do, so that the store's contract reads it too.

use super::history::{Click, History, Parts, Postback, SETTINGS, TXID};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// Minutes of a bucket of the statistics.
const QUARTER: u32 = 15;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Converted {
        campaign: i64,
        micros: i64,
        currency: String,
        minute: u32,
    },
    Duplicate {
        campaign: i64,
        micros: i64,
        currency: String,
    },
    ClickNotFound,
}

/// An outcome, the conversion that it speaks of, and the settings' version that it came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub outcome: Outcome,
    pub conversion: Option<u32>,
    pub version: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredClick {
    pub click: Click,
    pub partition: usize,
    pub offset: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    pub id: u32,
    pub name: String,
    pub campaign: i64,
    pub micros: i64,
    pub currency: String,
    pub txid: String,
    pub created: u32,
    pub clicked: u32,
    pub version: i64,
    pub partition: usize,
    /// Its number in the partition.
    pub sequence: usize,
}

/// A row of the log, as it was written first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    pub partition: usize,
    pub offset: usize,
    pub word: &'static str,
    pub reason: Option<String>,
    pub conversion: Option<u32>,
    pub version: i64,
}

/// Where a partition stands.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    pub version: usize,
    pub clicks: usize,
    pub postbacks: usize,
    pub sequence: usize,
    pub unmatched: usize,
}

/// What a batch answers and puts aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub verdicts: Vec<(u32, Outcome)>,
    /// Partition and offset of clicks that differ from the first.
    pub conflicts: Vec<(usize, usize)>,
    pub dropped: u64,
}

#[derive(Clone, Default)]
pub struct Model {
    per_click: usize,
    per_partition: usize,
    rows: BTreeMap<usize, Row>,
    clicks: BTreeMap<String, StoredClick>,
    /// In the order in which they were stored.
    conversions: Vec<Conversion>,
    log: BTreeMap<u32, Logged>,
    /// What became of each postback so far.
    now: BTreeMap<u32, Decision>,
    changed: BTreeSet<u32>,
    /// In the order of their offsets.
    waiting: Vec<(usize, Postback)>,
}

impl Model {
    pub fn new(history: &History) -> Self {
        Self {
            per_click: history.limits.0,
            per_partition: history.limits.1,
            ..Self::default()
        }
    }

    /// One transaction: partition by partition, clicks before postbacks.
    pub fn batch(&mut self, parts: &Parts) -> Told {
        let mut told = Told::default();
        for (partition, part) in parts.iter().enumerate() {
            if part.is_empty() {
                continue;
            }
            self.row(partition).version += 1;
            for click in &part.clicks {
                self.click(partition, click, &mut told);
            }
            for postback in &part.postbacks {
                self.postback(partition, postback, &mut told);
            }
        }
        told
    }

    fn row(&mut self, partition: usize) -> &mut Row {
        self.rows.entry(partition).or_default()
    }

    fn click(&mut self, partition: usize, click: &Click, told: &mut Told) {
        let offset = self.row(partition).clicks;
        self.row(partition).clicks += 1;
        if let Some(first) = self.clicks.get(&click.name) {
            if first.click != *click {
                told.conflicts.push((partition, offset));
            }
            return;
        }
        let stored = StoredClick {
            click: click.clone(),
            partition,
            offset,
        };
        self.clicks.insert(click.name.clone(), stored);
        // What waited for it is decided now.
        let (woken, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, one)| one.name == click.name);
        self.waiting = waiting;
        for (_, postback) in woken {
            self.row(partition).unmatched -= 1;
            let decision = self.convert(partition, &postback, click);
            self.now.insert(postback.request, decision);
            self.changed.insert(postback.request);
        }
    }

    fn postback(&mut self, partition: usize, postback: &Postback, told: &mut Told) {
        let offset = self.row(partition).postbacks;
        self.row(partition).postbacks += 1;
        let request = postback.request;
        if let Some(known) = self.now.get(&request) {
            told.verdicts.push((request, known.outcome.clone()));
            return;
        }
        let mut reason = None;
        let stored = self.clicks.get(&postback.name).cloned();
        let decision = if let Some(stored) = stored {
            self.convert(partition, postback, &stored.click)
        } else {
            let here = self.waiting.iter();
            let here = here.filter(|(_, one)| one.name == postback.name).count();
            let all = self.row(partition).unmatched;
            let room = here < self.per_click && all < self.per_partition;
            if room {
                self.row(partition).unmatched += 1;
                self.waiting.push((partition, postback.clone()));
            } else {
                told.dropped += 1;
            }
            reason = Some(if room { "unmatched" } else { "unmatched_full" });
            Decision {
                outcome: Outcome::ClickNotFound,
                conversion: None,
                version: 0,
            }
        };
        told.verdicts.push((request, decision.outcome.clone()));
        let logged = Logged {
            partition,
            offset,
            word: word(&decision.outcome),
            reason: reason.map(str::to_owned),
            conversion: decision.conversion,
            version: decision.version,
        };
        self.log.insert(request, logged);
        self.now.insert(request, decision);
    }

    /// The first one with its key is the conversion, later ones are duplicates of it.
    fn convert(&mut self, partition: usize, postback: &Postback, click: &Click) -> Decision {
        let campaign = click.campaign;
        let version = SETTINGS.iter().find(|settings| settings.0 == campaign);
        let version = version.map_or(0, |settings| settings.1);
        let first = self.conversions.iter().find(|one| {
            one.name == postback.name && (campaign != TXID || one.txid == postback.txid)
        });
        if let Some(first) = first {
            return Decision {
                outcome: Outcome::Duplicate {
                    campaign: first.campaign,
                    micros: first.micros,
                    currency: first.currency.clone(),
                },
                conversion: Some(first.id),
                version,
            };
        }
        self.row(partition).sequence += 1;
        let sequence = self.row(partition).sequence;
        self.conversions.push(Conversion {
            id: postback.request,
            name: postback.name.clone(),
            campaign,
            micros: postback.micros,
            currency: postback.currency.to_owned(),
            txid: postback.txid.to_owned(),
            created: postback.minute,
            clicked: click.minute,
            version,
            partition,
            sequence,
        });
        Decision {
            outcome: Outcome::Converted {
                campaign,
                micros: postback.micros,
                currency: postback.currency.to_owned(),
                minute: postback.minute,
            },
            conversion: Some(postback.request),
            version,
        }
    }

    /// What a store has to show.
    pub fn picture(&self) -> Picture {
        let conversions = self.conversions.iter();
        let mut picture = Picture {
            clicks: self.clicks.clone(),
            conversions: conversions.map(|one| (one.id, one.clone())).collect(),
            log: self.log.clone(),
            now: self.now.clone(),
            changed: self.changed.clone(),
            waiting: self.waiting.iter().map(|(_, one)| one.request).collect(),
            rows: self.rows.clone(),
            ..Picture::default()
        };
        for one in self.clicks.values() {
            let cell = (one.click.campaign, one.click.minute / QUARTER);
            *picture.click_statistics.entry(cell).or_default() += 1;
        }
        for one in &self.conversions {
            let cell = (one.campaign, one.created / QUARTER, one.currency.clone());
            let sum = picture.statistics.entry(cell).or_default();
            *sum = (sum.0 + 1, sum.1 + i128::from(one.micros));
        }
        picture
    }
}

/// The word of the log.
pub fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Converted { .. } => "converted",
        Outcome::Duplicate { .. } => "duplicate",
        Outcome::ClickNotFound => "click_not_found",
    }
}

/// All that a store holds, by the numbers of the postbacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    pub clicks: BTreeMap<String, StoredClick>,
    pub conversions: BTreeMap<u32, Conversion>,
    pub log: BTreeMap<u32, Logged>,
    /// After the latest step.
    pub now: BTreeMap<u32, Decision>,
    /// Those that a late click decided.
    pub changed: BTreeSet<u32>,
    pub waiting: BTreeSet<u32>,
    /// Per campaign, quarter and currency: conversions, and their sum in millionths.
    pub statistics: BTreeMap<(i64, u32, String), (i64, i128)>,
    /// Clicks per campaign and quarter.
    pub click_statistics: BTreeMap<(i64, u32), i64>,
    pub rows: BTreeMap<usize, Row>,
}

impl Picture {
    /// Without what depends on how the logs were cut: the order in which the conversions were
    /// numbered, and what was said of a postback before its click came.
    pub fn end(mut self) -> Self {
        for conversion in self.conversions.values_mut() {
            conversion.sequence = 0;
        }
        for logged in self.log.values_mut() {
            (logged.word, logged.reason) = ("", None);
            (logged.conversion, logged.version) = (None, 0);
        }
        self.changed.clear();
        self.without_versions()
    }

    /// Without the number of commits.
    pub fn without_versions(mut self) -> Self {
        self.rows.values_mut().for_each(|row| row.version = 0);
        self
    }

    /// Without how far the logs were read: what a replay must leave as it is.
    pub fn effects(mut self) -> Self {
        for row in self.rows.values_mut() {
            (row.clicks, row.postbacks) = (0, 0);
        }
        self.without_versions()
    }

    /// Says in what a store's picture differs from this one.
    pub fn compare(&self, found: &Self) -> Result<(), String> {
        let mut differences = Vec::new();
        let mut note = |text| differences.push(text);
        entries("click", &self.clicks, &found.clicks, &mut note);
        entries(
            "conversion",
            &self.conversions,
            &found.conversions,
            &mut note,
        );
        entries("log row", &self.log, &found.log, &mut note);
        entries("outcome", &self.now, &found.now, &mut note);
        entries("statistics", &self.statistics, &found.statistics, &mut note);
        let (clicks, found_clicks) = (&self.click_statistics, &found.click_statistics);
        entries("click statistics", clicks, found_clicks, &mut note);
        entries("partition", &self.rows, &found.rows, &mut note);
        for (what, expected, found) in [
            ("changed later", &self.changed, &found.changed),
            ("waiting", &self.waiting, &found.waiting),
        ] {
            if expected != found {
                note(format!("{what}: {expected:?} expected, {found:?} found"));
            }
        }
        if self == found {
            return Ok(());
        }
        Err(differences.join("\n"))
    }
}

fn entries<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    expected: &BTreeMap<K, V>,
    found: &BTreeMap<K, V>,
    note: &mut impl FnMut(String),
) {
    let keys: BTreeSet<&K> = expected.keys().chain(found.keys()).collect();
    for key in keys {
        let (expected, found) = (expected.get(key), found.get(key));
        if expected != found {
            note(format!(
                "{what} {key:?}:\n  expected {expected:?}\n  found    {found:?}"
            ));
        }
    }
}
