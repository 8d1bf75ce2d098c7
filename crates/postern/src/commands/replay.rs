//! `postern replay`: postbacks once more, with their own ids and times, to be decided by what is known
//! and set now.
//!
//! They go through Kafka like all others, marked as replayed: whoever owns their partition decides
//! them, in its transaction. What they are to become is only worked out here for a dry run.

mod pretend;
mod source;

use super::say;
use crate::cli::{ReplayArgs, ReplayTopic};
use crate::config::Settings;
use crate::roles::consumer::open_store;
use crate::startup::{prepare_topics, topic_admin};
use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use postern_core::ids::RequestId;
use postern_core::partition;
use postern_core::record::HEADER_REQUEST_ID;
use postern_core::record::postback::Postback;
use postern_core::time;
use postern_kafka::{Message, POSTBACKS, Producer, ProducerOptions, REJECTS, Range};
use postern_runtime::settings::Span;
use postern_store::{Lookup, Store};
use pretend::Pretence;
use source::Filters;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Postbacks that are handed over, and waited for, at a time.
const BATCH: usize = 500;
/// How long a batch may take to be decided without anything moving.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// What stands in the log for a postback that the ingress refused.
const REFUSED: &str = "refused";
const UNKNOWN: &str = "unknown";

/// What became of how many.
#[derive(Default)]
struct Report {
    skipped: BTreeMap<String, usize>,
    became: BTreeMap<(String, String), usize>,
}

/// Reads, filters, hands over and tells what each became.
pub async fn replay(settings: &Settings, args: &ReplayArgs) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let from = moment(&args.from, now).context("--from")?;
    let to = match &args.to {
        Some(text) => moment(text, now).context("--to")?,
        None => now,
    };
    ensure!(from < to, "--from must be before --to");
    let filters = Filters::read(&args.filter)?;
    let connection = settings.kafka.connection()?;
    let topics = topic_admin(&connection)?;
    let partitions = prepare_topics(&settings.kafka, &topics)
        .await
        .context("the topics can't be used")?;
    let store = open_store(settings)?;
    store
        .check_schema()
        .await
        .context("the store can't be used")?;
    let producer = Producer::new(
        &connection,
        &ProducerOptions {
            name: "replay".to_owned(),
            delivery_timeout: Duration::from_secs(30),
            queue_messages: 10_000,
            linger: ProducerOptions::PROMPT,
        },
    )?;
    let mut run = Run {
        store,
        producer,
        partitions,
        filters,
        pretence: args
            .dry_run
            .then(|| Pretence::new(settings.consumer.limits)),
        report: Report::default(),
    };
    let topic = match args.topic {
        ReplayTopic::Postbacks => POSTBACKS,
        ReplayTopic::Rejects => REJECTS,
    };
    // What an ingress kept in its spool was appended later than it was received, never earlier.
    let mut range = tokio::task::block_in_place(|| Range::from(&connection, topic, from))
        .with_context(|| format!("{topic} can't be read"))?;
    let mut seen = HashSet::new();
    let mut batch = Vec::new();
    while let Some(record) = tokio::task::block_in_place(|| range.read())? {
        let source = match args.topic {
            ReplayTopic::Postbacks => source::of_postback(&record),
            ReplayTopic::Rejects => source::of_reject(&record, &settings.ingress.rules),
        };
        let at = source.facts.received_at;
        if at < from || at >= to || !run.filters.take(&source.facts) {
            continue;
        }
        match source.postback {
            // Else it was spooled and published, or replayed before.
            Ok(postback) if seen.insert(postback.request_id) => batch.push(postback),
            Ok(_) => {}
            Err(why) => *run.report.skipped.entry(why).or_default() += 1,
        }
        if batch.len() == BATCH {
            run.batch(std::mem::take(&mut batch)).await?;
        }
    }
    run.batch(batch).await?;
    run.report.tell(args.dry_run);
    Ok(())
}

struct Run {
    store: Arc<dyn Store>,
    producer: Producer,
    partitions: i32,
    filters: Filters,
    pretence: Option<Pretence>,
    report: Report,
}

impl Run {
    async fn batch(&mut self, found: Vec<Postback>) -> anyhow::Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = found.iter().map(|one| one.request_id).collect();
        let before = self.words(&ids).await?;
        let (mut chosen, mut stay) = (Vec::new(), 0);
        for one in found {
            let known = &before[&one.request_id];
            if !self.filters.take_known(&known.word, known.campaign_id) {
                continue;
            }
            match known.word.as_str() {
                "converted" | "updated" => stay += 1,
                _ => chosen.push(one),
            }
        }
        if stay > 0 {
            *self
                .report
                .skipped
                .entry("stay: they converted".to_owned())
                .or_default() += stay;
        }
        if chosen.is_empty() {
            return Ok(());
        }
        let after: HashMap<RequestId, String> = match &mut self.pretence {
            Some(pretence) => {
                pretence
                    .decide(&self.store, self.partitions, &chosen)
                    .await?
            }
            None => {
                self.hand_over(&chosen).await?;
                let ids: Vec<_> = chosen.iter().map(|one| one.request_id).collect();
                let after = self.words(&ids).await?.into_iter();
                after.map(|(id, known)| (id, known.word)).collect()
            }
        };
        for postback in &chosen {
            let id = postback.request_id;
            let (before, after) = (before[&id].word.clone(), after[&id].clone());
            say(&format!("{id}\t{}\t{before}\t{after}", postback.clickid));
            *self.report.became.entry((before, after)).or_default() += 1;
        }
        Ok(())
    }

    /// What stands in the log of each.
    async fn words(&self, ids: &[RequestId]) -> anyhow::Result<HashMap<RequestId, Logged>> {
        let lookup = Lookup {
            request_ids: ids.to_vec(),
            ..Lookup::default()
        };
        let view = self.store.load(&lookup).await?;
        let word = |id: &RequestId| match view.known.get(id) {
            Some(known) => Logged {
                word: known.outcome.word().to_owned(),
                campaign_id: known.outcome.campaign_id(),
            },
            None => Logged {
                word: if view.refused.contains(id) {
                    REFUSED
                } else {
                    UNKNOWN
                }
                .to_owned(),
                campaign_id: None,
            },
        };
        Ok(ids.iter().map(|id| (*id, word(id))).collect())
    }

    /// Publishes them, and waits until whoever owns their partitions is past them.
    async fn hand_over(&self, postbacks: &[Postback]) -> anyhow::Result<()> {
        let mut deliveries = Vec::new();
        for postback in postbacks {
            let (value, id) = (postback.encode(), postback.request_id.to_string());
            let headers = [(HEADER_REQUEST_ID, id.as_str())];
            let message = Message {
                headers: &headers,
                ..Message::keyed(POSTBACKS, postback.clickid.as_str().as_bytes(), &value)
            };
            deliveries.push(self.producer.publish(&message)?);
        }
        let mut wanted: BTreeMap<i32, i64> = BTreeMap::new();
        for delivery in deliveries {
            let placed = delivery.await.context(
                "Kafka did not take all of them; those that it took are decided all the same, and \
                 replaying again is safe",
            )?;
            let next = wanted.entry(placed.partition).or_default();
            *next = (*next).max(placed.offset + 1);
        }
        // Of each partition that isn't past them yet: where it is, and since when. One that was
        // never consumed has no row that could move.
        let begun = Instant::now();
        let mut seen: BTreeMap<i32, (i64, Instant)> =
            wanted.keys().map(|one| (*one, (-1, begun))).collect();
        while !wanted.is_empty() {
            let numbers: Vec<i32> = wanted.keys().copied().collect();
            for state in self.store.partitions(&numbers).await? {
                let (partition, position) = (state.partition, state.postbacks);
                if wanted.get(&partition).is_some_and(|next| position >= *next) {
                    wanted.remove(&partition);
                    seen.remove(&partition);
                    continue;
                }
                if let Some((last, moved)) = seen.get_mut(&partition)
                    && *last != position
                {
                    (*last, *moved) = (position, Instant::now());
                }
            }
            let stand = seen
                .iter()
                .filter(|(_, (_, moved))| moved.elapsed() > PATIENCE);
            let stand: Vec<String> = stand.map(|(partition, _)| partition.to_string()).collect();
            ensure!(
                stand.is_empty(),
                "partitions {} did not move for {PATIENCE:?}: see that consumers run, and what their \
                 /readyz says; what was handed over is on Kafka, and will be decided",
                stand.join(", ")
            );
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

struct Logged {
    word: String,
    campaign_id: Option<i64>,
}

impl Report {
    fn tell(&self, is_dry: bool) {
        let verb = if is_dry { "would become" } else { "became" };
        for ((before, after), count) in &self.became {
            if before == after {
                say(&format!("{count} {before} stay so"));
            } else {
                say(&format!("{count} {before} {verb} {after}"));
            }
        }
        for (why, count) in &self.skipped {
            say(&format!("{count} {why}"));
        }
        if self.became.is_empty() && self.skipped.is_empty() {
            say("nothing was received then that the filters take");
        }
    }
}

/// A time ago, a date or a timestamp.
fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(span) = text.parse::<Span>() {
        let ago = SignedDuration::try_from(span.0)?;
        return Ok(now.checked_sub(ago)?);
    }
    let whole = format!("{text} 00:00:00");
    time::parse(text)
        .or_else(|_| time::parse(&whole))
        .map_err(|_| {
            anyhow::anyhow!("must be a time ago (2h), a date (2026-11-20) or a timestamp in UTC")
        })
}

/// The partition of a postback.
fn partition_of(postback: &Postback, count: i32) -> i32 {
    partition::of(postback.clickid.as_str().as_bytes(), count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ago_or_named() {
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let at = |text: &str| moment(text, now).map(|at| at.to_string());
        assert_eq!(at("2h").unwrap(), "2026-11-23T08:00:00Z");
        assert_eq!(at("2026-11-20").unwrap(), "2026-11-20T00:00:00Z");
        assert_eq!(at("2026-11-20 10:30:00").unwrap(), "2026-11-20T10:30:00Z");
        for wrong in ["", "yesterday", "99999999999d"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
