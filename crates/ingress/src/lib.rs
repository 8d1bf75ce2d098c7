//! The ingress: HTTP in, understood, published, answered when the verdict is in.
//!
//! It holds no state beyond the requests that wait. What it answers with 200 or 202 has been
//! acknowledged by Kafka or decided by a consumer; it never decides anything itself.

mod breaker;
mod campaigns;
mod check;
mod clicks;
mod config;
mod metrics;
mod pending;
mod postback;
mod redirect;
mod refusals;
mod routes;
mod verdicts;

pub use campaigns::{CampaignReader, Campaigns};
pub use config::{AnswerMode, IngressConfig};
pub use metrics::IngressMetrics;
pub use pending::Pending;
pub use routes::{Gate, Ingress, owns};
pub use verdicts::{ReplyAddress, VerdictReader};
