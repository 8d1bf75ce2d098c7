//! Which partitions a worker owns, and where each of them stands.
//!
//! Kafka assigns; the store says where to read on. A partition with which something is wrong is
//! not read at all, loudly, while the others go on.

use crate::Dropped;
use crate::worker::{LOOK, Worker};
use postern_core::decision::PartitionState;
use postern_failpoint::failpoint;
use postern_kafka::{CLICKS, CONVERSIONS, KafkaError, POSTBACKS, Position, PublishError, Silence};
use postern_runtime::telemetry::chain;
use postern_store::Topics;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a question to Kafka may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a partition is stopped of which it isn't known whether it can be read again.
const STOPPED_FOR: Duration = Duration::from_secs(30);
/// Between two tries to send events of a partition that doesn't take them.
const EVENTS_AGAIN: Duration = Duration::from_secs(10);
/// How long such a try may hold up what else there is to do.
const EVENTS_TAKEN: Duration = Duration::from_secs(2);
/// Conversion events per look into the store.
const EVENTS: i64 = 1000;

/// What a worker owns.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    /// Assigned in both topics.
    pub(crate) assigned: BTreeSet<i32>,
    /// The rows as they stand in the store.
    pub(crate) rows: BTreeMap<i32, PartitionState>,
    /// Per partition the number of the last conversion whose event is acknowledged; may be
    /// ahead of the row.
    pub(crate) published: BTreeMap<i32, i64>,
    /// Not read, and why.
    pub(crate) stopped: BTreeMap<i32, String>,
    /// Those of them that reading the positions anew can't mend.
    halted: BTreeMap<i32, String>,
    /// Whether nothing is heard because nothing is there, per topic and partition.
    silences: BTreeMap<(&'static str, i32), Silence>,
}

impl Ownership {
    /// Takes a new assignment. A partition counts only where clicks and postbacks came
    /// together; the range assignor sees to it as long as both have the same count.
    pub(crate) fn assign(&mut self, assigned: &[(String, i32)]) {
        let of = |topic: &str| -> BTreeSet<i32> {
            assigned
                .iter()
                .filter(|(name, _)| name == topic)
                .map(|(_, partition)| *partition)
                .collect()
        };
        let (clicks, postbacks) = (of(CLICKS), of(POSTBACKS));
        for partition in clicks.symmetric_difference(&postbacks) {
            tracing::error!(
                partition,
                "assigned in one of clicks and postbacks only, not consumed: both topics must \
                 have the same number of partitions and all members the same subscription"
            );
        }
        *self = Self {
            assigned: clicks.intersection(&postbacks).copied().collect(),
            ..Self::default()
        };
    }

    pub(crate) fn positions(&self) -> Vec<Position> {
        self.rows
            .values()
            .filter(|row| !self.stopped.contains_key(&row.partition))
            .flat_map(|row| {
                [(CLICKS, row.clicks), (POSTBACKS, row.postbacks)].map(|(topic, offset)| Position {
                    topic,
                    partition: row.partition,
                    offset,
                })
            })
            .collect()
    }
}

impl Worker {
    /// Reads the positions anew and begins to read from them.
    pub(crate) fn take_over(&mut self) -> Result<(), Dropped> {
        // Nothing is fetched while the positions aren't known.
        self.group.start(&[])?;
        self.clear_held();
        self.ownership.rows.clear();
        self.ownership.silences.clear();
        self.ownership.stopped = self.ownership.halted.clone();
        self.stale_at = None;
        self.standing.take(self.ownership.assigned.clone());
        for partition in self.ownership.halted.keys() {
            self.standing.stopped(*partition, true);
        }
        self.check_topics()?;
        let assigned: Vec<i32> = self.ownership.assigned.iter().copied().collect();
        let mut rows = self.calls.run(self.store.partitions(&assigned))?;
        if rows.len() < assigned.len() {
            let new = self.first_rows(&assigned, &rows)?;
            rows.extend(self.calls.run(self.store.create_partitions(&new))?);
        }
        failpoint!("consumer.takes_over", |_| Err(Dropped::Stopping));
        self.confirm(&rows);
        for row in rows {
            self.check_position(&row)?;
            self.ownership
                .published
                .insert(row.partition, row.published);
            self.ownership.rows.insert(row.partition, row);
        }
        // All that are missing, at once, as far as they are taken.
        self.republish = assigned.iter().map(|one| (*one, Instant::now())).collect();
        self.publish_due()?;
        self.group.start(&self.ownership.positions())?;
        self.standing.own(self.ownership.rows.len());
        self.standing.measure(&self.ownership.positions(), &[]);
        tracing::info!(
            worker = self.name,
            partitions = ?self.ownership.rows.keys().collect::<Vec<_>>(),
            "consuming"
        );
        Ok(())
    }

    /// Rows for partitions that were never consumed: from the first record that is there.
    fn first_rows(
        &self,
        assigned: &[i32],
        rows: &[PartitionState],
    ) -> Result<Vec<PartitionState>, Dropped> {
        assigned
            .iter()
            .filter(|partition| !rows.iter().any(|row| row.partition == **partition))
            .map(|partition| {
                let (clicks, _) = self.group.watermarks(CLICKS, *partition, PATIENCE)?;
                let (postbacks, _) = self.group.watermarks(POSTBACKS, *partition, PATIENCE)?;
                Ok(PartitionState {
                    partition: *partition,
                    version: 0,
                    clicks,
                    postbacks,
                    sequence: 0,
                    published: 0,
                    unmatched: 0,
                })
            })
            .collect()
    }

    /// A position must lie inside the log. Outside it records are missing that nobody has read,
    /// or the topic isn't the one it was: nothing that could be done here would be right.
    fn check_position(&mut self, row: &PartitionState) -> Result<(), Dropped> {
        for (topic, position) in [(CLICKS, row.clicks), (POSTBACKS, row.postbacks)] {
            let (first, end) = self.group.watermarks(topic, row.partition, PATIENCE)?;
            if (first..=end).contains(&position) {
                continue;
            }
            let why = format!(
                "{topic} partition {}: position {position} lies outside the log ({first} to \
                 {end}): records were deleted before they were read, or the topic was made anew",
                row.partition
            );
            self.stop_partition(row.partition, why);
        }
        Ok(())
    }

    /// Looks whether records pass us by, as they do where a topic was made anew while we read it: the
    /// positions are read anew then, and say so.
    pub(crate) fn look_for_silence(&mut self) {
        for position in self.ownership.positions() {
            let (topic, partition, next) = (position.topic, position.partition, position.offset);
            // Where Kafka doesn't answer, nothing can be heard, and others tell of that.
            let Ok((_, end)) = self.group.watermarks(topic, partition, LOOK) else {
                return;
            };
            let silence = self.ownership.silences.entry((topic, partition));
            if silence.or_default().is_deafness(next, end) {
                tracing::warn!(
                    topic,
                    partition,
                    next,
                    end,
                    "records pass by unread: the positions are read anew"
                );
                self.stale = true;
            }
        }
    }

    /// The topics must still be those that the store was filled from: a topic that was made anew
    /// has other offsets, and one that was widened keeps clicks and their postbacks apart.
    fn check_topics(&self) -> Result<(), Dropped> {
        let partitions = self.topics.partitions(POSTBACKS)?;
        let clicks = self.topics.partitions(CLICKS)?;
        if clicks != partitions {
            return Err(Dropped::Kafka(KafkaError::Topics(format!(
                "{CLICKS} has {clicks} partitions and {POSTBACKS} has {partitions}: they must \
                 have the same number"
            ))));
        }
        let topics = Topics {
            partitions,
            clicks_id: self.topics.topic_id(CLICKS)?,
            postbacks_id: self.topics.topic_id(POSTBACKS)?,
        };
        Ok(self.calls.run(self.store.record_topics(&topics))?)
    }

    /// Stops a partition until it is assigned anew.
    pub(crate) fn halt_partition(&mut self, partition: i32, why: String) {
        self.ownership.halted.insert(partition, why.clone());
        self.stop_partition(partition, why);
    }

    /// Stops a partition until the positions are read anew, in a while.
    pub(crate) fn stop_for_a_while(&mut self, partition: i32, why: String) {
        self.stop_partition(partition, why);
        self.stale_at = Some(Instant::now() + STOPPED_FOR);
    }

    pub(crate) fn stop_partition(&mut self, partition: i32, why: String) {
        tracing::error!(
            partition,
            why,
            "this partition is not consumed until it is mended"
        );
        self.standing.stopped(partition, true);
        (self.status)(Err(&why));
        self.ownership.stopped.insert(partition, why);
    }

    /// Publishes missing events where that is due. A partition that doesn't take them is tried
    /// again later, and its conversions' events wait for that: nothing else does.
    pub(crate) fn publish_due(&mut self) -> Result<(), Dropped> {
        let now = Instant::now();
        let due = self.republish.iter().filter(|(_, at)| **at <= now);
        let due: Vec<i32> = due.map(|(partition, _)| *partition).collect();
        for partition in due {
            // What is on its way needs not be sent again.
            self.await_events(Some(partition));
            match self.publish_missing(partition) {
                Ok(()) => {
                    self.republish.remove(&partition);
                }
                Err(Dropped::Publish(error)) => {
                    let why = format!(
                        "conversion events of partition {partition} are not taken ({error}): they \
                         will be sent later; see whether {CONVERSIONS} has a leader and its in-sync \
                         replicas"
                    );
                    tracing::warn!(worker = self.name, why);
                    (self.status)(Err(&why));
                    self.events_wait = true;
                    self.republish
                        .insert(partition, Instant::now() + EVENTS_AGAIN);
                    // The next one's turn comes after a batch.
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if self.republish.is_empty()
            && std::mem::take(&mut self.events_wait)
            && self.ownership.stopped.is_empty()
        {
            (self.status)(Ok(()));
        }
        Ok(())
    }

    /// Publishes the events that the last owner, or a failed publish, left out.
    fn publish_missing(&mut self, partition: i32) -> Result<(), Dropped> {
        let Some(row) = self.ownership.rows.get(&partition).copied() else {
            return Ok(());
        };
        let mut published = self
            .ownership
            .published
            .get(&partition)
            .copied()
            .unwrap_or(row.published);
        while published < row.sequence {
            let missing = self
                .calls
                .run(self.store.conversions_after(partition, published, EVENTS))?;
            let Some((last, _)) = missing.last() else {
                break;
            };
            let last = *last;
            let mut deliveries = Vec::with_capacity(missing.len());
            for (_, conversion) in &missing {
                deliveries.push(self.emitter.event(conversion)?);
            }
            self.calls.run(async {
                for delivery in deliveries {
                    let taken = tokio::time::timeout(EVENTS_TAKEN, delivery).await;
                    taken
                        .unwrap_or_else(|_| Err(PublishError::Undelivered("not in time".into())))?;
                }
                Ok::<(), Dropped>(())
            })?;
            published = last;
            self.ownership.published.insert(partition, published);
        }
        Ok(())
    }

    /// A commit whose end wasn't seen: where the rows stand as it would have left them, it took
    /// effect, and its verdicts are true.
    fn confirm(&mut self, rows: &[PartitionState]) {
        let Some(unconfirmed) = self.unconfirmed.take() else {
            return;
        };
        let took_effect = unconfirmed.rows.iter().all(|after| rows.contains(after));
        tracing::info!(took_effect, "a commit whose end was not seen");
        if took_effect {
            let mut replies = unconfirmed.replies;
            self.emitter.verdicts(unconfirmed.verdicts, &mut replies);
        }
    }
}

/// One line for the log about a dropped batch.
pub(crate) fn cause(dropped: &Dropped) -> (&'static str, String) {
    let word = match dropped {
        Dropped::Rebalanced => "rebalance",
        Dropped::Stopping => "stopping",
        Dropped::Isolating => "isolating",
        Dropped::Store(postern_store::StoreError::Fenced { .. }) => "fenced",
        Dropped::Store(_) => "store",
        Dropped::Kafka(_) => "kafka",
        Dropped::Publish(_) => "publish",
    };
    (word, chain(dropped))
}
