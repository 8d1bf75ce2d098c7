//! The producer: idempotent, acknowledged by all in-sync replicas, with a bounded queue.

use crate::client::{Connection, millis, refused};
use crate::error::{KafkaError, PublishError};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// What sets one producer apart from another.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Goes into the client id.
    pub name: String,
    /// A record that isn't acknowledged by then is given up.
    pub delivery_timeout: Duration,
    /// Most records that wait for their acknowledgement.
    pub queue_messages: u32,
}

/// A record to publish.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The key; decides the partition where `partition` is `None`.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// A fixed partition.
    pub partition: Option<i32>,
    /// Headers.
    pub headers: &'a [(&'a str, &'a str)],
}

impl<'a> Message<'a> {
    /// A record without headers whose key decides the partition.
    #[must_use]
    pub fn keyed(topic: &'a str, key: &'a [u8], value: &'a [u8]) -> Self {
        Self {
            topic,
            key,
            value,
            partition: None,
            headers: &[],
        }
    }
}

/// Where an acknowledged record stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its partition.
    pub partition: i32,
    /// Its offset; below 0 where the broker's answer to the first attempt was lost and a later
    /// one only confirmed that the record is there.
    pub offset: i64,
}

/// Resolves when the record is acknowledged by all in-sync replicas, or given up. Dropping it
/// doesn't take the record back.
pub struct Delivery(DeliveryFuture);

impl Future for Delivery {
    type Output = Result<Placed, PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| match result {
            Ok(Ok(delivery)) => Ok(Placed {
                partition: delivery.partition,
                offset: delivery.offset,
            }),
            Ok(Err((error, _))) => Err(classify(&error)),
            Err(_) => Err(PublishError::Undelivered("the producer was closed".into())),
        })
    }
}

/// A producer. Cheap to clone; all clones share one connection and queue.
#[derive(Clone)]
pub struct Producer {
    inner: FutureProducer,
}

impl Producer {
    /// Makes the producer; it connects by itself, and keeps trying.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`] where librdkafka refuses the options.
    pub fn new(connection: &Connection, options: &ProducerOptions) -> Result<Self, KafkaError> {
        let mut config = connection.config(&options.name);
        if !config.config_map().contains_key("linger.ms") {
            // Long enough to gather what arrives together, short against a round trip.
            config.set("linger.ms", "0.5");
        }
        if !config.config_map().contains_key("compression.codec") {
            config.set("compression.codec", connection.compression());
        }
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("partitioner", "murmur2_random")
            .set("message.timeout.ms", millis(options.delivery_timeout))
            .set(
                "queue.buffering.max.messages",
                options.queue_messages.to_string(),
            );
        let inner = config
            .create()
            .map_err(|error| refused("kafka producer", &error))?;
        Ok(Self { inner })
    }

    /// Learns where these topics' partitions are. Without it the first records wait for that,
    /// up to a second. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`].
    pub fn warm(&self, topics: &[&str], timeout: Duration) -> Result<(), KafkaError> {
        for topic in topics {
            self.inner
                .client()
                .fetch_metadata(Some(topic), timeout)
                .map_err(|error| KafkaError::Unavailable(error.to_string()))?;
        }
        Ok(())
    }

    /// Hands a record over. Never waits: a full queue is an answer.
    ///
    /// # Errors
    ///
    /// [`PublishError::QueueFull`], or [`PublishError::TooLarge`].
    pub fn publish(&self, message: &Message<'_>) -> Result<Delivery, PublishError> {
        let mut record = FutureRecord::to(message.topic)
            .key(message.key)
            .payload(message.value);
        if let Some(partition) = message.partition {
            record = record.partition(partition);
        }
        if !message.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
            for (key, value) in message.headers {
                headers = headers.insert(Header {
                    key,
                    value: Some(value.as_bytes()),
                });
            }
            record = record.headers(headers);
        }
        match self.inner.send_result(record) {
            Ok(delivery) => Ok(Delivery(delivery)),
            Err((error, _)) => Err(classify(&error)),
        }
    }

    /// Waits until everything handed over is acknowledged or given up, at most `timeout`.
    /// Blocks the thread. Gives the number of records still on their way.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> i32 {
        // The count tells what the error would.
        let _ = self.inner.flush(timeout);
        self.inner.in_flight_count()
    }

    /// Why this producer can never publish again, if so: it must be made anew.
    #[must_use]
    pub fn fatal(&self) -> Option<String> {
        self.inner
            .client()
            .fatal_error()
            .map(|(code, why)| format!("{code}: {why}"))
    }
}

fn classify(error: &RdError) -> PublishError {
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => PublishError::QueueFull,
        Some(Code::MessageSizeTooLarge) => PublishError::TooLarge,
        _ => PublishError::Undelivered(error.to_string()),
    }
}
