//! Reads one partition outside any group: from its end, as an ingress does its verdicts, or
//! whole, as it does campaigns.

use crate::client::{Connection, millis, refused};
use crate::error::KafkaError;
use crate::record::Record;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;

/// A consumer outside any group, on one partition. Blocks: give it a thread.
pub struct Tail {
    consumer: BaseConsumer,
    topic: String,
}

impl Tail {
    /// A consumer for the records to come; [`Self::start`] sets it on its partition. What was
    /// missed beyond retention is of no use to anyone any more, and is skipped.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`] where librdkafka refuses the options.
    pub fn latest(connection: &Connection, name: &str, topic: &str) -> Result<Self, KafkaError> {
        Self::new(connection, name, topic, "latest")
    }

    /// A consumer for all records; [`Self::start_from_first`] sets it on its partition. Where
    /// its position is lost, it reads all of them once more.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`] where librdkafka refuses the options.
    pub fn whole(connection: &Connection, name: &str, topic: &str) -> Result<Self, KafkaError> {
        Self::new(connection, name, topic, "earliest")
    }

    fn new(
        connection: &Connection,
        name: &str,
        topic: &str,
        reset: &str,
    ) -> Result<Self, KafkaError> {
        let consumer = connection
            .config(name)
            // Without group and commits: the id is only there because librdkafka wants one.
            .set("group.id", "postern-tail")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", reset)
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", millis(connection.fetch_wait()))
            .set_log_level(RDKafkaLogLevel::Warning)
            .create()
            .map_err(|error| refused("kafka consumer", &error))?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
        })
    }

    /// How many partitions the topic has.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`], or [`KafkaError::Topics`] where there is no such topic.
    pub fn partitions(&self, timeout: Duration) -> Result<i32, KafkaError> {
        partition_count(&self.consumer, &self.topic, timeout)
    }

    /// Fixes the position at the partition's present end: whatever is published after this
    /// returns will be read.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`] where the end can't be learned.
    pub fn start(&self, partition: i32, timeout: Duration) -> Result<(), KafkaError> {
        let (_, end) = self.watermarks(partition, timeout)?;
        self.assign(partition, end)
    }

    /// Fixes the position at the partition's first record; gives that and the present end, which
    /// is where a reader knows all that was there when it started.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`] where the ends can't be learned.
    pub fn start_from_first(
        &self,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), KafkaError> {
        let (first, end) = self.watermarks(partition, timeout)?;
        self.assign(partition, first)?;
        Ok((first, end))
    }

    /// The offset of the next record that [`Self::next`] would give; `None` before the first.
    /// Past a compacted end it is ahead of the last record that was given.
    #[must_use]
    pub fn position(&self, partition: i32) -> Option<i64> {
        let list = self.consumer.position().ok()?;
        match list.find_partition(&self.topic, partition)?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    fn watermarks(&self, partition: i32, timeout: Duration) -> Result<(i64, i64), KafkaError> {
        self.consumer
            .fetch_watermarks(&self.topic, partition, timeout)
            .map_err(|error| KafkaError::Unavailable(error.to_string()))
    }

    fn assign(&self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| KafkaError::Unavailable(error.to_string()))
    }

    /// The next record, or `None` if none came within `timeout`.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`]; librdkafka goes on by itself.
    pub fn next(&self, timeout: Duration) -> Result<Option<Record>, KafkaError> {
        match self.consumer.poll(timeout) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(Record::of(&message))),
            Some(Err(error)) => Err(KafkaError::Unavailable(error.to_string())),
        }
    }
}

pub(crate) fn partition_count<C>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    timeout: Duration,
) -> Result<i32, KafkaError>
where
    C: rdkafka::consumer::ConsumerContext,
{
    let metadata = consumer
        .fetch_metadata(Some(topic), timeout)
        .map_err(|error| KafkaError::Unavailable(error.to_string()))?;
    let count = metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic)
        .map_or(0, |found| found.partitions().len());
    match i32::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(KafkaError::Topics(format!(
            "topic {topic} does not exist: run postern topics create"
        ))),
    }
}
