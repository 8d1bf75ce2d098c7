//! The consumer: reads clicks and postbacks, decides, writes, sends verdicts and events.
//!
//! It holds nothing that the store doesn't: whatever goes wrong, it drops its batch, reads the
//! positions anew and goes on from there. All effects of a batch are one store transaction.

mod apply;
mod backoff;
mod barrier;
mod batch;
mod calls;
mod campaigns;
mod config;
mod emit;
mod metrics;
mod ownership;
mod refused;
mod retention;
mod rewind;
mod standing;
mod worker;

pub use config::ConsumerConfig;
pub use emit::LocalVerdicts;
pub use metrics::ConsumerMetrics;
pub use refused::RefusedLogger;
pub use retention::{Expiry, Retention};
pub use rewind::{RewindError, rewind};
pub use worker::{Parts, Status, Worker};

use postern_kafka::{KafkaError, PublishError};
use postern_store::StoreError;

/// Why a worker can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Kafka's client can't be made.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The store can't be opened once more.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses what its calls need.
    #[error("a worker's runtime can't be made")]
    Runtime(#[from] std::io::Error),
}

/// Why a batch was dropped. Nothing of it took effect, unless the store says otherwise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Dropped {
    /// The group took partitions away, or gave others.
    #[error("the partitions were assigned anew")]
    Rebalanced,
    /// The store refuses the content: its records go one by one.
    #[error("the records go one by one")]
    Isolating,
    /// The process stops.
    #[error("the process stops")]
    Stopping,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A record that had to be acknowledged was not.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
