//! The barrier: before a click is called unknown, everything that was published before is read.
//!
//! Watermarks can be stale, a record can't: the consumer appends one to the same clicks
//! partition (acks=all) and reads until it has seen it. Whatever click was acknowledged before
//! the postback was received stands before the barrier.

use crate::Dropped;
use crate::batch::Batch;
use crate::worker::Worker;
use postern_core::decision::{View, unresolved};
use postern_core::ids::ClickId;
use postern_core::record::click;
use postern_kafka::{CLICKS, Event, Message, POSTBACKS};
use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

/// Records of other topics that are kept while a barrier is awaited; past it they are not
/// fetched until it is over.
const HELD: usize = 20_000;
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
        let mut missing: HashSet<ClickId> = HashSet::new();
        let mut partitions = Vec::new();
        for (partition, part) in &batch.parts {
            let here = unresolved(view, &part.clicks, &part.postbacks);
            if !here.is_empty() {
                partitions.push(*partition);
                missing.extend(here);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let targets = self.write_barriers(&partitions)?;
        let mut fresh = Batch::default();
        let mut flushed = false;
        let started = Instant::now();
        while !self.passed(&targets, batch, &fresh) {
            match self.group.poll(Duration::from_millis(100)) {
                Ok(Event::Record(record)) if record.topic == CLICKS => {
                    if self.is_next(&record) {
                        fresh.add(&record);
                    }
                }
                Ok(Event::Record(record)) => {
                    self.held.push_back(record);
                    if self.held.len() == HELD {
                        self.group.pause(POSTBACKS, true);
                    }
                }
                Ok(Event::Idle) => {
                    if self.stop.is_cancelled() && started.elapsed() > LAST_WAIT {
                        return Err(Dropped::Stopping);
                    }
                }
                Ok(event) => return Err(self.rebalance(event)),
                Err(error) => self.poll_error(error)?,
            }
            if fresh.records >= self.config.max_batch {
                // A backlog of clicks: they are committed on the way, so that the batch stays
                // small however long the way is.
                let mut clicks = batch.take_clicks();
                clicks.absorb(std::mem::take(&mut fresh));
                let known = self.load(&clicks)?;
                self.apply(clicks, known)?;
                flushed = true;
            }
        }
        if self.held.len() >= HELD {
            self.group.pause(POSTBACKS, false);
        }
        let arrived = !fresh.is_empty();
        batch.absorb(fresh);
        if flushed || arrived {
            *view = self.load(batch)?;
        }
        Ok(())
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
            next(fresh, *partition)
                .or_else(|| next(batch, *partition))
                .or_else(|| self.ownership.rows.get(partition).map(|row| row.clicks))
                .is_some_and(|position| position > *barrier)
        })
    }
}
