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
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Records of other topics that are kept while a barrier is awaited; past it they are not
/// fetched until it is over.
const HELD: usize = 20_000;
/// The same in bytes.
const HELD_BYTES: usize = 32 * 1024 * 1024;
/// A barrier without any progress is given up after so long.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long a barrier may take once the process stops; its postbacks are read again.
const LAST_WAIT: Duration = Duration::from_secs(2);

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
            .filter(|(_, part)| !unresolved(view, &part.clicks, &part.postbacks).is_empty())
            .map(|(partition, _)| *partition)
            .collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let targets = self.write_barriers(&partitions)?;
        failpoint!("consumer.barrier", |_| Err(Dropped::Stopping));
        let mut fresh = Batch::default();
        let mut flushed = false;
        let mut progress = Instant::now();
        while !self.passed(&targets, batch, &fresh) {
            let mut last = None;
            match self.group.poll(Duration::from_millis(100)) {
                Ok(Event::Record(record)) if record.topic == CLICKS => {
                    progress = Instant::now();
                    if self.is_next(&record) && !batch.is_halted(record.partition) {
                        fresh.add(&record);
                        last = Some(record);
                    }
                }
                Ok(Event::Record(record)) => self.hold(record),
                Ok(Event::Idle) => self.check_progress(progress)?,
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
        self.release_held();
        let arrived = !fresh.is_empty();
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

    /// A barrier that isn't read back, and no click either, means that the partition can't be
    /// read to its end: nobody may wait for that in silence.
    fn check_progress(&self, progress: Instant) -> Result<(), Dropped> {
        if self.stop.is_cancelled() && progress.elapsed() > LAST_WAIT {
            return Err(Dropped::Stopping);
        }
        if progress.elapsed() > STUCK_AFTER {
            let why = format!(
                "a barrier was not read back within {} s: {CLICKS} can't be read to its end; see \
                 whether a foreign producer left a transaction open",
                STUCK_AFTER.as_secs()
            );
            return Err(Dropped::Kafka(KafkaError::Unavailable(why)));
        }
        Ok(())
    }

    /// Keeps a record for the next batch; past a limit no more are fetched for the moment.
    fn hold(&mut self, record: Record) {
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

    fn write_barriers(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, Dropped> {
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
        self.handle.block_on(async {
            let mut targets = BTreeMap::new();
            for delivery in deliveries {
                let placed = delivery.await?;
                if placed.offset < 0 {
                    // It stands somewhere, but nobody says where: no proof of anything.
                    let why = "a barrier was acknowledged without its offset".to_owned();
                    return Err(PublishError::Undelivered(why).into());
                }
                targets.insert(placed.partition, placed.offset);
            }
            Ok(targets)
        })
    }

    fn passed(&self, targets: &BTreeMap<i32, i64>, batch: &Batch, fresh: &Batch) -> bool {
        let next = |batch: &Batch, partition| {
            batch
                .parts
                .get(&partition)
                .and_then(|part| part.clicks_next)
        };
        targets.iter().all(|(partition, barrier)| {
            if batch.is_halted(*partition)
                || fresh.is_halted(*partition)
                || self.ownership.stopped.contains_key(partition)
            {
                return true;
            }
            next(fresh, *partition)
                .or_else(|| next(batch, *partition))
                .or_else(|| self.ownership.rows.get(partition).map(|row| row.clicks))
                .is_some_and(|position| position > *barrier)
        })
    }
}
