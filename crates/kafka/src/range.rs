//! Reads what stands on a topic, from a time to its present end, outside any group.

use crate::client::{Connection, refused};
use crate::error::KafkaError;
use crate::record::Record;
use crate::statistics::Observed;
use crate::tail::partition_count;
use jiff::Timestamp;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest wait for an answer, and without any record.
const PATIENCE: Duration = Duration::from_secs(30);

/// The records of a topic, those of a partition in their order. Blocks: give it a thread.
pub struct Range {
    consumer: BaseConsumer<Observed>,
    topic: String,
    /// Where each partition ended when this began, as long as it isn't reached.
    left: BTreeMap<i32, i64>,
}

impl Range {
    /// Everything that was appended at `from` or later, and stands there now.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`], [`KafkaError::Topics`], [`KafkaError::Unavailable`].
    pub fn from(connection: &Connection, topic: &str, from: Timestamp) -> Result<Self, KafkaError> {
        let consumer: BaseConsumer<Observed> = connection
            .config("range")
            // Without group and commits: the id is only there because librdkafka wants one.
            .set("group.id", "postern-range")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set_log_level(RDKafkaLogLevel::Warning)
            .create_with_context(connection.observer("range"))
            .map_err(|error| refused("kafka consumer", &error))?;
        let away = |error: rdkafka::error::KafkaError| KafkaError::Unavailable(error.to_string());
        let mut asked = TopicPartitionList::new();
        let mut left = BTreeMap::new();
        for partition in 0..partition_count(&consumer, topic, PATIENCE)? {
            let (first, end) = consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .map_err(away)?;
            if first < end {
                left.insert(partition, end);
                asked
                    .add_partition_offset(topic, partition, Offset::Offset(from.as_millisecond()))
                    .map_err(away)?;
            }
        }
        if left.is_empty() {
            // Nothing to ask for, which librdkafka takes for a mistake.
            return Ok(Self {
                consumer,
                topic: topic.to_owned(),
                left,
            });
        }
        let found = consumer.offsets_for_times(asked, PATIENCE).map_err(away)?;
        let mut start = TopicPartitionList::new();
        for one in found.elements() {
            let end = left.get(&one.partition()).copied().unwrap_or(0);
            match one.offset() {
                Offset::Offset(offset) if offset < end => start
                    .add_partition_offset(topic, one.partition(), Offset::Offset(offset))
                    .map_err(away)?,
                // Nothing is that young.
                _ => drop(left.remove(&one.partition())),
            }
        }
        consumer.assign(&start).map_err(away)?;
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            left,
        })
    }

    /// The next record; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`] where nothing comes for half a minute.
    pub fn read(&mut self) -> Result<Option<Record>, KafkaError> {
        let begun = Instant::now();
        while !self.left.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    let record = Record::of(&message);
                    let Some(end) = self.left.get(&record.partition).copied() else {
                        // It came after we began.
                        continue;
                    };
                    if record.offset + 1 >= end {
                        self.left.remove(&record.partition);
                    }
                    if record.offset < end {
                        return Ok(Some(record));
                    }
                }
                Some(Err(error)) => tracing::debug!(%error, "reading a range"),
                None => self.skip_what_is_no_record(),
            }
            if begun.elapsed() > PATIENCE {
                return Err(KafkaError::Unavailable(format!(
                    "topic {}: nothing more came for {PATIENCE:?}",
                    self.topic
                )));
            }
        }
        Ok(None)
    }

    /// The end of a partition may be something that is never handed out.
    fn skip_what_is_no_record(&mut self) {
        let Ok(positions) = self.consumer.position() else {
            return;
        };
        for one in positions.elements() {
            if let Offset::Offset(offset) = one.offset()
                && self
                    .left
                    .get(&one.partition())
                    .is_some_and(|end| offset >= *end)
            {
                self.left.remove(&one.partition());
            }
        }
    }
}
