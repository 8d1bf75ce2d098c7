//! The producer: idempotent, acknowledged by all in-sync replicas, with a bounded queue.

mod delivery;
mod progress;
mod tend;

use crate::client::{Connection, millis, refused};
use crate::error::{KafkaError, PublishError};
use crate::statistics::Observed;
pub use delivery::{Delivery, Settle};
use postern_failpoint::failpoint;
use progress::Progress;
use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, NoCustomPartitioner, Producer as _, ProducerContext,
    ThreadedProducer,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// What sets one producer apart from another.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Goes into the client id.
    pub name: String,
    /// A record that isn't acknowledged by then is given up.
    pub delivery_timeout: Duration,
    /// Most records that wait for their acknowledgement.
    pub queue_messages: u32,
    /// How long a record waits for others to go with, unless `kafka.options` says.
    pub linger: Duration,
}

impl ProducerOptions {
    /// For records that somebody waits for: long enough to gather what arrives together, short
    /// against a round trip.
    pub const PROMPT: Duration = Duration::from_micros(100);
    /// For records that nobody waits for: a request for each would cost the broker more than all
    /// the rest.
    pub const PATIENT: Duration = Duration::from_millis(25);
}

/// Of what waits for its acknowledgement.
const QUEUE_KBYTES: u32 = 128 * 1024;

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

type Outcome = Result<Placed, PublishError>;

/// A producer. Cheap to clone; all clones share one connection and queue.
///
/// The client beneath it is made anew where it stops delivering: see [`Producer::tend`].
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    config: ClientConfig,
    observed: Observed,
    current: RwLock<Client>,
    /// Topics whose partitions a new client should know before it is used.
    topics: Mutex<Vec<String>>,
}

/// One of librdkafka's producers.
#[derive(Clone)]
struct Client {
    inner: ThreadedProducer<Reports>,
    progress: Arc<Progress>,
    /// Not one that came in the place of another.
    first: bool,
    #[cfg(feature = "failpoints")]
    stuck: Arc<Mutex<Vec<Box<Settle>>>>,
}

impl Client {
    fn new(config: &ClientConfig, observed: &Observed, first: bool) -> Result<Self, KafkaError> {
        let progress = Arc::new(Progress::default());
        let reports = Reports {
            progress: progress.clone(),
            observed: observed.clone(),
        };
        let inner = config
            .create_with_context(reports)
            .map_err(|error| refused("kafka producer", &error))?;
        Ok(Self {
            inner,
            progress,
            first,
            #[cfg(feature = "failpoints")]
            stuck: Arc::default(),
        })
    }

    /// Asks the brokers for these topics; for all where none are named.
    fn learn(&self, topics: &[String], timeout: Duration) -> Result<(), KafkaError> {
        let learn = |topic| match self.inner.client().fetch_metadata(topic, timeout) {
            Ok(_) => Ok(()),
            Err(error) => Err(KafkaError::Unavailable(error.to_string())),
        };
        if topics.is_empty() {
            return learn(None);
        }
        topics.iter().try_for_each(|topic| learn(Some(topic)))
    }
}

/// Hears what became of records.
struct Reports {
    progress: Arc<Progress>,
    observed: Observed,
}

impl ClientContext for Reports {
    fn stats(&self, statistics: Statistics) {
        self.observed.tell(&statistics);
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = Box<Settle>;

    fn delivery(&self, result: &DeliveryResult<'_>, settle: Self::DeliveryOpaque) {
        let outcome = match result {
            Ok(message) => {
                self.progress
                    .succeeded(message.topic(), message.partition());
                Ok(Placed {
                    partition: message.partition(),
                    offset: message.offset(),
                })
            }
            Err((error, message)) => {
                self.progress.failed(message.topic(), message.partition());
                Err(classify(error))
            }
        };
        settle.settle(outcome);
    }
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
            let linger = options.linger.as_secs_f64() * 1000.0;
            config.set("linger.ms", linger.to_string());
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
            )
            .set("queue.buffering.max.kbytes", QUEUE_KBYTES.to_string());
        let observed = connection.observer(&options.name);
        Ok(Self {
            shared: Arc::new(Shared {
                current: RwLock::new(Client::new(&config, &observed, true)?),
                config,
                observed,
                topics: Mutex::default(),
            }),
        })
    }

    fn current(&self) -> RwLockReadGuard<'_, Client> {
        self.shared
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns where these topics' partitions are. Without it the first records wait for that,
    /// up to a second. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`].
    pub fn warm(&self, topics: &[&str], timeout: Duration) -> Result<(), KafkaError> {
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        // Not under the lock: it takes as long as Kafka does.
        let client = self.current().clone();
        client.learn(&topics, timeout)?;
        *self.topics() = topics;
        Ok(())
    }

    fn topics(&self) -> MutexGuard<'_, Vec<String>> {
        self.shared
            .topics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a record over. Never waits: a full queue is an answer.
    ///
    /// # Errors
    ///
    /// [`PublishError::QueueFull`], or [`PublishError::TooLarge`].
    pub fn publish(&self, message: &Message<'_>) -> Result<Delivery, PublishError> {
        let (settle, delivery) = Delivery::channel();
        let mut record = BaseRecord::with_opaque_to(message.topic, Box::new(settle))
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
        // Under the lock: whoever replaces the client has it for himself then.
        let client = self.current();
        client.progress.handed_over();
        if client.first {
            // Neither acknowledged nor given up, as long as there is this client.
            failpoint!("kafka.stuck", |_| {
                let mut stuck = client.stuck.lock().unwrap_or_else(PoisonError::into_inner);
                stuck.push(record.delivery_opaque);
                Ok(delivery)
            });
        }
        match client.inner.send(record) {
            Ok(()) => Ok(delivery),
            Err((error, _)) => {
                let error = classify(&error);
                if let (PublishError::Undelivered(_), Some(partition)) = (&error, message.partition)
                {
                    client.progress.failed(message.topic, partition);
                }
                Err(error)
            }
        }
    }

    /// Waits until everything handed over is acknowledged or given up, at most `timeout`.
    /// Blocks the thread. Gives the number of records still on their way.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> i32 {
        let client = self.current().clone();
        // The count tells what the error would.
        let _ = client.inner.flush(timeout);
        client.inner.in_flight_count()
    }

    /// When a record was acknowledged last, by the client that is in use.
    #[must_use]
    pub fn last_success(&self) -> Option<Instant> {
        self.current().progress.last_success()
    }
}

fn classify(error: &RdError) -> PublishError {
    match error.rdkafka_error_code() {
        Some(Code::QueueFull) => PublishError::QueueFull,
        Some(Code::MessageSizeTooLarge) => PublishError::TooLarge,
        _ => PublishError::Undelivered(error.to_string()),
    }
}
