//! What a worker exports of each of its partitions, and takes back when it loses them: several
//! workers of one process share the metrics, and a partition's next owner exports it too.

use crate::ConsumerMetrics;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use postern_kafka::{CLICKS, Lag, POSTBACKS, Position};

#[derive(Debug)]
pub(crate) struct Standing {
    metrics: ConsumerMetrics,
    mine: BTreeSet<i32>,
    /// How many of them are being consumed, as far as that is in the sum of all workers.
    owned: i64,
    /// All that was appended up to then is consumed.
    reached: BTreeMap<(&'static str, i32), Instant>,
    /// The next offset, as last committed: known also while the store can't be asked.
    positions: BTreeMap<(&'static str, i32), i64>,
}

impl Standing {
    pub(crate) fn new(metrics: ConsumerMetrics) -> Self {
        Self {
            metrics,
            mine: BTreeSet::new(),
            owned: 0,
            reached: BTreeMap::new(),
            positions: BTreeMap::new(),
        }
    }

    /// These and no others are this worker's, and none is stopped. What is exported of others ends.
    pub(crate) fn take(&mut self, partitions: BTreeSet<i32>) {
        for lost in self.mine.difference(&partitions) {
            let lost = lost.to_string();
            // What was never set can't be removed, and needn't.
            for topic in [CLICKS, POSTBACKS] {
                let _ = self.metrics.lag.remove_label_values(&[topic, &lost]);
                let _ = self
                    .metrics
                    .lag_seconds
                    .remove_label_values(&[topic, &lost]);
            }
            let _ = self.metrics.unmatched.remove_label_values(&[&lost]);
            let _ = self.metrics.stopped.remove_label_values(&[&lost]);
        }
        self.reached
            .retain(|(_, partition), _| partitions.contains(partition));
        self.positions
            .retain(|(_, partition), _| partitions.contains(partition));
        for partition in &partitions {
            self.stopped(*partition, false);
            for topic in [CLICKS, POSTBACKS] {
                // Before the first record of a backlog is read, nobody knows how old that is.
                self.reached
                    .entry((topic, *partition))
                    .or_insert_with(Instant::now);
            }
        }
        self.mine = partitions;
    }

    /// So many are being consumed.
    pub(crate) fn own(&mut self, partitions: usize) {
        let owned = i64::try_from(partitions).unwrap_or(i64::MAX);
        self.metrics.owned.add(owned - self.owned);
        self.owned = owned;
    }

    pub(crate) fn stopped(&self, partition: i32, stopped: bool) {
        self.metrics
            .stopped
            .with_label_values(&[&partition.to_string()])
            .set(i64::from(stopped));
    }

    pub(crate) fn unmatched(&self, partition: i32, count: i64) {
        self.metrics
            .unmatched
            .with_label_values(&[&partition.to_string()])
            .set(count);
    }

    /// A record that was appended then is committed, and all before it.
    pub(crate) fn committed(&mut self, topic: &'static str, partition: i32, appended: Timestamp) {
        let age = Timestamp::now().duration_since(appended);
        let age = Duration::try_from(age).unwrap_or_default();
        if let Some(then) = Instant::now().checked_sub(age)
            && let Some(reached) = self.reached.get_mut(&(topic, partition))
        {
            *reached = then;
        }
    }

    /// What is behind the partitions' ends; `positions` are those that are known now.
    pub(crate) fn measure(&mut self, positions: &[Position], ends: &[Lag]) {
        let known = positions.iter();
        self.positions
            .extend(known.map(|position| ((position.topic, position.partition), position.offset)));
        for end in ends {
            let topic = if end.topic == CLICKS {
                CLICKS
            } else {
                POSTBACKS
            };
            if let Some(position) = self.positions.get(&(topic, end.partition)) {
                self.behind(topic, end.partition, end.end - position);
            }
        }
    }

    /// So many records wait.
    fn behind(&mut self, topic: &'static str, partition: i32, records: i64) {
        let Some(reached) = self.reached.get_mut(&(topic, partition)) else {
            return;
        };
        if records <= 0 {
            *reached = Instant::now();
        }
        let seconds = if records <= 0 {
            0.0
        } else {
            reached.elapsed().as_secs_f64()
        };
        let labels = &[topic, &partition.to_string()];
        self.metrics
            .lag
            .with_label_values(labels)
            .set(records.max(0));
        self.metrics
            .lag_seconds
            .with_label_values(labels)
            .set(seconds);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.take(BTreeSet::new());
        self.own(0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use jiff::SignedDuration;
    use postern_runtime::metrics::Metrics;

    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn workers_of_one_process_leave_each_others_partitions_alone() {
        let metrics = Metrics::new("postern").unwrap();
        let consumer = ConsumerMetrics::new(&metrics).unwrap();
        let mut one = Standing::new(consumer.clone());
        let mut other = Standing::new(consumer);
        one.take(BTreeSet::from([0, 1]));
        other.take(BTreeSet::from([2]));
        one.own(2);
        other.own(1);
        one.stopped(1, true);
        other.stopped(2, true);
        other.unmatched(2, 7);
        let stopped = |partition| {
            let series = format!("postern_partition_stopped{{partition=\"{partition}\"}}");
            value(&metrics, &series)
        };
        assert_eq!(value(&metrics, "postern_partitions_owned"), Some(3.0));
        one.take(BTreeSet::from([0]));
        one.own(1);
        assert_eq!(value(&metrics, "postern_partitions_owned"), Some(2.0));
        assert_eq!(
            [stopped(0), stopped(1), stopped(2)],
            [Some(0.0), None, Some(1.0)]
        );
        drop(other);
        assert_eq!(stopped(2), None);
        assert_eq!(
            value(&metrics, "postern_unmatched_postbacks{partition=\"2\"}"),
            None
        );
        assert_eq!(value(&metrics, "postern_partitions_owned"), Some(1.0));
    }

    #[test]
    fn seconds_behind() {
        let metrics = Metrics::new("postern").unwrap();
        let mut standing = Standing::new(ConsumerMetrics::new(&metrics).unwrap());
        standing.take(BTreeSet::from([3]));
        let seconds = || {
            let series =
                "postern_consumer_lag_seconds{partition=\"3\",topic=\"postern.postbacks\"}";
            value(&metrics, series).unwrap()
        };
        standing.behind(POSTBACKS, 3, 5);
        assert!((0.0..5.0).contains(&seconds()));
        let minute = Timestamp::now() - SignedDuration::from_secs(60);
        standing.committed(POSTBACKS, 3, minute);
        standing.behind(POSTBACKS, 3, 4);
        assert!((60.0..70.0).contains(&seconds()), "{}", seconds());
        standing.behind(POSTBACKS, 3, 0);
        assert_eq!(seconds(), 0.0);
        // A record after a quiet hour is not an hour late.
        standing.behind(POSTBACKS, 3, 1);
        assert!(seconds() < 5.0);
    }
}
