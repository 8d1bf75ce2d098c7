//! Reads one partition outside any group: from its end, as an ingress does its verdicts, or
//! whole, as it does campaigns.

use crate::client::{Connection, millis, refused};
use crate::error::KafkaError;
use crate::record::Record;
use crate::silence::Silence;
use crate::statistics::Observed;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// After so long without a record it is looked whether there were any.
const SILENCE: Duration = Duration::from_secs(5);
/// Longest wait for that.
const LOOK: Duration = Duration::from_secs(5);

/// A consumer outside any group, on one partition. Blocks: give it a thread.
///
/// A silence is looked into; see [`Silence`].
pub struct Tail {
    connection: Connection,
    name: String,
    topic: String,
    reset: &'static str,
    consumer: BaseConsumer<Observed>,
    place: Place,
}

/// How far it is.
struct Place {
    partition: i32,
    /// Of the next record, unless some are missing before it.
    next: i64,
    heard: Instant,
    silence: Silence,
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
        reset: &'static str,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            connection: connection.clone(),
            name: name.to_owned(),
            topic: topic.to_owned(),
            reset,
            consumer: Self::client(connection, name, reset)?,
            place: Place {
                partition: 0,
                next: 0,
                heard: Instant::now(),
                silence: Silence::default(),
            },
        })
    }

    /// Forgets all that is known of the topic; it has to be started again.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`] where librdkafka refuses the options.
    pub fn renew(&mut self) -> Result<(), KafkaError> {
        self.consumer = Self::client(&self.connection, &self.name, self.reset)?;
        Ok(())
    }

    fn client(
        connection: &Connection,
        name: &str,
        reset: &str,
    ) -> Result<BaseConsumer<Observed>, KafkaError> {
        connection
            .config(name)
            // Without group and commits: the id is only there because librdkafka wants one.
            .set("group.id", "postern-tail")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", reset)
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", millis(connection.fetch_wait()))
            .set_log_level(RDKafkaLogLevel::Warning)
            .create_with_context(connection.observer(name))
            .map_err(|error| refused("kafka consumer", &error))
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
    pub fn start(&mut self, partition: i32, timeout: Duration) -> Result<(), KafkaError> {
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
        &mut self,
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

    fn assign(&mut self, partition: i32, offset: i64) -> Result<(), KafkaError> {
        self.place = Place {
            partition,
            next: offset,
            heard: Instant::now(),
            silence: Silence::default(),
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| KafkaError::Unavailable(error.to_string()))
    }

    /// The next record, or `None` if none came within `timeout`.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Topics`] where there is no such topic or partition any more, or another one of
    /// that name: it must be [renewed](Self::renew). [`KafkaError::Unavailable`]; librdkafka goes on
    /// by itself.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Record>, KafkaError> {
        match self.consumer.poll(timeout) {
            None if self.place.heard.elapsed() >= SILENCE => self.look().map(|()| None),
            None => Ok(None),
            Some(Ok(message)) => {
                let record = Record::of(&message);
                self.place.next = record.offset + 1;
                self.place.heard = Instant::now();
                Ok(Some(record))
            }
            Some(Err(error)) => Err(match error.rdkafka_error_code() {
                Some(
                    Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition,
                ) => KafkaError::Topics(format!("topic {}: {error}", self.topic)),
                _ => KafkaError::Unavailable(error.to_string()),
            }),
        }
    }

    /// Looks whether a silence is one.
    fn look(&mut self) -> Result<(), KafkaError> {
        self.place.heard = Instant::now();
        let (_, end) = self.watermarks(self.place.partition, LOOK)?;
        if self.place.silence.is_deafness(self.place.next, end) {
            return Err(KafkaError::Topics(format!(
                "topic {}: records passed by unseen; was it made anew?",
                self.topic
            )));
        }
        Ok(())
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
