//! However logs are cut into batches, read again and replayed, they come to what the model says.

use super::domain::{minute, number, plain_conversion, plain_outcome, size};
use super::history::{self, Fate, History, Part, Record, config, histories, settings};
use super::memory::HERE;
use super::model::{self, Model, Picture, Told};
use super::*;
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use std::collections::HashMap;

/// What the store of vectors holds. It keeps no statistics: those are the engines'.
fn picture(store: &Store) -> Picture {
    let clicks = store.clicks.values().map(|click| {
        let (partition, offset) = store.places[&click.clickid];
        let stored = model::StoredClick {
            click: history::Click {
                name: click.clickid.to_string(),
                campaign: click.campaign_id,
                minute: minute(click.clicked_at),
            },
            partition: size(partition.into()),
            offset: size(offset),
        };
        (click.clickid.to_string(), stored)
    });
    let log = store.log.iter().map(|entry| {
        let logged = model::Logged {
            partition: size(entry.partition.into()),
            offset: size(entry.offset),
            word: entry.known.outcome.word(),
            reason: entry.reason.map(str::to_owned),
            conversion: entry.known.conversion_id.map(number),
            version: entry.known.policy_version,
            observed: entry.observed.join(","),
        };
        (number(entry.postback.request_id), logged)
    });
    let now = store.outcomes().into_iter().map(|(id, known)| {
        let changed = store.changes.iter().find(|change| change.request_id == id);
        let entry = store.log.iter().find(|one| one.postback.request_id == id);
        let (detail, observed) = match (changed, entry) {
            (Some(change), _) => (change.detail, &change.observed),
            (None, Some(entry)) => {
                let waits = known.outcome == Outcome::ClickNotFound;
                (entry.reason.filter(|_| !waits), &entry.observed)
            }
            (None, None) => unreachable!("an outcome without a row"),
        };
        let decision = model::Decision {
            outcome: plain_outcome(&known.outcome),
            conversion: known.conversion_id.map(number),
            version: known.policy_version,
            detail: detail.map(str::to_owned),
            observed: observed.join(","),
        };
        (number(id), decision)
    });
    let rows = store.states.values().map(|state| {
        let row = model::Row {
            version: size(state.version),
            clicks: size(state.clicks),
            postbacks: size(state.postbacks),
            sequence: size(state.sequence),
            unmatched: size(state.unmatched),
        };
        (size(state.partition.into()), row)
    });
    let conversions = store.conversions.iter().zip(&store.numbers);
    Picture {
        clicks: clicks.collect(),
        conversions: conversions
            .map(|(one, place)| plain_conversion(one, place.0, place.1))
            .map(|one| (one.id, one))
            .collect(),
        statements: store
            .statuses
            .iter()
            .map(|change| model::Statement {
                conversion: number(change.stored.conversion_id),
                minute: minute(change.stored.status_at),
                request: number(change.stored.status_id),
                status: change.stored.status.word(),
                version: change.policy_version,
                sequence: change.sequence.map(size),
            })
            .collect(),
        log: log.collect(),
        now: now.collect(),
        changed: store.changes.iter().map(|c| number(c.request_id)).collect(),
        waiting: store
            .unmatched
            .iter()
            .map(|one| number(one.postback.request_id))
            .collect(),
        rows: rows.collect(),
        ..Picture::default()
    }
}

fn without_statistics(mut picture: Picture) -> Picture {
    picture.statistics.clear();
    picture.click_statistics.clear();
    picture
}

fn store_of(history: &History) -> Store {
    let mut store = Store::new(settings().iter().map(domain::campaign));
    store.limits = Limits {
        unmatched_per_click: history.limits.0,
        unmatched_per_partition: i64::try_from(history.limits.1).unwrap(),
    };
    store
}

/// One pass through the logs, in step with the model.
fn pass(history: &History, store: &mut Store, model: &mut Model) -> Result<(), String> {
    for step in history.steps() {
        if let Some(change) = &step.change {
            store.set(domain::campaign(change));
            model.set(change);
        }
        let batch = |parts: &history::Parts| -> Vec<_> {
            let parts = (0..).zip(parts).filter(|(_, part)| !part.is_empty());
            parts
                .map(|(partition, part)| {
                    let clicks = part.clicks.iter().map(domain::click).collect();
                    let postbacks = part.postbacks.iter().map(domain::postback).collect();
                    (partition, clicks, postbacks)
                })
                .collect()
        };
        let prepared = store.prepare(&batch(&step.parts));
        if step.fate == Fate::Raced {
            // Whatever it is, it must not lean on being committed.
            store.prepare(&batch(&step.stale));
        }
        if !step.is_committed() {
            continue;
        }
        let mut told = Told::default();
        for (_, decided) in &prepared {
            let verdicts = decided.verdicts.iter();
            told.verdicts
                .extend(verdicts.map(|one| (number(one.request_id), plain_outcome(&one.outcome))));
            let conflicts = decided.conflicting_clicks.iter();
            told.conflicts
                .extend(conflicts.map(|one| (size(one.partition.into()), size(one.offset))));
            told.dropped += decided.unmatched_dropped.iter().sum::<u64>();
        }
        store.commit(prepared);
        let expected = model.batch(&step.parts);
        if expected != told {
            return Err(format!(
                "told:\n  expected {expected:?}\n  found    {told:?}"
            ));
        }
        without_statistics(model.picture()).compare(&picture(store))?;
    }
    Ok(())
}

/// What must come of a history however it is cut: as one batch.
fn end(history: &History) -> Picture {
    let mut model = Model::new(history);
    model.batch(&history.logs());
    without_statistics(model.picture()).end()
}

fn check(history: &History) -> Result<(), String> {
    let (mut store, mut model) = (store_of(history), Model::new(history));
    pass(history, &mut store, &mut model)?;
    // Where no room is left, the cut decides what waits.
    if history.is_ample() {
        end(history).compare(&picture(&store).end())?;
    }
    let before = picture(&store).effects();
    pass(&history.again(), &mut store, &mut model)?;
    before
        .compare(&picture(&store).effects())
        .map_err(|why| format!("after a replay: {why}"))
}

/// Runs `check` on histories; says which one, and how it failed.
fn hold(cases: u32, check: impl Fn(&History) -> Result<(), String>) {
    let mut runner = TestRunner::new(config(cases));
    let result = runner.run(&histories(), |history| {
        check(&history).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, history)) => panic!("{why}\nin this history:{history:?}"),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn any_history_comes_to_what_the_model_says() {
    hold(3_000, check);
}

/// One partition's logs, and for each postback how many clicks were published before it.
#[derive(Default)]
struct Logs {
    clicks: Vec<Click>,
    postbacks: Vec<Postback>,
    before: Vec<usize>,
}

impl Logs {
    fn of(records: &[Record]) -> Self {
        let mut logs = Self::default();
        for record in records {
            match record {
                Record::Click(click) => logs.clicks.push(domain::click(click)),
                Record::Postback(postback) => {
                    logs.postbacks.push(domain::postback(postback));
                    logs.before.push(logs.clicks.len());
                }
            }
        }
        logs
    }

    /// Cut by `cuts` over and over; a batch with an unknown click reads on through every click
    /// that was published before its last postback, as the consumer does behind its barrier.
    fn run(&self, store: &mut Store, cuts: &[(usize, usize)]) {
        let (mut clicks, mut postbacks) = (0, 0);
        let mut cuts = cuts.iter().chain(&[(1, 1)]).cycle();
        while clicks < self.clicks.len() || postbacks < self.postbacks.len() {
            let (more_clicks, more_postbacks) = cuts.next().unwrap();
            let mut clicks_to = (clicks + more_clicks).min(self.clicks.len());
            let postbacks_to = (postbacks + more_postbacks).min(self.postbacks.len());
            let part = &self.postbacks[postbacks..postbacks_to];
            if !part.is_empty() {
                let fresh = placed_clicks(&store.state(), &self.clicks[clicks..clicks_to]);
                let placed = placed_postbacks(&store.state(), part);
                let view = store.view(&fresh, &placed);
                if !unresolved(&view, &fresh, &placed).is_empty() {
                    clicks_to = clicks_to.max(self.before[postbacks_to - 1]);
                }
            }
            store.batch(&self.clicks[clicks..clicks_to], part);
            (clicks, postbacks) = (clicks_to, postbacks_to);
        }
    }

    /// No postback is told that its click is unknown where that was published before it, and of
    /// all postbacks with one key at most one is told that it is the conversion.
    fn check(&self, store: &Store) -> Result<(), String> {
        let mut received = HashMap::new();
        let mut converted = HashMap::new();
        let told = self.postbacks.iter().zip(&self.before).zip(&store.verdicts);
        for ((postback, before), verdict) in told {
            // A redelivered postback was received when its first record was.
            let before = *received.entry(postback.request_id).or_insert(*before);
            let mut published = self.clicks[..before].iter();
            match &verdict.outcome {
                Outcome::ClickNotFound
                    if published.any(|click| click.clickid == postback.clickid) =>
                {
                    return Err(format!("not true of #{}", number(postback.request_id)));
                }
                Outcome::Converted { campaign_id, .. } => {
                    let external = match *campaign_id {
                        TXID | EVENT | GUARDED => postback.external_key(),
                        _ => "",
                    };
                    let event = match *campaign_id {
                        EVENT => postback.event_key(),
                        _ => "",
                    };
                    let by = converted.entry((&postback.clickid, event, external));
                    if *by.or_insert(postback.request_id) != postback.request_id {
                        return Err(format!("a second one: #{}", number(postback.request_id)));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[test]
fn answers_given_behind_a_barrier_are_true() {
    hold(1_000, |history| {
        for (partition, records) in history.published.iter().enumerate() {
            let logs = Logs::of(records);
            let cuts: Vec<_> = history.turns.iter().map(|t| t.take[partition]).collect();
            let mut store = store_of(history);
            logs.run(&mut store, &cuts);
            logs.check(&store)?;
        }
        Ok(())
    });
}

/// All cuts there are, of logs in which everything meets: a conflict, a redelivery, two
/// policies, a late click, a status and a late one.
#[test]
fn every_cut_comes_to_the_same() {
    let click = |name: &str, campaign, minute| history::Click {
        name: name.to_owned(),
        campaign,
        minute,
    };
    let postback = |request, name: &str, txid, status| history::Postback {
        request,
        name: name.to_owned(),
        micros: i64::from(request),
        currency: "USD",
        txid,
        event: "",
        status,
        inside: true,
        signed: None,
        minute: request,
    };
    let logs = Part {
        clicks: vec![
            click("b", EVENT, 0),
            click("a", CLICK, 1),
            click("a", TXID, 2),
        ],
        postbacks: vec![
            postback(9, "a", "", ""),
            postback(2, "b", "x", "pending"),
            postback(9, "a", "", ""),
            postback(4, "b", "x", "approved"),
            postback(3, "b", "x", "rejected"),
        ],
    };
    let clicks: Vec<_> = logs.clicks.iter().map(domain::click).collect();
    let postbacks: Vec<_> = logs.postbacks.iter().map(domain::postback).collect();
    let history = History {
        limits: (16, 100),
        ..History::default()
    };
    let mut model = Model::new(&history);
    let mut parts = history::Parts::default();
    parts[size(HERE.into())] = logs;
    model.batch(&parts);
    let expected = without_statistics(model.picture()).end();

    let mut leaves = 0;
    let mut open = vec![(store_of(&history), 0, 0)];
    while let Some((store, clicks_at, postbacks_at)) = open.pop() {
        if (clicks_at, postbacks_at) == (clicks.len(), postbacks.len()) {
            let found = expected.compare(&picture(&store).end());
            found.unwrap_or_else(|why| panic!("{why}"));
            leaves += 1;
        }
        for clicks_to in clicks_at..=clicks.len() {
            for postbacks_to in postbacks_at..=postbacks.len() {
                if (clicks_to, postbacks_to) != (clicks_at, postbacks_at) {
                    let mut next = store.clone();
                    next.batch(
                        &clicks[clicks_at..clicks_to],
                        &postbacks[postbacks_at..postbacks_to],
                    );
                    open.push((next, clicks_to, postbacks_to));
                }
            }
        }
    }
    // The ordered ways of writing (3, 5) as a sum of pairs other than (0, 0).
    assert_eq!(leaves, 2208);
}
