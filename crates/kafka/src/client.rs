//! How a client reaches Kafka: what the operator sets, and what carries a promise and is ours.

use crate::error::KafkaError;
use crate::statistics::{Observed, Observer};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use std::collections::BTreeMap;
use std::time::Duration;

/// librdkafka options that carry promises (docs/DELIVERY.md) and so can't be set by the operator.
const OWNED: &[(&str, &str)] = &[
    ("acks", "postbacks are acknowledged by all in-sync replicas"),
    (
        "request.required.acks",
        "postbacks are acknowledged by all in-sync replicas",
    ),
    ("enable.idempotence", "retries must not double a record"),
    ("enable.gapless.guarantee", "it goes with idempotence"),
    (
        "partitioner",
        "clicks and postbacks must meet in one partition",
    ),
    ("auto.offset.reset", "positions come from the store alone"),
    (
        "topic.auto.offset.reset",
        "positions come from the store alone",
    ),
    ("enable.auto.commit", "positions come from the store alone"),
    ("auto.commit.enable", "positions come from the store alone"),
    (
        "enable.auto.offset.store",
        "positions come from the store alone",
    ),
    (
        "isolation.level",
        "what a foreign producer aborted is never read",
    ),
    (
        "partition.assignment.strategy",
        "one consumer owns a partition of clicks and postbacks",
    ),
    (
        "group.protocol",
        "one consumer owns a partition of clicks and postbacks",
    ),
    ("group.id", "it is fixed"),
    (
        "group.instance.id",
        "several members of one process would share it",
    ),
    (
        "allow.auto.create.topics",
        "a topic made by the broker has the wrong settings",
    ),
    (
        "group.remote.assignor",
        "one consumer owns a partition of clicks and postbacks",
    ),
    ("message.timeout.ms", "it follows from answer.timeout"),
    ("delivery.timeout.ms", "it follows from answer.timeout"),
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    (
        "transactional.id",
        "the store's transaction is the one that counts",
    ),
];

/// What every client shares.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `kafka.brokers`.
    pub brokers: String,
    /// `kafka.options`, passed to librdkafka; may hold secrets.
    pub options: Options,
    /// Longest wait of a fetch. The embedded broker doesn't wake on new data and needs a small
    /// one; Kafka wakes at once.
    pub fetch_wait: Duration,
    /// How producers compress, where `options` doesn't say.
    pub compression: &'static str,
}

/// librdkafka options; `Debug` shows the names only, since values can be passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(pub BTreeMap<String, String>);

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// How often a client says how it is.
const STATISTICS: Duration = Duration::from_secs(2);

/// A checked way to reach Kafka.
#[derive(Clone)]
pub struct Connection {
    options: ClientOptions,
    observer: Option<Observer>,
}

impl Connection {
    /// Checks the options, without reaching out.
    ///
    /// # Errors
    ///
    /// [`KafkaError::Config`] names the option and says why it can't be set.
    pub fn new(options: ClientOptions) -> Result<Self, KafkaError> {
        for name in options.options.0.keys() {
            if let Some((_, why)) = OWNED.iter().find(|(owned, _)| owned == name) {
                return Err(KafkaError::Config(format!(
                    "kafka.options.{name} can't be set: {why}"
                )));
            }
        }
        let this = Self {
            options,
            observer: None,
        };
        // librdkafka checks names and values when a client is made; a client made here connects
        // only when it is used, and is dropped at once.
        let client: Result<rdkafka::producer::BaseProducer, _> = this.config("check").create();
        match client {
            Ok(_) => Ok(this),
            Err(error) => Err(refused("kafka.options", &error)),
        }
    }

    /// The same, with somebody who hears of the clients that are made with it.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    pub(crate) fn observer(&self, client_id: &str) -> Observed {
        Observed::new(client_id, self.observer.as_ref())
    }

    pub(crate) fn compression(&self) -> &'static str {
        self.options.compression
    }

    pub(crate) fn fetch_wait(&self) -> Duration {
        self.options.fetch_wait
    }

    pub(crate) fn config(&self, client_id: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.options.brokers)
            .set("client.id", format!("postern-{client_id}"))
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("log.connection.close", "false")
            .set("allow.auto.create.topics", "false")
            .set("statistics.interval.ms", millis(STATISTICS))
            // What isn't answered by then is asked again, over a new connection; a reader hears
            // nothing as long as one of its requests hangs.
            .set("socket.timeout.ms", "10000")
            // A topic that was deleted and made anew is found again by asking.
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.options.options.0 {
            config.set(name, value);
        }
        config
    }
}

/// Why librdkafka refuses a client. The option's value is left out: it may be a password.
pub(crate) fn refused(what: &str, error: &rdkafka::error::KafkaError) -> KafkaError {
    match error {
        rdkafka::error::KafkaError::ClientConfig(_, why, name, _) => {
            KafkaError::Config(format!("{what}: {name}: {why}"))
        }
        error => KafkaError::Config(format!("{what}: {error}")),
    }
}

pub(crate) fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}
