//! What can go wrong with Kafka, told apart by what the caller should do.

use thiserror::Error;

/// An error of a Kafka client other than a publish.
#[derive(Debug, Error)]
pub enum KafkaError {
    /// The configuration can't be used.
    #[error("{0}")]
    Config(String),
    /// The broker can't be reached or didn't answer in time: try again.
    #[error("kafka can't be used now: {0}")]
    Unavailable(String),
    /// Topics are missing or not as they must be.
    #[error("{0}")]
    Topics(String),
    /// A position lies outside the log: it was truncated, expired or made anew.
    #[error(
        "position outside the log of {topic} partition {partition}: records were deleted \
         before they were read, or the topic was made anew"
    )]
    OutsideLog {
        /// The topic.
        topic: String,
        /// The partition; -1 where librdkafka doesn't tell.
        partition: i32,
    },
    /// The client can't go on and must be built anew.
    #[error("kafka client failed for good: {0}")]
    Fatal(String),
}

/// Why a record was not, or may not have been, made durable.
#[derive(Debug, Clone, Error)]
pub enum PublishError {
    /// The producer's queue is full: an answer, not a sleep.
    #[error("the producer's queue is full")]
    QueueFull,
    /// Not acknowledged within the delivery timeout. It may or may not stand on the topic.
    #[error("not acknowledged: {0}")]
    Undelivered(String),
    /// The record is larger than the broker takes: trying again can't help.
    #[error("the record is too large")]
    TooLarge,
}
