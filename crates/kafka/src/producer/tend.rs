//! A client that stops delivering while the brokers can be reached is replaced.
//!
//! librdkafka can stay connected and deliver nothing (confluentinc/librdkafka#5430), and an
//! idempotent producer can fail for good. What is queued in the old client is given up: whoever
//! waits for it hears [`PublishError::Undelivered`](crate::PublishError) and knows that the record
//! may or may not stand on its topic.

use super::progress::Still;
use super::{Client, Producer};
use crate::error::KafkaError;
use rdkafka::producer::Producer as _;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often a look is taken.
const LOOK: Duration = Duration::from_millis(250);
/// Longer than Kafka takes for a new leader in most cases; a client is replaced in vain otherwise,
/// which costs a second delivery of what it had queued.
const STANDSTILL: Duration = Duration::from_secs(5);
/// How long a new client may take to reach the brokers.
const REACH: Duration = Duration::from_secs(2);
/// Between two replacements: doubled up to the longest, until nothing has stood still for as long.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Producer {
    /// Looks after the client until `stop`: replaces it where it failed for good, or where nothing
    /// was acknowledged for seconds although a new one reaches the brokers. `replaced` hears why.
    /// Blocks: give it a thread.
    pub fn tend(&self, stop: &CancellationToken, mut replaced: impl FnMut(&str)) {
        let mut pause = PAUSE;
        let mut next = Instant::now();
        while !stop.is_cancelled() {
            std::thread::sleep(LOOK);
            let (fatal, still) = {
                let client = self.current();
                (client.fatal(), client.progress.standstill(STANDSTILL))
            };
            if fatal.is_none() && still.is_none() {
                // A partition that stays away stands still again soon after each replacement, also
                // while all others go on.
                if Instant::now() > next + pause {
                    pause = PAUSE;
                }
                continue;
            }
            if Instant::now() < next {
                continue;
            }
            match self.replace(fatal.is_some(), still.as_ref()) {
                Ok(()) => {
                    replaced(&fatal.or(still.map(|still| still.why)).unwrap_or_default());
                    next = Instant::now() + pause;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => {
                    tracing::debug!(%error, "a new client would be no better");
                    next = Instant::now() + PAUSE;
                }
            }
        }
    }

    /// A new client in place of the old one. Unless the old one is of no use at all, the new one
    /// must reach the brokers first, and see a leader of the partition that stands still: where
    /// they are away, a new client is no better.
    fn replace(&self, at_once: bool, still: Option<&Still>) -> Result<(), KafkaError> {
        let client = Client::new(&self.shared.config, &self.shared.observed, false)?;
        let topics = self.topics().clone();
        let reached = client.learn(&topics, REACH);
        if !at_once {
            reached?;
            if let Some((topic, partition)) = still.and_then(|still| still.place.as_ref()) {
                client.has_leader(topic, *partition)?;
            }
        }
        let old = {
            let mut current = self
                .shared
                .current
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, client)
        };
        // Gives up what it had queued, and tells those who wait.
        drop(old);
        Ok(())
    }
}

impl Client {
    fn has_leader(&self, topic: &str, partition: i32) -> Result<(), KafkaError> {
        let metadata = self
            .inner
            .client()
            .fetch_metadata(Some(topic), REACH)
            .map_err(|error| KafkaError::Unavailable(error.to_string()))?;
        let mut partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let found = partitions.find(|found| found.id() == partition);
        if found.is_some_and(|found| found.leader() >= 0) {
            return Ok(());
        }
        let why = format!("{topic} partition {partition} has no leader");
        Err(KafkaError::Unavailable(why))
    }

    /// Why it can never publish again, if so.
    fn fatal(&self) -> Option<String> {
        self.inner
            .client()
            .fatal_error()
            .map(|(code, why)| format!("it failed for good: {code}: {why}"))
    }
}
