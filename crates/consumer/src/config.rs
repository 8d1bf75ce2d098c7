//! What a consumer is told.

use crate::Retention;
use postern_core::decision::Limits;
use std::time::Duration;

/// A consumer's settings.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Names this process on topics and in logs.
    pub name: String,
    /// Partitions of clicks and postbacks.
    pub partitions: i32,
    /// Workers of this process.
    pub workers: usize,
    /// Whether there is no other process: partitions are then shared out among the workers, and
    /// no group is asked.
    pub alone: bool,
    /// Most records in one transaction.
    pub max_batch: usize,
    /// A member that says nothing for so long has lost its partitions.
    pub session_timeout: Duration,
    /// How many postbacks wait for their click.
    pub limits: Limits,
    /// How long rows are kept.
    pub retention: Retention,
}

impl ConsumerConfig {
    /// What worker `number` reads where no group shares the partitions out.
    pub(crate) fn own_partitions(&self, number: usize) -> Vec<i32> {
        (0..self.partitions)
            .skip(number)
            .step_by(self.workers.max(1))
            .collect()
    }
}
