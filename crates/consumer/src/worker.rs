//! One worker: a member of the group, its own thread, one loop. Poll, decide, one transaction,
//! verdicts, events.

use crate::batch::{Batch, refused_by_store};
use crate::config::ConsumerConfig;
use crate::emit::{Emitter, EventsInFlight, LocalVerdicts};
use crate::metrics::ConsumerMetrics;
use crate::ownership::{Ownership, cause};
use crate::{Dropped, chain};
use postern_core::decision::{PartitionState, PlacedClick, View, Writes, decide};
use postern_core::ids::RequestId;
use postern_core::partition;
use postern_core::record::postback::ReplyTo;
use postern_core::record::reject::{Reject, Source};
use postern_core::record::verdict::Verdict;
use postern_kafka::{
    CLICKS, Connection, Event, Group, GroupOptions, KafkaError, POSTBACKS, Producer, Record,
    TopicAdmin,
};
use postern_store::{Advance, Batch as StoreBatch, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

const GROUP: &str = "postern-consumer";
/// Waits between attempts after a failure: doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Longest wait for the last verdicts and events at the end.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// How often the group is told positions, and lag is measured.
const REPORT: Duration = Duration::from_secs(1);

/// Hears how a worker fares: `Ok` while it consumes, or what is wrong.
pub type Status = Box<dyn Fn(Result<(), &str>) + Send>;

/// A worker.
pub struct Worker {
    pub(crate) name: String,
    pub(crate) config: ConsumerConfig,
    pub(crate) group: Group,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) emitter: Emitter,
    pub(crate) metrics: ConsumerMetrics,
    pub(crate) handle: Handle,
    pub(crate) status: Status,
    pub(crate) ownership: Ownership,
    /// Read while a barrier was awaited.
    pub(crate) held: VecDeque<Record>,
    pub(crate) held_bytes: usize,
    /// Postbacks are not fetched because too much is held.
    pub(crate) held_full: bool,
    pub(crate) topics: Arc<TopicAdmin>,
    pub(crate) unconfirmed: Option<Unconfirmed>,
    pub(crate) stop: CancellationToken,
    events: EventsInFlight,
    republish: BTreeSet<i32>,
    /// The positions must be read anew.
    stale: bool,
    /// So many records go one by one, since the store refused one of them.
    careful: usize,
    last_batch: Instant,
    last_report: Instant,
}

/// A commit whose end was not seen.
pub(crate) struct Unconfirmed {
    pub(crate) rows: Vec<PartitionState>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) replies: HashMap<RequestId, ReplyTo>,
}

/// What a worker works with.
pub struct Parts {
    /// How to reach Kafka.
    pub connection: Connection,
    /// To see whether the topics are still the same.
    pub topics: Arc<TopicAdmin>,
    /// For rejects, verdicts, barriers and events.
    pub producer: Producer,
    /// An ingress in the same process.
    pub local: Option<Arc<dyn LocalVerdicts>>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Where to count.
    pub metrics: ConsumerMetrics,
    /// Hears how the worker fares.
    pub status: Status,
}

impl Worker {
    /// Joins the group. `handle` runs the store's futures.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`].
    pub fn new(
        config: ConsumerConfig,
        number: usize,
        parts: Parts,
        handle: Handle,
    ) -> Result<Self, KafkaError> {
        let name = format!("{}-{number}", config.name);
        let group = Group::join(
            &parts.connection,
            &GroupOptions {
                name: format!("consumer-{name}"),
                group: GROUP.to_owned(),
                topics: vec![CLICKS, POSTBACKS],
                session_timeout: config.session_timeout,
                patient: false,
            },
        )?;
        Ok(Self {
            name,
            config,
            group,
            store: parts.store,
            emitter: Emitter::new(parts.producer, parts.local, parts.metrics.clone()),
            metrics: parts.metrics,
            handle,
            status: parts.status,
            ownership: Ownership::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            held_full: false,
            topics: parts.topics,
            unconfirmed: None,
            stop: CancellationToken::new(),
            events: EventsInFlight::default(),
            republish: BTreeSet::new(),
            stale: false,
            careful: 0,
            last_batch: Instant::now(),
            last_report: Instant::now(),
        })
    }

    /// Consumes until `stop`. Blocks: give it a thread outside the runtime's own.
    ///
    /// # Errors
    ///
    /// Kafka's client failed for good.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), KafkaError> {
        self.stop = stop.clone();
        let mut backoff = BACKOFF.0;
        while !stop.is_cancelled() {
            let done = if self.stale {
                self.take_over().map(|()| {
                    self.stale = false;
                    if self.ownership.stopped.is_empty() {
                        (self.status)(Ok(()));
                    }
                })
            } else {
                self.turn()
            };
            match done {
                Ok(()) => backoff = BACKOFF.0,
                Err(Dropped::Rebalanced) => {}
                Err(Dropped::Isolating) => {
                    self.clear_held();
                    self.stale = true;
                }
                Err(Dropped::Kafka(KafkaError::Fatal(why))) => return Err(KafkaError::Fatal(why)),
                Err(dropped) => {
                    self.drop_batch(&dropped);
                    self.wait(backoff, stop);
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
        self.finish();
        Ok(())
    }

    fn drop_batch(&mut self, dropped: &Dropped) {
        let (word, why) = cause(dropped);
        self.metrics.dropped.with_label_values(&[word]).inc();
        if word == "fenced" {
            tracing::info!(
                worker = self.name,
                why,
                "batch dropped, positions are read anew"
            );
        } else {
            tracing::warn!(worker = self.name, why, "batch dropped, it is read again");
            (self.status)(Err(&why));
        }
        self.clear_held();
        self.stale = true;
    }

    /// What is held is read again. Fetching goes on with the next positions that are set.
    pub(crate) fn clear_held(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
        self.held_full = false;
    }

    pub(crate) fn is_careful(&self) -> bool {
        self.careful > 0
    }

    /// Waits, but hears of rebalances meanwhile: a member that doesn't poll loses its place.
    fn wait(&mut self, pause: Duration, stop: &CancellationToken) {
        if self.group.start(&[]).is_err() {
            std::thread::sleep(pause);
            return;
        }
        let until = Instant::now() + pause;
        while !stop.is_cancelled() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if let Ok(event @ (Event::Assigned(_) | Event::Revoked)) =
                self.group.poll(left.min(Duration::from_millis(100)))
            {
                self.rebalance(event);
                return;
            }
        }
    }

    /// Takes a rebalance in. To be returned, since no batch outlives one.
    pub(crate) fn rebalance(&mut self, event: Event) -> Dropped {
        if let Event::Assigned(assigned) = event {
            self.ownership.assign(&assigned);
            self.stale = true;
        } else {
            tracing::info!(worker = self.name, "partitions were taken away");
            self.ownership = Ownership::default();
            self.stale = false;
        }
        self.metrics.owned.set(0);
        self.metrics.lag.reset();
        self.metrics.unmatched.reset();
        self.clear_held();
        self.republish.clear();
        self.events = EventsInFlight::default();
        Dropped::Rebalanced
    }

    /// librdkafka mends most errors of a poll by itself; those for good are returned.
    pub(crate) fn poll_error(&mut self, error: KafkaError) -> Result<(), Dropped> {
        match error {
            KafkaError::Unavailable(why) => {
                tracing::debug!(worker = self.name, why, "polling");
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    fn turn(&mut self) -> Result<(), Dropped> {
        for partition in std::mem::take(&mut self.republish) {
            self.publish_missing(partition)?;
        }
        let (batch, first) = self.gather()?;
        if batch.is_empty() {
            self.idle()?;
        } else {
            self.last_batch = Instant::now();
            self.process(batch, first)?;
        }
        if self.last_report.elapsed() >= REPORT {
            self.report();
        }
        Ok(())
    }

    /// Whatever is there, up to a batch; waits a moment where nothing is. Gives the first record
    /// too while the store is being careful.
    fn gather(&mut self) -> Result<(Batch, Option<Record>), Dropped> {
        let most = if self.careful > 0 {
            1
        } else {
            self.config.max_batch
        };
        let mut batch = Batch::default();
        let mut first = None;
        while batch.records < most {
            let event = match self.held.pop_front() {
                Some(record) => Ok(Event::Record(record)),
                None if batch.is_empty() => self.group.poll(Duration::from_millis(100)),
                None => self.group.poll(Duration::ZERO),
            };
            match event {
                Ok(Event::Record(record)) => {
                    if self.is_next(&record) {
                        batch.add(&record);
                        if self.careful > 0 {
                            first = Some(record);
                        }
                    }
                }
                Ok(Event::Idle) => break,
                Ok(event) => return Err(self.rebalance(event)),
                Err(error) => {
                    self.poll_error(error)?;
                    break;
                }
            }
        }
        self.careful = self.careful.saturating_sub(batch.records);
        Ok((batch, first))
    }

    /// Whether a record belongs to what we own and was not processed before.
    pub(crate) fn is_next(&self, record: &Record) -> bool {
        if self.ownership.stopped.contains_key(&record.partition) {
            return false;
        }
        self.ownership
            .rows
            .get(&record.partition)
            .is_some_and(|row| {
                let position = if record.topic == CLICKS {
                    row.clicks
                } else {
                    row.postbacks
                };
                record.offset >= position
            })
    }

    fn process(&mut self, mut batch: Batch, first: Option<Record>) -> Result<(), Dropped> {
        let mut view = self.load(&batch)?;
        self.timed("barrier", |worker| {
            worker.settle_unknown(&mut batch, &mut view)
        })?;
        self.apply_or_isolate(batch, view, first.as_ref())
    }

    /// As [`Self::apply`]; where the store refuses the content, the records go one by one from
    /// here on, and `only`, if it is all that the batch holds, goes to the rejects.
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
        self.handle
            .block_on(self.emitter.rejects(&[refused_by_store(record)]))?;
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

    pub(crate) fn load(&mut self, batch: &Batch) -> Result<View, Dropped> {
        let waiting = self.ownership.rows.values().any(|row| row.unmatched > 0);
        self.timed("load", |worker| {
            Ok(worker
                .handle
                .block_on(worker.store.load(&batch.lookup(waiting)))?)
        })
    }

    /// Decides a batch of which everything is known, commits it, and tells the outcome.
    pub(crate) fn apply(&mut self, mut batch: Batch, mut view: View) -> Result<(), Dropped> {
        let mut writes = Writes::default();
        let mut verdicts = Vec::new();
        let mut advances = Vec::new();
        let mut newer = Vec::new();
        let mut dropped = 0;
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
            writes.append(decided.writes);
            verdicts.extend(decided.verdicts);
            dropped += decided.unmatched_dropped;
            batch
                .poison
                .extend(decided.conflicting_clicks.iter().map(conflict));
            newer.extend(part.newer.map(|why| (partition, why)));
        }
        let counted = Counted::of(self, &writes, &verdicts, dropped);
        let conversions = writes.conversions.clone();
        if !batch.poison.is_empty() {
            self.handle.block_on(self.emitter.rejects(&batch.poison))?;
        }
        self.settle_events();
        self.stamp(&mut advances);
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
        self.emitter.verdicts(verdicts, &mut batch.replies);
        for (partition, sequence, conversion) in &conversions {
            let delivery = self.emitter.event(conversion);
            self.events.push(*partition, *sequence, delivery);
        }
        for (partition, why) in newer {
            self.halt_partition(partition, why);
            self.stale = true;
        }
        Ok(())
    }

    /// The row as the store will hold it.
    fn after(advance: &Advance) -> PartitionState {
        PartitionState {
            version: advance.expected.version + 1,
            ..advance.next
        }
    }

    /// Lets the rows know which events are out.
    fn stamp(&self, advances: &mut [Advance]) {
        for advance in advances {
            if let Some(published) = self.ownership.published.get(&advance.next.partition) {
                advance.next.published = *published;
            }
        }
    }

    fn commit(&mut self, advances: Vec<Advance>, writes: Writes) -> Result<(), Dropped> {
        let batch = StoreBatch { advances, writes };
        self.handle.block_on(self.store.commit(&batch))?;
        for advance in &batch.advances {
            self.ownership
                .rows
                .insert(advance.next.partition, Self::after(advance));
        }
        Ok(())
    }

    /// Waits for the events of the batch before; they have usually arrived long since.
    fn settle_events(&mut self) {
        let (reached, failed) = self.handle.block_on(self.events.settle());
        self.republish.extend(failed);
        // Behind an event that failed, "published up to" must not move.
        let reached = reached
            .into_iter()
            .filter(|(partition, _)| !self.republish.contains(partition));
        self.ownership.published.extend(reached);
    }

    /// Nothing to read: the row learns which events are out.
    fn idle(&mut self) -> Result<(), Dropped> {
        if self.last_batch.elapsed() < REPORT {
            return Ok(());
        }
        self.settle_events();
        self.save_published()
    }

    fn save_published(&mut self) -> Result<(), Dropped> {
        let mut behind: Vec<Advance> = self
            .ownership
            .rows
            .values()
            .filter(|row| self.ownership.published.get(&row.partition) > Some(&row.published))
            .map(|row| Advance {
                expected: *row,
                next: *row,
            })
            .collect();
        if behind.is_empty() {
            return Ok(());
        }
        self.stamp(&mut behind);
        self.commit(behind, Writes::default())
    }

    fn report(&mut self) {
        self.last_report = Instant::now();
        self.group.report(&self.ownership.positions());
        let positions: BTreeMap<(&str, i32), i64> = self
            .ownership
            .positions()
            .into_iter()
            .map(|position| ((position.topic, position.partition), position.offset))
            .collect();
        for end in self.group.ends() {
            if let Some(position) = positions.get(&(end.topic.as_str(), end.partition)) {
                self.metrics
                    .lag
                    .with_label_values(&[end.topic.as_str(), &end.partition.to_string()])
                    .set((end.end - position).max(0));
            }
        }
        for row in self.ownership.rows.values() {
            self.metrics
                .unmatched
                .with_label_values(&[&row.partition.to_string()])
                .set(row.unmatched);
        }
    }

    /// The last batch is committed; what remains is to say so.
    fn finish(&mut self) {
        self.settle_events();
        if let Err(error) = self.save_published() {
            tracing::info!(
                why = chain(&error),
                "some conversion events will be sent again"
            );
        }
        self.group.report(&self.ownership.positions());
        self.metrics.owned.set(0);
        let left = self.emitter.producer().flush(LAST_FLUSH);
        if left > 0 {
            tracing::warn!(left, "records were not acknowledged before the end");
        }
    }

    fn timed<T>(
        &mut self,
        phase: &str,
        work: impl FnOnce(&mut Self) -> Result<T, Dropped>,
    ) -> Result<T, Dropped> {
        let started = Instant::now();
        let done = work(self);
        self.metrics
            .batch_seconds
            .with_label_values(&[phase])
            .observe(started.elapsed().as_secs_f64());
        done
    }
}

/// What a batch adds to the counters, once it is committed.
struct Counted {
    outcomes: BTreeMap<&'static str, u64>,
    clicks: u64,
    misplaced: u64,
    dropped: u64,
}

impl Counted {
    fn of(worker: &Worker, writes: &Writes, verdicts: &[Verdict], dropped: u64) -> Self {
        let mut outcomes = BTreeMap::new();
        for verdict in verdicts {
            *outcomes.entry(verdict.outcome.word()).or_default() += 1;
        }
        for change in &writes.changes {
            *outcomes
                .entry(match change.known.outcome.word() {
                    "converted" => "converted_late",
                    _ => "duplicate_late",
                })
                .or_default() += 1;
        }
        let misplaced = worker.misplaced(&writes.clicks);
        Self {
            outcomes,
            clicks: u64::try_from(writes.clicks.len()).unwrap_or(0),
            misplaced,
            dropped,
        }
    }

    fn count(self, metrics: &ConsumerMetrics) {
        for (outcome, number) in self.outcomes {
            metrics
                .outcomes
                .with_label_values(&[outcome])
                .inc_by(number);
        }
        metrics.clicks.inc_by(self.clicks);
        metrics.misplaced_clicks.inc_by(self.misplaced);
        metrics.unmatched_dropped.inc_by(self.dropped);
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
