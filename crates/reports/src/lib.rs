//! Reports: what was recorded, for those who ask, and campaigns, for those who set them. It reads
//! the store and the ends of the topics; what it writes are campaigns, into the store first and
//! from there onto their topic.

mod access;
mod campaigns;
mod export;
mod lists;
mod parameters;
mod publisher;
mod routes;
mod rows;
mod statistics;
mod status;
mod table;
mod times;

pub use access::{kept, token};
pub use publisher::{Publisher, PublisherError};
pub use routes::{Reports, ReportsConfig, ReportsMetrics, owns};
