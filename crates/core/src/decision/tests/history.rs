//! Histories to hold the decision and the stores against: what two partitions' logs hold, how a
//! consumer cuts them into batches, and what happens to it meanwhile.
//!
//! Plain values, so that the store's contract reads this file too and a shrunk history can be
//! read by a person.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use std::collections::BTreeMap;
use std::fmt;

pub const PARTITIONS: usize = 2;

/// Campaigns: no settings, one conversion per click, one per click and external id, one per
/// event with statuses and a window, and one that asks who calls but only watches the window.
pub const PLAIN: i64 = 1;
pub const CLICK: i64 = 2;
pub const TXID: i64 = 3;
pub const EVENT: i64 = 4;
pub const GUARDED: i64 = 5;

/// A campaign's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub campaign: i64,
    pub version: i64,
    pub dedupe: &'static str,
    pub currency: &'static str,
    /// The age, in minutes, after which a click is expired, and whether that only is watched.
    pub window: Option<u32>,
    pub watches_window: bool,
    /// Whether callers must be inside the campaign's network, and postbacks signed.
    pub inside: bool,
    pub signed: bool,
    pub watches_callers: bool,
    /// The status of a postback that names none that is known, where statuses are on.
    pub statuses: Option<&'static str>,
}

/// What a campaign that nobody set goes by.
pub fn unset(campaign: i64) -> Settings {
    Settings {
        campaign,
        version: 0,
        dedupe: "click",
        currency: "USD",
        window: None,
        watches_window: false,
        inside: false,
        signed: false,
        watches_callers: false,
        statuses: None,
    }
}

/// The settings at the beginning.
pub fn settings() -> [Settings; 4] {
    [
        Settings {
            version: 4,
            ..unset(CLICK)
        },
        Settings {
            version: 7,
            dedupe: "txid",
            ..unset(TXID)
        },
        Settings {
            version: 3,
            dedupe: "event",
            currency: "EUR",
            window: Some(30),
            statuses: Some("pending"),
            ..unset(EVENT)
        },
        Settings {
            version: 9,
            dedupe: "txid",
            window: Some(20),
            watches_window: true,
            inside: true,
            signed: true,
            statuses: Some("approved"),
            ..unset(GUARDED)
        },
    ]
}

/// The largest revenue in millionths: nine trillion.
const MOST: i64 = 9_000_000_000_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    pub name: String,
    pub campaign: i64,
    /// Minutes after the beginning, as all times here.
    pub minute: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postback {
    /// The number of its request id.
    pub request: u32,
    pub name: String,
    pub micros: i64,
    /// Empty for none, as all texts here.
    pub currency: &'static str,
    pub txid: &'static str,
    pub event: &'static str,
    /// A status' own word, or one that nobody knows.
    pub status: &'static str,
    /// Whether its caller is inside the campaigns' network.
    pub inside: bool,
    /// Whether it is signed, and with the campaigns' secret.
    pub signed: Option<bool>,
    pub minute: u32,
}

/// What is published to one partition, clicks and postbacks in the order of publishing.
#[derive(Clone, Debug)]
pub enum Record {
    Click(Click),
    Postback(Postback),
}

/// What becomes of a batch, and of the consumer that prepared it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Committed,
    /// The consumer dies before the commit: the records are read again, cut differently.
    DiesBefore,
    /// The consumer dies after the commit: its successor knows what the store tells it.
    DiesAfter,
    /// A consumer that lost its partitions prepared a batch too, and commits it afterwards.
    Raced,
    /// The store refuses the content of the last statement but one.
    Refused,
}

#[derive(Clone, Debug)]
pub struct Turn {
    /// Settings that are changed before it.
    pub change: Option<Settings>,
    /// How many clicks and postbacks of each partition.
    pub take: [(usize, usize); PARTITIONS],
    pub fate: Fate,
}

#[derive(Clone, Default)]
pub struct History {
    pub published: [Vec<Record>; PARTITIONS],
    pub turns: Vec<Turn>,
    /// How many postbacks may wait for a click, and in a partition.
    pub limits: (usize, usize),
}

/// One partition's part of a batch.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub clicks: Vec<Click>,
    pub postbacks: Vec<Postback>,
}

impl Part {
    pub fn is_empty(&self) -> bool {
        self.clicks.is_empty() && self.postbacks.is_empty()
    }
}

pub type Parts = [Part; PARTITIONS];

/// A batch of the history.
#[derive(Clone, Debug)]
pub struct Step {
    pub change: Option<Settings>,
    pub parts: Parts,
    pub fate: Fate,
    /// What a consumer that fell behind would make of the same records.
    pub stale: Parts,
}

impl Step {
    pub fn is_committed(&self) -> bool {
        !matches!(self.fate, Fate::DiesBefore | Fate::Refused)
    }
}

impl History {
    /// Both logs of each partition.
    pub fn logs(&self) -> Parts {
        self.published.each_ref().map(|records| {
            let mut part = Part::default();
            for record in records {
                match record {
                    Record::Click(click) => part.clicks.push(click.clone()),
                    Record::Postback(postback) => part.postbacks.push(postback.clone()),
                }
            }
            part
        })
    }

    /// Whether it comes to the same however it is cut: nothing is refused for want of room, and
    /// no settings change midway.
    pub fn is_ample(&self) -> bool {
        self.limits.0.min(self.limits.1) > self.published.iter().map(Vec::len).sum()
            && self.turns.iter().all(|turn| turn.change.is_none())
    }

    /// The same records once more, cut differently; the settings stay.
    pub fn again(&self) -> Self {
        let mut again = self.clone();
        again.turns.reverse();
        again.turns.iter_mut().for_each(|turn| turn.change = None);
        again
    }

    /// The batches, through both logs to their end.
    pub fn steps(&self) -> Vec<Step> {
        let logs = self.logs();
        let mut at = [(0, 0); PARTITIONS];
        let mut steps = Vec::new();
        let rest = Turn {
            take: [(usize::MAX / 2, usize::MAX / 2); PARTITIONS],
            fate: Fate::Committed,
            change: None,
        };
        // One whose batch has nothing in it is made before the next.
        let mut change = None;
        for turn in self.turns.iter().chain([&rest]) {
            let [one, two] = turn.take;
            change = turn.change.clone().or(change);
            let step = Step {
                change: change.clone(),
                parts: cut(&logs, &at, turn.take),
                fate: turn.fate,
                stale: cut(&logs, &at, [(two.1 + 1, two.0), (one.1, one.0 + 1)]),
            };
            if step.parts.iter().all(Part::is_empty) {
                continue;
            }
            change = None;
            if step.is_committed() {
                for (at, part) in at.iter_mut().zip(&step.parts) {
                    *at = (at.0 + part.clicks.len(), at.1 + part.postbacks.len());
                }
            }
            steps.push(step);
        }
        steps
    }
}

fn cut(logs: &Parts, at: &[(usize, usize)], take: [(usize, usize); PARTITIONS]) -> Parts {
    let mut parts = Parts::default();
    for (((part, log), at), take) in parts.iter_mut().zip(logs).zip(at).zip(take) {
        part.clicks = log.clicks.iter().skip(at.0).take(take.0).cloned().collect();
        let postbacks = log.postbacks.iter().skip(at.1);
        part.postbacks = postbacks.take(take.1).cloned().collect();
    }
    parts
}

/// Few names and numbers, so that they meet.
pub fn histories() -> impl Strategy<Value = History> {
    let ample = Just((1_000, 1_000));
    (
        prop::collection::vec((0..PARTITIONS, record()), 0..48),
        prop::collection::vec(turn(), 0..12),
        prop_oneof![2 => ample, 1 => (0..3_usize, 0..5_usize)],
    )
        .prop_map(|(published, turns, limits)| {
            let mut turns = turns;
            let changes = turns.iter_mut().filter_map(|turn| turn.change.as_mut());
            for (change, version) in changes.zip(10..) {
                change.version = version;
            }
            let mut history = History {
                turns,
                limits,
                ..History::default()
            };
            let mut numbers: BTreeMap<u32, Postback> = BTreeMap::new();
            for (partition, record) in published {
                let record = match record {
                    Record::Click(click) => Record::Click(Click {
                        name: format!("{}{partition}", click.name),
                        ..click
                    }),
                    // A number that came before is that postback once more.
                    Record::Postback(postback) => {
                        let request = postback.request * 2 + u32::from(partition > 0);
                        let first = numbers.entry(request).or_insert_with(|| Postback {
                            request,
                            name: format!("{}{partition}", postback.name),
                            ..postback
                        });
                        Record::Postback(first.clone())
                    }
                };
                history.published[partition].push(record);
            }
            history
        })
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d", "e"]).prop_map(str::to_owned)
}

fn record() -> impl Strategy<Value = Record> {
    // Mostly the same click again, sometimes one that conflicts.
    let click = (
        name(),
        prop::option::weighted(0.2, (PLAIN..=GUARDED, 0..60_u32)),
    )
        .prop_map(|(name, differs)| {
            let usual = match name.as_str() {
                "a" => CLICK,
                "b" => PLAIN,
                "c" => EVENT,
                "d" => GUARDED,
                _ => TXID,
            };
            let (campaign, minute) = differs.unwrap_or((usual, 0));
            Record::Click(Click {
                name,
                campaign,
                minute,
            })
        });
    let micros = prop_oneof![
        4 => 0..3_000_000_i64,
        1 => prop::sample::select(vec![0, 999_999, 1_000_000, MOST - 1, MOST]),
        1 => 0..=MOST,
    ];
    let postback = (
        0..20_u32,
        name(),
        micros,
        prop::sample::select(vec!["", "USD", "EUR", "JPY"]),
        prop::sample::select(vec!["", "x", "y"]),
        prop::sample::select(vec!["", "lead", "sale"]),
        prop::sample::select(vec![
            "", "", "approved", "pending", "rejected", "reversed", "odd",
        ]),
        prop::bool::weighted(0.8),
        prop::sample::select(vec![None, Some(false), Some(true), Some(true), Some(true)]),
        0..60_u32,
    )
        .prop_map(
            |(request, name, micros, currency, txid, event, status, inside, signed, minute)| {
                Record::Postback(Postback {
                    request,
                    name,
                    micros,
                    currency,
                    txid,
                    event,
                    status,
                    inside,
                    signed,
                    minute,
                })
            },
        );
    prop_oneof![2 => click, 3 => postback]
}

/// Any campaign's, as somebody may set them.
fn change() -> impl Strategy<Value = Settings> {
    (
        PLAIN..=GUARDED,
        prop::sample::select(vec!["click", "txid", "event"]),
        prop::sample::select(vec!["USD", "EUR"]),
        prop::option::of(0..60_u32),
        prop::bool::ANY,
        (prop::bool::ANY, prop::bool::ANY, prop::bool::ANY),
        prop::option::of(prop::sample::select(vec![
            "approved", "pending", "reversed",
        ])),
    )
        .prop_map(
            |(campaign, dedupe, currency, window, watches_window, callers, statuses)| Settings {
                campaign,
                version: 0,
                dedupe,
                currency,
                window: window.filter(|minutes| *minutes > 0),
                watches_window,
                inside: callers.0,
                signed: callers.1,
                watches_callers: callers.2,
                statuses,
            },
        )
}

fn turn() -> impl Strategy<Value = Turn> {
    let take = || (0..4_usize, 0..4_usize);
    let fate = prop_oneof![
        4 => Just(Fate::Committed),
        1 => Just(Fate::DiesBefore),
        1 => Just(Fate::DiesAfter),
        2 => Just(Fate::Raced),
        1 => Just(Fate::Refused),
    ];
    let change = prop::option::weighted(0.1, change());
    (take(), take(), fate, change).prop_map(|(one, two, fate, change)| Turn {
        take: [one, two],
        fate,
        change,
    })
}

/// The same histories at every run; `PROPTEST_RNG_SEED` asks for others, `PROPTEST_CASES` for
/// more.
pub fn config(cases: u32) -> Config {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(20_251_126);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    // Few cases would else mean few attempts to make a failing one smaller.
    config.max_shrink_iters = config.max_shrink_iters.min(4_000);
    config
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (partition, records) in self.published.iter().enumerate() {
            writeln!(f, "\npublished to partition {partition}:")?;
            for record in records {
                match record {
                    Record::Click(click) => writeln!(
                        f,
                        "  click {} of campaign {} at minute {}",
                        click.name, click.campaign, click.minute
                    )?,
                    Record::Postback(one) => writeln!(
                        f,
                        "  postback #{} for {}: {} millionths {:?}, txid {:?}, event {:?}, status \
                         {:?}, inside {}, signed {:?}, at minute {}",
                        one.request,
                        one.name,
                        one.micros,
                        one.currency,
                        one.txid,
                        one.event,
                        one.status,
                        one.inside,
                        one.signed,
                        one.minute
                    )?,
                }
            }
        }
        writeln!(f, "batches, clicks + postbacks of each partition:")?;
        for turn in &self.turns {
            let [one, two] = turn.take;
            if let Some(change) = &turn.change {
                writeln!(f, "  {change:?}")?;
            }
            writeln!(
                f,
                "  {}+{}, {}+{}: {:?}",
                one.0, one.1, two.0, two.1, turn.fate
            )?;
        }
        let (click, partition) = self.limits;
        write!(
            f,
            "  and the rest; at most {click} wait for a click, {partition} in a partition"
        )
    }
}
