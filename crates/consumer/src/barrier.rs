//! The barrier: before a click is called unknown, everything that was published before is read.
//!
//! Watermarks can be stale, a record can't: the consumer appends one to the same clicks
//! partition (acks=all) and reads until it has seen it. Whatever click was acknowledged before
//! the postback was received stands before the barrier.

use crate::Dropped;
use crate::batch::Batch;
use crate::worker::Worker;
use postern_core::decision::{View, unresolved};
use postern_core::record::click;
use postern_failpoint::failpoint;
use postern_kafka::{CLICKS, Event, KafkaError, Message, POSTBACKS, PublishError, Record};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Records of other topics that are kept while a barrier is awaited; past it they are not
/// fetched until it is over.
const HELD: usize = 20_000;
/// The same in bytes.
const HELD_BYTES: usize = 32 * 1024 * 1024;
/// A barrier is given up after so long without any click.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// And after so long without one of its partition, while there are others.
const STUCK_BESIDE: Duration = Duration::from_secs(60);
/// How long a barrier may take once the process stops; its postbacks are read again.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What barriers have proved. One that is read back says of every postback that was read before it was written that
/// all clicks which came before it are read too: so a backlog needs no barrier for each of its batches.
#[derive(Debug, Default)]
pub(crate) struct Proven {
    /// Per partition the offset after the last postback that was read.
    read: HashMap<i32, i64>,
    /// Per partition the offset up to which nothing is to be proved any more.
    until: HashMap<i32, i64>,
}

impl Proven {
    /// A record was read.
    pub(crate) fn hear(&mut self, record: &Record) {
        if record.topic == POSTBACKS {
            let read = self.read.entry(record.partition).or_default();
            *read = record.offset.saturating_add(1).max(*read);
        }
    }

    fn until(&self, partition: i32) -> i64 {
        self.until.get(&partition).copied().unwrap_or(0)
    }

    /// Forgets all: what was read is read again.
    pub(crate) fn clear(&mut self) {
        self.read.clear();
        self.until.clear();
    }
}

/// When clicks were read, while barriers are awaited.
struct Progress {
    /// Of partitions that are waited for.
    here: Instant,
    any: Instant,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            here: now,
            any: now,
        }
    }

    fn hear(&mut self, here: bool) {
        self.any = Instant::now();
        if here {
            self.here = self.any;
        }
    }
}

impl Worker {
    /// Makes sure that every postback in `batch` whose click is missing is one whose click had
    /// not been published. Clicks that are read on the way join the batch.
    pub(crate) fn settle_unknown(
        &mut self,
        batch: &mut Batch,
        view: &mut View,
    ) -> Result<(), Dropped> {
        let partitions: Vec<i32> = batch
            .parts
            .iter()
            .filter(|(partition, part)| {
                let until = self.proven.until(**partition);
                let proven = part.postbacks.partition_point(|one| one.offset < until);
                !unresolved(view, &part.clicks, &part.postbacks[proven..]).is_empty()
            })
            .map(|(partition, _)| *partition)
            .collect();
        if partitions.is_empty() {
            return Ok(());
        }
        // Before they are written.
        let read = self.proven.read.clone();
        let targets = self.write_barriers(&partitions)?;
        failpoint!("consumer.barrier", |_| Err(Dropped::Stopping));
        let mut fresh = Batch::default();
        let mut flushed = false;
        let mut progress = Progress::new();
        loop {
            let behind = self.behind(&targets, batch, &fresh);
            if behind.is_empty() {
                break;
            }
            self.check_progress(&progress, &behind)?;
            self.report_if_due();
            let mut last = None;
            match self.group.poll(Duration::from_millis(100)) {
                Ok(Event::Record(record)) if record.topic == CLICKS && is_unread(&record) => {}
                Ok(Event::Record(record)) if record.topic == CLICKS => {
                    progress.hear(behind.contains(&record.partition));
                    if self.is_next(&record) && !batch.is_halted(record.partition) {
                        fresh.add(&record);
                        last = Some(record);
                    }
                }
                Ok(Event::Record(record)) => self.hold(record),
                Ok(Event::Idle) => {}
                Ok(event) => return Err(self.rebalance(event)),
                Err(error) => self.poll_error(error)?,
            }
            let most = if self.is_careful() {
                1
            } else {
                self.config.max_batch
            };
            if fresh.records >= most {
                // A backlog of clicks: they are committed on the way, so that the batch stays
                // small however long the way is.
                let mut clicks = batch.take_clicks();
                clicks.absorb(std::mem::take(&mut fresh));
                let known = self.load(&clicks)?;
                self.apply_or_isolate(clicks, known, last.as_ref())?;
                flushed = true;
            }
        }
        if targets
            .keys()
            .any(|partition| !self.ownership.stopped.contains_key(partition))
        {
            self.was_stuck = false;
        }
        self.release_held();
        for partition in targets.keys() {
            if let Some(read) = read.get(partition)
                && !fresh.is_halted(*partition)
                && !batch.is_halted(*partition)
                && !self.ownership.stopped.contains_key(partition)
            {
                self.proven.until.insert(*partition, *read);
            }
        }
        let arrived = fresh.parts.values().any(|part| !part.clicks.is_empty());
        batch.absorb(fresh);
        // Where a later release's record stands before the barrier, nothing is known of what
        // follows: these postbacks wait until the partition can be read on.
        batch.parts.retain(|partition, part| {
            if part.newer.is_some() && targets.contains_key(partition) {
                part.postbacks.clear();
                part.postbacks_next = None;
            }
            !self.ownership.stopped.contains_key(partition)
        });
        if flushed || arrived {
            *view = self.load(batch)?;
        }
        Ok(())
    }

    /// A barrier that isn't read back means that the partition can't be read to its end: nobody
    /// may wait for that in silence. Where others can be read, or it happens again after the
    /// positions were read anew, it is stopped for a while, so that the others go on.
    fn check_progress(&mut self, progress: &Progress, behind: &[i32]) -> Result<(), Dropped> {
        if self.stop.is_cancelled() && progress.here.elapsed() > LAST_WAIT {
            return Err(Dropped::Stopping);
        }
        let alone = progress.here.elapsed() > STUCK_BESIDE;
        if !alone && progress.any.elapsed() <= STUCK_AFTER {
            return Ok(());
        }
        let why = |partition| {
            format!(
                "a barrier in {CLICKS} partition {partition} was not read back: it can't be read to \
                 its end; see whether it has a leader, and whether a foreign producer left a \
                 transaction open"
            )
        };
        if !alone && !std::mem::replace(&mut self.was_stuck, true) {
            return Err(Dropped::Kafka(KafkaError::Unavailable(why(behind[0]))));
        }
        for partition in behind {
            self.stop_for_a_while(*partition, why(*partition));
        }
        Ok(())
    }

    /// Keeps a record for the next batch; past a limit no more are fetched for the moment.
    fn hold(&mut self, record: Record) {
        self.proven.hear(&record);
        self.held_bytes += record.value.len();
        self.held.push_back(record);
        if !self.held_full && (self.held.len() >= HELD || self.held_bytes >= HELD_BYTES) {
            self.held_full = true;
            self.group.pause(POSTBACKS, true);
        }
    }

    fn release_held(&mut self) {
        if std::mem::take(&mut self.held_full) {
            self.group.pause(POSTBACKS, false);
        }
    }

    /// Appends a barrier to each partition; gives where they stand. A partition that doesn't take
    /// its own, while others do, is stopped for a while.
    fn write_barriers(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, Dropped> {
        let value = click::barrier(&self.config.name);
        let deliveries: Vec<_> = partitions
            .iter()
            .map(|partition| {
                self.emitter.producer().publish(&Message {
                    topic: CLICKS,
                    key: b"barrier",
                    value: &value,
                    partition: Some(*partition),
                    headers: &[],
                })
            })
            .collect::<Result<_, _>>()?;
        self.metrics
            .barriers
            .inc_by(u64::try_from(partitions.len()).unwrap_or(0));
        let (targets, failed) = self.calls.run(async {
            let (mut targets, mut failed) = (BTreeMap::new(), Vec::new());
            for (partition, delivery) in partitions.iter().zip(deliveries) {
                match delivery.await {
                    // It stands somewhere, but nobody says where: no proof of anything.
                    Ok(placed) if placed.offset < 0 => {
                        let why = "a barrier was acknowledged without its offset".to_owned();
                        return Err(PublishError::Undelivered(why));
                    }
                    Ok(placed) => {
                        targets.insert(placed.partition, placed.offset);
                    }
                    Err(error) => failed.push((*partition, error)),
                }
            }
            Ok((targets, failed))
        })?;
        for (partition, error) in failed {
            if targets.is_empty() {
                return Err(error.into());
            }
            let why = format!("{CLICKS} partition {partition} doesn't take a barrier: {error}");
            self.stop_for_a_while(partition, why);
        }
        Ok(targets)
    }

    /// The partitions whose barrier wasn't read yet.
    fn behind(&self, targets: &BTreeMap<i32, i64>, batch: &Batch, fresh: &Batch) -> Vec<i32> {
        let next = |batch: &Batch, partition| {
            batch
                .parts
                .get(&partition)
                .and_then(|part| part.clicks_next)
        };
        let passed = |partition: i32, barrier: i64| {
            if batch.is_halted(partition)
                || fresh.is_halted(partition)
                || self.ownership.stopped.contains_key(&partition)
            {
                return true;
            }
            next(fresh, partition)
                .or_else(|| next(batch, partition))
                .or_else(|| self.ownership.rows.get(&partition).map(|row| row.clicks))
                .is_some_and(|position| position > barrier)
        };
        let behind = targets
            .iter()
            .filter(|(partition, barrier)| !passed(**partition, **barrier));
        behind.map(|(partition, _)| *partition).collect()
    }
}

/// Where tests make a partition unreadable while a barrier is awaited.
fn is_unread(_record: &Record) -> bool {
    failpoint!("consumer.unread", |only: &str| only
        == _record.partition.to_string());
    false
}
