//! The group consumer: Kafka says which partitions, the store says where to read on.
//!
//! Every call comes from one thread. A rebalance is only ever noticed inside [`Group::poll`], so
//! between two polls the assignment can't change under a batch. A new assignment reads nothing
//! until [`Group::start`] sets its positions.

use crate::client::{Connection, millis, refused};
use crate::error::KafkaError;
use crate::record::Record;
use crate::statistics::Observed;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as RdError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What sets one group consumer apart from another.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// Goes into the client id.
    pub name: String,
    /// What it is in each process that has one: its name in metrics.
    pub part: String,
    /// The consumer group.
    pub group: String,
    /// Topics, all with one partition count.
    pub topics: Vec<&'static str>,
    /// A member that says nothing for so long has lost its partitions.
    pub session_timeout: Duration,
    /// Nobody waits for what it reads: fetches wait longer, and cost less.
    pub patient: bool,
    /// The only process there is: these partitions of each topic are its own from the start, and
    /// nobody is asked. After a crash a group would first wait for the end of the old session.
    pub alone: Option<Vec<i32>>,
}

/// Where to read on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: &'static str,
    /// The partition.
    pub partition: i32,
    /// The next offset.
    pub offset: i64,
}

/// How far behind a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that the next record will get.
    pub end: i64,
}

/// What a poll brought.
#[derive(Debug)]
pub enum Event {
    /// A record.
    Record(Record),
    /// These partitions are ours now, and nothing else: set their positions.
    Assigned(Vec<(String, i32)>),
    /// All partitions are taken away.
    Revoked,
    /// Nothing came.
    Idle,
}

#[derive(Default)]
struct Context {
    observed: Observed,
    rebalances: Mutex<VecDeque<Event>>,
    lags: Mutex<Vec<Lag>>,
}

impl Context {
    fn push(&self, event: Event) {
        self.rebalances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(event);
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.observed.tell(&statistics);
        let mut lags = Vec::new();
        for (topic, stats) in statistics.topics {
            for (partition, stats) in stats.partitions {
                if partition >= 0 && stats.hi_offset >= 0 {
                    lags.push(Lag {
                        topic: topic.clone(),
                        partition,
                        end: stats.hi_offset,
                    });
                }
            }
        }
        *self.lags.lock().unwrap_or_else(PoisonError::into_inner) = lags;
    }
}

impl ConsumerContext for Context {
    /// Takes the assignment without fetching from it; the positions follow by `start`.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let (event, done) = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let assigned = list
                    .elements()
                    .iter()
                    .map(|element| (element.topic().to_owned(), element.partition()))
                    .collect();
                (
                    Event::Assigned(assigned),
                    consumer.assign(&TopicPartitionList::new()),
                )
            }
            _ => (Event::Revoked, consumer.unassign()),
        };
        if let Err(error) = done {
            tracing::error!(%error, "the rebalance could not be taken; the group will try again");
        }
        self.push(event);
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(Duration::from_millis(200))
    }
}

/// A member of a consumer group. Blocks: give it a thread.
pub struct Group {
    consumer: BaseConsumer<Context>,
    #[cfg(feature = "failpoints")]
    delay: crate::delay::Delay,
}

impl Group {
    /// Joins the group.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`] where librdkafka refuses the options.
    pub fn join(connection: &Connection, options: &GroupOptions) -> Result<Self, KafkaError> {
        let mut config = connection.config(&options.name);
        let fetch_wait = if options.patient {
            Duration::from_millis(500)
        } else {
            connection.fetch_wait()
        };
        // All partitions share one queue, clicks and postbacks alike: how much is in it, and comes
        // with one fetch, is how long a postback waits behind clicks that pile up.
        // Names with their other ones: of two that mean the same either might count.
        let defaults: [(&[&str], &str); 3] = [
            (&["queued.max.messages.kbytes"], "2048"),
            (
                &["fetch.message.max.bytes", "max.partition.fetch.bytes"],
                "65536",
            ),
            // While the queue is full nothing is fetched, also not what a barrier is awaited from,
            // and librdkafka would look again after a second.
            (&["fetch.queue.backoff.ms"], "10"),
        ];
        for (names, value) in defaults {
            if !names
                .iter()
                .any(|name| config.config_map().contains_key(*name))
            {
                config.set(names[0], value);
            }
        }
        config
            .set("group.id", &options.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("partition.assignment.strategy", "range")
            .set("group.protocol", "classic")
            .set("session.timeout.ms", millis(options.session_timeout))
            .set("heartbeat.interval.ms", millis(options.session_timeout / 4))
            .set("fetch.wait.max.ms", millis(fetch_wait));
        let context = Context {
            observed: connection.observer(&options.part),
            ..Context::default()
        };
        let consumer: BaseConsumer<Context> = config
            .create_with_context(context)
            .map_err(|error| refused("kafka consumer", &error))?;
        match &options.alone {
            None => consumer
                .subscribe(&options.topics)
                .map_err(|error| refused("kafka consumer", &error))?,
            Some(partitions) => {
                let topics = options.topics.iter();
                let own = topics.flat_map(|topic| {
                    let topic = (*topic).to_owned();
                    partitions
                        .iter()
                        .map(move |number| (topic.clone(), *number))
                });
                consumer.context().push(Event::Assigned(own.collect()));
            }
        }
        Ok(Self {
            consumer,
            #[cfg(feature = "failpoints")]
            delay: crate::delay::Delay::default(),
        })
    }

    /// Reads on from these positions, and from nothing else.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`].
    pub fn start(&self, positions: &[Position]) -> Result<(), KafkaError> {
        #[cfg(feature = "failpoints")]
        self.delay.clear();
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            list.add_partition_offset(
                position.topic,
                position.partition,
                Offset::Offset(position.offset),
            )
            .map_err(|error| KafkaError::Unavailable(error.to_string()))?;
        }
        self.consumer
            .assign(&list)
            // A pause outlives the assignment that it was made under.
            .and_then(|()| self.consumer.resume(&list))
            .map_err(|error| KafkaError::Unavailable(error.to_string()))
    }

    /// The next event, waiting at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`KafkaError::OutsideLog`] and [`KafkaError::Fatal`] are for good;
    /// [`KafkaError::Unavailable`] librdkafka mends by itself.
    pub fn poll(&self, timeout: Duration) -> Result<Event, KafkaError> {
        if let Some(event) = self.rebalance() {
            return Ok(event);
        }
        #[cfg(feature = "failpoints")]
        if let Some(record) = self.delay.due() {
            return Ok(Event::Record(record));
        }
        #[cfg(feature = "failpoints")]
        let timeout = self.delay.cap(timeout);
        let polled = self.consumer.poll(timeout);
        // A rebalance that happened inside the poll comes before whatever the poll gave: the
        // record would belong to an assignment that no longer counts.
        if let Some(event) = self.rebalance() {
            return Ok(event);
        }
        match polled {
            None => Ok(Event::Idle),
            Some(Ok(message)) => {
                let record = Record::of(&message);
                #[cfg(feature = "failpoints")]
                let Some(record) = self.delay.take(record) else {
                    return Ok(Event::Idle);
                };
                Ok(Event::Record(record))
            }
            Some(Err(error)) => Err(classify(&error)),
        }
    }

    fn rebalance(&self) -> Option<Event> {
        self.consumer
            .context()
            .rebalances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    }

    /// First and next offset of a partition.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Unavailable`].
    pub fn watermarks(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), KafkaError> {
        self.consumer
            .fetch_watermarks(topic, partition, timeout)
            .map_err(|error| KafkaError::Unavailable(error.to_string()))
    }

    /// Stops or resumes the fetching of one topic, without leaving the group.
    pub fn pause(&self, topic: &str, pause: bool) {
        let done = self.consumer.assignment().and_then(|assignment| {
            let mut list = TopicPartitionList::new();
            for element in assignment.elements_for_topic(topic) {
                list.add_partition(topic, element.partition());
            }
            if pause {
                self.consumer.pause(&list)
            } else {
                self.consumer.resume(&list)
            }
        });
        if let Err(error) = done {
            tracing::warn!(%error, topic, pause, "fetching could not be paused or resumed");
        }
    }

    /// Tells the group where we are, for lag monitoring only: nothing is read by it.
    pub fn report(&self, positions: &[Position]) {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            // A position that can't be added is one less to monitor.
            let _ = list.add_partition_offset(
                position.topic,
                position.partition,
                Offset::Offset(position.offset),
            );
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "group offsets were not reported");
        }
    }

    /// The partitions' ends as librdkafka last saw them.
    #[must_use]
    pub fn ends(&self) -> Vec<Lag> {
        self.consumer
            .context()
            .lags
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn classify(error: &RdError) -> KafkaError {
    if let RdError::MessageConsumptionFatal(code) = error {
        return KafkaError::Fatal(code.to_string());
    }
    match error.rdkafka_error_code() {
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => KafkaError::OutsideLog {
            topic: error.to_string(),
            partition: -1,
        },
        Some(Code::Fatal) => KafkaError::Fatal(error.to_string()),
        _ => KafkaError::Unavailable(error.to_string()),
    }
}
