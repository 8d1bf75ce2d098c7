//! The ingress: HTTP in, understood, made durable, answered when the verdict is in.
//!
//! It holds no state beyond the requests that wait and a spool for what Kafka doesn't take. What
//! it answers with 200 or 202 has been acknowledged by Kafka, fsynced in the spool, or decided by
//! a consumer; it never decides anything itself.

mod breaker;
mod campaigns;
mod check;
mod clicks;
mod config;
mod drain;
mod durable;
mod guesses;
mod metrics;
mod occasion;
mod outlet;
mod pending;
mod per_address;
mod postback;
mod publish_breaker;
mod redirect;
mod refusals;
mod routes;
mod spooled;
mod verdicts;

pub use campaigns::{CampaignReader, Campaigns};
pub use config::{AnswerMode, IngressConfig};
pub use drain::{Drain, DrainError};
pub use durable::{Durability, DurabilityWatch};
pub use metrics::IngressMetrics;
pub use outlet::Gate;
pub use pending::Pending;
pub use redirect::Left;
pub use routes::{Ingress, KafkaSide, owns};
pub use spooled::{Spooled, SpooledError, Topic};
pub use verdicts::{ReplyAddress, VerdictReader};
