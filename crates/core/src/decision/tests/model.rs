//! What the documents promise, said once more and without the decision: a store that is told
//! records one by one. Small enough to be seen to be right; speed is no concern.
//!
//! It speaks in plain values, as the histories do, so that the store's contract reads it too.

use super::history::{Click, History, Parts, Postback, Settings, settings, unset};
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
    Updated {
        campaign: i64,
        micros: i64,
        currency: String,
        status: &'static str,
    },
    ClickNotFound,
    ClickExpired {
        campaign: i64,
    },
    Forbidden {
        campaign: i64,
        reason: &'static str,
    },
}

/// An outcome, the conversion that it speaks of, and the settings' version that it came by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub outcome: Outcome,
    pub conversion: Option<u32>,
    pub version: i64,
    /// Why, where the outcome doesn't tell.
    pub detail: Option<String>,
    /// What would have refused it, with commas.
    pub observed: String,
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
    pub event: String,
    /// The policy that it was decided by.
    pub dedupe: &'static str,
    /// The one that it came with.
    pub status: &'static str,
    pub created: u32,
    pub clicked: u32,
    pub version: i64,
    pub partition: usize,
    /// Its number in the partition.
    pub sequence: usize,
}

/// What a postback said of a conversion that was there before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Statement {
    pub conversion: u32,
    pub minute: u32,
    pub request: u32,
    pub status: &'static str,
    pub version: i64,
    /// Its number in the partition, where it changed something.
    pub sequence: Option<usize>,
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
    pub observed: String,
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
    settings: BTreeMap<i64, Settings>,
    clicks: BTreeMap<String, StoredClick>,
    /// In the order in which they were stored.
    conversions: Vec<Conversion>,
    statements: Vec<Statement>,
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
            settings: settings()
                .into_iter()
                .map(|one| (one.campaign, one))
                .collect(),
            ..Self::default()
        }
    }

    /// Somebody sets a campaign.
    pub fn set(&mut self, settings: &Settings) {
        self.settings.insert(settings.campaign, settings.clone());
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
            if first.click.campaign != click.campaign {
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
            let decision = self.decide(partition, &postback, click);
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
        let reason;
        let stored = self.clicks.get(&postback.name).cloned();
        let decision = if let Some(stored) = stored {
            let decision = self.decide(partition, postback, &stored.click);
            reason = decision.detail.clone();
            decision
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
            let why = if room { "unmatched" } else { "unmatched_full" };
            reason = Some(why.to_owned());
            Decision {
                outcome: Outcome::ClickNotFound,
                conversion: None,
                version: 0,
                detail: None,
                observed: String::new(),
            }
        };
        told.verdicts.push((request, decision.outcome.clone()));
        let logged = Logged {
            partition,
            offset,
            word: word(&decision.outcome),
            reason,
            conversion: decision.conversion,
            version: decision.version,
            observed: decision.observed.clone(),
        };
        self.log.insert(request, logged);
        self.now.insert(request, decision);
    }

    /// Who may not speak is turned away; the first one with its key is the conversion; what
    /// comes after it changes its status, or is a duplicate; the rest must not come too late.
    fn decide(&mut self, partition: usize, postback: &Postback, click: &Click) -> Decision {
        let campaign = click.campaign;
        let set = self.settings.get(&campaign).cloned();
        let set = set.unwrap_or_else(|| unset(campaign));
        let mut decision = Decision {
            outcome: Outcome::ClickNotFound,
            conversion: None,
            version: set.version,
            detail: None,
            observed: String::new(),
        };
        let mut refusals = Vec::new();
        if set.inside && !postback.inside {
            refusals.push("address");
        }
        if set.signed && postback.signed.is_none() {
            refusals.push("signature_missing");
        }
        if set.signed && postback.signed == Some(false) {
            refusals.push("signature_wrong");
        }
        if let Some(reason) = refusals.first().filter(|_| !set.watches_callers) {
            decision.outcome = Outcome::Forbidden { campaign, reason };
            decision.detail = Some((*reason).to_owned());
            return decision;
        }
        decision.observed = refusals.join(",");
        if let Some(stored) = self.same(postback, &set) {
            self.repeat(partition, postback, &stored, &set, &mut decision);
            return decision;
        }
        let age = postback.minute.saturating_sub(click.minute);
        if set.window.is_some_and(|window| age > window) {
            if !set.watches_window {
                decision.outcome = Outcome::ClickExpired { campaign };
                return decision;
            }
            refusals.push("click_expired");
            decision.observed = refusals.join(",");
        }
        self.row(partition).sequence += 1;
        let sequence = self.row(partition).sequence;
        let currency = match postback.currency {
            "" => set.currency,
            sent => sent,
        };
        self.conversions.push(Conversion {
            id: postback.request,
            name: postback.name.clone(),
            campaign,
            micros: postback.micros,
            currency: currency.to_owned(),
            txid: postback.txid.to_owned(),
            event: postback.event.to_owned(),
            dedupe: set.dedupe,
            status: said(postback, &set).unwrap_or(set.statuses.unwrap_or("approved")),
            created: postback.minute,
            clicked: click.minute,
            version: set.version,
            partition,
            sequence,
        });
        decision.outcome = Outcome::Converted {
            campaign,
            micros: postback.micros,
            currency: currency.to_owned(),
            minute: postback.minute,
        };
        decision.conversion = Some(postback.request);
        decision
    }

    /// The conversion that a postback is about, if there is one: that with its very event and
    /// external id, else the first that the policy doesn't tell apart from it. What a conversion
    /// didn't name, and wasn't asked for, may have been anything.
    fn same(&self, postback: &Postback, set: &Settings) -> Option<Conversion> {
        let of_click = || {
            self.conversions
                .iter()
                .filter(|one| one.name == postback.name)
        };
        let exact = of_click().find(|one| one.event == postback.event && one.txid == postback.txid);
        let first = of_click().find(|one| {
            let txid = one.txid == postback.txid || (one.txid.is_empty() && one.dedupe == "click");
            let event =
                one.event == postback.event || (one.event.is_empty() && one.dedupe != "event");
            match set.dedupe {
                "click" => true,
                "txid" => txid,
                _ => txid && event,
            }
        });
        exact.or(first).cloned()
    }

    fn repeat(
        &mut self,
        partition: usize,
        postback: &Postback,
        stored: &Conversion,
        set: &Settings,
        decision: &mut Decision,
    ) {
        let (campaign, micros) = (stored.campaign, stored.micros);
        decision.conversion = Some(stored.id);
        decision.outcome = Outcome::Duplicate {
            campaign,
            micros,
            currency: stored.currency.clone(),
        };
        let Some(status) = said(postback, set) else {
            return;
        };
        let (minute, request, before) = self.present(stored);
        if (postback.minute, postback.request) <= (minute, request) {
            decision.detail = (status != before).then(|| "superseded".to_owned());
            return;
        }
        let mut sequence = None;
        if status != before {
            self.row(partition).sequence += 1;
            sequence = Some(self.row(partition).sequence);
            decision.outcome = Outcome::Updated {
                campaign,
                micros,
                currency: stored.currency.clone(),
                status,
            };
        }
        self.statements.push(Statement {
            conversion: stored.id,
            minute: postback.minute,
            request: postback.request,
            status,
            version: set.version,
            sequence,
        });
    }

    /// The present status of a conversion: by when it was said, then by the request.
    fn present(&self, conversion: &Conversion) -> (u32, u32, &'static str) {
        let said = self.statements.iter();
        let said = said.filter(|one| one.conversion == conversion.id);
        said.map(|one| (one.minute, one.request, one.status))
            .chain([(conversion.created, conversion.id, conversion.status)])
            .max()
            .unwrap()
    }

    /// What a store has to show.
    pub fn picture(&self) -> Picture {
        let conversions = self.conversions.iter();
        let mut picture = Picture {
            clicks: self.clicks.clone(),
            conversions: conversions.map(|one| (one.id, one.clone())).collect(),
            statements: self.statements.iter().cloned().collect(),
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
            let (quarter, status) = (one.created / QUARTER, self.present(one).2);
            let cell = (one.campaign, quarter, one.currency.clone(), status);
            let sum = picture.statistics.entry(cell).or_default();
            *sum = (sum.0 + 1, sum.1 + i128::from(one.micros));
        }
        picture
    }
}

/// The status that a postback speaks of: a word that nobody knows is the campaign's default.
fn said(postback: &Postback, set: &Settings) -> Option<&'static str> {
    let default = set.statuses?;
    match postback.status {
        "" => None,
        "odd" => Some(default),
        word => Some(word),
    }
}

/// The word of the log.
pub fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Converted { .. } => "converted",
        Outcome::Duplicate { .. } => "duplicate",
        Outcome::Updated { .. } => "updated",
        Outcome::ClickNotFound => "click_not_found",
        Outcome::ClickExpired { .. } => "click_expired",
        Outcome::Forbidden { .. } => "forbidden",
    }
}

/// All that a store holds, by the numbers of the postbacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    pub clicks: BTreeMap<String, StoredClick>,
    pub conversions: BTreeMap<u32, Conversion>,
    pub statements: BTreeSet<Statement>,
    pub log: BTreeMap<u32, Logged>,
    /// After the latest step.
    pub now: BTreeMap<u32, Decision>,
    /// Those that a late click decided.
    pub changed: BTreeSet<u32>,
    pub waiting: BTreeSet<u32>,
    /// Per campaign, quarter, currency and status: conversions, and their sum in millionths.
    pub statistics: BTreeMap<(i64, u32, String, &'static str), (i64, i128)>,
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
            logged.observed.clear();
        }
        let statements = std::mem::take(&mut self.statements);
        self.statements = statements
            .into_iter()
            .map(|one| Statement {
                sequence: one.sequence.map(|_| 0),
                ..one
            })
            .collect();
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
        if self.statements != found.statements {
            let (expected, found) = (&self.statements, &found.statements);
            note(format!("statuses: {expected:?} expected, {found:?} found"));
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
