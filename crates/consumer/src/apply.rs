//! A batch of which everything is known: decided, committed, told. Where the store refuses its
//! content, the record that it refuses is found and put aside.

use crate::Dropped;
use crate::batch::{Batch, refused_by_store};
use crate::campaigns;
use crate::metrics::ConsumerMetrics;
use crate::worker::{RECALLED, Unconfirmed, Worker};
use postern_core::decision::{
    PartitionState, PlacedClick, UNMATCHED_LIMITS, UnknownStatus, View, Writes, decide,
};
use postern_core::partition;
use postern_core::record::reject::{Reject, Source};
use postern_core::record::verdict::Verdict;
use postern_failpoint::failpoint;
use postern_kafka::{CLICKS, POSTBACKS, Record};
use postern_runtime::telemetry::chain;
use postern_store::{Advance, StoreError};
use std::collections::{BTreeMap, BTreeSet};

impl Worker {
    /// As [`Self::apply`]; where the store refuses the content, the batch is read again, at first
    /// with its request ids looked up: the log's key refuses one that is known, and that is rare
    /// enough not to ask for each. Where it refuses it still, the records go one by one from here
    /// on, and `only`, if it is all that the batch holds, goes to the rejects.
    pub(crate) fn apply_or_isolate(
        &mut self,
        batch: Batch,
        view: View,
        only: Option<&Record>,
    ) -> Result<(), Dropped> {
        let records = batch.records;
        let error = match self.apply(batch, view) {
            Err(Dropped::Store(StoreError::Refused(error))) => error,
            done => return done,
        };
        let why = chain(error.as_ref());
        match only {
            _ if self.recalled == 0 => {
                tracing::info!(
                    why,
                    records,
                    "the store refuses a batch: it is read again, its request ids are looked up"
                );
                self.recalled = RECALLED;
            }
            Some(record) if records == 1 => {
                tracing::error!(
                    why,
                    topic = record.topic,
                    partition = record.partition,
                    offset = record.offset,
                    "the store refuses a record"
                );
                self.reject_record(record)?;
            }
            _ => {
                tracing::warn!(
                    why,
                    records,
                    "the store refuses a batch: its records go one by one"
                );
                self.careful = records.max(1);
            }
        }
        Err(Dropped::Isolating)
    }

    /// Moves past a single record that the store refuses, after it stands in the rejects.
    fn reject_record(&mut self, record: &Record) -> Result<(), Dropped> {
        self.calls
            .run(self.emitter.rejects(&[refused_by_store(record)]))?;
        let Some(expected) = self.ownership.rows.get(&record.partition).copied() else {
            return Ok(());
        };
        let mut next = expected;
        if record.topic == CLICKS {
            next.clicks = record.offset + 1;
        } else {
            next.postbacks = record.offset + 1;
        }
        self.commit(vec![Advance { expected, next }], Writes::default())
    }

    /// Decides a batch of which everything is known, commits it, and tells the outcome.
    pub(crate) fn apply(&mut self, mut batch: Batch, mut view: View) -> Result<(), Dropped> {
        let mut writes = Writes::default();
        let mut verdicts = Vec::new();
        let mut advances = Vec::new();
        let mut newer = Vec::new();
        let mut unknown_statuses = Vec::new();
        let mut appended = Vec::new();
        let mut dropped = [0; UNMATCHED_LIMITS.len()];
        self.metrics
            .batch_records
            .observe(f64::from(u32::try_from(batch.records).unwrap_or(u32::MAX)));
        for (partition, part) in batch.parts {
            let Some(expected) = self.ownership.rows.get(&partition).copied() else {
                continue;
            };
            let mut next = expected;
            let decided = decide(
                &mut next,
                part.clicks,
                part.postbacks,
                &mut view,
                &self.config.limits,
            );
            next.clicks = part.clicks_next.unwrap_or(next.clicks);
            next.postbacks = part.postbacks_next.unwrap_or(next.postbacks);
            advances.push(Advance { expected, next });
            appended.push((partition, part.appended));
            writes.append(decided.writes);
            verdicts.extend(decided.verdicts);
            for (sum, number) in dropped.iter_mut().zip(decided.unmatched_dropped) {
                *sum += number;
            }
            unknown_statuses.extend(decided.unknown_statuses);
            batch
                .poison
                .extend(decided.conflicting_clicks.iter().map(conflict));
            newer.extend(part.newer.map(|why| (partition, why)));
        }
        if advances.is_empty() {
            // Every partition of the batch was stopped meanwhile: nothing of it may move.
            return Ok(());
        }
        let counted = Counted::of(self, &writes, &verdicts, dropped, unknown_statuses);
        // What became of older conversions only the store knows whole: in these partitions the
        // events are read from there.
        let restated: BTreeSet<i32> = writes
            .statuses
            .iter()
            .filter(|change| change.sequence.is_some())
            .map(|change| change.partition)
            .collect();
        let mut conversions = writes.conversions.clone();
        conversions.retain(|(partition, ..)| {
            !restated.contains(partition) && !self.republish.contains_key(partition)
        });
        if !batch.poison.is_empty() {
            failpoint!("consumer.rejects", |_| Err(Dropped::Stopping));
            self.calls.run(self.emitter.rejects(&batch.poison))?;
        }
        self.settle_events();
        self.stamp(&mut advances);
        failpoint!("consumer.decided", |_| Err(Dropped::Stopping));
        match self.timed("commit", |worker| worker.commit(advances.clone(), writes)) {
            Ok(()) => {}
            Err(Dropped::Store(error @ StoreError::Unavailable(_))) => {
                self.unconfirmed = Some(Unconfirmed {
                    rows: advances.iter().map(Self::after).collect(),
                    verdicts,
                    replies: batch.replies,
                });
                return Err(error.into());
            }
            Err(error) => return Err(error),
        }
        counted.count(&self.metrics);
        self.standing.measure(&self.ownership.positions(), &[]);
        for (partition, [clicks, postbacks]) in appended {
            for (topic, at) in [(CLICKS, clicks), (POSTBACKS, postbacks)] {
                if let Some(at) = at {
                    self.standing.committed(topic, partition, at);
                }
            }
        }
        failpoint!("consumer.committed", |_| Err(Dropped::Stopping));
        self.emitter.verdicts(verdicts, &mut batch.replies);
        failpoint!("consumer.told", |_| Err(Dropped::Stopping));
        for (partition, sequence, conversion) in &conversions {
            let delivery = self.emitter.event(conversion);
            self.events.push(*partition, *sequence, delivery);
        }
        self.republish(restated);
        failpoint!("consumer.emitted", |_| Err(Dropped::Stopping));
        for (partition, why) in newer {
            self.halt_partition(partition, why);
            self.stale = true;
        }
        Ok(())
    }

    /// The row as the store will hold it.
    pub(crate) fn after(advance: &Advance) -> PartitionState {
        PartitionState {
            version: advance.expected.version + 1,
            ..advance.next
        }
    }
}

/// What a batch adds to the counters, once it is committed.
struct Counted {
    outcomes: BTreeMap<&'static str, u64>,
    clicks: u64,
    misplaced: u64,
    dropped: [u64; UNMATCHED_LIMITS.len()],
    observed: BTreeMap<&'static str, u64>,
    campaigns: campaigns::Counts,
    unknown_statuses: Vec<UnknownStatus>,
}

impl Counted {
    fn of(
        worker: &Worker,
        writes: &Writes,
        verdicts: &[Verdict],
        dropped: [u64; UNMATCHED_LIMITS.len()],
        unknown_statuses: Vec<UnknownStatus>,
    ) -> Self {
        let mut outcomes = BTreeMap::new();
        let mut campaigns = campaigns::Counts::new();
        let decided = verdicts.iter().map(|verdict| &verdict.outcome);
        let later = writes.changes.iter().map(|change| &change.known.outcome);
        for outcome in decided.chain(later) {
            campaigns::add(&mut campaigns, outcome);
        }
        for verdict in verdicts {
            *outcomes.entry(verdict.outcome.word()).or_default() += 1;
        }
        for change in &writes.changes {
            *outcomes
                .entry(match change.known.outcome.word() {
                    "converted" => "converted_late",
                    "updated" => "updated_late",
                    "forbidden" => "forbidden_late",
                    "click_expired" => "click_expired_late",
                    _ => "duplicate_late",
                })
                .or_default() += 1;
        }
        let logged = writes.log.iter().map(|entry| &entry.observed);
        let changed = writes.changes.iter().map(|change| &change.observed);
        let mut observed = BTreeMap::new();
        for check in logged.chain(changed).flatten() {
            *observed.entry(*check).or_default() += 1;
        }
        let misplaced = worker.misplaced(&writes.clicks);
        Self {
            outcomes,
            clicks: u64::try_from(writes.clicks.len()).unwrap_or(0),
            misplaced,
            dropped,
            observed,
            campaigns,
            unknown_statuses,
        }
    }

    fn count(self, metrics: &ConsumerMetrics) {
        for (outcome, number) in self.outcomes {
            metrics
                .outcomes
                .with_label_values(&[outcome])
                .inc_by(number);
        }
        metrics.campaigns.count(&self.campaigns);
        metrics.clicks.inc_by(self.clicks);
        metrics.misplaced_clicks.inc_by(self.misplaced);
        for (limit, number) in UNMATCHED_LIMITS.iter().zip(self.dropped) {
            metrics
                .unmatched_dropped
                .with_label_values(&[limit])
                .inc_by(number);
        }
        for (check, number) in self.observed {
            metrics.observed.with_label_values(&[check]).inc_by(number);
        }
        for unknown in self.unknown_statuses {
            metrics.unknown_statuses.inc();
            tracing::warn!(
                request_id = %unknown.request_id,
                campaign_id = unknown.campaign_id,
                word = unknown.word,
                "an unknown status word was taken as the campaign's default; say in status.words \
                 what it means"
            );
        }
    }
}

impl Worker {
    /// Clicks that stand in another partition than their postbacks will.
    fn misplaced(&self, clicks: &[PlacedClick]) -> u64 {
        let mut count = 0;
        for placed in clicks {
            let expected = partition::of(
                placed.click.clickid.as_str().as_bytes(),
                self.config.partitions,
            );
            if expected != placed.partition {
                count += 1;
                tracing::warn!(
                    clickid = %placed.click.clickid,
                    partition = placed.partition,
                    expected,
                    "a click stands in another partition than the murmur2 partitioner would \
                     choose: its postbacks may be answered click_not_found; set its producer's \
                     partitioner to murmur2_random"
                );
            }
        }
        count
    }
}

fn conflict(placed: &PlacedClick) -> Reject {
    let click = &placed.click;
    Reject::record(
        click.clicked_at,
        "click_conflict",
        "another click with this clickid came first, and differs".to_owned(),
        Source::new(
            CLICKS,
            placed.partition,
            placed.offset,
            click.clickid.as_str().as_bytes(),
            &click.encode(),
        ),
    )
}
