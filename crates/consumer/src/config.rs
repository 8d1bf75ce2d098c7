//! What a consumer is told.

use postern_core::decision::Limits;
use std::time::Duration;

/// A consumer's settings.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// Names this process on topics and in logs.
    pub name: String,
    /// Partitions of clicks and postbacks.
    pub partitions: i32,
    /// Most records in one transaction.
    pub max_batch: usize,
    /// A member that says nothing for so long has lost its partitions.
    pub session_timeout: Duration,
    /// How many postbacks wait for their click.
    pub limits: Limits,
}
