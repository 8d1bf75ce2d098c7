//! Reports: what was recorded, for those who ask. It reads the store and the ends of the
//! topics, and writes nothing.

mod routes;
mod status;

pub use routes::{Reports, ReportsConfig, ReportsMetrics, owns};
