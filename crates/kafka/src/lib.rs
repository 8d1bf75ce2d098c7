//! Kafka: the only room that names rdkafka.
//!
//! Producers that acknowledge after all in-sync replicas, consumers whose positions come from
//! the store alone, and the topics with their settings. Nothing of postbacks is decided here.

mod client;
mod consumer;
#[cfg(feature = "failpoints")]
mod delay;
mod error;
mod producer;
mod range;
mod record;
mod silence;
mod statistics;
mod tail;
mod topic_id;
mod topics;

pub use client::{ClientOptions, Connection, Options};
pub use consumer::{Event, Group, GroupOptions, Lag, Position};
pub use error::{KafkaError, PublishError};
pub use producer::{Delivery, Message, Placed, Producer, ProducerOptions, Settle};
pub use range::Range;
pub use record::Record;
pub use silence::Silence;
pub use statistics::{BrokerStatistics, ClientStatistics, Observer};
pub use tail::Tail;
pub use topics::{
    CAMPAIGNS, CLICKS, CONVERSIONS, Finding, POSTBACKS, REJECTS, Retention, TopicAdmin, TopicPlan,
    TopicSpec, VERDICTS,
};
