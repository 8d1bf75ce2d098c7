//! However logs are cut into batches, read again and replayed, and whoever dies or lags behind
//! meanwhile: a store comes to what the model says, to the last millionth.

use crate::engine::Database;
use crate::history::{self, Fate, History, PARTITIONS, Parts, SETTINGS, config, histories};
use crate::model::{self, Model, Picture, Told};
use crate::world::{clickid, postback, request, start, with_txid};
use jiff::Timestamp;
use postern_core::currency::Currency;
use postern_core::decision::{
    Decided, Limits, PartitionState, PlacedClick, PlacedPostback, Unmatched, decide,
};
use postern_core::ids::RequestId;
use postern_core::money::Revenue;
use postern_core::record::click::Click;
use postern_core::record::conversion::Conversion;
use postern_core::record::postback::Postback;
use postern_core::record::verdict::Outcome;
use postern_store::{Advance, Batch, LoggedState, Lookup, Store, StoreError};
use proptest::test_runner::{TestCaseError, TestError, TestRunner};
use std::collections::BTreeSet;

/// One that no history has.
const NOBODY: u32 = 9_999;

/// The beginning of a quarter.
const BEGINNING: i64 = 1_764_165_600;

fn minute_at(minute: u32) -> Timestamp {
    Timestamp::new(BEGINNING + i64::from(minute) * 60, 123_456_000).unwrap()
}

fn minute(time: Timestamp) -> u32 {
    let minute = u32::try_from((time.as_second() - BEGINNING) / 60).unwrap();
    assert_eq!(minute_at(minute), time);
    minute
}

fn domain_click(click: &history::Click) -> Click {
    Click::from_parts(
        clickid(&click.name),
        click.campaign,
        ["site", "source", "publisher", "log"].map(str::to_owned),
        minute_at(click.minute),
    )
}

fn domain_postback(one: &history::Postback) -> Postback {
    let mut postback = postback(one.request.into(), &one.name, "0");
    postback.received_at = minute_at(one.minute);
    postback.revenue = Revenue::from_micros(one.micros).unwrap();
    postback.currency = Currency::normalize(one.currency);
    if one.txid.is_empty() {
        postback
    } else {
        with_txid(postback, one.txid)
    }
}

fn number(id: RequestId) -> u32 {
    let zero = request(0).as_uuid().as_u128();
    u32::try_from(id.as_uuid().as_u128() - zero).unwrap()
}

fn numbered(text: &str) -> u32 {
    number(text.parse().unwrap())
}

fn size(number: i64) -> usize {
    usize::try_from(number).unwrap()
}

fn plain_outcome(outcome: &Outcome) -> model::Outcome {
    match outcome.clone() {
        Outcome::Converted {
            campaign_id,
            revenue,
            currency,
            created_at,
        } => model::Outcome::Converted {
            campaign: campaign_id,
            micros: revenue.micros(),
            currency: currency.to_string(),
            minute: minute(created_at),
        },
        Outcome::Duplicate {
            campaign_id,
            revenue,
            currency,
        } => model::Outcome::Duplicate {
            campaign: campaign_id,
            micros: revenue.micros(),
            currency: currency.to_string(),
        },
        Outcome::ClickNotFound => model::Outcome::ClickNotFound,
    }
}

fn plain_conversion(one: &Conversion, partition: usize, sequence: i64) -> model::Conversion {
    model::Conversion {
        id: number(one.conversion_id),
        name: one.clickid.to_string(),
        campaign: one.campaign_id,
        micros: one.revenue.micros(),
        currency: one.currency.to_string(),
        txid: one.external_key().to_owned(),
        created: minute(one.created_at),
        clicked: minute(one.clicked_at),
        version: one.policy_version,
        partition,
        sequence: size(sequence),
    }
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
                lookup.request_ids.push(request(postback.request.into()));
                named.insert(clickid(&postback.name));
            }
        }
        lookup.clickids = arrived.union(&named).cloned().collect();
        if self.rows.iter().any(|row| row.unmatched > 0) {
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
                click: domain_click(click),
            });
            let postbacks = (row.postbacks..).zip(&part.postbacks);
            let postbacks = postbacks.map(|(offset, postback)| PlacedPostback {
                offset,
                postback: domain_postback(postback),
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
    told.dropped += decided.unmatched_dropped;
}

async fn rows(store: &dyn Store) -> Vec<PartitionState> {
    let partitions: Vec<_> = (0..).take(PARTITIONS).collect();
    store.partitions(&partitions).await.unwrap()
}

/// One pass through the logs, in step with the model.
async fn pass(
    store: &dyn Store,
    history: &History,
    owner: &mut Owner,
    model: &mut Model,
) -> Result<(), String> {
    for step in history.steps() {
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
    let sql = "SELECT request_id, kafka_partition, kafka_offset, outcome, reason, conversion_id, \
               policy_version FROM postback_log";
    for row in database.query(sql).await {
        let id = numbered(&row[0]);
        lookup.request_ids.push(request(id.into()));
        let words = ["converted", "duplicate", "click_not_found"];
        let logged = model::Logged {
            partition: row[1].parse().unwrap(),
            offset: row[2].parse().unwrap(),
            word: words.into_iter().find(|word| *word == row[3]).unwrap(),
            reason: (row[4] != "-").then(|| row[4].clone()),
            conversion: (row[5] != "-").then(|| numbered(&row[5])),
            version: row[6].parse().unwrap(),
        };
        picture.log.insert(id, logged);
    }
    let sql = "SELECT request_id, step, reason FROM postback_changes";
    for row in database.query(sql).await {
        assert_eq!(row[1..], ["1", "late_click"]);
        picture.changed.insert(numbered(&row[0]));
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
        let decision = model::Decision {
            outcome: plain_outcome(&known.outcome),
            conversion: known.conversion_id.map(number),
            version: known.policy_version,
        };
        picture.now.insert(number(id), decision);
        // What the status endpoint tells.
        match store.logged(id).await.unwrap().unwrap().state {
            LoggedState::Decided { known: told, .. } => assert_eq!(told, *known),
            other => panic!("{other:?}"),
        }
    }
    for row in rows(store).await.iter().filter(|row| row.version > 0) {
        let partition = size(row.partition.into());
        let stored = store.conversions_after(row.partition, 0, 1_000).await;
        for (sequence, conversion) in stored.unwrap() {
            let conversion = plain_conversion(&conversion, partition, sequence);
            picture.conversions.insert(conversion.id, conversion);
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
    statistics(database, &mut picture).await;
    picture
}

async fn statistics(database: &Database, picture: &mut Picture) {
    let (bucket, revenue) = if database.is_postgres() {
        let micros = "trim_scale(revenue * 1000000)";
        ("extract(epoch FROM bucket)::bigint", format!("0, {micros}"))
    } else {
        (
            "bucket / 1000000",
            "revenue_whole, revenue_micros".to_owned(),
        )
    };
    let sql = format!(
        "SELECT campaign_id, {bucket}, currency, clicks, conversions, {revenue} \
         FROM campaign_statistics"
    );
    for row in database.query(&sql).await {
        let campaign = row[0].parse().unwrap();
        let quarter = (row[1].parse::<i64>().unwrap() - BEGINNING) / 900;
        let quarter = u32::try_from(quarter).unwrap();
        let [clicks, conversions] = [3, 4].map(|column| row[column].parse::<i64>().unwrap());
        let [whole, micros] = [5, 6].map(|column| row[column].parse::<i128>().unwrap());
        if row[2] == "-" {
            let cell = (campaign, quarter);
            assert_eq!(picture.click_statistics.insert(cell, clicks), None);
        } else {
            let cell = (campaign, quarter, row[2].clone());
            let sum = (conversions, whole * 1_000_000 + micros);
            assert_eq!(picture.statistics.insert(cell, sum), None);
        }
    }
}

async fn check(database: &Database, history: &History) -> Result<(), String> {
    database.clear().await;
    for (campaign, version, by_txid) in SETTINGS {
        let dedupe = if by_txid { "txid" } else { "click" };
        database.campaign(campaign, dedupe, version).await;
    }
    let store = database.store.as_ref();
    let mut owner = Owner::new(store, history).await;
    let mut model = Model::new(history);
    pass(store, history, &mut owner, &mut model).await?;
    let before = picture(database).await;
    model.picture().compare(&before)?;
    // Where no room is left, the cut decides what waits.
    if history.is_ample() {
        let mut whole = Model::new(history);
        whole.batch(&history.logs());
        whole.picture().end().compare(&before.clone().end())?;
    }
    let mut again = history.clone();
    again.turns.reverse();
    pass(store, &again, &mut owner, &mut model).await?;
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
