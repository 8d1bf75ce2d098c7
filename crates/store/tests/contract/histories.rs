//! However logs are cut into batches, read again and replayed, and whoever dies or lags behind
//! meanwhile: a store comes to what the model says, to the last millionth.

use crate::domain::{
    self, minute, minute_at, number, plain_conversion, plain_outcome, request, size,
};
use crate::engine::Database;
use crate::history::{self, Fate, History, PARTITIONS, Parts, config, histories, settings};
use crate::model::{self, Model, Picture, Told};
use crate::world::{clickid, postback, start};
use postern_core::decision::{
    Decided, Limits, PartitionState, PlacedClick, PlacedPostback, Unmatched, decide,
};
use postern_store::{Advance, Batch, LoggedState, Lookup, Store, StoreError};
use proptest::test_runner::{TestCaseError, TestError, TestRunner};
use std::collections::{BTreeMap, BTreeSet};

/// One that no history has.
const NOBODY: u32 = 9_999;

/// The quarter that a bucket of the statistics is, from seconds.
fn quarter(seconds: i64) -> u32 {
    u32::try_from((seconds - minute_at(0).as_second()) / 900).unwrap()
}

fn numbered(text: &str) -> u32 {
    number(text.parse().unwrap())
}

/// Two partitions' owner, as the consumer is one: a batch of both is one transaction.
#[derive(Clone)]
struct Owner {
    rows: Vec<PartitionState>,
    limits: Limits,
}

impl Owner {
    async fn new(store: &dyn Store, history: &History) -> Self {
        let rows: Vec<_> = (0..).take(PARTITIONS).map(start).collect();
        Self {
            rows: store.create_partitions(&rows).await.unwrap(),
            limits: Limits {
                unmatched_per_click: history.limits.0,
                unmatched_per_partition: i64::try_from(history.limits.1).unwrap(),
            },
        }
    }

    /// What the consumer asks for.
    fn lookup(&self, parts: &Parts) -> Lookup {
        let mut lookup = Lookup::default();
        let (mut arrived, mut named) = (BTreeSet::new(), BTreeSet::new());
        for part in parts {
            for click in &part.clicks {
                lookup.campaigns.push(click.campaign);
                arrived.insert(clickid(&click.name));
            }
            for postback in &part.postbacks {
                lookup.request_ids.push(request(postback.request));
                named.insert(clickid(&postback.name));
            }
        }
        if self.rows.iter().all(|row| row.unmatched == 0) {
            lookup.fresh = arrived.difference(&named).cloned().collect();
            lookup.clickids = named.into_iter().collect();
        } else {
            lookup.clickids = arrived.union(&named).cloned().collect();
            lookup.waiting = named.difference(&arrived).cloned().collect();
            lookup.arrived = arrived.into_iter().collect();
        }
        lookup
    }

    /// Decides without committing.
    async fn prepare(&self, store: &dyn Store, parts: &Parts) -> (Batch, Told) {
        let mut view = store.load(&self.lookup(parts)).await.unwrap();
        let (mut batch, mut told) = (Batch::default(), Told::default());
        for (row, part) in self.rows.iter().zip(parts) {
            if part.is_empty() {
                continue;
            }
            let mut next = *row;
            let clicks = (row.clicks..).zip(&part.clicks);
            let clicks = clicks.map(|(offset, click)| PlacedClick {
                partition: row.partition,
                offset,
                click: domain::click(click),
            });
            let postbacks = (row.postbacks..).zip(&part.postbacks);
            let postbacks = postbacks.map(|(offset, postback)| PlacedPostback {
                offset,
                postback: domain::postback(postback),
            });
            let (clicks, postbacks) = (clicks.collect(), postbacks.collect());
            let decided = decide(&mut next, clicks, postbacks, &mut view, &self.limits);
            tell(&mut told, &decided);
            batch.writes.append(decided.writes);
            batch.advances.push(Advance {
                expected: *row,
                next,
            });
        }
        (batch, told)
    }

    fn committed(&mut self, batch: &Batch) {
        for advance in &batch.advances {
            let row = &mut self.rows[size(advance.next.partition.into())];
            *row = advance.next;
            row.version = advance.expected.version + 1;
        }
    }
}

fn tell(told: &mut Told, decided: &Decided) {
    let verdicts = decided.verdicts.iter();
    told.verdicts
        .extend(verdicts.map(|one| (number(one.request_id), plain_outcome(&one.outcome))));
    let conflicts = decided.conflicting_clicks.iter();
    told.conflicts
        .extend(conflicts.map(|one| (size(one.partition.into()), size(one.offset))));
    told.dropped += decided.unmatched_dropped.iter().sum::<u64>();
}

async fn rows(store: &dyn Store) -> Vec<PartitionState> {
    let partitions: Vec<_> = (0..).take(PARTITIONS).collect();
    store.partitions(&partitions).await.unwrap()
}

/// One pass through the logs, in step with the model.
async fn pass(
    database: &Database,
    history: &History,
    owner: &mut Owner,
    model: &mut Model,
) -> Result<(), String> {
    let store = database.store.as_ref();
    for step in history.steps() {
        if let Some(change) = &step.change {
            database.campaign(&domain::campaign(change)).await;
            model.set(change);
        }
        let (mut batch, told) = owner.prepare(store, &step.parts).await;
        let mut stale = None;
        match step.fate {
            Fate::Committed | Fate::DiesAfter => {}
            Fate::DiesBefore => continue,
            Fate::Raced => {
                let (mut late, _) = owner.prepare(store, &step.stale).await;
                // Whatever it read, it believes to own what the others own.
                for advance in &batch.advances {
                    let partition = advance.expected.partition;
                    if late
                        .advances
                        .iter()
                        .all(|one| one.expected.partition != partition)
                    {
                        late.advances.push(Advance {
                            expected: advance.expected,
                            next: advance.expected,
                        });
                    }
                }
                stale = Some(late);
            }
            Fate::Refused => {
                let nobody = Unmatched {
                    partition: batch.advances[0].expected.partition,
                    offset: 0,
                    postback: postback(NOBODY.into(), "nobody", "1"),
                };
                batch
                    .writes
                    .unmatched_added
                    .extend([nobody.clone(), nobody]);
                match store.commit(&batch).await {
                    Err(StoreError::Refused(_)) => {}
                    other => return Err(format!("refused content: {other:?}")),
                }
                if rows(store).await != owner.rows {
                    return Err("a refused batch moved a row".to_owned());
                }
                continue;
            }
        }
        if let Err(error) = store.commit(&batch).await {
            return Err(format!("{error}: {:?}", std::error::Error::source(&error)));
        }
        owner.committed(&batch);
        let expected = model.batch(&step.parts);
        if expected != told {
            return Err(format!(
                "told:\n  expected {expected:?}\n  found    {told:?}"
            ));
        }
        if let Some(stale) = stale {
            match store.commit(&stale).await {
                Err(StoreError::Fenced { .. }) => {}
                other => return Err(format!("a stale commit: {other:?}")),
            }
        }
        if step.fate == Fate::DiesAfter {
            owner.rows = rows(store).await;
        } else if rows(store).await != owner.rows {
            return Err("a row isn't where its owner left it".to_owned());
        }
    }
    Ok(())
}

/// All that the store holds.
async fn picture(database: &Database) -> Picture {
    let store = database.store.as_ref();
    let mut picture = Picture::default();
    let mut lookup = Lookup::default();
    let mut whys = BTreeMap::new();
    let sql = "SELECT request_id, kafka_partition, kafka_offset, outcome, reason, conversion_id, \
               policy_version, observed FROM postback_log";
    for row in database.query(sql).await {
        let id = numbered(&row[0]);
        lookup.request_ids.push(request(id));
        let words = [
            "converted",
            "duplicate",
            "updated",
            "click_not_found",
            "click_expired",
            "forbidden",
        ];
        let logged = model::Logged {
            partition: row[1].parse().unwrap(),
            offset: row[2].parse().unwrap(),
            word: words.into_iter().find(|word| *word == row[3]).unwrap(),
            reason: (row[4] != "-").then(|| row[4].clone()),
            conversion: (row[5] != "-").then(|| numbered(&row[5])),
            version: row[6].parse().unwrap(),
            observed: given(&row[7]).unwrap_or_default(),
        };
        let detail = logged.reason.clone();
        let detail = detail.filter(|_| logged.word != "click_not_found");
        whys.insert(id, (detail, logged.observed.clone()));
        picture.log.insert(id, logged);
    }
    let sql = "SELECT request_id, step, reason, detail, observed FROM postback_changes";
    for row in database.query(sql).await {
        assert_eq!(row[1..3], ["1", "late_click"]);
        let id = numbered(&row[0]);
        whys.insert(id, (given(&row[3]), given(&row[4]).unwrap_or_default()));
        picture.changed.insert(id);
    }
    for row in database.query("SELECT request_id FROM unmatched").await {
        picture.waiting.insert(numbered(&row[0]));
    }
    let sql = "SELECT clickid, kafka_partition, kafka_offset FROM clicks";
    let places = database.query(sql).await;
    lookup.clickids = places.iter().map(|row| clickid(&row[0])).collect();
    let view = store.load(&lookup).await.unwrap();
    for row in places {
        let click = &view.clicks[row[0].as_str()];
        let stored = model::StoredClick {
            click: history::Click {
                name: row[0].clone(),
                campaign: click.campaign_id,
                minute: minute(click.clicked_at),
            },
            partition: row[1].parse().unwrap(),
            offset: row[2].parse().unwrap(),
        };
        picture.clicks.insert(row[0].clone(), stored);
    }
    for id in lookup.request_ids {
        let known = &view.known[&id];
        let (detail, observed) = whys.remove(&number(id)).unwrap();
        let decision = model::Decision {
            outcome: plain_outcome(&known.outcome),
            conversion: known.conversion_id.map(number),
            version: known.policy_version,
            detail,
            observed,
        };
        picture.now.insert(number(id), decision);
        // What the status endpoint tells.
        match store.logged(id).await.unwrap().unwrap().state {
            LoggedState::Decided { known: told, .. } => assert_eq!(told, *known),
            other => panic!("{other:?}"),
        }
    }
    let mut numbered_statuses = statuses(database, &mut picture).await;
    for row in rows(store).await.iter().filter(|row| row.version > 0) {
        let partition = size(row.partition.into());
        let stored = store.conversions_after(row.partition, 0, 1_000).await;
        for (sequence, conversion) in stored.unwrap() {
            if conversion.status_id == conversion.conversion_id {
                let conversion = plain_conversion(&conversion, row.partition, sequence);
                picture.conversions.insert(conversion.id, conversion);
            } else {
                // The table, which also has those that no event tells of, must say the same.
                let told = (
                    number(conversion.conversion_id),
                    minute(conversion.status_at),
                    number(conversion.status_id),
                    conversion.status.word(),
                );
                let found = numbered_statuses.remove(&(row.partition, sequence));
                assert_eq!(found, Some(told), "number {sequence}");
            }
        }
        let row = model::Row {
            version: size(row.version),
            clicks: size(row.clicks),
            postbacks: size(row.postbacks),
            sequence: size(row.sequence),
            unmatched: size(row.unmatched),
        };
        picture.rows.insert(partition, row);
    }
    assert!(
        numbered_statuses.is_empty(),
        "{numbered_statuses:?} has no event"
    );
    statistics(database, &mut picture).await;
    picture
}

/// What was said of conversions' statuses: conversion, when, by which postback, what.
type Said = (u32, u32, u32, &'static str);

/// Gives those that have a number, by partition and number.
async fn statuses(database: &Database, picture: &mut Picture) -> BTreeMap<(i32, i64), Said> {
    let at = if database.is_postgres() {
        "(extract(epoch FROM status_at) * 1000000)::bigint"
    } else {
        "status_at"
    };
    let sql = format!(
        "SELECT conversion_id, {at}, status_id, status, policy_version, kafka_partition, sequence \
           FROM conversion_statuses"
    );
    let mut numbered_statuses = BTreeMap::new();
    for row in database.query(&sql).await {
        let words = ["approved", "pending", "rejected", "reversed"];
        let at = jiff::Timestamp::from_microsecond(row[1].parse().unwrap()).unwrap();
        let sequence = given(&row[6]).map(|number| number.parse::<i64>().unwrap());
        let statement = model::Statement {
            conversion: numbered(&row[0]),
            minute: minute(at),
            request: numbered(&row[2]),
            status: words.into_iter().find(|word| *word == row[3]).unwrap(),
            version: row[4].parse().unwrap(),
            sequence: sequence.map(size),
        };
        if let Some(sequence) = sequence {
            let said = (
                statement.conversion,
                statement.minute,
                statement.request,
                statement.status,
            );
            numbered_statuses.insert((row[5].parse().unwrap(), sequence), said);
        }
        assert!(picture.statements.insert(statement));
    }
    numbered_statuses
}

/// A column that may be null.
fn given(column: &str) -> Option<String> {
    (column != "-").then(|| column.to_owned())
}

/// Sums of nothing are what a conversion leaves behind whose status changed.
async fn statistics(database: &Database, picture: &mut Picture) {
    let bucket = if database.is_postgres() {
        "extract(epoch FROM bucket)::bigint"
    } else {
        "bucket / 1000000"
    };
    let sql = format!(
        "SELECT campaign_id, {bucket}, currency, status, sum(conversions), sum(revenue_whole), \
                sum(revenue_micros) \
           FROM conversion_stats GROUP BY campaign_id, bucket, currency, status"
    );
    let mut counts = BTreeMap::<_, BTreeMap<_, _>>::new();
    for row in database.query(&sql).await {
        let (campaign, quarter) = (row[0].parse().unwrap(), quarter(row[1].parse().unwrap()));
        let words = ["approved", "pending", "rejected", "reversed"];
        let status = words.into_iter().find(|word| *word == row[3]).unwrap();
        let [count, whole, micros] = [4, 5, 6].map(|column| row[column].parse::<i128>().unwrap());
        let sum = (i64::try_from(count).unwrap(), whole * 1_000_000 + micros);
        if sum != (0, 0) {
            let cell = (campaign, quarter, row[2].clone(), status);
            assert_eq!(picture.statistics.insert(cell, sum), None);
        }
        let cell = (campaign, quarter, row[2].clone());
        counts.entry(cell).or_default().insert(status, sum.0);
    }
    // What reports read tells the same.
    if !picture.statistics.is_empty() {
        crate::commits::totals_are_the_sums_of_sites_and_sources(database).await;
    }
    let sql = format!(
        "SELECT campaign_id, {bucket}, currency, clicks, conversions, pending, rejected, reversed \
         FROM campaign_statistics"
    );
    for row in database.query(&sql).await {
        let (campaign, quarter) = (row[0].parse().unwrap(), quarter(row[1].parse().unwrap()));
        let number = |column: usize| row[column].parse::<i64>().unwrap();
        if row[2] == "-" {
            let cell = (campaign, quarter);
            assert_eq!(picture.click_statistics.insert(cell, number(3)), None);
            continue;
        }
        let counts = counts.remove(&(campaign, quarter, row[2].clone())).unwrap();
        let columns = [
            ("approved", 4),
            ("pending", 5),
            ("rejected", 6),
            ("reversed", 7),
        ];
        for (status, column) in columns {
            assert_eq!(
                counts.get(status).copied().unwrap_or(0),
                number(column),
                "{row:?}"
            );
        }
    }
    assert!(counts.is_empty(), "not in the view: {counts:?}");
}

async fn check(database: &Database, history: &History) -> Result<(), String> {
    database.clear().await;
    for one in settings() {
        database.campaign(&domain::campaign(&one)).await;
    }
    let store = database.store.as_ref();
    let mut owner = Owner::new(store, history).await;
    let mut model = Model::new(history);
    pass(database, history, &mut owner, &mut model).await?;
    let before = picture(database).await;
    model.picture().compare(&before)?;
    // Where no room is left, the cut decides what waits.
    if history.is_ample() {
        let mut whole = Model::new(history);
        whole.batch(&history.logs());
        whole.picture().end().compare(&before.clone().end())?;
    }
    pass(database, &history.again(), &mut owner, &mut model).await?;
    let after = picture(database).await;
    model.picture().compare(&after)?;
    before
        .effects()
        .compare(&after.effects())
        .map_err(|why| format!("after a replay: {why}"))
}

pub async fn any_history_comes_to_what_the_model_says(database: &Database) {
    let handle = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let result = TestRunner::new(config(40)).run(&histories(), |history| {
            handle
                .block_on(check(database, &history))
                .map_err(TestCaseError::fail)
        });
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, history)) => panic!("{why}\nin this history:{history:?}"),
            Err(other) => panic!("{other}"),
        }
    });
}
