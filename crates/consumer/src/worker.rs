//! One worker: a member of the group, its own thread, one loop. Poll, decide, one transaction,
//! verdicts, events.

use crate::backoff::Backoff;
use crate::barrier::Proven;
use crate::batch::Batch;
use crate::calls::Calls;
use crate::config::ConsumerConfig;
use crate::emit::{Emitter, EventsInFlight, LocalVerdicts, Settled};
use crate::metrics::ConsumerMetrics;
use crate::ownership::{Ownership, cause};
use crate::standing::Standing;
use crate::{Dropped, StartError};
use postern_core::decision::{PartitionState, View, Writes};
use postern_core::ids::RequestId;
use postern_core::record::postback::ReplyTo;
use postern_core::record::verdict::Verdict;
use postern_failpoint::failpoint;
use postern_kafka::{
    CLICKS, Connection, Event, Group, GroupOptions, KafkaError, Lag, POSTBACKS, Producer, Record,
    TopicAdmin,
};
use postern_runtime::telemetry::chain;
use postern_store::{Advance, Batch as StoreBatch, Store};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const GROUP: &str = "postern-consumer";
/// Longest wait for the last verdicts and events at the end.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// Records whose request ids are looked up after one that was known: they come together, from a
/// spool or a producer that sent twice.
pub(crate) const RECALLED: usize = 20_000;
/// Events on their way past which a worker waits for them.
const MOST_EVENTS: usize = 20_000;
/// How far apart batches begin at least. What arrives meanwhile shares the costs of a batch, which
/// are those of a dozen postbacks.
const PACE: Duration = Duration::from_millis(1);
/// How often the group is told positions, and lag is measured.
const REPORT: Duration = Duration::from_secs(1);
/// How often is looked whether records pass by unread. Longer than what is fetched of one partition
/// keeps another one waiting.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a look at a partition's end may take.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

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
    pub(crate) standing: Standing,
    pub(crate) calls: Calls,
    pub(crate) status: Status,
    pub(crate) ownership: Ownership,
    /// Read while a barrier was awaited.
    pub(crate) held: VecDeque<Record>,
    pub(crate) held_bytes: usize,
    /// Postbacks are not fetched because too much is held.
    pub(crate) held_full: bool,
    pub(crate) proven: Proven,
    pub(crate) topics: Arc<TopicAdmin>,
    pub(crate) unconfirmed: Option<Unconfirmed>,
    pub(crate) stop: CancellationToken,
    pub(crate) events: EventsInFlight,
    /// Partitions whose events are to be read from the store and sent, and when.
    pub(crate) republish: BTreeMap<i32, Instant>,
    /// Some of them were not taken.
    pub(crate) events_wait: bool,
    /// The positions must be read anew.
    pub(crate) stale: bool,
    /// When they must be, so that partitions that were stopped for a while are tried again.
    pub(crate) stale_at: Option<Instant>,
    /// The last barrier was not read back.
    pub(crate) was_stuck: bool,
    /// So many records go one by one, since the store refused one of them.
    pub(crate) careful: usize,
    /// The request ids of so many records are looked up, since one may be known.
    pub(crate) recalled: usize,
    last_batch: Instant,
    last_report: Instant,
    last_look: Instant,
    pub(crate) last_expiry: Instant,
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
    /// For rejects, verdicts and barriers.
    pub producer: Producer,
    /// For conversion events.
    pub events: Producer,
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
    /// Joins the group. To be called on the thread that it will run on.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn new(config: ConsumerConfig, number: usize, parts: Parts) -> Result<Self, StartError> {
        let name = format!("{}-{number}", config.name);
        let group = Group::join(
            &parts.connection,
            &GroupOptions {
                name: format!("consumer-{name}"),
                part: format!("worker {number}"),
                group: GROUP.to_owned(),
                topics: vec![CLICKS, POSTBACKS],
                session_timeout: config.session_timeout,
                patient: false,
                alone: config.alone.then(|| config.own_partitions(number)),
            },
        )?;
        Ok(Self {
            name,
            config,
            group,
            store: match parts.store.apart()? {
                Some(own) => own,
                None => parts.store,
            },
            emitter: Emitter::new(
                parts.producer,
                parts.events,
                parts.local,
                parts.metrics.clone(),
            ),
            standing: Standing::new(parts.metrics.clone()),
            metrics: parts.metrics,
            calls: Calls::new()?,
            status: parts.status,
            ownership: Ownership::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            held_full: false,
            proven: Proven::default(),
            topics: parts.topics,
            unconfirmed: None,
            stop: CancellationToken::new(),
            events: EventsInFlight::default(),
            republish: BTreeMap::new(),
            events_wait: false,
            stale: false,
            stale_at: None,
            was_stuck: false,
            careful: 0,
            recalled: 0,
            last_batch: Instant::now(),
            last_report: Instant::now(),
            last_look: Instant::now(),
            last_expiry: Instant::now(),
        })
    }

    /// Consumes until `stop`. Blocks: give it a thread outside the runtime's own.
    ///
    /// # Errors
    ///
    /// Kafka's client failed for good.
    pub fn run(mut self, stop: &CancellationToken) -> Result<(), KafkaError> {
        self.stop = stop.clone();
        let mut backoff = Backoff::default();
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
                Ok(()) | Err(Dropped::Rebalanced) => {}
                Err(Dropped::Isolating) => {
                    self.clear_held();
                    self.stale = true;
                }
                Err(Dropped::Kafka(KafkaError::Fatal(why))) => return Err(KafkaError::Fatal(why)),
                Err(dropped) => {
                    self.drop_batch(&dropped);
                    self.look_behind();
                    self.wait(backoff.next(), stop);
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
        self.proven.clear();
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
            self.calls.tend();
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
        failpoint!("consumer.rebalanced");
        if let Event::Assigned(assigned) = event {
            self.ownership.assign(&assigned);
            self.stale = true;
        } else {
            tracing::info!(worker = self.name, "partitions were taken away");
            self.ownership = Ownership::default();
            self.stale = false;
        }
        self.standing.take(self.ownership.assigned.clone());
        self.standing.own(0);
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
        self.publish_due()?;
        let (batch, first) = self.gather()?;
        if batch.is_empty() {
            self.idle()?;
        } else {
            self.last_batch = Instant::now();
            self.process(batch, first)?;
        }
        self.report_if_due();
        if self.stale_at.is_some_and(|at| at <= Instant::now()) {
            self.stale = true;
        }
        if self.last_look.elapsed() >= SILENCE {
            self.last_look = Instant::now();
            self.look_for_silence();
        }
        self.expire_unmatched()
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
                Some(record) => {
                    self.held_bytes -= record.value.len();
                    Ok(Event::Record(record))
                }
                None if batch.is_empty() => self.group.poll(Duration::from_millis(100)),
                None => self.group.poll(Duration::ZERO),
            };
            match event {
                Ok(Event::Record(record)) => {
                    self.proven.hear(&record);
                    if self.is_next(&record) {
                        if batch.is_empty() && self.careful == 0 {
                            let due = self.last_batch + PACE;
                            std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        }
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
        let records = batch.records;
        let mut view = self.load(&batch)?;
        self.timed("barrier", |worker| {
            worker.settle_unknown(&mut batch, &mut view)
        })?;
        self.apply_or_isolate(batch, view, first.as_ref())?;
        self.recalled = self.recalled.saturating_sub(records);
        Ok(())
    }

    pub(crate) fn load(&mut self, batch: &Batch) -> Result<View, Dropped> {
        let waiting = self.ownership.rows.values().any(|row| row.unmatched > 0);
        let lookup = batch.lookup(waiting, self.recalled > 0);
        let view = self.timed("load", |worker| {
            Ok(worker.calls.run(worker.store.load(&lookup))?)
        })?;
        if self.recalled > 0 && !view.known.is_empty() {
            self.recalled = RECALLED;
        }
        Ok(view)
    }

    /// Lets the rows know which events are out.
    pub(crate) fn stamp(&self, advances: &mut [Advance]) {
        for advance in advances {
            if let Some(published) = self.ownership.published.get(&advance.next.partition) {
                advance.next.published = *published;
            }
        }
    }

    pub(crate) fn commit(&mut self, advances: Vec<Advance>, writes: Writes) -> Result<(), Dropped> {
        let batch = StoreBatch {
            advances,
            writes,
            // Nobody else's, but for the moment of a rebalance.
            slot: self.ownership.rows.keys().min().copied().unwrap_or(0),
        };
        self.calls.run(self.store.commit(&batch))?;
        for advance in &batch.advances {
            self.ownership
                .rows
                .insert(advance.next.partition, Self::after(advance));
        }
        Ok(())
    }

    /// Reads these partitions' events from the store at the next turn, or when they are due
    /// anyway.
    pub(crate) fn republish(&mut self, partitions: BTreeSet<i32>) {
        for partition in partitions {
            self.republish.entry(partition).or_insert_with(Instant::now);
        }
    }

    /// Takes in which events are acknowledged by now; waits only where too many are not.
    pub(crate) fn settle_events(&mut self) {
        if self.events.len() > MOST_EVENTS {
            self.await_events(None);
        } else {
            let settled = self.events.settle();
            self.take_in(settled);
        }
    }

    /// Waits for the events of a partition, or all of them.
    pub(crate) fn await_events(&mut self, partition: Option<i32>) {
        let settled = self.calls.run(self.events.wait(partition));
        self.take_in(settled);
    }

    fn take_in(&mut self, settled: Settled) {
        self.republish(settled.failed);
        // Behind an event that failed, "published up to" must not move.
        for (partition, sequence) in settled.reached {
            if !self.republish.contains_key(&partition) {
                // Events that were sent again meanwhile may have got further.
                let published = self.ownership.published.entry(partition).or_default();
                *published = sequence.max(*published);
            }
        }
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
        failpoint!("consumer.settled", |_| Err(Dropped::Stopping));
        self.commit(behind, Writes::default())
    }

    pub(crate) fn report_if_due(&mut self) {
        if self.last_report.elapsed() < REPORT {
            return;
        }
        self.last_report = Instant::now();
        let positions = self.ownership.positions();
        self.group.report(&positions);
        self.standing.measure(&positions, &self.group.ends());
        for row in self.ownership.rows.values() {
            self.standing.unmatched(row.partition, row.unmatched);
        }
    }

    /// What waits, while nothing is read and so nobody tells where the partitions end.
    fn look_behind(&mut self) {
        if self.last_report.elapsed() < REPORT {
            return;
        }
        self.last_report = Instant::now();
        let mut ends = Vec::new();
        for partition in &self.ownership.assigned {
            for topic in [CLICKS, POSTBACKS] {
                // Where Kafka doesn't answer, it won't for the next one either.
                let Ok((_, end)) = self.group.watermarks(topic, *partition, LOOK) else {
                    return;
                };
                ends.push(Lag {
                    topic: topic.to_owned(),
                    partition: *partition,
                    end,
                });
            }
        }
        self.standing.measure(&[], &ends);
    }

    /// The last batch is committed; what remains is to say so.
    fn finish(&mut self) {
        self.await_events(None);
        if let Err(error) = self.save_published() {
            tracing::info!(
                why = chain(&error),
                "some conversion events will be sent again"
            );
        }
        self.group.report(&self.ownership.positions());
        self.standing.own(0);
        let left = self.emitter.flush(LAST_FLUSH);
        if left > 0 {
            tracing::warn!(left, "records were not acknowledged before the end");
        }
    }

    pub(crate) fn timed<T>(
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
